#pragma once
// Weights that a file doesn't hold, but asks for among its inputs.

#include "graph/graph.h"

#include <set>

namespace triptych {

/// Inputs that are weights, as of files that were exported without their parameters: a graph no product or convolution of which reads a weight that the
/// file holds, which feeds an activation of three axes (or numbers of two, that pick from a table), and matrices of fixed sizes that are read as nothing but
/// the second operand of a product or a convolution, or as a table; vectors of their sizes beside them are biases and factors of norms.
/// Keys and values that are fed have more axes than two, or queries as few as they.
std::set<ValueId> weightInputs(const Graph& graph);

} // namespace triptych
