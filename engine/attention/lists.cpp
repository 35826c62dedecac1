#include "attention/lists.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>

namespace triptych {

namespace {

constexpr int mostInserts = 64;
constexpr std::int64_t furthest = std::numeric_limits<std::int64_t>::max();

/// What stands at a place of a list: a tensor, or the piece of that number which a SplitToSequence cuts.
struct Item {
    ValueId value;
    NodeId split;
    std::int64_t piece = 0;
};

/// Along one axis of a tensor: from `begin`, `length` of them; without a length the one at `begin`.
struct Cut {
    ValueId from;
    std::int64_t axis = 0, begin = 0;
    std::optional<std::int64_t> length;
};

bool makesList(const Node& node) {
    static constexpr std::array makers{"SplitToSequence", "SequenceConstruct", "SequenceInsert", "SequenceEmpty"};
    return isOneOf(node, makers);
}

class Lists {
public:
    Lists(const Model& model, const Graph& graph, const Shapes& shapes, bool forAllSizes) : m_model(model), m_graph(graph), m_shapes(shapes), m_forAllSizes(forAllSizes) {}

    Result<GraphPtr> run() {
        const bool any = std::any_of(m_graph.nodes().begin(), m_graph.nodes().end(), [](const Node& node) { return node.is("SequenceAt") || node.is("ConcatFromSequence"); });
        if (!any) return GraphPtr();
        m_builder.adoptValues(m_graph);
        const std::size_t count = m_graph.nodes().size();
        IndexVector<NodeId, Made> made(count);
        for (std::size_t i = 0; i < count; ++i) {
            const Node& node = m_graph.nodes()[i];
            if (node.is("SequenceAt")) made[NodeId(i)] = picked(NodeId(i));
            if (node.is("ConcatFromSequence")) made[NodeId(i)] = joined(NodeId(i));
        }
        if (std::none_of(made.begin(), made.end(), [](const Made& each) { return bool(each); })) return GraphPtr();
        IndexVector<NodeId, bool> unread(count);
        for (std::size_t i = count; i-- > 0;) unread[NodeId(i)] = makesList(m_graph.nodes()[i]) && isUnread(NodeId(i), made, unread);
        for (std::size_t i = 0; i < count; ++i) {
            if (const Made& instead = made[NodeId(i)]) instead();
            else if (!unread[NodeId(i)]) m_builder.adoptNode(m_graph, NodeId(i));
        }
        return m_builder.finish("import");
    }

private:
    /// Adds what stands in place of a node; empty where the node stays.
    using Made = std::function<void()>;

    bool isUnread(NodeId list, const IndexVector<NodeId, Made>& made, const IndexVector<NodeId, bool>& unread) const {
        const ValueId value = m_graph.node(list).output();
        const auto readers = m_graph.readers(value);
        return !m_graph.isOutput(value) && std::all_of(readers.begin(), readers.end(), [&](NodeId reader) { return made[reader] || unread[reader]; });
    }

    bool holds(ValueId value) const { return m_forAllSizes ? m_shapes.isFixed(value) : m_shapes.isConstant(value); }

    /// Integers that are known; none where sizes decide and should not.
    const HostTensor* integers(ValueId value) const {
        const HostTensor* given = value && holds(value) ? m_shapes.constant(value) : nullptr;
        return given && given->isInteger() ? given : nullptr;
    }

    /// Whether a value of a body is the same in each turn, whatever sizes are.
    bool holdsInside(const Graph& body, ValueId value) const {
        for (int steps = 0; steps < mostInserts && body.producer(value) && body.node(body.producer(value)).is("Identity"); ++steps) value = body.node(body.producer(value)).input(0);
        const NodeId maker = body.producer(value);
        if (body.value(value).initializer || (maker && body.node(maker).is("Constant"))) return true;
        if (body.inputs().size() > 1 && value == body.inputs()[1]) return true; // the condition that was handed in
        const ValueId outside = body.isOuter(value) ? m_graph.findValue(body.value(value).name) : ValueId();
        return outside && m_shapes.isFixed(outside);
    }

    /// Whether a Loop runs as often, and puts as many tensors into its lists, whatever sizes are.
    bool turnsAlways(NodeId id) const {
        if (!id || !m_graph.node(id).is("Loop")) return false;
        const Node& loop = m_graph.node(id);
        const GraphPtr body = loop.attributes.graph("body");
        if (!body || body->outputs().empty() || !m_shapes.isFixed(loop.input(0)) || (loop.input(1) && !m_shapes.isFixed(loop.input(1)))) return false;
        return holdsInside(*body, body->outputs()[0]) && std::none_of(body->nodes().begin(), body->nodes().end(), [](const Node& node) { return node.attributes.holdGraphs(); });
    }

