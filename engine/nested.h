#pragma once
// Graphs inside nodes, to be looked at on their own: bodies of If, Loop and Scan, and of calls of model-local functions.

#include "pipeline.h"
#include "shapes/enter.h"

namespace triptych {

/// One nested graph as it stands in `outer` at `node`: what it captures, or a call's arguments, have the shapes and constants
/// that they have outside; references to the call's attributes are resolved. What only running would tell stays unknown.
/// Composites are found, nothing else is fused, and nothing is measured: `metrics` is null. Every node has the sources of `node`.
/// Fails where there is no such nested graph, and when stopped.
Result<Projected> enterNested(const Analysis& analysis, const Projected& outer, NodeId node, std::size_t which, const Job& job = {});

} // namespace triptych
