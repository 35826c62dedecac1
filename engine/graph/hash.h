#pragma once
// Structural hashes: equal for the same structure, whatever names and positions are.

#include "graph/graph.h"

#include <span>

namespace triptych {

/// Hash of one node by operator, domain and attributes alone.
std::uint64_t nodeHash(const Node& node);

/// Hash of a set of nodes given in topological order: operators, attributes and how they are wired among themselves;
/// values from outside count by the order of their first use. Sizes of initializers read inside count, their content doesn't.
std::uint64_t structuralHash(const Graph& graph, std::span<const NodeId> nodes);

} // namespace triptych
