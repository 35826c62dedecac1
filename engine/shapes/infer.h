#pragma once
// Inference inside of bodies, which share one budget.

#include "shapes/enter.h"

namespace triptych {

/// What is known of sequences that come from outside; a declaration can't say how many tensors they hold.
using GivenSequences = std::unordered_map<ValueId, ValueShape>;

/// As inferShapes(), for a graph that stands inside others.
Result<ShapesPtr> inferNestedShapes(const Model& model, const Graph& graph, const Bindings& bindings, const GivenSequences& given, const NestingBudget& budget, const Job& job);

} // namespace triptych
