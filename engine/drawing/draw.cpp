#include "drawing/draw.h"

#include "nested.h"
#include "support/numbers.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>

namespace triptych {

std::string_view toString(Role role) {
    static constexpr std::string_view names[]{"node", "view", "opaque", "input", "stand-in", "collapsed", "group", "bracket", "block", "edge", "text", "near-miss"};
    return names[static_cast<std::size_t>(role)];
}

namespace {

/// Text that fits a width, with an ellipsis in front: the end of a name tells more than its beginning.
std::string fitted(const std::string& text, float width, float size, Font font, bool bold = false) {
    constexpr std::size_t most = 400; // more never fits, and a name may be a million characters long
    if (text.size() <= most && textWidth(text, size, font, bold) <= width) return text;
    std::size_t begin = text.size() > most ? text.size() - most : 0;
    while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80) ++begin;
    const auto rest = [&] { return std::string_view(text).substr(begin); };
    while (begin < text.size() && textWidth(rest(), size, font, bold) > width - size * 0.7F) {
        do ++begin;
        while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80);
    }
    return "…" + std::string(rest());
}

class Drawer {
public:
    Drawer(const Projected& projected, const Layout& layout, const Analysis& analysis)
        : m_projected(projected), m_graph(*projected.graph), m_layout(layout), m_analysis(analysis), m_prefix(projected.key.substr(0, 1)) {
        for (const ParallelGroup& parallel : projected.partition->parallel)
            if (parallel.group) m_parallel[parallel.group] = &parallel;
        if (!projected.metrics) return; // attention is known of whole graphs only, not of nested ones
        for (const AttentionSpec& spec : analysis.attentions.found) {
            if (spec.opaque) m_opaque[analysis.inlined->node(spec.opaque).name] = &spec;
            else if (spec.form.starts_with("function:") && !spec.core.empty()) m_calls[analysis.inlined->sources(spec.core[0])[0]] = &spec;
        }
    }

    DisplayList run() {
        m_list.bounds = m_layout.bounds;
        for (const PlacedBlock& placed : m_layout.placed) frame(placed);
        for (const PlacedBlock& placed : m_layout.placed) groups(placed);
        for (const PlacedEdge& edge : m_layout.between) line(edge);
        for (const PlacedBlock& placed : m_layout.placed) {
            for (const PlacedEdge& edge : placed.edges) line(edge);
            for (const PlacedStandIn& stand : placed.standIns) standIn(stand);
            for (const PlacedNode& node : placed.nodes) box(node);
        }
        keepTagsApart();
        for (Shape& tag : m_tags) m_list.shapes.push_back(std::move(tag));
        return std::move(m_list);
    }

private:
    Shape& add(std::string id, std::string title, Role role, Box bounds, std::int32_t subject) {
        Shape shape;
        shape.id = m_prefix + id;
        shape.title = std::move(title);
        shape.role = role;
        shape.box = bounds;
        shape.subject = subject;
        m_list.shapes.push_back(std::move(shape));
        return m_list.shapes.back();
    }
    static Label label(Point at, std::string text, float size, Font font = Font::words, Align align = Align::left, bool bold = false, bool dim = false) {
        return {at, std::move(text), size, font, align, bold, dim};
    }

    void frame(const PlacedBlock& placed) {
        const Block& block = m_layout.blocks[placed.block];
        const std::string count = std::to_string(block.nodes.size()) + " nodes";
        Shape& shape = add("-block-" + std::to_string(placed.block), block.title + ": " + count + (block.repeat > 1 ? ", one of " + std::to_string(block.repeat) + " alike" : ""),
                           placed.collapsed ? Role::collapsed : Role::block, placed.box, static_cast<std::int32_t>(placed.block));
        shape.radius = 10;
        const float y = placed.collapsed ? placed.box.y + 25 : placed.box.y + 18;
        shape.labels.push_back(label({placed.box.x + 14, y}, fitted(block.title, placed.box.width - 100, 12, Font::words), 12, Font::words, Align::left, true));
        const std::string detail = placed.collapsed ? "like above ▸" : block.repeat > 1 ? "× " + std::to_string(block.repeat) : "";
        if (!detail.empty()) shape.labels.push_back(label({placed.box.right() - 14, y}, detail, 11, Font::words, Align::right, false, true));
    }

