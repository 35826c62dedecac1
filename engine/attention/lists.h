#pragma once
// Lists of tensors (ONNX sequences) that are only taken apart again.

#include "shapes/shapes.h"

namespace triptych {

/// A graph without lists whose places are known: what SequenceAt picks out of them, and what ConcatFromSequence joins, reads the
/// tensors themselves (Slice, Gather, Identity, Concat under the same name). Exporters write so what Split and Concat say: a chunk of a
/// packed projection, the halves of a rotary embedding. Recognition follows tensors only.
/// Null where there is nothing to replace. Cost: linear in nodes; one pick follows at most 64 inserts.
/// @param forAllSizes  only what holds whatever sizes are bound
Result<GraphPtr> withoutLists(const Model& model, const Graph& graph, const Shapes& shapes, bool forAllSizes);

} // namespace triptych
