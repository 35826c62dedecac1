// Latent attention multiplies contents and rotated positions apart, and adds the scores:
//
//   q content --+
//               MatMul --+
//   latent -----+        Add -- scale -- softmax
//   q rotated --+        |
//               MatMul --+
//   k rotated --+
//
// That is one product of heads as wide as both.

#include "attention/core.h"

#include "attention/product_axes.h"
#include "attention/products.h"
#include "attention/trace.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

/// The product of activations that gives a value, perhaps scaled; the nodes from it on are added to `way`.
NodeId productBehind(const Graph& graph, const Shapes& shapes, ValueId value, std::vector<NodeId>& way) {
    constexpr int longest = 6;
    for (int steps = 0; steps < longest; ++steps) {
        const NodeId id = graph.producer(bare(graph, shapes, value));
        if (!id) return {};
        const Node& node = graph.node(id);
        way.push_back(id);
        if (Products::multiplies(node)) return shapes.isConstant(factorOf(node, 1)) ? NodeId() : id;
        const bool scaled = (node.is("Mul") || node.is("Div")) && shapes.scalar(node.input(1));
        if (!scaled && !(node.is("Mul") && shapes.scalar(node.input(0)))) return {};
        value = node.input(scaled ? 0 : 1);
    }
    return {};
}

} // namespace

void joinPositions(const Graph& graph, const Shapes& shapes, Core& core) {
    if (core.addends.size() != 1) return;
    std::vector<NodeId> way;
    const NodeId other = productBehind(graph, shapes, core.addends[0], way);
    if (!other || !Products::multiplies(graph.node(core.scores))) return;
    const bool turned = endsInFirst(graph.node(other));
    const ValueId q = factorOf(graph.node(other), turned ? 1 : 0), k = factorOf(graph.node(other), turned ? 0 : 1);
    const auto rotated = [&](ValueId operand) {
        const RoleTrace trace = traceRole(graph, shapes, operand);
        return trace.linear && trace.extras.contains("rope");
    };
    const bool second = rotated(q) && rotated(k);
    if (second == (rotated(core.q) && rotated(core.k))) return;
    if (!second) {
        core.q = q;
        core.k = k;
    }
    core.headDim += summedSize(graph, shapes, other);
    core.nodes.insert(core.nodes.end(), way.begin(), way.end());
    std::sort(core.nodes.begin(), core.nodes.end());
    core.extras.erase("disentangled");
    core.extras.insert("rope");
}

bool gathersScores(const Graph& graph, const Products& products, ValueId value) {
    bool picks = false;
    for (int steps = 0; steps < 12 && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id || products.constant(value)) return false;
        picks = picks || graph.node(id).is("GatherElements");
        if (Products::multiplies(graph.node(id))) return picks;
        value = graph.node(id).input(0);
    }
    return false;
}

std::optional<PartAdded> addedToPart(const Graph& graph, const Shapes& shapes, const Node& scatter) {
    if (!scatter.is("ScatterND") || scatter.attributes.text("reduction", "none") != "none") return std::nullopt;
    constexpr int longest = 12;
    const auto behind = [&](ValueId value, std::span<const char* const> operators, std::vector<NodeId>& passed) {
        for (int steps = 0; steps < longest && value; ++steps) {
            value = bare(graph, shapes, value);
            const NodeId id = graph.producer(value);
            if (!id || !isOneOf(graph.node(id), operators)) break;
            passed.push_back(id);
            value = graph.node(id).input(0);
        }
        return value;
    };
    static constexpr std::array views{"Reshape", "Expand", "Cast", "Identity"};
    static constexpr std::array cuts{"Slice", "Reshape", "Cast", "Identity", "ScatterND"};
    PartAdded part;
    const ValueId sum = behind(scatter.input(2), views, part.nodes);
    const NodeId add = sum ? graph.producer(sum) : NodeId();
    if (!add || !graph.node(add).is("Add")) return std::nullopt;
    part.nodes.push_back(add);
    std::vector<NodeId> written;
    const ValueId scores = behind(scatter.input(0), cuts, written);
    for (const std::size_t side : {0U, 1U}) {
        std::vector<NodeId> cut;
        if (behind(graph.node(add).input(side), cuts, cut) != scores) continue;
        if (std::none_of(cut.begin(), cut.end(), [&](NodeId id) { return graph.node(id).is("Slice"); })) continue;
        part.bias = graph.node(add).input(1 - side);
        part.nodes.insert(part.nodes.end(), cut.begin(), cut.end());
        return part;
    }
    return std::nullopt;
}

} // namespace triptych