    std::string groupTitle(const Group& group, const GroupMetrics& metrics) const {
        const Pattern& pattern = (*m_analysis.library)[group.pattern];
        return pattern.title + ": " + std::to_string(group.nodes.size()) + " nodes in " + std::to_string(metrics.launches) + (metrics.launches == 1 ? " launch, " : " launches, ") +
               formatBytes(static_cast<double>(metrics.inputBytes + metrics.weightBytes + metrics.outputBytes)) + " moved, " + formatBytes(static_cast<double>(metrics.internalBytes)) + " kept inside";
    }

    const ParallelGroup* parallelOf(GroupId id) const {
        const auto found = m_parallel.find(id);
        return found == m_parallel.end() ? nullptr : found->second;
    }

    /// One region where it would hold no foreign node; else a halo round each member.
    void groups(const PlacedBlock& placed) {
        std::map<GroupId, std::vector<Box>> boxes, projections;
        for (const PlacedNode& node : placed.nodes) {
            const GroupId id = m_projected.partition->groupOf[node.node];
            if (!id || !m_projected.partition->groups[id.position()].pattern) continue;
            if (const ParallelGroup* merged = parallelOf(id); merged && isMember(*merged, node.node)) projections[id].push_back(node.box);
            else boxes[id].push_back(node.box);
        }
        for (const auto& [id, members] : projections) bracket(id, members, placed);
        for (const auto& entry : boxes) {
            const GroupId id = entry.first; // a binding can't be captured before C++20's fix of it reached every compiler
            const auto& members = entry.second;
            const Group& group = m_projected.partition->groups[id.position()];
            Box whole = padded(members[0]);
            for (const Box& member : members) whole = united(whole, padded(member));
            const bool clean = std::none_of(placed.nodes.begin(), placed.nodes.end(), [&](const PlacedNode& node) { return m_projected.partition->groupOf[node.node] != id && node.box.meets({whole.x + 6, whole.y + 7, whole.width - 12, whole.height - 13}); });
            const Pattern& pattern = (*m_analysis.library)[group.pattern];
            std::vector<Box> regions;
            if (clean && !projections.contains(id)) regions.push_back(whole);
            else
                for (const Box& member : members) regions.push_back(padded(member));
            const std::string suffix = "-" + std::to_string(placed.block);
            for (std::size_t i = 0; i < regions.size(); ++i) {
                Shape& shape = add("-" + group.id + suffix + (i ? "-" + std::to_string(i) : ""), groupTitle(group, m_projected.metrics->byGroup[id.position()]), Role::group, regions[i],
                                   static_cast<std::int32_t>(id.position()));
                shape.family = pattern.colour;
                shape.radius = 10;
            }
            if (!projections.contains(id)) tag(id, group, pattern, regions[0], suffix);
        }
    }

    bool isMember(const ParallelGroup& parallel, NodeId drawn) const {
        for (const auto& member : parallel.members)
            for (const NodeId node : member)
                if (drawnAs(*m_projected.classes, node) == drawn) return true;
        return false;
    }

