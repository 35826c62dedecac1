#include "attention/products.h"

#include "attention/product_axes.h"
#include "attention/starts.h"
#include "attention/trace.h"

#include <algorithm>
#include <array>

namespace triptych {

ValueId behindViews(const Graph& graph, ValueId value) {
    static constexpr std::array views{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Cast"};
    constexpr int longest = 16;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id || !isOneOf(graph.node(id), views)) break;
        value = graph.node(id).input(0);
    }
    return value;
}

NodeId timesItself(const Graph& graph, ValueId value) {
    const ValueId made = behindViews(graph, value);
    const NodeId id = made ? graph.producer(made) : NodeId();
    const bool gram = id && Products::multiplies(graph.node(id)) && behindViews(graph, factorOf(graph.node(id), 0)) == behindViews(graph, factorOf(graph.node(id), 1));
    return gram ? id : NodeId();
}

bool spreadsWeights(const Graph& graph, const Shapes& shapes, NodeId softmax, ValueId weights, NodeId product) {
    const Node& node = graph.node(softmax);
    const Dims& dims = shapes.of(node.output()).dims;
    const auto rank = static_cast<std::int64_t>(dims.size());
    const std::int64_t axis = node.attributes.integer("axis", -1);
    if (!isSoftmax(node) || !Products::multiplies(graph.node(product)) || axis >= rank || axis < -rank) return false;
    // Of a key and a sink beside it only the key's weight is left.
    const Dim keys = dims[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)];
    return keys > 1 && summedSize(graph, shapes, product) == 1 && shapes.of(weights).known() && shapes.of(node.output()).known() && shapes.of(weights).count() > shapes.of(node.output()).count() / keys;
}

std::optional<std::size_t> summedSide(const Graph& graph, const Shapes& shapes, NodeId softmax, std::size_t shared, const std::vector<NodeId>& way, const Node& context, std::size_t operand) {
    const Node& node = graph.node(softmax);
    const std::size_t rank = shapes.of(node.output()).dims.size();
    if (!isSoftmax(node) || !Products::multiplies(context) || rank < 2 + shared) return std::nullopt;
    using Axes = std::array<std::optional<std::size_t>, 2>;
    Axes axes{rank - 1 - shared, rank - 2 - shared};
    ValueId value = node.output();
    std::map<ValueId, Axes> before{{value, axes}}; // what views undo stands where it stood
    for (const NodeId each : way) {
        for (auto& axis : axes)
            if (axis) axis = axisBehind(shapes, graph.node(each), value, *axis);
        value = graph.node(each).output();
        const auto [known, fresh] = before.emplace(bare(graph, shapes, value), axes);
        if (!fresh) axes = known->second;
    }
    const auto sums = [&](std::size_t side) { return axes[side] && sumsAxis(shapes, context, operand, *axes[side]); };
    if (sums(0) == sums(1)) return std::nullopt;
    return sums(0) ? 0 : 1;
}

Products::Products(const Graph& graph, const Shapes& shapes, NodeId softmax)
    : m_graph(graph), m_shapes(shapes), m_spelled(graph, shapes) {
    const std::vector<ValueId>& inputs = graph.node(softmax).inputs;
    const auto all = [&](auto holds) { return std::all_of(inputs.begin(), inputs.end(), [&](ValueId value) { return !value || holds(value); }); };
    m_learned = all([&](ValueId value) { return shapes.isConstant(value); });
    m_folded = all([&](ValueId value) { return shapes.isFixed(value); });
}

bool Products::constant(ValueId value) const { return !value || (m_folded ? isGiven(m_graph, m_shapes, value) : m_learned ? m_shapes.isFixed(value) : m_shapes.isConstant(value)); }

bool Products::multiplies(const Node& node) {
    return node.is("MatMul") || node.is("Einsum") || node.is("Gemm") || node.is("com.microsoft", "FusedMatMul") || node.is("MatMulInteger") || node.is("QLinearMatMul");
}

const Node* Products::of(const Node& node) const {
    if (multiplies(node)) {
        // Learned queries are a constant, of heads or of a batch: not the two axes of a weight.
        const bool queries = constant(node.input(0)) && node.input(0) && m_shapes.of(node.input(0)).dims.size() >= 3;
        return node.inputs.size() >= 2 && !sumsNothing(node) && (queries || !constant(node.input(0))) && !constant(factorOf(node, 1)) ? &node : nullptr;
    }
    const NodeId inner = node.is("ReduceSum") ? m_spelled.maker(node.input(0)) : NodeId();
    if (!inner || !m_graph.node(inner).is("Mul")) return nullptr;
    // An outer product, each operand stretched along an axis of the other: not the square of a norm.
    const Node& multiply = m_graph.node(inner);
    if (constant(multiply.input(0)) || constant(multiply.input(1))) return nullptr;
    const ValueShape &a = m_shapes.of(multiply.input(0)), &b = m_shapes.of(multiply.input(1));
    if (!a.known() || !b.known() || a.dims.size() != b.dims.size()) return nullptr;
    bool first = false, second = false;
    for (std::size_t i = 0; i < a.dims.size(); ++i) {
        first = first || (a.dims[i] == 1 && b.dims[i] > 1);
        second = second || (b.dims[i] == 1 && a.dims[i] > 1);
    }
    return (first && second) || ofOneRow(node) ? &multiply : nullptr;
}

