#include "layout/layout.h"

#include "drawing/draw.h"
#include "layout/graphviz.h"
#include "layout/layered.h"
#include "support/numbers.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace triptych {

namespace {

constexpr float widestTitle = 600;


constexpr float margin = 16, heading = 36, gap = 26, nodeHeight = 30, shapedHeight = 38, viewHeight = 22, standInHeight = 22, entrySize = 6;
constexpr std::size_t collapseAbove = 300;

/// What one distinct block looks like; all its copies share it.
struct BlockShape {
    LayeredGraph graph;
    LayeredResult result;
};

/// An opened block before its coordinates are known.
struct Draft {
    std::vector<ValueId> outside;
    std::vector<NodeId> boxes;
    std::vector<PlacedEdge> edges;
    std::unordered_map<NodeId, std::size_t> index;
    std::unordered_map<ValueId, std::size_t> standIn;
    BlockShape* shape = nullptr;
};

class LayoutMaker {
public:
    LayoutMaker(const Projected& projected, const Decomposition* decomposition, const LayoutOptions& options, const Job& job) : m_projected(projected), m_graph(*projected.graph), m_options(options), m_job(job) {
        if (!decomposition) return;
        for (const DecomposedAttention& attention : decomposition->attentions) {
            besideEachOther(attention);
            for (const DecomposedStream& each : attention.joined) besideEachOther(each);
        }
    }

    Result<LayoutPtr> run(std::vector<Block> blocks) {
        auto layout = std::make_shared<Layout>();
        layout->blocks = std::move(blocks);
        number(layout->blocks);
        std::size_t count = 0;
        for (const Block& block : layout->blocks)
            for (const NodeId node : block.nodes) count += drawnAs(*m_projected.classes, node) == node;
        const bool collapse = m_options.collapseRepeats || (count > collapseAbove && !m_options.expandAll);
        std::set<std::uint64_t> open;
        std::vector<bool> collapsed;
        for (std::size_t b = 0; b < layout->blocks.size(); ++b) {
            if (m_job.stopped()) return fail("layout", "stopped");
            const Block& block = layout->blocks[b];
            const bool first = open.insert(block.hash).second;
            collapsed.push_back(collapse && !first && block.repeat > 1 && !m_options.expanded.contains(block.key));
            if (!collapsed[b]) m_drafts.push_back(draft(b, block));
        }
        solve(*layout);
        float width = 0;
        std::size_t next = 0;
        for (std::size_t b = 0; b < layout->blocks.size(); ++b) {
            layout->placed.push_back(collapsed[b] ? folded(b, layout->blocks[b]) : opened(b, layout->blocks[b], m_drafts[next++]));
            width = std::max(width, layout->placed.back().box.width);
        }
        float y = 0;
        for (PlacedBlock& placed : layout->placed) {
            move(placed, (width - placed.box.width) / 2, y);
            y += placed.box.height + gap;
        }
        layout->bounds = {0, 0, width, std::max(0.0F, y - gap)};
        between(*layout);
        return layout;
    }

private:
    void besideEachOther(const DecomposedStream& stream) {
        const ValueId shared = stream.q.empty() ? stream.inputK : stream.inputQ;
        std::vector<NodeId> projections;
        for (const auto& [role, input] : {std::pair(&stream.q, stream.inputQ), std::pair(&stream.k, stream.inputK), std::pair(&stream.v, stream.inputV)})
            if (!role->empty() && input == shared) projections.push_back(role->back());
        if (projections.size() > 1) m_sideBySide.push_back(std::move(projections));
    }
    /// Which block each node lies in, and how many blocks read each value.
    void number(const std::vector<Block>& blocks) {
        m_blockOf = IndexVector<NodeId, std::int32_t>(m_graph.nodes().size(), -1);
        for (std::size_t b = 0; b < blocks.size(); ++b)
            for (const NodeId node : blocks[b].nodes) m_blockOf[node] = static_cast<std::int32_t>(b);
    }

    LayeredGraph::Size sizeOf(NodeId id) const {
        const Node& node = m_graph.node(id);
        const std::string& op = drawnOperator(*m_projected.classes, m_graph, id);
        if (m_projected.classes->of[id] == NodeClass::view) return {std::min(textWidth(op, 11, Font::words), widestTitle) + 24, viewHeight};
        const ValueShape& shape = m_projected.shapes->of(node.output());
        const float title = std::min(textWidth(op, 13, Font::words, true), widestTitle), detail = shape.known() ? textWidth(formatDims(shape.dims), 10.5F, Font::figures) : 0;
        return {std::max(title, detail) + 28, shape.known() ? shapedHeight : nodeHeight};
    }

    /// The value is made in the same block by a node that is drawn.
    bool inside(const Block&, ValueId value, std::size_t b) const {
        const NodeId producer = m_graph.producer(value);
        return producer && m_blockOf[producer] == static_cast<std::int32_t>(b);
    }

    bool flows(ValueId value) const { return value && !m_projected.shapes->isConstant(value); }

