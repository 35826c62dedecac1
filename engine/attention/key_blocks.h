#pragma once
// Keys that stand in blocks, of which queries see some. Private to engine/attention.

#include "attention/assemble.h"

namespace triptych {

/// What the way of the keys says of those that queries see, where no mask does: "window", "block_sparse", "global_tokens", each with its evidence. `seen`: how many keys a query has scores of; 0 or less where that isn't known.
///   K's blocks -- [Pad] -- Slice by one block more each -- Concat                     window: a block and its neighbours
///   K's places -- Gather by a table of windows that overlap                           window: as an unfolded picture has them
///   those -- Concat with keys that all blocks share (Tile, Expand)                    global tokens
///   K's places -- GatherElements by an order that data give, and Q's likewise         blocks of what is alike
/// Sources: Guo et al., LongT5 (2022); Roy et al., Routing Transformer (2021); Kitaev et al., Reformer (2020).
std::vector<Evidence> visibleBlocks(const Graph& graph, const Shapes& shapes, const Roles& roles, Dim seen);

/// Whether a Concat puts the end of a value before its beginning: nothing of it is lost.
bool turnsRound(const Graph& graph, const Shapes& shapes, const Node& concat);

} // namespace triptych
