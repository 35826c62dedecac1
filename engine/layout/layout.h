#pragma once
// Where everything goes: a pure function of graph, attention structure, text widths and options.

#include "drawing/display_list.h"
#include "pipeline.h"

namespace triptych {

/// A run of nodes between two cuts of the residual stream (an encoder layer, or what lies between), or a piece of one.
struct Block {
    std::string key;   ///< the same in baseline and enhanced graph for the same layer: anchors the synchronised views
    std::string title; ///< "encoder layer 3", from scopes where there are any
    std::uint64_t hash = 0; ///< blocks of one hash are laid out once
    std::size_t repeat = 0; ///< how many of them there are
    std::vector<NodeId> nodes; ///< in topological order; constant and shape nodes are left out
};

/// Cuts a graph into blocks. Cost: linear in nodes.
std::vector<Block> findBlocks(const Graph& graph, const NodeClasses& classes, const Attentions& attentions, const Decomposition* decomposition);

/// The node whose box stands for this one: the last of its composite, else itself.
NodeId drawnAs(const NodeClasses& classes, NodeId node);
/// What the box says: the composite's kind, else the operator.
const std::string& drawnOperator(const NodeClasses& classes, const Graph& graph, NodeId node);

struct PlacedNode { NodeId node; Box box; };
/// A stand-in for a value that many blocks read, or one that comes from far away.
/// Where `entry`, a point at the block's top through which the block above hands on a value.
struct PlacedStandIn { ValueId value; Box box; bool entry = false; };
struct PlacedEdge {
    ValueId value;
    NodeId from, to; ///< none: a stand-in, an input or an output
    std::vector<Point> path; ///< start, then cubic triples
};
struct PlacedBlock {
    std::size_t block = 0;
    Box box;
    bool collapsed = false;
    std::vector<PlacedNode> nodes;
    std::vector<PlacedStandIn> standIns;
    std::vector<PlacedEdge> edges;
};
struct Layout {
    std::vector<Block> blocks;
    std::vector<PlacedBlock> placed;    ///< same order as blocks, from top to bottom
    std::vector<PlacedEdge> between;    ///< from block to block
    Box bounds;
    std::vector<std::string> warnings;  ///< "block 3: the layout helper took too long; plain layout used"
};
using LayoutPtr = std::shared_ptr<const Layout>;

struct LayoutOptions {
    std::set<std::string> expanded;   ///< keys of blocks to open, beside the first of each hash
    bool collapseRepeats = false;     ///< default: only where the graph has more than 300 drawn nodes
    bool expandAll = false;
    std::filesystem::path helper;     ///< triptych-layout; empty: beside this program
    double timeLimitSeconds = 2;      ///< for one distinct block
};

Result<LayoutPtr> layOut(const Projected& projected, const Attentions& attentions, const Decomposition* decomposition,
                         const LayoutOptions& options, const Job& job = {});

} // namespace triptych
