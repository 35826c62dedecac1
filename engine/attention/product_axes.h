#pragma once
// Which axes of a product of two activations are summed, and which are an operand's own. Private to engine/attention.

#include "shapes/shapes.h"

namespace triptych {

/// An axis of a value, counted back from its last one (0). 0: unknown.
Dim dimFromEnd(const Shapes& shapes, ValueId value, std::size_t back);
/// What a product multiplies: 0 from the left, 1 from the right. Scales and zero points stand between them in a QLinearMatMul.
ValueId factorOf(const Node& product, std::size_t side);
/// The number that a product is multiplied by on a side: what its integer stands for in QLinearMul; empty where it is none.
std::optional<double> scalarFactor(const Shapes& shapes, const Node& node, std::size_t side);
/// How many axes at the end of an Einsum's result both operands have: batch and heads behind queries and keys. 0 for any other product.
std::size_t sharedAtEnd(const Node& product);
/// Whether the last axis of an Einsum's result that only one operand has is its first one's; false for any other product.
bool endsInFirst(const Node& product);
/// Which axis of an operand of an Einsum is the last one of its result; none where that is another operand's, or both have it.
std::optional<std::size_t> lastAxisIn(const Node& product, std::size_t operand);
/// Whether a node is a Transpose that swaps the last two axes.
bool turnsLastAxes(const Node& node);
/// Elements along what is summed: the last axis of a MatMul's first operand, the letters of an Einsum that its result lacks. 0: unknown.
Dim summedSize(const Graph& graph, const Shapes& shapes, NodeId product);
/// How many last axes of a projection's result its weight's columns take: several for an Einsum "bsd,dchk->bschk", else 1.
std::size_t columnAxes(const Node& product);
/// Whether an Einsum sums nothing that both operands have: an outer product, as of two masks.
bool sumsNothing(const Node& product);
/// Whether what is summed is the last axis of operand 0 or 1, but for those that both have and the result keeps.
bool sumsLastAxis(const Node& product, std::size_t operand);
/// Whether a product sums axis `axis` (from the front) of operand 0 or 1.
bool sumsAxis(const Shapes& shapes, const Node& product, std::size_t operand, std::size_t axis);
/// Where an axis of what a node reads stands in what it makes; none where it is cut, merged or can't be told.
std::optional<std::size_t> axisBehind(const Shapes& shapes, const Node& node, ValueId from, std::size_t axis);
/// Elements along what only operand 0 or 1 has and the result keeps: rows of a first, columns of a second operand. 0: unknown.
Dim ownSize(const Graph& graph, const Shapes& shapes, NodeId product, std::size_t operand);
/// Whether operand 0 or 1 has an axis that the other lacks and the result keeps; true for what is no Einsum and where an ellipsis leaves it open.
bool hasOwnAxis(const Node& product, std::size_t operand);
/// Elements along what stands in both operands of an Einsum and in its result; 0 where nothing does.
Dim sharedSize(const Graph& graph, const Shapes& shapes, NodeId product);

} // namespace triptych
