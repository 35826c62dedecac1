#pragma once
// Inference inside of bodies. Private to engine/shapes.

#include "shapes/enter.h"

namespace triptych {

/// As inferShapes(), for a graph that stands inside others.
Result<ShapesPtr> inferNestedShapes(const Model& model, const Graph& graph, const Bindings& bindings, const NestingBudget& budget, const Job& job);

} // namespace triptych
