#pragma once
// The middle of an attention: scores product, what is done to the scores, softmax, context product. Private to engine/attention.

#include "attention/attention.h"

namespace triptych {

class Products;

/// The other operand of a node that joins two.
inline ValueId besides(const Node& node, ValueId value) { return node.input(node.input(0) == value ? 1 : 0); }

struct Core {
    NodeId scores, softmax, context;
    std::vector<NodeId> nodes;      ///< all of it in topological order
    ValueId q, k, v;                ///< operands of the two products
    Dim headDim = 0, vHeadDim = 0;  ///< what they sum over, and what V's has of its own; 0: unknown
    std::vector<ValueId> masks;     ///< what is added to or selects among the scores
    std::vector<ValueId> selecting; ///< those of them that are conditions of a Where
    std::vector<ValueId> multiplied; ///< masks that hide probabilities, behind the softmax or before its sum
    std::vector<ValueId> addends;   ///< what else of products of activations is added to the scores
    bool weighed = false;           ///< `softmax` is a function of each score by itself, in a softmax's place; or the scores product
    bool altered = false;           ///< scores or probabilities are changed by more than scale, soft cap and masks
    double scale = 1;
    bool scaled = false;
    bool scaleUnknown = false;      ///< a factor is learned or its value is not in the file
    ValueId result;                 ///< the context, behind a division that ends the softmax there
    std::set<std::string> extras;   ///< "softcap", "nan_guard", "cast", "sigmoid", ...
};

/// The core round a softmax or what stands in its place (or a scores product that weighs values as it is), or why there is none: {reason, detail}; an empty reason means "nothing like attention".
struct CoreResult {
    std::optional<Core> core;
    std::string reason, detail;
};
CoreResult findCore(const Graph& graph, const Shapes& shapes, NodeId softmax);

/// From the softmax to the product with V.
struct ContextWay {
    std::vector<NodeId> nodes;
    ValueId probabilities; ///< what that product reads of them
    bool turned = false;   ///< their last two axes change places
};
/// Takes into a core whose product with V is known what stands on that way: masks that are multiplied onto probabilities, sums that divide them, turns.
void readWay(const Graph& graph, const Shapes& shapes, Products& products, ContextWay& way, Core& core);
/// Fills Q, K and V of a core whose products are known, the sizes that they sum over, and what the products themselves scale or hide.
void takeOperands(const Graph& graph, const Shapes& shapes, const Products& products, const ContextWay& way, Core& core);

/// Takes scores of rotated positions that are added to those of contents as part of one product: heads are as wide as both, and
/// operands are the contents.
void joinPositions(const Graph& graph, const Shapes& shapes, Core& core);

/// Whether a value is scores against a table of positions, picked by distance.
bool gathersScores(const Graph& graph, const Products& products, ValueId value);

/// A part of scores that something is added to, written back in its place (scores[..., 1:, 1:] += bias, as for all places but a class token's):
///   scores -- Slice -- Add bias -- ScatterND into the scores
struct PartAdded {
    ValueId bias;
    std::vector<NodeId> nodes; ///< from the Add to what is written back, and the cuts before it
};
std::optional<PartAdded> addedToPart(const Graph& graph, const Shapes& shapes, const Node& scatter);

} // namespace triptych