    /// Members of a merged projection stand side by side in one bright bracket.
    void bracket(GroupId id, const std::vector<Box>& members, const PlacedBlock& placed) {
        const Group& group = m_projected.partition->groups[id.position()];
        const Pattern& pattern = (*m_analysis.library)[group.pattern];
        Box whole = padded(members[0]);
        for (const Box& member : members) whole = united(whole, padded(member));
        const std::string suffix = "-" + std::to_string(placed.block);
        Shape& shape = add("-" + group.id + suffix + "-bracket", groupTitle(group, m_projected.metrics->byGroup[id.position()]), Role::bracket, whole, static_cast<std::int32_t>(id.position()));
        shape.family = pattern.colour;
        shape.radius = 10;
        tag(id, group, pattern, whole, suffix);
    }
    static Box padded(Box box) { return {box.x - 8, box.y - 9, box.width + 16, box.height + 17}; }
    static Box united(Box a, Box b) {
        const float x = std::min(a.x, b.x), y = std::min(a.y, b.y);
        return {x, y, std::max(a.right(), b.right()) - x, std::max(a.bottom(), b.bottom()) - y};
    }

    /// A pill on the region's upper edge, in front of everything.
    void tag(GroupId id, const Group& group, const Pattern& pattern, const Box& region, const std::string& suffix) {
        std::string text = pattern.title.substr(0, pattern.title.find(':'));
        if (const ParallelGroup* parallel = parallelOf(id)) {
            std::string roles;
            for (const std::string& role : parallel->roles) roles += (roles.empty() ? "" : ",") + role;
            std::transform(roles.begin(), roles.end(), roles.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
            text = roles + " merged · −" + std::to_string(parallel->launchesSaved) + " launches, −" + formatBytes(static_cast<double>(parallel->bytesSaved)) +
                   (parallel->alreadyMerged ? " (in the file already)" : "");
        }
        text = fitted(text, std::max(region.width + 60, 120.0F), 10, Font::words);
        const float width = textWidth(text, 10, Font::words, true) + 16;
        Shape shape;
        shape.id = m_prefix + "-tag-" + group.id + suffix;
        shape.title = pattern.why;
        shape.role = Role::text;
        shape.family = pattern.colour;
        shape.box = {region.x + 6, region.y - 8, width, 16};
        shape.radius = 8;
        shape.subject = static_cast<std::int32_t>(id.position());
        shape.labels.push_back(label({shape.box.x + 8, shape.box.y + 11.5F}, text, 10, Font::words, Align::left, true));
        m_tags.push_back(std::move(shape));
    }

    /// Tags are wider than small regions: one that would lie over the next to its right is cut short. n log n: they are sorted.
    void keepTagsApart() {
        constexpr float between = 3, padding = 16, least = 30, band = 16; // as high as a tag: what meets it begins in its band or beside it
        std::vector<std::size_t> order(m_tags.size());
        std::iota(order.begin(), order.end(), std::size_t(0));
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return m_tags[a].box.x < m_tags[b].box.x; });
        std::unordered_map<std::int64_t, std::size_t> latest;
        for (const std::size_t at : order) {
            const Box& box = m_tags[at].box;
            const auto row = static_cast<std::int64_t>(std::floor(box.y / band));
            for (const std::int64_t near : {row - 1, row, row + 1}) {
                const auto left = latest.find(near);
                Shape* tag = left == latest.end() ? nullptr : &m_tags[left->second];
                if (!tag || !tag->box.meets(box) || box.x - between - tag->box.x < least) continue;
                Label& text = tag->labels[0];
                text.text = fitted(text.text, box.x - between - tag->box.x - padding, 10, Font::words, true);
                tag->box.width = textWidth(text.text, 10, Font::words, true) + padding;
            }
            latest[row] = at;
        }
    }

    void line(const PlacedEdge& edge) {
        const Value& value = m_graph.value(edge.value);
        const ValueShape& shape = m_projected.shapes->of(edge.value);
        Box bounds{edge.path[0].x, edge.path[0].y, 0, 0};
        for (const Point point : edge.path) bounds = united(bounds, {point.x, point.y, 0, 0});
        Shape& made = add("-e" + std::to_string(m_edges++), value.name + (shape.known() ? ": " + formatDims(shape.dims) : ""), Role::edge, bounds, static_cast<std::int32_t>(edge.value.position()));
        made.path = edge.path;
        made.curved = true;
        made.arrow = true;
    }

    void standIn(const PlacedStandIn& stand) {
        const Value& value = m_graph.value(stand.value);
        Shape& shape = add("-s" + std::to_string(m_stands++), value.name + ", from outside this block", m_graph.isInput(stand.value) ? Role::input : Role::standIn, stand.box,
                           static_cast<std::int32_t>(stand.value.position()));
        shape.radius = stand.entry ? stand.box.width / 2 : 6;
        if (stand.entry) return;
        shape.labels.push_back(label({stand.box.x + stand.box.width / 2, stand.box.y + 15}, fitted(value.name, stand.box.width - 14, 10.5F, Font::figures), 10.5F, Font::figures, Align::centre, false, true));
    }

    const AttentionSpec* opaqueSpec(NodeId id) const {
        const Node& node = m_graph.node(id);
        if (const auto found = m_opaque.find(node.name); found != m_opaque.end()) return found->second;
        const auto call = m_analysis.model->function(node) ? m_calls.find(m_graph.sources(id)[0]) : m_calls.end();
        return call == m_calls.end() ? nullptr : call->second;
    }

    /// "then_branch (3 nodes), else_branch (1 node)"; "" for a node without nested graphs.
    std::string heldGraphs(const Node& node) const {
        std::string all;
        for (const NestedGraph& nested : nestedGraphs(*m_analysis.model, node)) {
            const std::size_t count = nested.graph->nodes().size();
            all += (all.empty() ? "" : ", ") + nested.name + " (" + std::to_string(count) + (count == 1 ? " node)" : " nodes)");
        }
        return all;
    }

    void box(const PlacedNode& placed) {
        const Node& node = m_graph.node(placed.node);
        const bool isView = m_projected.classes->of[placed.node] == NodeClass::view;
        const AttentionSpec* opaque = opaqueSpec(placed.node);
        const ValueShape& out = m_projected.shapes->of(node.output());
        const std::string& op = drawnOperator(*m_projected.classes, m_graph, placed.node);
        std::string title = op + " " + node.name;
        if (out.known()) title += ": " + formatDims(out.dims);
        if (opaque) title += ", " + std::to_string(opaque->heads) + " heads of " + std::to_string(opaque->headDim) + ", opaque to fusion";
        const std::string holds = heldGraphs(node);
        if (!holds.empty()) title += ", holds " + holds;
        Shape& shape = add("-n" + std::to_string(placed.node.position()), title, opaque ? Role::opaque : isView ? Role::view : Role::node, placed.box, static_cast<std::int32_t>(placed.node.position()));
        shape.radius = isView ? placed.box.height / 2 : 6;
        const float centre = placed.box.x + placed.box.width / 2;
        if (isView) {
            shape.labels.push_back(label({centre, placed.box.y + 15}, op, 11, Font::words, Align::centre, false, true));
            return;
        }
        const bool detailed = out.known();
        shape.labels.push_back(label({centre, placed.box.y + (detailed ? 16.5F : 19.5F)}, holds.empty() ? op : op + " ▸", 13, Font::words, Align::centre, true));
        if (detailed) shape.labels.push_back(label({centre, placed.box.y + 30}, formatDims(out.dims), 10.5F, Font::figures, Align::centre, false, true));
    }

    const Projected& m_projected;
    const Graph& m_graph;
    const Layout& m_layout;
    const Analysis& m_analysis;
    std::string m_prefix;
    std::map<std::string, const AttentionSpec*> m_opaque;
    std::map<SourceId, const AttentionSpec*> m_calls;
    std::map<GroupId, const ParallelGroup*> m_parallel;
    DisplayList m_list;
    std::vector<Shape> m_tags;
    std::size_t m_edges = 0, m_stands = 0;
};

} // namespace

DisplayList draw(const Projected& projected, const Layout& layout, const Analysis& analysis) { return Drawer(projected, layout, analysis).run(); }

} // namespace triptych