bool Products::ofOneRow(const Node& sum) const {
    const NodeId inner = sum.is("ReduceSum") ? m_spelled.maker(sum.input(0)) : NodeId();
    if (!inner || !m_graph.node(inner).is("Mul")) return false;
    const HostTensor* given = sum.input(1) ? m_shapes.constant(sum.input(1)) : nullptr;
    const auto* attribute = sum.attributes.integers("axes");
    const std::vector<std::int64_t> axes = given && given->isInteger() ? given->integers() : attribute ? *attribute : std::vector<std::int64_t>();
    const Dims &a = m_shapes.of(m_graph.node(inner).input(0)).dims, &b = m_shapes.of(m_graph.node(inner).input(1)).dims;
    const auto rank = static_cast<std::int64_t>(a.size());
    if (rank < 3 || b.size() != a.size() || axes.size() != 1 || (axes[0] != -1 && axes[0] != rank - 1)) return false;
    std::size_t apart = 0;
    for (std::size_t i = 0; i < a.size(); ++i) apart += a[i] != b[i] ? 1 : 0;
    const Dim one = a[a.size() - 2], other = b[b.size() - 2];
    return apart == 1 && std::min(one, other) == 1 && std::max(one, other) > 1 && a.back() > 1;
}

bool Products::leadsTo(ValueId value, int depth) {
    // Scores are numbers: a mask that is compared from a product is none of them, nor is a size of theirs, nor noise of that size.
    if (!value || depth > 48 || constant(value) || m_shapes.of(value).type == DataType::boolean) return false;
    if (const auto known = m_leads.find(value); known != m_leads.end()) return known->second;
    m_leads[value] = false;
    const NodeId id = m_graph.producer(value);
    if (!id) return false;
    const Node& node = m_graph.node(id);
    bool leads = of(node) != nullptr;
    const bool barrier = ((multiplies(node) || convolves(node) || node.is("com.microsoft", "QGemm")) && !mixesHeads(node)) || node.op.ends_with("Softmax") || node.is("Shape") || node.is("RandomUniformLike") || node.is("RandomNormalLike");
    for (std::size_t i = 0; i < std::min(node.inputs.size(), asked) && !leads && !barrier; ++i) leads = leadsTo(node.inputs[i], depth + 1);
    return m_leads[value] = leads;
}

bool Products::leadsToProduct(NodeId node) const {
    if (multiplies(m_graph.node(node))) return true;
    constexpr std::size_t most = 32;
    std::vector<NodeId> open{node};
    for (std::size_t i = 0; i < open.size() && i < most; ++i) {
        if (of(m_graph.node(open[i]))) return true;
        if (multiplies(m_graph.node(open[i]))) continue;
        for (const ValueId output : m_graph.node(open[i]).outputs) {
            if (!output) continue;
            const auto readers = m_graph.readers(output);
            open.insert(open.end(), readers.begin(), readers.begin() + static_cast<std::ptrdiff_t>(std::min(readers.size(), most - std::min(most, open.size()))));
        }
    }
    return false;
}

bool Products::mixesHeads(const Node& node) const {
    if (constant(node.input(0)) || !constant(node.input(1))) return false;
    if (node.is("Conv")) { // heads as channels
        const Dims& kernel = m_shapes.of(node.input(1)).dims;
        return kernel.size() == 4 && kernel[0] == kernel[1] && kernel[2] == 1 && kernel[3] == 1 && m_shapes.of(node.input(0)).dims.size() == 4;
    }
    if (!node.is("MatMul") && !node.is("Gemm")) return false;
    // As a Gemm, behind a Reshape to rows of heads.
    const NodeId rows = node.is("Gemm") ? m_spelled.maker(node.input(0)) : NodeId();
    if (node.is("Gemm") && (!rows || !m_graph.node(rows).is("Reshape") || node.attributes.integer("transA", 0) != 0)) return false;
    const ValueId mixed = rows ? m_graph.node(rows).input(0) : node.input(0);
    const Dims &weight = m_shapes.of(node.input(1)).dims, &from = m_shapes.of(mixed).dims;
    if (weight.size() != 2 || weight[0] != weight[1] || from.size() != 4 || from.back() != weight[0]) return false;
    const NodeId before = m_spelled.maker(mixed);
    if (!before) return false;
    // Heads that were last when a softmax ran over another axis are last behind it, too.
    const std::int64_t axis = m_graph.node(before).attributes.integer("axis", -1);
    return m_graph.node(before).is("Transpose") || (rows && m_graph.node(before).is("Softmax") && axis >= 0 && axis < 3);
}

bool Products::isMixersBias(ValueId mixed, ValueId bias) const {
    const NodeId before = m_spelled.maker(mixed);
    return before && mixesHeads(m_graph.node(before)) && constant(bias) && m_shapes.of(bias).dims.size() <= 1;
}

} // namespace triptych
