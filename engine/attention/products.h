#pragma once
// Products of two activations, as a walk from one softmax sees them. Private to engine/attention.

#include "attention/spelled.h"

#include <unordered_map>

namespace triptych {

/// What a value is before its views.
ValueId behindViews(const Graph& graph, ValueId value);

/// The product that makes a value of another one and the same; none where none does.
NodeId timesItself(const Graph& graph, ValueId value);
/// Whether a product multiplies a softmax's weights of several keys out, with no sum over the keys, as where a memory is written.
bool spreadsWeights(const Graph& graph, const Shapes& shapes, NodeId softmax, ValueId weights, NodeId product);
/// Which of a softmax's last two axes before `shared` ones (of batch or heads), 0 for the last one, `context` sums behind the nodes of `way` as its operand 0 or 1. Empty where it can't be told.
std::optional<std::size_t> summedSide(const Graph& graph, const Shapes& shapes, NodeId softmax, std::size_t shared, const std::vector<NodeId>& way, const Node& context, std::size_t operand);

class Products {
public:
    Products(const Graph& graph, const Shapes& shapes, NodeId softmax);

    /// Attention of learned queries among themselves depends on shapes alone: then only what the file gives is constant.
    bool constant(ValueId value) const;
    /// A node that multiplies matrices, whatever of.
    static bool multiplies(const Node& node);
    /// The node whose operands a product of two activations multiplies: itself, or the Mul under a ReduceSum; null where it is none.
    const Node* of(const Node& node) const;
    /// Whether a ReduceSum sums the last axis of a Mul of many rows with a single one: a query by itself.
    bool ofOneRow(const Node& sum) const;
    /// So many inputs of one node are looked at: what joins thousands joins the like of them, and each softmax asks anew.
    static constexpr std::size_t asked = 64;
    /// Whether a product of two activations lies behind a value, without crossing a softmax or a weight. Cost: once for each value.
    bool leadsTo(ValueId value, int depth = 0);
    /// Whether a node multiplies matrices, or one soon behind it multiplies two activations.
    bool leadsToProduct(NodeId node) const;
    /// A square constant over the axis of heads, turned to the end for it.
    bool mixesHeads(const Node& node) const;
    /// Added to heads that were mixed, before they are turned back.
    bool isMixersBias(ValueId mixed, ValueId bias) const;

private:
    const Graph& m_graph;
    const Shapes& m_shapes;
    Spelled m_spelled;
    bool m_learned, m_folded; ///< what the softmax is taken of depends on no input; on no size either
    std::unordered_map<ValueId, bool> m_leads;
};

} // namespace triptych
