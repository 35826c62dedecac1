#pragma once
// What single nodes on the way from an operand back to its projection do. Private to engine/attention.

#include "shapes/shapes.h"

namespace triptych {

/// Operators that neither mix heads nor add other data.
bool isView(const Node& node);
bool isNorm(const Node& node);
/// A convolution that mixes no channels, or those of each head, close behind a projection: it takes places together, as pooling does.
bool poolsPlaces(const Graph& graph, const Shapes& shapes, NodeId id);
/// Latent attention: keys are a part of each head's own beside one rotated part that all heads share. The widest input that no Expand
/// stretches, the first of those: contents stand before positions that are projected for every head, too (Conditional DETR).
ValueId ofEveryHead(const Graph& graph, const Shapes& shapes, const Node& concat);

} // namespace triptych
