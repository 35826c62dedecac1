#pragma once
// Inputs that say how long sequences are. Private to engine/verify.

#include "reference/run.h"
#include "shapes/shapes.h"

namespace triptych {

/// Values for those inputs of a graph that opaque attention takes for lengths: of past and new keys, of a buffer's content, of packed
/// sequences. Without them nothing fits together.
/// @param differ  lengths of one batch differ where they may
NamedTensors lengthInputs(const Graph& graph, const Shapes& shapes, bool differ);

} // namespace triptych