    /// The block right before hands the value on: it enters at a point; what comes from farther gets a named stand-in.
    bool enters(ValueId value, std::size_t b) const {
        const NodeId producer = m_graph.producer(value);
        return producer && b > 0 && m_blockOf[producer] == static_cast<std::int32_t>(b) - 1;
    }

    /// Values from outside, in the order of first use.
    std::vector<ValueId> standIns(const Block& block, std::size_t b) const {
        std::vector<ValueId> values;
        for (const NodeId node : block.nodes) {
            for (const ValueId value : m_graph.node(node).inputs) {
                if (!flows(value) || inside(block, value, b)) continue;
                if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
            }
        }
        return values;
    }

    PlacedBlock folded(std::size_t b, const Block& block) const {
        PlacedBlock placed;
        placed.block = b;
        placed.collapsed = true;
        placed.box = {0, 0, std::max(220.0F, std::min(textWidth(block.title, 13, Font::words, true), widestTitle) + 90), 40};
        return placed;
    }

    Draft draft(std::size_t b, const Block& block) {
        const std::vector<ValueId> outside = standIns(block, b);
        std::unordered_map<NodeId, std::size_t> index;
        std::unordered_map<ValueId, std::size_t> standIn;
        LayeredGraph graph;
        for (const ValueId value : outside) {
            standIn[value] = graph.nodes.size();
            if (enters(value, b)) graph.nodes.push_back({entrySize, entrySize});
            else graph.nodes.push_back({std::min(220.0F, textWidth(shortened(m_graph.value(value).name), 10.5F, Font::figures)) + 20, standInHeight});
        }
        // The spelled-out form of one operator is one box, where its last node stands.
        std::vector<NodeId> boxes;
        for (const NodeId node : block.nodes) {
            if (drawnAs(*m_projected.classes, node) != node) continue;
            index[node] = graph.nodes.size();
            graph.nodes.push_back(sizeOf(node));
            boxes.push_back(node);
        }
        std::vector<PlacedEdge> edges;
        for (const NodeId node : block.nodes) {
            for (const ValueId value : m_graph.node(node).inputs) {
                if (!flows(value)) continue;
                const auto stand = standIn.find(value);
                const NodeId producer = m_graph.producer(value);
                const NodeId maker = producer ? drawnAs(*m_projected.classes, producer) : NodeId(), reader = drawnAs(*m_projected.classes, node);
                const auto made = producer ? index.find(maker) : index.end();
                if ((stand == standIn.end() && made == index.end()) || maker == reader || !index.contains(reader)) continue;
                const std::size_t from = stand != standIn.end() ? stand->second : made->second, to = index[reader];
                if (from >= to || std::any_of(graph.edges.begin(), graph.edges.end(), [&](const LayeredGraph::Edge& e) { return e.from == from && e.to == to; })) continue;
                graph.edges.push_back({from, to});
                edges.push_back({value, stand != standIn.end() ? NodeId() : maker, reader, {}});
            }
        }
        for (const auto& projections : m_sideBySide) {
            std::vector<std::size_t> rank;
            for (const NodeId node : projections)
                if (const auto found = index.find(drawnAs(*m_projected.classes, node)); found != index.end()) rank.push_back(found->second);
            if (rank.size() > 1) graph.sameRank.push_back(std::move(rank));
        }
        Draft made{outside, std::move(boxes), std::move(edges), std::move(index), std::move(standIn), nullptr};
        // Blocks of one hash may still differ in what they read from outside: then they are shapes of their own.
        for (std::size_t variant = 0;; ++variant) {
            auto& shape = m_shapes[{block.hash, outside.size() * 64 + variant}];
            if (shape.graph.nodes.empty()) shape.graph = graph;
            const auto sameEdge = [](const LayeredGraph::Edge& a, const LayeredGraph::Edge& b) { return a.from == b.from && a.to == b.to; };
            if (shape.graph.nodes.size() != graph.nodes.size() || shape.graph.edges.size() != graph.edges.size() || !std::equal(graph.edges.begin(), graph.edges.end(), shape.graph.edges.begin(), sameEdge)) continue;
            made.shape = &shape;
            return made;
        }
    }

    /// One copy of each distinct structure goes to Graphviz; what it doesn't answer, or is too large for it, gets the own layout.
    void solve(Layout& layout) {
        constexpr std::size_t mostForGraphviz = 1000;
        std::vector<const LayeredGraph*> asked;
        std::vector<BlockShape*> shapes;
        for (auto& [key, shape] : m_shapes) {
            if (shape.graph.nodes.empty() || shape.graph.nodes.size() > mostForGraphviz) continue;
            asked.push_back(&shape.graph);
            shapes.push_back(&shape);
        }
        const double seconds = m_options.timeLimitSeconds * std::max<double>(1, static_cast<double>(asked.size()));
        HelperAnswer answer = layOutWithGraphviz(asked, m_options.helper.empty() ? helperBesideProgram() : m_options.helper, seconds, m_job);
        for (std::size_t i = 0; i < shapes.size(); ++i)
            if (answer.results[i]) shapes[i]->result = std::move(*answer.results[i]);
        if (!answer.problem.empty()) layout.warnings.push_back(answer.problem + "; plain layout used");
        for (auto& [key, shape] : m_shapes)
            if (shape.result.nodes.size() != shape.graph.nodes.size()) shape.result = layOutLayers(shape.graph);
    }