    /// How many tensors a list holds.
    std::optional<std::int64_t> length(ValueId list) const {
        std::int64_t more = 0;
        for (int steps = 0; steps < mostInserts; ++steps) {
            const NodeId id = m_graph.producer(list);
            if (!id) return std::nullopt;
            const Node& node = m_graph.node(id);
            if (node.is("SequenceEmpty")) return more;
            if (node.is("SequenceConstruct")) return more + std::ssize(node.inputs);
            if (!node.is("SequenceInsert")) break;
            ++more;
            list = node.input(0);
        }
        const auto& known = m_shapes.of(list).sequence;
        if ((m_forAllSizes && !turnsAlways(m_graph.producer(list))) || !known || !known->items) return std::nullopt;
        return more + std::ssize(*known->items);
    }

    /// A tensor that stands in a list; none where the file leaves it out, which is its fault.
    static std::optional<Item> tensor(ValueId value) { return value ? std::optional(Item{value, {}}) : std::nullopt; }

    std::optional<Item> item(ValueId list, std::int64_t place) const {
        std::optional<std::int64_t> before; // how many stand before the one that was put in last
        for (int steps = 0; steps < mostInserts; ++steps) {
            const NodeId id = m_graph.producer(list);
            if (!id) return std::nullopt;
            const Node& node = m_graph.node(id);
            if (node.is("SplitToSequence")) return Item{{}, id, place};
            if (node.is("SequenceConstruct")) {
                if (place < 0) place += std::ssize(node.inputs);
                return place >= 0 && place < std::ssize(node.inputs) ? tensor(node.inputs[static_cast<std::size_t>(place)]) : std::nullopt;
            }
            // One that is put in at a place moves those behind it.
            if (!node.is("SequenceInsert") || node.input(2)) return std::nullopt;
            before = place < 0 ? std::optional<std::int64_t>(-1) : before ? std::optional(*before - 1) : length(node.input(0));
            if (!before) return std::nullopt;
            if (place == *before) return tensor(node.input(1));
            if (place > *before) return std::nullopt;
            if (place < 0) ++place;
            list = node.input(0);
        }
        return std::nullopt;
    }

    /// What a piece is of the tensor that is cut.
    std::optional<Cut> cut(const Item& item) const {
        const Node& split = m_graph.node(item.split);
        const ValueShape& whole = m_shapes.of(split.input(0));
        const auto& known = m_shapes.of(split.output()).sequence;
        Cut made{split.input(0), split.attributes.integer("axis", 0), item.piece, std::nullopt};
        if (made.axis < 0) made.axis += static_cast<std::int64_t>(whole.dims.size());
        if (!whole.ranked || made.axis < 0 || made.axis >= std::ssize(whole.dims) || !known || !known->items) return std::nullopt;
        const std::int64_t count = std::ssize(*known->items);
        if (made.begin < -count || made.begin >= count) return std::nullopt; // the file's fault: left for the one who runs it
        if (!split.input(1)) {
            if (split.attributes.integer("keepdims", 1) != 0) made.length = 1;
            return made;
        }
        const HostTensor* sizes = integers(split.input(1));
        if (!sizes || sizes->dims.size() > 1 || sizes->integers().empty()) return std::nullopt;
        const bool alike = sizes->dims.empty();
        if (made.begin < 0 && alike && m_forAllSizes) return std::nullopt; // their number depends on what is cut
        const auto at = static_cast<std::size_t>(made.begin < 0 ? made.begin + count : made.begin);
        const std::vector<std::int64_t>& all = sizes->integers();
        made.begin = 0;
        for (std::size_t i = 0; i < at && !alike; ++i) {
            if (all[i] < 0 || all[i] > furthest - made.begin) return std::nullopt;
            made.begin += all[i];
        }
        if (alike) made.begin = static_cast<std::int64_t>(at) * all.front();
        made.length = alike ? all.front() : all[at];
        return *made.length < 0 ? std::nullopt : std::optional(made);
    }

    ValueId constant(const std::string& name, Dims dims, const std::vector<std::int64_t>& values) { return m_builder.addInitializer(makeTensor(name, std::move(dims), values)); }

