#pragma once
// Blocks of queries or of keys that a file computes apart. Private to engine/attention.

#include "attention/attention.h"

namespace triptych {

/// The sum that puts the context of one softmax together, where it weighs pieces of the values by products of their own; what makes it is
/// added to `nodes`. The context itself where nothing sums it with the other products of `pieces`.
ValueId sumOfPieces(const Graph& graph, NodeId context, const std::vector<NodeId>& pieces, std::vector<NodeId>& nodes);

/// Joins what are blocks of the keys of one softmax, which sums them with running maxima, into one attention.
/// Source: Rabe, Staats, Self-attention does not need O(n^2) memory (2021).
void joinKeyBlocks(const Graph& graph, const Shapes& shapes, std::vector<AttentionSpec>& found);

/// Joins what are blocks of the queries of one attention, each with a softmax of its own, into it; with the word "block_sparse" where they see
/// different blocks of the keys.
/// Sources: Zaheer et al., Big Bird (2020), as Hugging Face's block_sparse computes it.
void joinQueryBlocks(const Graph& graph, const Shapes& shapes, std::vector<AttentionSpec>& found);

} // namespace triptych
