#pragma once
// Reference arithmetic of ONNX operators: plain, exact to the standard, no attempt at speed beyond Eigen's products.

#include "graph/graph.h"
#include "reference/tensor.h"
#include "support/job.h"
#include "support/result.h"

#include <map>

namespace triptych {

/// True where evaluateNode knows the operator (not whether it knows these types).
bool canEvaluate(const Node& node);
/// Whether it is worth working out while a model is only looked at: what shapes, masks and scales are made with, not the operators
/// that a model is made of.
bool canFold(const Node& node);

/// Outputs of one node for given inputs; a left-out optional input is null. `opset` is the version of the node's domain.
/// Fails with stage "evaluate" on unknown operators, types and inconsistent shapes: never crashes, never allocates more
/// than `maximumElements` for one output.
Result<std::vector<HostTensor>> evaluateNode(const Node& node, std::span<const HostTensor* const> inputs, std::int64_t opset,
                                             std::int64_t maximumElements = std::int64_t(1) << 31);

} // namespace triptych
