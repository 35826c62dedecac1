#pragma once
// Which groups of a partition can be functions of a written model. Private to engine/fusion.

#include "fusion/partition.h"

namespace triptych {

/// Nodes of each function, by group; empty for groups that stay plain nodes.
///
/// A partition leaves shape arithmetic out, a file can't: where a path leaves a group through shape nodes and comes back,
/// those nodes join its function. Where such a path also runs through other functions, the smallest of them stays plain
/// (its name goes to `plain`). Cost: linear in nodes and edges for each round; a round removes a function from every
/// such knot, so rounds are as few as knots nest.
std::vector<std::vector<NodeId>> functionGroups(const Graph& graph, const Partition& partition, std::vector<GroupId>& plain);

} // namespace triptych