    PlacedBlock opened(std::size_t b, const Block& block, Draft& draft) {
        PlacedBlock placed;
        placed.block = b;
        const LayeredResult& result = draft.shape->result;
        auto& edges = draft.edges;
        const float dx = margin, dy = heading + 8;
        placed.box = {0, 0, std::max(result.width + 2 * margin, std::min(textWidth(block.title, 12, Font::words, true), widestTitle) + 120), result.height + heading + 8 + margin};
        const float centred = dx + (placed.box.width - 2 * margin - result.width) / 2;
        const auto shifted = [&](Box box) { return Box{box.x + centred, box.y + dy, box.width, box.height}; };
        for (const ValueId value : draft.outside) placed.standIns.push_back({value, shifted(result.nodes[draft.standIn[value]]), enters(value, b)});
        for (const NodeId node : draft.boxes) placed.nodes.push_back({node, shifted(result.nodes[draft.index[node]])});
        for (std::size_t e = 0; e < edges.size(); ++e) {
            for (const Point point : result.edges[e]) edges[e].path.push_back({point.x + centred, point.y + dy});
        }
        placed.edges = std::move(edges);
        return placed;
    }

    static void move(PlacedBlock& placed, float dx, float dy) {
        const auto shift = [&](Box& box) {
            box.x += dx;
            box.y += dy;
        };
        shift(placed.box);
        for (PlacedNode& node : placed.nodes) shift(node.box);
        for (PlacedStandIn& stand : placed.standIns) shift(stand.box);
        for (PlacedEdge& edge : placed.edges)
            for (Point& point : edge.path) point = {point.x + dx, point.y + dy};
    }

    /// What one block hands to the next: from the producing node, or the folded box, to the entry of the value.
    void between(Layout& layout) const {
        for (std::size_t b = 1; b < layout.placed.size(); ++b) {
            const PlacedBlock &above = layout.placed[b - 1], &below = layout.placed[b];
            std::unordered_map<NodeId, Box> boxes;
            for (const PlacedNode& node : above.nodes) boxes[node.node] = node.box;
            const auto connect = [&](ValueId value, Point end) {
                const NodeId producer = m_graph.producer(value);
                const auto from = boxes.find(drawnAs(*m_projected.classes, producer));
                const Box& box = from != boxes.end() ? from->second : above.box;
                const Point start{box.x + box.width / 2, box.bottom()};
                const float pull = std::max(12.0F, (end.y - start.y) * 0.4F);
                layout.between.push_back({value, producer, NodeId(), {start, {start.x, start.y + pull}, {end.x, end.y - pull}, end}});
            };
            for (const PlacedStandIn& entry : below.standIns)
                if (entry.entry) connect(entry.value, {entry.box.x + entry.box.width / 2, entry.box.y});
            if (!below.collapsed) continue;
            std::set<ValueId> done;
            for (const NodeId reader : layout.blocks[b].nodes)
                for (const ValueId value : m_graph.node(reader).inputs)
                    if (flows(value) && enters(value, b) && done.insert(value).second) connect(value, {below.box.x + below.box.width / 2, below.box.y});
        }
    }

    static std::string shortened(const std::string& name) {
        constexpr std::size_t most = 30;
        return name.size() <= most ? name : "…" + name.substr(name.size() - most);
    }

    const Projected& m_projected;
    const Graph& m_graph;
    const LayoutOptions& m_options;
    const Job& m_job;
    IndexVector<NodeId, std::int32_t> m_blockOf;
    std::map<std::pair<std::uint64_t, std::size_t>, BlockShape> m_shapes;
    std::vector<Draft> m_drafts;
    std::vector<std::vector<NodeId>> m_sideBySide; ///< projections of one attention that read one value
};

} // namespace

NodeId drawnAs(const NodeClasses& classes, NodeId node) {
    const std::int32_t composite = classes.compositeOf[node];
    return composite < 0 ? node : classes.composites[static_cast<std::size_t>(composite)].nodes.back();
}

const std::string& drawnOperator(const NodeClasses& classes, const Graph& graph, NodeId node) {
    const std::int32_t composite = classes.compositeOf[node];
    return composite < 0 ? graph.node(node).op : classes.composites[static_cast<std::size_t>(composite)].kind;
}

Result<LayoutPtr> layOut(const Projected& projected, const Attentions& attentions, const Decomposition* decomposition, const LayoutOptions& options, const Job& job) {
    return LayoutMaker(projected, decomposition, options, job).run(findBlocks(*projected.graph, *projected.classes, attentions, decomposition));
}

} // namespace triptych
