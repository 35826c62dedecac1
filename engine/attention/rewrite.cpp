#include "attention/sizes.h"

#include <algorithm>

namespace triptych {

ValueId Emitter::op(const std::string& role, const char* type, std::vector<ValueId> inputs, std::vector<Attribute> attributes, ValueId output) {
    Node node;
    node.name = m_prefix + "/" + role + "/" + type;
    for (int copy = 1; std::find(m_names.begin(), m_names.end(), node.name) != m_names.end(); ++copy) node.name = m_prefix + "/" + role + "/" + type + "_" + std::to_string(copy);
    node.op = type;
    node.scope = m_scope;
    node.inputs = std::move(inputs);
    node.outputs = {output ? output : m_builder.newValue(node.name + "_output")};
    node.attributes = Attributes(std::move(attributes));
    const ValueId result = node.outputs[0];
    m_names.push_back(node.name);
    m_nodes.push_back(m_builder.addNode(std::move(node), m_sources));
    return result;
}

ValueId Emitter::transpose(const std::string& role, ValueId value, std::vector<std::int64_t> perm, ValueId output) {
    return op(role, "Transpose", {value}, {{"perm", std::move(perm), {}}}, output);
}

ValueId Emitter::reshape(const std::string& role, ValueId value, Dims dims, ValueId output) {
    return op(role, "Reshape", {value, integers(m_prefix + "/" + role + "/shape", std::move(dims))}, {}, output);
}

ValueId Emitter::integers(const std::string& name, std::vector<std::int64_t> values) {
    const auto count = static_cast<Dim>(values.size());
    return m_builder.addInitializer(makeTensor(name, {count}, values));
}

ValueId Emitter::scalar(const std::string& name, DataType type, double value) {
    HostTensor one = HostTensor::zeros(type, {});
    std::visit([&](auto& all) { all[0] = static_cast<typename std::decay_t<decltype(all)>::value_type>(value); }, one.values);
    one.normalise();
    return m_builder.addInitializer(tensorOf(one, name));
}

std::vector<ValueId> Emitter::split(const std::string& role, ValueId value, const std::vector<std::int64_t>& lengths, std::size_t rank) {
    Node node;
    node.name = m_prefix + "/" + role + "/Split";
    node.op = "Split";
    node.scope = m_scope;
    node.inputs = {value};
    std::vector<Attribute> attributes{{"axis", lastAxis(rank), {}}};
    if (m_opset < 13) attributes.push_back({"split", lengths, {}});
    else node.inputs.push_back(integers(m_prefix + "/" + role + "/lengths", lengths));
    for (std::size_t i = 0; i < lengths.size(); ++i) node.outputs.push_back(m_builder.newValue(node.name + "_output_" + std::to_string(i)));
    node.attributes = Attributes(std::move(attributes));
    const std::vector<ValueId> parts = node.outputs;
    m_names.push_back(node.name);
    m_nodes.push_back(m_builder.addNode(std::move(node), m_sources));
    return parts;
}

ValueId Emitter::copy(const std::string& role, const Node& node, std::vector<ValueId> inputs) {
    const ValueId result = op(role, node.op.c_str(), std::move(inputs), node.attributes.items());
    m_builder.editNode(m_nodes.back()).domain = node.domain;
    return result;
}

bool viewOfOwn(Emitter& emit, const Sizes& sizes, const std::string& role, ValueId own, const Dims& ownDims, const ColumnView& view, const Dims& target) {
    struct Piece {
        std::int64_t size, stride;
    };
    std::vector<Piece> pieces;
    for (const auto& axis : view.axes)
        for (const ColumnView::Factor& factor : axis)
            if (factor.size > 1) pieces.push_back({factor.size, factor.stride});
    std::vector<std::size_t> sorted(pieces.size());
    for (std::size_t i = 0; i < sorted.size(); ++i) sorted[i] = i;
    std::stable_sort(sorted.begin(), sorted.end(), [&](std::size_t a, std::size_t b) { return std::abs(pieces[a].stride) > std::abs(pieces[b].stride); });
    Dims split;
    for (const std::size_t at : sorted) split.push_back(pieces[at].size);
    std::vector<std::int64_t> perm(pieces.size());
    for (std::size_t i = 0; i < pieces.size(); ++i) perm[i] = std::find(sorted.begin(), sorted.end(), i) - sorted.begin();
    std::optional<ValueId> value = own;
    Dims dims = ownDims;
    if (!std::is_sorted(perm.begin(), perm.end())) {
        if (split != dims) value = sizes.reshape(emit, role, *value, dims, split);
        if (!value) return false;
        value = emit.transpose(role, *value, perm);
        dims.clear();
        for (const Piece& piece : pieces) dims.push_back(piece.size);
    }
    if (dims != target) value = sizes.reshape(emit, role, *value, dims, target);
    return value.has_value();
}

} // namespace triptych
