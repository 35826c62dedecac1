#pragma once
// Arithmetic of single operators. The table is in docs/metrics.md, "flops".

#include "shapes/shapes.h"

namespace triptych {

/// Floating-point operations of one node; 0 for views; empty where a shape is unknown.
std::optional<double> flopsOf(const Graph& graph, const Shapes& shapes, NodeId node);

} // namespace triptych
