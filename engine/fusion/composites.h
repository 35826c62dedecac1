#pragma once
// Composites: several ONNX operators that spell one operator of the framework.

#include "fusion/classes.h"

#include <functional>

namespace triptych {

/// Every composite of the graph, none sharing a node; ordered by last node. `constant` tells values that fold away.
/// Cost: linear in nodes.
std::vector<Composite> findComposites(const Graph& graph, const Shapes& shapes,
                                      const std::function<bool(ValueId)>& constant);

} // namespace triptych
