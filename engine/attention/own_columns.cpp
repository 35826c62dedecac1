#include "attention/own_columns.h"

#include <algorithm>

namespace triptych {

namespace {

/// Numbers of less than a byte are cut where bytes end.
bool endsInBytes(const Tensor& tensor, const std::vector<std::pair<std::int64_t, std::int64_t>>& runs, std::size_t axis) {
    const int bits = bitsOf(tensor.type);
    if (bits == 0) return false;
    std::int64_t inner = bits;
    for (std::size_t i = axis + 1; i < tensor.dims.size(); ++i) inner *= tensor.dims[i];
    if (bits % 8 == 0 || inner % 8 == 0) return true;
    return tensor.dims[axis] * inner % 8 == 0 && std::all_of(runs.begin(), runs.end(), [&](const auto& run) { return run.first * inner % 8 == 0 && run.second * inner % 8 == 0; });
}

std::vector<std::pair<std::int64_t, std::int64_t>> times(std::vector<std::pair<std::int64_t, std::int64_t>> runs, std::int64_t each) {
    for (auto& [begin, length] : runs) begin *= each, length *= each;
    return runs;
}

} // namespace

bool OwnColumns::single(ValueId value) const { return m_shapes.of(value).known() && m_shapes.of(value).count() == 1; }

std::optional<WeightSource> OwnColumns::source(ValueId value, std::size_t axis, std::int64_t each) const {
    auto found = weightSource(m_graph, value, &m_shapes);
    if (!found) return std::nullopt;
    Dims dims = found->tensor->dims;
    if (found->transposed && dims.size() == 2) std::swap(dims[0], dims[1]);
    const bool narrow = bitsOf(found->tensor->type) % 8 != 0;
    if (axis >= dims.size() || dims[axis] != m_columns * each || (narrow && found->transposed) || !endsInBytes(*found->tensor, times(m_range.runs, each), axis)) return std::nullopt;
    return found;
}

std::optional<OwnColumns> OwnColumns::byBlocks(std::int64_t block) const {
    if (block < 1 || m_columns % block != 0) return std::nullopt;
    ColumnRange range = m_range;
    for (auto& [begin, length] : range.runs) {
        if (begin % block != 0 || length % block != 0) return std::nullopt;
        begin /= block, length /= block;
    }
    return OwnColumns(m_graph, m_shapes, std::move(range), m_columns / block);
}

/// DequantizeLinear and QuantizeLinear, with one scale, one for each of an axis, or one for each block of it.
bool OwnColumns::quantised(const Node& node, std::size_t axis, std::vector<Operand>& found) const {
    const std::size_t rank = m_shapes.of(node.input(0)).dims.size();
    std::int64_t along = node.attributes.integer("axis", 1);
    if (along < 0) along += static_cast<std::int64_t>(rank);
    found.push_back({0, axis});
    for (const std::size_t input : {1U, 2U}) {
        if (!node.input(input) || single(node.input(input))) continue;
        const bool blocks = m_shapes.of(node.input(input)).dims.size() == rank && rank > 1;
        const std::int64_t block = along == static_cast<std::int64_t>(axis) ? node.attributes.integer("block_size", 0) : 1;
        if (blocks && (!byBlocks(block) || (block > 1 && !byBlocks(block)->source(node.input(input), axis, 1)))) return false;
        if (blocks) found.push_back({input, axis, block});
        else if (along == static_cast<std::int64_t>(axis)) found.push_back({input, 0});
    }
    return true;
}

std::vector<OwnColumns::Operand> OwnColumns::operands(const Node& node, std::size_t axis) const {
    std::vector<Operand> found;
    const Dims& dims = m_shapes.of(node.output()).dims;
    if (axis >= dims.size() || !node.domain.empty()) return {};
    const std::size_t back = dims.size() - 1 - axis;
    if (node.is("DequantizeLinear") || node.is("QuantizeLinear")) return quantised(node, axis, found) ? found : std::vector<Operand>();
    if (node.is("Cast") || node.is("Identity")) return {{0, axis}};
    if (node.is("Transpose")) {
        const auto* perm = node.attributes.integers("perm");
        return {{0, perm && axis < perm->size() ? static_cast<std::size_t>((*perm)[axis]) : back}};
    }
    if (node.is("MatMul") && back == 0 && m_shapes.of(node.input(1)).dims.size() >= 2) return {{1, m_shapes.of(node.input(1)).dims.size() - 1}};
    if (node.is("Mul") || node.is("Div") || node.is("Add") || node.is("Sub")) {
        for (const std::size_t input : {0U, 1U}) {
            const ValueShape& shape = m_shapes.of(node.input(input));
            if (!shape.known()) return {};
            // One number for all columns is read as it is.
            if (shape.dims.size() > back && shape.dims[shape.dims.size() - 1 - back] != 1) found.push_back({input, shape.dims.size() - 1 - back});
        }
    }
    return found;
}

bool OwnColumns::cuts(ValueId value, std::size_t axis, std::int64_t each, int depth) const {
    if (source(value, axis, each)) return true;
    const NodeId id = value ? m_graph.producer(value) : NodeId();
    const ValueShape& shape = m_shapes.of(value);
    constexpr int deepest = 8;
    if (!id || depth > deepest || each != 1 || !shape.known() || axis >= shape.dims.size() || shape.dims[axis] != m_columns) return false;
    const auto held = operands(m_graph.node(id), axis);
    return !held.empty() && std::all_of(held.begin(), held.end(), [&](const Operand& operand) { return operand.block > 1 || cuts(m_graph.node(id).input(operand.input), operand.axis, 1, depth + 1); });
}

ValueId OwnColumns::of(Emitter& emit, ValueId value, std::size_t axis, const std::string& name, std::int64_t each) {
    if (const auto found = source(value, axis, each)) return emit.builder().addInitializer(cutTensor(*found, times(m_range.runs, each), axis, name));
    const NodeId id = m_graph.producer(value);
    const Node& node = m_graph.node(id);
    m_written.push_back(id);
    std::vector<ValueId> inputs = node.inputs;
    for (const Operand& operand : operands(node, axis)) {
        const std::string own = operand.input == 0 ? name : name + (operand.input == 1 ? "_scale" : "_zero_point");
        inputs[operand.input] = operand.block > 1 ? byBlocks(operand.block)->of(emit, inputs[operand.input], operand.axis, own) : of(emit, inputs[operand.input], operand.axis, own);
    }
    return emit.copy(name, node, std::move(inputs));
}

bool OwnColumns::cutsLast(ValueId value) const {
    const ValueShape& shape = m_shapes.of(value);
    return single(value) || (shape.known() && !shape.dims.empty() && (shape.dims.back() == 1 || cuts(value, shape.dims.size() - 1)));
}

ValueId OwnColumns::ofLast(Emitter& emit, ValueId value, const std::string& name) {
    const Dims& dims = m_shapes.of(value).dims;
    return single(value) || dims.back() == 1 ? value : of(emit, value, dims.size() - 1, name);
}

bool worksByColumn(const Shapes& shapes, const Node& node, const OwnColumns& own) {
    const auto rest = [&] { return std::all_of(node.inputs.begin() + 1, node.inputs.end(), [&](ValueId input) { return !input || own.cuts(input, 0); }); };
    if (node.is("BatchNormalization")) return node.inputs.size() == 5 && rest();
    const Dims& weight = shapes.of(node.input(1)).dims;
    // A strided one leaves places out.
    return node.is("Conv") && weight.size() >= 3 && weight[1] == 1 && node.attributes.integer("group", 1) == weight[0] && shapes.of(node.output()).dims == shapes.of(node.input(0)).dims && rest();
}

} // namespace triptych
