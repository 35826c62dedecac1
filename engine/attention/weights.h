#pragma once
// Weights behind values, and tensors that are cut from them without being read.

#include "shapes/shapes.h"

namespace triptych {

/// The initializer behind a constant value, through Identity, Transpose and, where shapes tell their bounds, Slices and Splits
/// of rows or columns and what Concat joins.
struct WeightSource {
    TensorPtr tensor;
    bool transposed = false;
};
std::optional<WeightSource> weightSource(const Graph& graph, ValueId value, const Shapes* shapes = nullptr);

/// Columns of a weight or bias as a tensor of its own. `axis` is that of the columns in the value.
TensorPtr cutTensor(const WeightSource& source, const std::vector<std::pair<std::int64_t, std::int64_t>>& runs, std::size_t axis, std::string name);

} // namespace triptych
