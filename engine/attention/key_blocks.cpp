#include "attention/key_blocks.h"

#include "attention/products.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace triptych {

namespace {

/// The axis along which a Slice leaves fewer elements; none for anything else.
std::optional<std::size_t> cutAxis(const Graph& graph, const Shapes& shapes, NodeId id) {
    if (!id || !graph.node(id).is("Slice")) return std::nullopt;
    const Dims &from = shapes.of(graph.node(id).input(0)).dims, &to = shapes.of(graph.node(id).output()).dims;
    std::optional<std::size_t> axis;
    for (std::size_t i = 0; i < std::min(from.size(), to.size()); ++i)
        if (from[i] != to[i]) axis = i;
    return axis;
}

/// A piece of a value that is cut along one axis, or turned round along it (its end put before its beginning).
struct Piece {
    ValueId whole;
    std::optional<std::size_t> axis; ///< none: nothing is cut
};

Piece pieceOf(const Graph& graph, const Shapes& shapes, ValueId value) {
    Piece piece{bare(graph, shapes, value), {}};
    constexpr int longest = 4;
    for (int steps = 0; steps < longest; ++steps) {
        NodeId id = graph.producer(piece.whole);
        if (id && turnsRound(graph, shapes, graph.node(id))) id = graph.producer(bare(graph, shapes, graph.node(id).input(0)));
        const auto axis = cutAxis(graph, shapes, id);
        if (!axis && (!id || !graph.node(id).is("Pad"))) break;
        if (axis) piece.axis = axis;
        piece.whole = bare(graph, shapes, graph.node(id).input(0));
    }
    return piece;
}

/// Whether a Concat puts blocks beside their neighbours: pieces of one value, cut along its blocks, joined along another axis.
bool joinsNeighbours(const Graph& graph, const Shapes& shapes, const Node& concat) {
    constexpr std::size_t fewest = 4; // axes: batch or heads, blocks, places, and a head's own
    const std::size_t rank = shapes.of(concat.output()).dims.size();
    if (rank < fewest || concat.inputs.size() < 2 || concat.inputs.size() > Products::asked) return false;
    const std::int64_t given = concat.attributes.integer("axis", 0);
    const auto over = static_cast<std::size_t>(given < 0 ? given + static_cast<std::int64_t>(rank) : given);
    const ValueId whole = pieceOf(graph, shapes, concat.inputs[0]).whole;
    std::set<ValueId> different;
    bool cut = false;
    for (const ValueId input : concat.inputs) {
        const Piece piece = pieceOf(graph, shapes, input);
        if (piece.whole != whole || piece.axis == over) return false;
        cut = cut || piece.axis;
        different.insert(bare(graph, shapes, input));
    }
    return cut && different.size() == concat.inputs.size();
}

/// Whether a Gather lists places for each of several windows, each as far behind the one before, some for more than one. A table of pages has no such steps.
bool picksWindows(const Shapes& shapes, const Node& gather) {
    const HostTensor* places = gather.is("Gather") && shapes.of(gather.input(1)).dims.size() == 2 ? shapes.constant(gather.input(1)) : nullptr;
    if (!places || !places->isInteger() || places->dims[0] < 2 || places->dims[1] < 2) return false;
    const std::vector<std::int64_t>& all = places->integers();
    const auto columns = static_cast<std::size_t>(places->dims[1]);
    const std::int64_t down = all[columns] - all[0], along = all[1] - all[0];
    if (down <= 0 || along <= 0) return false;
    for (std::size_t i = 0; i < all.size(); ++i)
        if (all[i] != all[0] + static_cast<std::int64_t>(i / columns) * down + static_cast<std::int64_t>(i % columns) * along) return false;
    // Two windows share a place where as many steps down as a row needs to come to it are within both.
    const std::int64_t common = std::gcd(down, along);
    return along / common < places->dims[0] && down / common < places->dims[1];
}

/// Whether a value is the same for several blocks.
bool isShared(const Graph& graph, const Shapes& shapes, ValueId value) {
    static constexpr std::array copies{"Tile", "Expand"};
    const NodeId id = graph.producer(bare(graph, shapes, value));
    return id && isOneOf(graph.node(id), copies);
}

/// The node that puts places in an order that data give: more of them than the `seen` keys of a query, else every query sees all of them.
NodeId orderedBy(const Graph& graph, const Shapes& shapes, const RoleTrace& trace, Dim seen) {
    const auto found = std::find_if(trace.path.begin(), trace.path.end(), [&](NodeId id) {
        const Node& node = graph.node(id);
        const Dims& dims = shapes.of(node.output()).dims;
        const auto rank = static_cast<std::int64_t>(dims.size());
        const std::int64_t given = node.attributes.integer("axis", 0), axis = given < 0 ? given + rank : given;
        return node.is("GatherElements") && !shapes.isConstant(node.input(1)) && axis >= 0 && axis < rank && seen > 0 && dims[static_cast<std::size_t>(axis)] > seen;
    });
    return found == trace.path.end() ? NodeId() : *found;
}

} // namespace

bool turnsRound(const Graph& graph, const Shapes& shapes, const Node& concat) {
    if (!concat.is("Concat") || concat.inputs.size() != 2) return false;
    const NodeId first = graph.producer(bare(graph, shapes, concat.input(0))), second = graph.producer(bare(graph, shapes, concat.input(1)));
    const auto axis = cutAxis(graph, shapes, first);
    return axis && axis == cutAxis(graph, shapes, second) && bare(graph, shapes, graph.node(first).input(0)) == bare(graph, shapes, graph.node(second).input(0)) && shapes.of(concat.output()).dims == shapes.of(graph.node(first).input(0)).dims;
}

std::vector<Evidence> visibleBlocks(const Graph& graph, const Shapes& shapes, const Roles& roles, Dim seen) {
    std::vector<Evidence> found;
    const NodeId queries = orderedBy(graph, shapes, roles.q, seen), keys = orderedBy(graph, shapes, roles.k, seen);
    if (queries && keys) found.push_back({"block_sparse", graph.node(keys).name, "puts keys in an order that data give, as " + graph.node(queries).name + " does the queries: each block of them sees its like"});
    for (const NodeId id : roles.k.path) {
        const Node& node = graph.node(id);
        if (picksWindows(shapes, node)) {
            found.push_back({"window", node.name, "picks the keys round each place or block of queries: windows that overlap"});
            break;
        }
        if (!node.is("Concat") || !joinsNeighbours(graph, shapes, node)) continue;
        if (!keys) found.push_back({"window", node.name, "puts each block of the keys beside its neighbours: the block of queries in its place sees no others"});
        for (const Join& join : roles.k.joins) {
            const Node& beside = graph.node(join.concat);
            for (std::size_t i = 0; i < std::min(beside.inputs.size(), Products::asked); ++i)
                if (i != join.input && isShared(graph, shapes, beside.inputs[i])) found.push_back({"global_tokens", beside.name, "puts keys that all blocks of the queries see beside each window's"});
        }
        break;
    }
    return found;
}

} // namespace triptych