    /// A node in place of another one: the same name, output and origin.
    void instead(NodeId id, const char* op, std::vector<ValueId> inputs, std::vector<Attribute> attributes = {}) {
        Node made = m_graph.node(id);
        made.op = op;
        made.inputs = std::move(inputs);
        made.attributes = Attributes(std::move(attributes));
        const auto sources = m_graph.sources(id);
        m_builder.addNode(std::move(made), sources);
    }

    Made picked(NodeId id) {
        const Node& node = m_graph.node(id);
        const HostTensor* place = integers(node.input(1));
        const auto found = place && place->count() == 1 ? item(node.input(0), place->integers().front()) : std::nullopt;
        if (!found) return {};
        if (found->value) return [this, id, value = found->value] { instead(id, "Identity", {value}); };
        const auto piece = cut(*found);
        if (!piece) return {};
        return [this, id, piece = *piece] { takeOut(id, piece); };
    }

    void takeOut(NodeId id, const Cut& piece) {
        const std::string& name = m_graph.node(id).name;
        if (!piece.length) return instead(id, "Gather", {piece.from, constant(name + "/index", {}, {piece.begin})}, {{"axis", piece.axis, {}}});
        // The last one ends where all ends.
        const std::int64_t end = piece.begin == -1 || *piece.length > furthest - piece.begin ? furthest : piece.begin + *piece.length;
        instead(id, "Slice", {piece.from, constant(name + "/starts", {1}, {piece.begin}), constant(name + "/ends", {1}, {end}), constant(name + "/axes", {1}, {piece.axis})});
    }

    /// All tensors of a list; none where one isn't known, or is a piece.
    std::vector<ValueId> tensors(ValueId list) const {
        std::vector<ValueId> put; // the last one first
        for (int steps = 0; steps < mostInserts; ++steps) {
            const NodeId id = m_graph.producer(list);
            if (!id) return {};
            const Node& node = m_graph.node(id);
            if (node.is("SequenceEmpty") || node.is("SequenceConstruct")) {
                if (node.inputs.size() > mostInserts) return {};
                std::vector<ValueId> found = node.inputs;
                found.insert(found.end(), put.rbegin(), put.rend());
                const bool whole = std::all_of(found.begin(), found.end(), [](ValueId value) { return bool(value); });
                return whole ? found : std::vector<ValueId>();
            }
            if (!node.is("SequenceInsert") || node.input(2)) return {};
            put.push_back(node.input(1));
            list = node.input(0);
        }
        return {};
    }

    Made joined(NodeId id) {
        std::vector<ValueId> parts = tensors(m_graph.node(id).input(0));
        if (parts.empty()) return {};
        return [this, id, parts = std::move(parts)] { join(id, parts); };
    }

    void join(NodeId id, std::vector<ValueId> parts) {
        const Node& node = m_graph.node(id);
        const std::int64_t axis = node.attributes.integer("axis", 0);
        if (node.attributes.integer("new_axis", 0) != 0)
            for (std::size_t i = 0; i < parts.size(); ++i) parts[i] = unsqueezed(id, i, parts[i], axis);
        instead(id, "Concat", std::move(parts), {{"axis", axis, {}}});
    }

    ValueId unsqueezed(NodeId stack, std::size_t which, ValueId value, std::int64_t axis) {
        Node made;
        made.name = m_graph.node(stack).name + "/unsqueeze_" + std::to_string(which);
        made.op = "Unsqueeze";
        made.scope = m_graph.node(stack).scope;
        made.ownVersion = m_graph.node(stack).ownVersion;
        made.inputs = {value};
        made.outputs = {m_builder.newValue(made.name + "_output")};
        if (m_graph.node(stack).version(m_model.opsets, 13) < 13) made.attributes = Attributes({{"axes", std::vector<std::int64_t>{axis}, {}}});
        else made.inputs.push_back(constant(made.name + "/axes", {1}, {axis}));
        const ValueId result = made.outputs[0];
        m_builder.addNode(std::move(made), m_graph.sources(stack));
        return result;
    }

    const Model& m_model;
    const Graph& m_graph;
    const Shapes& m_shapes;
    bool m_forAllSizes;
    GraphBuilder m_builder{m_graph.name()};
};

} // namespace

Result<GraphPtr> withoutLists(const Model& model, const Graph& graph, const Shapes& shapes, bool forAllSizes) { return Lists(model, graph, shapes, forAllSizes).run(); }

} // namespace triptych
