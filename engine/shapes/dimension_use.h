#pragma once
// What a symbolic dimension is, told from what the graph does with it where its name doesn't say.

#include "shapes/shapes.h"

namespace triptych {

/// Whether its name says what it is; those of exporters that name it after its input, and of dimensions without a name, don't.
bool nameTellsUse(const SymbolicDim& dim);

/// Attention's softmax runs over places, of which there are many, and never over a batch: dimensions whose names say nothing, that were taken
/// for one of a kind, and that a softmax runs over are sequences; those that stand beside them, were taken for sequences, and that none
/// runs over, are batches. Changes their use and default size in `dims` and gives the changed ones. `wanted` ones stay as they are.
/// Infers the shapes again for each dimension in question, of which there are few. Fails only when stopped.
Result<Bindings> learnUses(const Model& model, const Graph& graph, const Shapes& shapes, const Bindings& wanted, std::vector<SymbolicDim>& dims, const Job& job);

} // namespace triptych
