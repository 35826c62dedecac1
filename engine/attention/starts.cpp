#include "attention/starts.h"

#include "attention/product_axes.h"
#include "attention/products.h"
#include "attention/trace.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

/// It takes everything from its axis on together: only over the last one it is the softmax of an attention.
bool overLastAxis(const Shapes& shapes, const Node& node) {
    const auto rank = static_cast<std::int64_t>(shapes.of(node.input(0)).dims.size());
    const std::int64_t axis = node.attributes.integer("axis", 1);
    return addsBias(node) && node.input(1) && rank > 0 && (axis == -1 || axis == rank - 1);
}

/// 1 + exp(-x), which divides what a sigmoid is multiplied by; none where a value is something else.
std::optional<Weighing> divisorOfSigmoid(const Graph& graph, const Shapes& shapes, const Spelled& spelled, ValueId value) {
    const NodeId sum = spelled.maker(value);
    for (const std::size_t side : {0U, 1U}) {
        const NodeId exponent = sum && graph.node(sum).is("Add") && shapes.scalar(graph.node(sum).input(1 - side)) == 1.0 ? spelled.maker(graph.node(sum).input(side)) : NodeId();
        if (!exponent || !graph.node(exponent).is("Exp")) continue;
        const ValueId scores = graph.node(exponent).input(0);
        const NodeId before = spelled.maker(scores);
        if (before && graph.node(before).is("Neg")) return Weighing{"sigmoid", graph.node(before).input(0), {before, exponent, sum}, false};
        return Weighing{"sigmoid", scores, {exponent, sum}, true};
    }
    return std::nullopt;
}

std::optional<Weighing> sigmoid(const Graph& graph, const Shapes& shapes, const Spelled& spelled, const Node& node) {
    if (node.is("Sigmoid")) return Weighing{"sigmoid", node.input(0), {}};
    if (node.is("Reciprocal")) return divisorOfSigmoid(graph, shapes, spelled, node.input(0));
    return node.is("Div") && shapes.scalar(node.input(0)) == 1.0 ? divisorOfSigmoid(graph, shapes, spelled, node.input(1)) : std::nullopt;
}

/// A sigmoid times what it was taken of.
std::optional<Weighing> silu(const Graph& graph, const Shapes& shapes, const Spelled& spelled, const Node& node) {
    const auto ofItself = [&](const std::optional<Weighing>& gate, ValueId other) { return gate && !gate->negated && bare(graph, shapes, gate->scores) == bare(graph, shapes, other); };
    for (const std::size_t side : {0U, 1U}) {
        const NodeId id = node.is("Mul") ? spelled.maker(node.input(side)) : NodeId();
        auto gate = id ? sigmoid(graph, shapes, spelled, graph.node(id)) : std::nullopt;
        if (!ofItself(gate, node.input(1 - side))) continue;
        gate->inner.push_back(id);
        return Weighing{"silu", node.input(1 - side), std::move(gate->inner)};
    }
    auto gate = node.is("Div") ? divisorOfSigmoid(graph, shapes, spelled, node.input(1)) : std::nullopt;
    return ofItself(gate, node.input(0)) ? std::optional(Weighing{"silu", node.input(0), std::move(gate->inner)}) : std::nullopt;
}

} // namespace

bool isSoftmax(const Node& node) { return node.is("Softmax") || node.is("com.microsoft", "QLinearSoftmax"); }

bool addsBias(const Node& node) { return node.is("com.microsoft", "BiasSoftmax"); }

bool isOverSeveralAxes(const Shapes& shapes, const Node& node) { return addsBias(node) && node.input(1) && shapes.of(node.input(0)).ranked && !overLastAxis(shapes, node); }

std::vector<NodeId> softmaxes(const Graph& graph, const Shapes& shapes) {
    std::vector<NodeId> found;
    const Spelled spelled(graph, shapes);
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const Node& node = graph.nodes()[i];
        const bool live = std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId value) { return value && !isGiven(graph, shapes, value); });
        if (live && (isSoftmax(node) || overLastAxis(shapes, node) || spelled.ends(node) || spelled.sumsLate(node))) found.emplace_back(i);
    }
    return found;
}

std::optional<Weighing> weighing(const Graph& graph, const Shapes& shapes, NodeId id) {
    static constexpr std::array<std::pair<std::string_view, const char*>, 8> functions{
        {{"HardSigmoid", "sigmoid"}, {"Relu", "relu"}, {"LeakyRelu", "leaky_relu"}, {"Elu", "elu"}, {"Softplus", "softplus"}, {"Gelu", "gelu"}, {"Tanh", "tanh"}, {"Swish", "silu"}}};
    const Node& node = graph.node(id);
    if (node.is("com.microsoft", "QuickGelu") && node.attributes.real("alpha", 1.702F) == 1) return Weighing{"silu", node.input(0), {}};
    for (const auto& [op, word] : functions)
        if (node.is(op)) return Weighing{word, node.input(0), {}};
    if (node.is("Clip") && shapes.scalar(node.input(1)) == 0.0 && !node.input(2)) return Weighing{"relu", node.input(0), {}};
    const Spelled spelled(graph, shapes);
    if (spelled.squares(node)) {
        const NodeId relu = spelled.maker(node.input(0));
        const auto inner = relu ? weighing(graph, shapes, relu) : std::nullopt;
        return inner && inner->word == "relu" ? std::optional(Weighing{"squared_relu", inner->scores, {relu}}) : std::nullopt;
    }
    // Half of an error function and 1: a smooth step that is close to a squared Relu.
    for (const std::size_t side : {0U, 1U}) {
        const NodeId sum = node.is("Mul") && shapes.scalar(node.input(1 - side)) == 0.5 ? spelled.maker(node.input(side)) : NodeId();
        for (const std::size_t addend : {0U, 1U}) {
            const NodeId erf = sum && graph.node(sum).is("Add") && shapes.scalar(graph.node(sum).input(1 - addend)) == 1.0 ? spelled.maker(graph.node(sum).input(addend)) : NodeId();
            if (erf && graph.node(erf).is("Erf")) return Weighing{"laplace", graph.node(erf).input(0), {erf, sum}};
        }
    }
    if (auto function = sigmoid(graph, shapes, spelled, node)) return function;
    return silu(graph, shapes, spelled, node);
}

std::vector<NodeId> weighings(const Graph& graph, const Shapes& shapes) {
    // Such functions are everywhere: in one pass, behind which of them a product of two activations can be, with no weight between.
    std::vector<bool> behind(graph.values().size(), false);
    std::vector<NodeId> found, alone;
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const Node& node = graph.nodes()[i];
        const auto live = [&](ValueId value) { return value && !shapes.isConstant(value); };
        const auto leads = [&](ValueId value) { return live(value) && behind[value.position()]; };
        const bool weight = convolves(node) || isSoftmax(node);
        const bool product = Products::multiplies(node) ? live(node.input(0)) && live(factorOf(node, 1)) : node.is("ReduceSum");
        const bool after = !weight && (product || std::any_of(node.inputs.begin(), node.inputs.end(), leads));
        for (const ValueId output : node.outputs)
            if (output) behind[output.position()] = after;
        const auto each = after ? weighing(graph, shapes, NodeId(i)) : std::nullopt;
        if (each && leads(each->scores)) (each->inner.empty() ? alone : found).emplace_back(i);
    }
    found.insert(found.end(), alone.begin(), alone.end());
    return found;
}

} // namespace triptych
