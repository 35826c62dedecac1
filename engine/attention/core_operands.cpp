// What stands between the softmax and the product with V, and which operand of the two products of an attention is which:
//
//   scores  = Q x K', of which the softmax runs over the keys
//   context = probabilities x V, which sums over the keys
//
// Either product may have its operands in either order, and turned; the axis of the softmax and the one that the context sums tell.

#include "attention/core.h"

#include "attention/product_axes.h"
#include "attention/products.h"
#include "attention/starts.h"

#include <algorithm>
#include <cmath>

namespace triptych {

namespace {

/// Whether V is summed over the last axis of what the softmax made: then that is the keys', and a softmax along the other lets queries compete for each.
bool sumsLast(const Graph& graph, const ContextWay& way, const Core& core) {
    const Node& context = graph.node(core.context);
    return Products::multiplies(context) && sumsLastAxis(context, way.probabilities == factorOf(context, 0) ? 0 : 1) != way.turned;
}

/// Two permutations of axes, one after the other.
std::vector<std::int64_t> composed(const std::vector<std::int64_t>& first, const std::vector<std::int64_t>& second) {
    std::vector<std::int64_t> order;
    for (const std::int64_t axis : second) order.push_back(first[static_cast<std::size_t>(std::clamp<std::int64_t>(axis, 0, std::ssize(first) - 1))]);
    return order;
}

/// Whether the softmax runs over the rows of the scores product, as an odd number of turns leaves it.
bool overRows(const Graph& graph, const Shapes& shapes, const Products& products, const ContextWay& way, Core& core) {
    const Node& softmax = graph.node(core.softmax);
    bool rows = false;
    std::vector<std::int64_t> order; // of axes, as Transposes leave it
    for (const NodeId each : core.nodes) {
        const Node& node = graph.node(each);
        if (each.position() >= core.softmax.position()) continue;
        if (turnsLastAxes(node)) rows = !rows;
        const auto* perm = node.is("Transpose") ? node.attributes.integers("perm") : nullptr;
        if (perm) order = order.size() == perm->size() ? composed(order, *perm) : *perm;
    }
    // Batch and heads may stand behind queries and keys.
    const std::size_t shared = !std::is_sorted(order.begin(), order.end()) ? 0 : sharedAtEnd(*products.of(graph.node(core.scores)));
    const auto rank = static_cast<std::int64_t>(shapes.of(softmax.output()).dims.size());
    std::int64_t axis = isSoftmax(softmax) ? softmax.attributes.integer("axis", -1) : -1;
    if (axis >= 0) axis -= rank;
    axis += static_cast<std::int64_t>(shared); // from the end of those before them
    const Node& context = graph.node(core.context);
    if (const auto summed = summedSide(graph, shapes, core.softmax, shared, way.nodes, context, way.probabilities == factorOf(context, 0) ? 0 : 1)) {
        // A softmax along the other axis lets queries compete for each key.
        const bool last = axis == -1, before = axis == -2;
        if (*summed == 0 ? before : last) core.extras.insert("inverted");
        return rows != (*summed == 1);
    }
    const bool competing = core.weighed || axis == -2; // without a softmax V alone tells which axis is the keys'
    return rows != (rank >= 2 && competing && !sumsLast(graph, way, core));
}

/// What an Einsum multiplies in beside its two operands: a scale of the scores, a mask of the probabilities.
void thirdFactors(const Shapes& shapes, const Node& scores, const Node& context, Core& core) {
    const bool three = scores.is("Einsum") && scores.inputs.size() == 3;
    if (const auto factor = three ? shapes.scalar(scores.input(2)) : std::nullopt) core.scale *= *factor;
    else core.scaleUnknown = core.scaleUnknown || three;
    core.scaled = core.scaled || three;
    if (!core.weighed && context.is("Einsum") && context.inputs.size() == 3 && !shapes.scalar(context.input(2))) core.multiplied.push_back(context.input(2));
}

} // namespace

void readWay(const Graph& graph, const Shapes& shapes, Products& products, ContextWay& way, Core& core) {
    const Node* operands = products.of(graph.node(core.context)); // the Mul of a product that is spelled out with ReduceSum stands on the way too
    const Spelled spelled(graph, shapes);
    ValueId value = graph.node(core.softmax).output();
    for (const NodeId each : way.nodes) {
        const Node& node = graph.node(each);
        if (node.is("Mul") && &node != operands) {
            // What is multiplied onto probabilities for each key is a mask, if it is made of no scores.
            const ValueId other = besides(node, value);
            const ValueShape &shape = shapes.of(other), &weights = shapes.of(value);
            const bool keys = shape.known() && weights.known() && !shape.dims.empty() && !weights.dims.empty() && shape.dims.back() == weights.dims.back() && shape.dims.back() > 1;
            if (keys && !products.leadsTo(other)) core.multiplied.push_back(other);
        }
        if (const NodeId sum = node.is("Div") ? spelled.sumOf(node.input(1), value) : NodeId()) core.nodes.push_back(sum);
        if (node.is("Transpose")) way.turned = way.turned != turnsLastAxes(node);
        core.altered = core.altered || (&node != operands && (node.is("Mul") || node.is("Div") || node.is("Add") || node.is("Sub")));
        value = node.output();
    }
}

void takeOperands(const Graph& graph, const Shapes& shapes, const Products& products, const ContextWay& way, Core& core) {
    const Node &scores = *products.of(graph.node(core.scores)), &context = *products.of(graph.node(core.context));
    if (scores.is("Mul")) core.nodes.push_back(graph.producer(graph.node(core.scores).input(0)));
    // A Gemm or a FusedMatMul scales what it multiplies.
    if (const float alpha = scores.is("Gemm") || scores.op == "FusedMatMul" ? scores.attributes.real("alpha", 1) : 1; alpha != 1) {
        core.scale *= static_cast<double>(alpha);
        core.scaled = true;
    }
    thirdFactors(shapes, scores, context, core);
    constexpr double rounding = 1e-6; // powers of two of scores that are multiplied by the binary logarithm of e
    if (std::abs(core.scale - 1) < rounding && core.scale != 1) core.scale = 1, core.scaled = false;
    core.q = scores.input(0);
    core.k = factorOf(scores, 1);
    if (endsInFirst(scores)) std::swap(core.q, core.k); // the last axis of the scores is the keys'
    if (overRows(graph, shapes, products, way, core)) std::swap(core.q, core.k);
    if (scores.is("Mul") && shapes.of(core.k).count() < shapes.of(core.q).count() && products.ofOneRow(graph.node(core.scores))) std::swap(core.q, core.k);
    const bool plain = Products::multiplies(graph.node(core.scores)) && Products::multiplies(graph.node(core.context));
    const std::size_t values = context.input(0) == way.probabilities ? 1 : 0;
    if (plain) {
        core.headDim = summedSize(graph, shapes, core.scores);
        core.vHeadDim = ownSize(graph, shapes, core.context, values);
    }
    core.v = factorOf(context, values);
}

} // namespace triptych
