#pragma once
// The engine's own layered layout, from top to bottom. Private to engine/layout.

#include "drawing/display_list.h"

#include <vector>

namespace triptych {

struct LayeredGraph {
    struct Size { float width = 0, height = 0; };
    struct Edge { std::size_t from = 0, to = 0; };
    std::vector<Size> nodes; ///< in topological order
    std::vector<Edge> edges; ///< from < to
    std::vector<std::vector<std::size_t>> sameRank; ///< nodes that stand side by side where that is possible (Graphviz only)
};

struct LayeredResult {
    std::vector<Box> nodes;
    std::vector<std::vector<Point>> edges; ///< a start point, then cubic triples
    float width = 0, height = 0;
};

/// Longest-path layers, barycentre ordering, coordinates pulled towards neighbours. Cost: linear in nodes plus the layers
/// that edges cross.
LayeredResult layOutLayers(const LayeredGraph& graph);

} // namespace triptych
