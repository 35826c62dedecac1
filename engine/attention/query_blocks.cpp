// Blocks of queries that are computed apart and put together again:
//
//   Q's rows 0 to b  -- scores of K's rows -- softmax -- product with V's --+
//   Q's rows b to 2b -- ...                                                 +-- Concat along the places -- output projection
//   ...                                                                     +
//
// All read the same projections; what tells them from heads computed apart is that each takes rows of them, and the same columns.
// Blocks of keys that one softmax sums one after the other end in one division, and read the same projections too.
// Blocks that see different rows of the keys are a sparse attention; those that see all save memory and nothing else.

#include "attention/query_blocks.h"

#include "attention/assemble.h"
#include "attention/product_axes.h"
#include "attention/products.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace triptych {

namespace {

bool isView(const Node& node) {
    static constexpr std::array views{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout"};
    return isOneOf(node, views);
}

/// Whether a value is a sum of products of `pieces` and nothing else.
bool sumsPieces(const Graph& graph, ValueId value, const std::vector<NodeId>& pieces) {
    constexpr std::size_t most = 128;
    std::vector<ValueId> open{value};
    for (std::size_t i = 0; i < open.size(); ++i) {
        const NodeId id = i < most ? graph.producer(open[i]) : NodeId();
        if (!id) return false;
        const Node& node = graph.node(id);
        if (std::find(pieces.begin(), pieces.end(), id) != pieces.end()) continue;
        if (!isView(node) && !node.is("Add")) return false;
        open.push_back(node.input(0));
        if (node.is("Add")) open.push_back(node.input(1));
    }
    return true;
}

/// The Concat that a context reaches, and what lies between.
struct Way {
    NodeId concat;
    std::vector<NodeId> nodes;
};

/// The division that ends the softmax of several blocks of keys; none where it isn't one.
NodeId dividesBlocks(const Graph& graph, const Shapes& shapes, const AttentionSpec& spec) {
    const Node& softmax = graph.node(spec.softmax);
    const Spelled spelled(graph, shapes);
    return softmax.is("Exp") && !spelled.ends(softmax) ? spelled.onlineDivision(softmax.output(), graph.node(spec.context).output()) : NodeId();
}

/// Which axis of a context is that of its queries; none where its product doesn't tell.
std::optional<std::size_t> queryAxis(const Graph& graph, const Shapes& shapes, const AttentionSpec& spec) {
    const Node& context = graph.node(spec.context);
    const std::size_t rank = shapes.of(context.output()).dims.size();
    if (context.is("Einsum") || rank < 2) return std::nullopt;
    const ValueId values = bare(graph, shapes, spec.operands[2]);
    for (const std::size_t side : {0U, 1U})
        if (context.input(side) && bare(graph, shapes, context.input(side)) == values) return rank - 1 - side;
    return std::nullopt;
}

/// Where the axes of a context stand further on; none for one that is lost.
using Axes = std::vector<std::optional<std::size_t>>;

/// Whether a Concat puts more queries behind those of a context, or more blocks of them: between that axis and theirs nothing is counted. Beyond heads stand other sequences, behind the queries other columns.
bool joinsQueries(const Graph& graph, const Shapes& shapes, const AttentionSpec& spec, const Node& concat, const Axes& axes) {
    const auto queries = queryAxis(graph, shapes, spec);
    const auto landed = queries ? axes[*queries] : std::nullopt;
    if (!landed) return true;
    const auto nothingBetween = [&](ValueId value, std::size_t first, std::size_t last) {
        const Dims& dims = shapes.of(value).dims;
        return first <= last && std::all_of(dims.begin() + static_cast<std::ptrdiff_t>(std::min(first + 1, last)), dims.begin() + static_cast<std::ptrdiff_t>(last), [](Dim size) { return size == 1; });
    };
    const auto rank = static_cast<std::int64_t>(shapes.of(concat.output()).dims.size());
    const std::int64_t given = concat.attributes.integer("axis", 0);
    const auto axis = static_cast<std::size_t>(given < 0 ? given + rank : given);
    if (!nothingBetween(concat.output(), axis, *landed)) return false;
    const auto before = std::find(axes.begin(), axes.end(), axis);
    return before == axes.end() || nothingBetween(graph.node(spec.context).output(), static_cast<std::size_t>(before - axes.begin()), *queries);
}

std::optional<Way> wayToConcat(const Graph& graph, const Shapes& shapes, const AttentionSpec& spec) {
    constexpr int longest = 16;
    Way way;
    const NodeId division = dividesBlocks(graph, shapes, spec);
    ValueId value = graph.node(division ? division : spec.context).output();
    Axes axes(shapes.of(graph.node(spec.context).output()).dims.size());
    for (std::size_t i = 0; i < axes.size(); ++i) axes[i] = i;
    for (int steps = 0; steps < longest; ++steps) {
        const auto readers = graph.readers(value);
        if (readers.size() != 1) return std::nullopt;
        const Node& node = graph.node(readers[0]);
        if (node.is("Concat")) {
            if (!joinsQueries(graph, shapes, spec, node, axes)) return std::nullopt;
            way.concat = readers[0];
            return way;
        }
        const bool late = node.is("Div") && node.input(0) == value; // by the sum of exponents
        if (!isView(node) && !node.is("Add") && !late) return std::nullopt;
        for (auto& axis : axes)
            if (axis) axis = axisBehind(shapes, node, value, *axis);
        way.nodes.push_back(readers[0]);
        value = node.output();
    }
    return std::nullopt;
}

/// What an operand takes of its projection.
struct Taken {
    std::int64_t firstRow = 0, rows = 1, firstColumn = 0, columns = 1;
    std::int64_t sequence = 0; ///< of the batch, that the first row is in; 0 where it can't be told
    std::int64_t run = 1;      ///< how many rows from the first one on follow each other
};

std::optional<Taken> takenBy(const Graph& graph, const Shapes& shapes, const RoleTrace& trace) {
    const std::int64_t columns = linearColumns(graph, shapes, trace.linear);
    if (!trace.columns || columns <= 0) return std::nullopt;
    Taken taken{trace.columns->offset / columns, 1, trace.columns->offset % columns, 1, 0, 1};
    const Node& linear = graph.node(trace.linear);
    const Dims& made = shapes.of(linear.output()).dims;
    if (!convolves(linear) && made.size() == 3 && made[1] > 0) taken.sequence = taken.firstRow / made[1];
    for (const auto& axis : trace.columns->axes)
        for (const ColumnView::Factor& factor : axis) {
            (std::abs(factor.stride) < columns ? taken.columns : taken.rows) *= factor.size;
            if (factor.stride == columns) taken.run = factor.size;
        }
    return taken;
}

struct Block {
    std::size_t at; ///< in the attentions found
    Way way;
    Taken queries;
    std::optional<Taken> keys; ///< none where they are put together of several pieces
    ValueId operand;           ///< the keys themselves
    NodeId joins;              ///< the Concat or Gather that puts them together
};

/// What puts keys together on their way: a Concat of pieces, or rows that a table lists. Halves of a rotary embedding stand along a head's own axis, and past keys are no pieces.
NodeId joinOnWay(const Graph& graph, const Shapes& shapes, const RoleTrace& trace) {
    const auto found = std::find_if(trace.path.begin(), trace.path.end(), [&](NodeId id) {
        const Node& node = graph.node(id);
        const std::int64_t axis = node.attributes.integer("axis", 0), rank = static_cast<std::int64_t>(shapes.of(node.output()).dims.size());
        const auto& inputs = node.inputs;
        const bool pieces = node.is("Concat") && axis != -1 && axis != rank - 1 && inputs.size() <= Products::asked && std::none_of(inputs.begin(), inputs.end(), [&](ValueId input) { return isFed(graph, input, true); });
        return pieces || (node.is("Gather") && shapes.of(node.input(1)).dims.size() == 1 && shapes.of(node.input(1)).count() > 1);
    });
    return found == trace.path.end() ? NodeId() : *found;
}

std::optional<Block> blockOf(const Graph& graph, const Shapes& shapes, const AttentionSpec& spec, std::size_t at, Way way) {
    const ValueId q = spec.operands[0], k = spec.operands[1];
    const auto queries = takenBy(graph, shapes, traceRole(graph, shapes, q));
    if (!queries) return std::nullopt;
    if (!spec.parts.empty()) return Block{at, std::move(way), *queries, Taken{}, {}, {}}; // its blocks of keys are all of them
    const RoleTrace keys = traceRole(graph, shapes, k);
    return Block{at, std::move(way), *queries, takenBy(graph, shapes, keys), bare(graph, shapes, k), joinOnWay(graph, shapes, keys)};
}

/// Whether two differ in nothing but what they see: one attention has one scale.
bool computeAlike(const AttentionSpec& a, const AttentionSpec& b) {
    constexpr double rounding = 1e-6;
    const bool scales = a.scale && b.scale ? std::abs(*a.scale - *b.scale) <= rounding * std::abs(*a.scale) : !a.scale && !b.scale;
    return scales && a.heads == b.heads && a.kvHeads == b.kvHeads && a.headDim == b.headDim && a.vHeadDim == b.vHeadDim;
}

/// Whether these take the same columns and different rows of their queries' projection, in one sequence.
bool areBlocks(const std::vector<Block>& blocks) {
    std::map<std::int64_t, std::int64_t> rows; // the first, and how many follow it
    const Taken& first = blocks.front().queries;
    for (const Block& each : blocks) {
        const Taken& queries = each.queries;
        if (queries.columns != first.columns || queries.firstColumn != first.firstColumn || queries.sequence != first.sequence || !rows.emplace(queries.firstRow, queries.run).second) return false;
    }
    const auto overlap = [](const auto& before, const auto& next) { return before.first + before.second > next.first; };
    return std::adjacent_find(rows.begin(), rows.end(), overlap) == rows.end();
}

/// Whether some see other keys than others; where later queries see more keys from the first on, being causal says all.
bool seeDifferentKeys(const std::vector<Block>& blocks, bool causal) {
    if (std::all_of(blocks.begin(), blocks.end(), [&](const Block& each) { return each.operand == blocks.front().operand; })) return false;
    const bool whole = std::all_of(blocks.begin(), blocks.end(), [&](const Block& each) {
        return !each.joins && each.keys && each.keys->firstRow == 0 && (causal || each.keys->rows == blocks.front().keys->rows);
    });
    return !whole;
}

/// Makes another attention a part of one.
void take(const Graph& graph, const AttentionSpec& part, const std::string& why, AttentionSpec& whole) {
    whole.parts.push_back(part);
    whole.parts.insert(whole.parts.end(), part.parts.begin(), part.parts.end());
    whole.core.insert(whole.core.end(), part.core.begin(), part.core.end());
    whole.nodes.insert(whole.nodes.end(), part.nodes.begin(), part.nodes.end());
    whole.masks.insert(part.masks.begin(), part.masks.end());
    whole.extras.insert(part.extras.begin(), part.extras.end());
    if (part.causal != whole.causal) whole.causal = part.causal && whole.causal ? std::optional(false) : std::nullopt;
    if (!whole.mask) whole.mask = part.mask;
    const auto say = [&](const AttentionPart& each) {
        whole.evidence.push_back({"softmax", graph.node(each.softmax).name, "stands between " + graph.node(each.scores).name + " and " + graph.node(each.context).name + ", " + why});
    };
    say(part);
    for (const AttentionPart& each : part.parts) say(each);
}

/// Makes nodes, and those of its parts, nodes of an attention, each once and in order.
void takeNodes(const std::vector<NodeId>& nodes, AttentionSpec& whole) {
    for (std::vector<NodeId>* list : {&whole.core, &whole.nodes}) {
        list->insert(list->end(), nodes.begin(), nodes.end());
        std::sort(list->begin(), list->end());
        list->erase(std::unique(list->begin(), list->end()), list->end());
    }
}

void drop(const std::set<std::size_t>& dropped, std::vector<AttentionSpec>& found) {
    std::vector<AttentionSpec> kept;
    for (std::size_t i = 0; i < found.size(); ++i)
        if (!dropped.contains(i)) kept.push_back(std::move(found[i]));
    found = std::move(kept);
}

using ProjectionNodes = std::array<NodeId, 3>;
/// The products of Q, K and V; empty where one has none.
std::optional<ProjectionNodes> projectionNodes(const AttentionSpec& spec) {
    if (!spec.softmax || !spec.projectionQ || !spec.projectionK || !spec.projectionV) return std::nullopt;
    return ProjectionNodes{spec.projectionQ->nodes[0], spec.projectionK->nodes[0], spec.projectionV->nodes[0]};
}

void merge(const Graph& graph, const std::vector<Block>& blocks, std::vector<AttentionSpec>& found) {
    AttentionSpec& whole = found[blocks.front().at];
    std::vector<NodeId> between{blocks.front().way.concat};
    for (const Block& block : blocks) {
        if (block.at != blocks.front().at) take(graph, found[block.at], "for another block of the queries that " + graph.node(between[0]).name + " puts together", whole);
        between.insert(between.end(), block.way.nodes.begin(), block.way.nodes.end());
    }
    takeNodes(between, whole);
    if (!seeDifferentKeys(blocks, whole.causal == true)) return;
    whole.masks.insert("block_sparse");
    for (const Block& block : blocks) {
        if (!block.joins) continue;
        const Node& join = graph.node(block.joins);
        whole.evidence.push_back({"block_sparse", join.name, (join.is("Concat") ? "puts blocks of the keys together that " : "picks blocks of the keys that ") + graph.node(found[block.at].scores).name + " sees, where others see all or other ones"});
    }
}

/// The output projection behind all blocks; padding may hide what queries give.
void findOutput(const Graph& graph, const Shapes& shapes, NodeId concat, AttentionSpec& spec) {
    ValueId value = graph.node(concat).output();
    constexpr int longest = 6;
    for (int steps = 0; steps < longest && !spec.projectionOut; ++steps) {
        findOutputProjection(graph, shapes, value, spec);
        const auto readers = graph.readers(value);
        if (readers.size() != 1) break;
        const Node& node = graph.node(readers[0]);
        const bool hides = node.is("Mul") && dimFromEnd(shapes, node.input(node.input(0) == value ? 1 : 0), 0) == 1;
        if (!isView(node) && !hides) break;
        value = node.output();
    }
}

} // namespace

ValueId sumOfPieces(const Graph& graph, NodeId context, const std::vector<NodeId>& pieces, std::vector<NodeId>& nodes) {
    ValueId sum = graph.node(context).output(), value = sum;
    std::vector<NodeId> between;
    constexpr int longest = 64;
    for (int steps = 0; steps < longest; ++steps) {
        const auto readers = graph.readers(value);
        const bool adds = readers.size() == 1 && graph.node(readers[0]).is("Add");
        if (readers.size() != 1 || (!adds && !isView(graph.node(readers[0]))) || (adds && !sumsPieces(graph, graph.node(readers[0]).output(), pieces))) break;
        between.push_back(readers[0]);
        value = graph.node(readers[0]).output();
        if (!adds) continue;
        sum = value;
        nodes.insert(nodes.end(), between.begin(), between.end());
        between.clear();
    }
    return sum;
}

void joinKeyBlocks(const Graph& graph, const Shapes& shapes, std::vector<AttentionSpec>& found) {
    std::map<std::pair<NodeId, ProjectionNodes>, std::size_t> first; // by the division and the projections
    std::set<std::size_t> dropped;
    for (std::size_t i = 0; i < found.size(); ++i) {
        const auto projections = projectionNodes(found[i]);
        const NodeId division = projections ? dividesBlocks(graph, shapes, found[i]) : NodeId();
        if (!division) continue;
        const auto [at, fresh] = first.try_emplace({division, *projections}, i);
        if (fresh || !computeAlike(found[at->second], found[i])) continue;
        take(graph, found[i], "for another block of the keys, whose sums " + graph.node(division).name + " divides by those of their exponents", found[at->second]);
        takeNodes({division}, found[at->second]);
        dropped.insert(i);
    }
    if (!dropped.empty()) drop(dropped, found);
}

void joinQueryBlocks(const Graph& graph, const Shapes& shapes, std::vector<AttentionSpec>& found) {
    std::map<std::pair<NodeId, ProjectionNodes>, std::vector<std::pair<std::size_t, Way>>> groups; // by the Concat and the projections
    for (std::size_t i = 0; i < found.size(); ++i) {
        const auto projections = projectionNodes(found[i]);
        if (auto way = projections ? wayToConcat(graph, shapes, found[i]) : std::nullopt) groups[{way->concat, *projections}].emplace_back(i, std::move(*way));
    }
    std::set<std::size_t> dropped;
    for (auto& [key, members] : groups) {
        if (members.size() < 2) continue;
        std::vector<Block> blocks;
        for (auto& [at, way] : members)
            if (auto block = blockOf(graph, shapes, found[at], at, std::move(way))) blocks.push_back(std::move(*block));
        const bool alike = std::all_of(blocks.begin(), blocks.end(), [&](const Block& each) { return computeAlike(found[blocks.front().at], found[each.at]); });
        if (blocks.size() < members.size() || !alike || !areBlocks(blocks)) continue;
        merge(graph, blocks, found);
        findOutput(graph, shapes, key.first, found[blocks.front().at]);
        for (std::size_t i = 1; i < blocks.size(); ++i) dropped.insert(blocks[i].at);
    }
    if (!dropped.empty()) drop(dropped, found);
}

} // namespace triptych
