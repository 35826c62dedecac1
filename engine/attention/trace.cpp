#include "attention/trace.h"

#include "attention/product_axes.h"
#include "attention/starts.h"
#include "attention/trace_steps.h"
#include "attention/weights.h"

#include <algorithm>

namespace triptych {

namespace {

/// One walk. Keeps to a single main chain, and looks aside where operators join several values.
class RoleWalk {
public:
    RoleWalk(const Graph& graph, const Shapes& shapes, ValueId operand, const std::map<NodeId, std::size_t>& inputs)
        : m_graph(graph), m_shapes(shapes), m_inputs(inputs), m_learned(operand && shapes.isConstant(operand)) {
        m_trace.operand = operand;
        m_trace.source = operand;
    }

    RoleTrace run() {
        constexpr int longest = 60;
        for (int steps = 0; steps < longest && step(); ++steps) {}
        if (m_trace.linear) viewColumns(m_graph, m_shapes, m_undone, m_trace);
        return std::move(m_trace);
    }

private:
    /// On the way to learned queries everything is constant for bound sizes: there only what the file gives counts.
    bool constant(ValueId value) const {
        return !value || (m_learned ? isGiven(m_graph, m_shapes, value) : m_shapes.isConstant(value));
    }

    /// The only input that is no constant, no scale that is computed when integers are made and no angles beside it; none where there are two.
    ValueId onlyActivation(const Node& node) const {
        ValueId found;
        for (const ValueId value : node.inputs) {
            if (constant(value) || (node.is("Mul") && restoresIntegers(m_graph, m_shapes, value))) continue;
            if (found && found != value && node.is("Mul") && isOfTable(m_graph, m_shapes, value) != isOfTable(m_graph, m_shapes, found)) {
                if (isOfTable(m_graph, m_shapes, found)) found = value;
                continue;
            }
            if (found && found != value) return {};
            found = value;
        }
        return found;
    }

    /// The activation that a node changes: its only one, or the one that it takes a mean from.
    ValueId changed(const Node& node) const { return lessItsMean(m_graph, m_shapes, node) ? node.input(0) : onlyActivation(node); }

    bool take(NodeId node, ValueId next) {
        m_trace.path.push_back(node);
        m_trace.reads.push_back(next);
        m_trace.source = next;
        return true;
    }

    bool step() {
        const NodeId id = m_graph.producer(m_trace.source);
        if (!id) return false;
        const Node& node = m_graph.node(id);
        if (ValueId next; sequenceProjection(m_graph, m_shapes, id, next)) {
            m_trace.extras.insert("linformer");
            return take(id, next);
        }
        if (poolsPlaces(m_graph, m_shapes, id)) return take(id, node.input(0));
        if (absorbs(id)) {
            m_trace.heads = headsMultiplied(m_graph, m_shapes, id);
            return take(id, node.input(0));
        }
        if (linearWeight(m_graph, m_shapes, id) || projectsLearned(node)) {
            m_trace.linear = id;
            return false;
        }
        if (isView(node) || node.is("Clip") || node.is("Round")) return take(id, node.input(0));
        if ((node.is("ReduceSum") || node.is("Mod")) && isInteger(m_shapes.of(node.output()).type)) return take(id, node.input(0)); // pieces of a byte
        if (node.is("Split") || node.is("Slice") || node.is("Gather")) return cut(id, node);
        if (node.is("Expand") || node.is("Tile")) {
            repeats(node.input(0), node.output());
            return take(id, node.input(0));
        }
        if (node.is("MaxPool") || node.is("AveragePool") || node.is("BatchNormalization")) return take(id, node.input(0)); // trained, the last one scales columns
        if ((node.is("ReduceMean") || node.is("ReduceMax")) && m_shapes.of(node.output()).dims.size() >= 3 && m_shapes.of(node.output()).dims.back() == m_shapes.of(node.input(0)).dims.back())
            return take(id, node.input(0)); // means of places stand for them: landmarks
        if (node.is("GatherElements")) return take(id, node.input(0)); // a cache with a length of its own for each batch
        if (isNorm(node)) {
            // Behind the projection a norm is one of heads; before it (no projection met yet) it still may be.
            m_trace.extras.insert(node.is("LpNormalization") ? "cosine" : "qk_norm");
            return take(id, node.input(0));
        }
        if (node.op == "RotaryEmbedding") {
            m_trace.extras.insert("rope");
            return take(id, node.input(0));
        }
        if (node.is("Mul") || node.is("Div") || node.is("com.microsoft", "QLinearMul")) return multiply(id, node);
        if ((node.is("Min") || node.is("Max") || node.is("com.microsoft", "QLinearAdd")) && onlyActivation(node)) return take(id, onlyActivation(node));
        if (lessItsMean(m_graph, m_shapes, node)) return take(id, node.input(0)); // of a norm that is spelled out
        if (node.is("Add") || node.is("Sub")) return add(id, node);
        if (node.is("Concat")) return concat(id, node);
        if (const ValueId fresh = writtenToBuffer(m_graph, m_shapes, node)) {
            m_trace.extras.insert("kv_cache");
            return take(id, fresh);
        }
        if (writesRotatedPart(node)) m_trace.extras.insert("rope");
        // Packed tokens are put at their places among padding.
        if (node.is("ScatterND") && isEmpty(node.input(0))) return take(id, node.input(2));
        if (node.is("Neg") || node.is("Pad") || node.is("ScatterND")) return take(id, node.input(0));
        return false;
    }

    /// A part of what its input holds; what picks one of several that were joined goes on from that one.
    bool cut(NodeId id, const Node& node) {
        if (constant(node.input(0))) return false;
        if (const ValueId picked = pickedInput(m_graph, m_shapes, node, m_trace.source)) {
            m_undone.insert(id);
            take(id, node.input(0));
            const ValueId joined = bare(m_graph, m_shapes, node.input(0));
            while (m_trace.source != joined) {
                const NodeId before = m_graph.producer(m_trace.source);
                m_undone.insert(before);
                take(before, m_graph.node(before).input(0));
            }
            m_undone.insert(m_graph.producer(joined));
            return take(m_graph.producer(joined), picked);
        }
        // A table of pages says where the keys of each sequence lie in a cache; other rows that data pick are no view.
        if (const NodeId data = m_graph.producer(node.input(0)); node.is("Gather") && data && writtenToBuffer(m_graph, m_shapes, m_graph.node(data))) return take(id, node.input(0));
        if (node.is("Gather") && !constant(node.input(1))) return false;
        if (node.is("Gather") && m_shapes.of(node.output()).count() > m_shapes.of(node.input(0)).count()) repeats(node.input(0), node.output());
        return take(id, node.input(0));
    }

    /// Nothing but one number, as often as data may say.
    bool isEmpty(ValueId value) const {
        const NodeId id = m_graph.producer(value);
        return constant(value) || (id && m_graph.node(id).is("Expand") && constant(m_graph.node(id).input(0)));
    }

    /// Parts of each head are written beside each other into an empty tensor, the rotated one behind the others.
    bool writesRotatedPart(const Node& node) const {
        const NodeId before = node.is("ScatterND") ? m_graph.producer(bare(m_graph, m_shapes, node.input(0))) : NodeId();
        return before && m_graph.node(before).is("ScatterND") && isEmpty(m_graph.node(before).input(0)) && rotated(node.input(2));
    }

    /// Learned queries are projected too, though the result depends on no input.
    bool projectsLearned(const Node& node) const {
        if (!m_learned || (!node.is("MatMul") && !node.is("Gemm")) || !weightSource(m_graph, node.input(1))) return false;
        return m_shapes.of(node.input(1)).dims.size() == 2 && !constant(node.input(0));
    }

    /// What was another role's projection, one matrix a head, behind a role's own.
    bool absorbs(NodeId id) const { return headsMultiplied(m_graph, m_shapes, id) > 0 && closeBehindLinear(m_graph, m_shapes, m_graph.node(id).input(0)); }

    bool multiply(NodeId id, const Node& node) {
        ValueId next = onlyActivation(node);
        // Beside learned queries a computed scale is as constant as they are.
        for (const std::size_t side : {0U, 1U})
            if (!next && m_learned && m_shapes.scalar(node.input(side))) next = node.input(1 - side);
        if (!next) return join(id, node);
        const std::size_t side = node.input(0) == next ? 1 : 0;
        const ValueId other = factorOf(node, side);
        if (restoresIntegers(m_graph, m_shapes, other)) return take(id, next);
        if (const auto factor = scalarFactor(m_shapes, node, side)) {
            if (*factor == 1 || sumsIntegers(m_graph, m_shapes, next)) return take(id, next); // not of scores: what integers stand for
            m_trace.scaled = true;
            m_trace.scale *= node.is("Div") ? 1 / *factor : *factor;
            return take(id, next);
        }
        const ValueShape& shape = m_shapes.of(other);
        if (shape.known() && shape.count() == 1) { // a learned temperature
            m_trace.scaled = true;
            return take(id, next);
        }
        // A weight along the head's size belongs to a spelled-out norm; a table over positions to a rotary embedding.
        return take(id, next);
    }

    bool add(NodeId id, const Node& node) {
        const ValueId next = onlyActivation(node);
        if (!next) return join(id, node);
        if (node.is("Add")) {
            const NodeId before = m_graph.producer(next);
            if (before && linearWeight(m_graph, m_shapes, before)) m_trace.bias = id;
        }
        return take(id, next);
    }

    /// Two activations meet: a rotary embedding (both come from one value), a spelled-out norm (x times its own
    /// reciprocal root), or a low-rank branch beside the projection.
    bool join(NodeId id, const Node& node) {
        if (const auto function = weighing(m_graph, m_shapes, id)) return take(id, function->scores); // SiLU, spelled out
        auto a = nearest(node.input(0)), b = nearest(node.input(1));
        const bool rotary = node.is("Add") || node.is("Sub");
        if (rotary && a && b && a != b && wholeOf(m_graph, a) == wholeOf(m_graph, b)) a = b = wholeOf(m_graph, a); // its halves, or every other element
        if (a && b && a == b) {
            m_trace.extras.insert(rotary ? "rope" : lengthBetween(node) ? "cosine" : "qk_norm");
            return take(id, a);
        }
        if (a && b && (node.is("Mul") || node.is("Div")) && (ancestor(a, b) || ancestor(b, a))) {
            m_trace.extras.insert(lengthBetween(node) ? "cosine" : "qk_norm");
            return take(id, ancestor(a, b) ? a : b);
        }
        if (node.is("Mul") || node.is("Div")) {
            // A table that is computed from positions: the side that leads to a projection is the activation.
            const bool first = leadsToLinear(node.input(0)), second = leadsToLinear(node.input(1));
            if (first != second) return take(id, node.input(first ? 0 : 1));
            return false;
        }
        const bool first = leadsToLinear(node.input(0)), second = leadsToLinear(node.input(1));
        if (first && second) {
            const NodeId one = linearBehind(node.input(0)), two = linearBehind(node.input(1));
            if (one == two) {
                m_trace.extras.insert("rope");
                return take(id, node.input(0));
            }
            m_trace.ambiguous = true; // a low-rank branch: the projection has the larger weight
            const auto size = [&](NodeId linear) { return m_shapes.of(factorOf(m_graph.node(linear), 1)).count(); };
            return take(id, node.input(size(two) > size(one) ? 1 : 0));
        }
        if (first || second) return take(id, node.input(first ? 0 : 1));
        return false;
    }

    bool concat(NodeId id, const Node& node) {
        if (const NodeId split = stackedSplit(m_graph, m_shapes, node)) {
            take(id, m_graph.node(split).output());
            return take(split, m_graph.node(split).input(0));
        }
        ValueId next;
        bool sameSource = true, past = false, negated = false;
        // A buffer of past keys is cut where they end; what is cut from one input alone has no past.
        const std::int64_t over = node.attributes.integer("axis", 0);
        const bool keys = over == -2 || over == static_cast<std::int64_t>(m_shapes.of(node.output()).dims.size()) - 2;
        const bool cuts = keys && !std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId value) { return constant(value) || isFed(m_graph, value, true); });
        std::size_t activations = 0;
        for (const ValueId value : node.inputs) {
            if (constant(value)) continue;
            ++activations;
            const ValueId source = bare(m_graph, m_shapes, value);
            const NodeId producer = m_graph.producer(withoutAxis(m_graph, m_shapes, value));
            const bool fed = isFed(m_graph, source) || (cuts && isFed(m_graph, source, true));
            past = past || fed;
            if (fed && node.inputs.size() > 1) continue;
            negated = negated || (producer && (m_graph.node(producer).is("Neg") || m_graph.node(producer).is("Sub") || m_graph.node(producer).is("Add")));
            if (!next) next = value;
            else sameSource = sameSource && linearBehind(value) == linearBehind(next);
        }
        if (keys && joinsFed(m_graph, node)) { // without a projection new keys are fed too
            m_trace.extras.insert("kv_cache");
            return take(id, node.inputs.back());
        }
        if (!next) return false;
        if (node.inputs.size() > 1 && std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId each) { return sameHeads(m_graph, m_shapes, each, next); })) repeats(next, node.output());
        const ValueShape& shape = m_shapes.of(node.output());
        const bool within = shape.ranked && (over == -1 || over == static_cast<std::int64_t>(shape.dims.size()) - 1);
        if (past) m_trace.extras.insert("kv_cache");
        else if (activations > 1 && sameSource && (negated || (within && std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId each) { return rotated(each); })))) m_trace.extras.insert("rope");
        // A latent is wider than the positions beside it.
        if (sameSource && within && !past)
            for (const ValueId value : node.inputs)
                if (!constant(value) && m_shapes.of(value).known() && m_shapes.of(next).known() && m_shapes.of(value).dims.back() > m_shapes.of(next).dims.back()) next = value;
        if (!sameSource) {
            // The latest keys stand last; parts of each head beside each other: the one that is projected for every head.
            const ValueId own = within && shape.dims.size() >= 4 ? ofEveryHead(m_graph, m_shapes, node) : ValueId();
            next = own ? own : node.inputs.back();
            if (constant(next)) return false;
            const auto chosen = m_inputs.find(id);
            if (chosen != m_inputs.end()) next = node.input(chosen->second);
            // Beside each other along any axis but a head's own, each from a projection: places of several sequences.
            if (!within && std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId each) { return leadsToLinear(each) && linearBehind(each) != linearBehind(next); }))
                m_trace.joins.push_back({id, static_cast<std::size_t>(std::find(node.inputs.begin(), node.inputs.end(), next) - node.inputs.begin())});
        }
        return take(id, next);
    }

    /// Whether a part of each head is rotated before it stands beside the others.
    bool rotated(ValueId part) const {
        if (m_part || constant(part)) return false; // parts of parts are not looked into
        RoleWalk walk(m_graph, m_shapes, part, m_inputs);
        walk.m_part = true;
        return walk.run().extras.contains("rope");
    }

    /// Heads are copied.
    void repeats(ValueId from, ValueId to) {
        m_trace.extras.insert("kv_repeat");
        m_trace.repeats *= copiesMade(m_shapes.of(from).dims, m_shapes.of(to).dims);
    }

    /// Back through one-input operators and multiplications by constants to where a value branches off.
    ValueId nearest(ValueId value) const {
        for (int steps = 0; steps < 16; ++steps) {
            if (m_graph.readers(value).size() > 1) return value;
            const NodeId id = m_graph.producer(value);
            if (!id || linearWeight(m_graph, m_shapes, id)) return value;
            const Node& node = m_graph.node(id);
            if (node.is("Concat")) {
                ValueId common;
                for (const ValueId each : node.inputs) {
                    if (constant(each)) continue;
                    const ValueId source = nearest(each);
                    if (common && source != common) return value;
                    common = source;
                }
                if (!common) return value;
                value = common;
                continue;
            }
            const ValueId next = changed(node);
            if (!next) {
                // Beside a table that is computed, in either order.
                const bool first = node.is("Mul") && leadsToLinear(node.input(0));
                if (!first && !(node.is("Mul") && leadsToLinear(node.input(1)))) return value;
                value = node.input(first ? 0 : 1);
                continue;
            }
            value = next;
        }
        return value;
    }

    /// Whether what divides is the length of a vector (an L2 norm), not its mean square.
    bool lengthBetween(const Node& node) const {
        for (ValueId value : node.inputs) {
            for (int steps = 0; steps < 8 && value; ++steps) {
                const NodeId id = m_graph.producer(value);
                if (!id) break;
                const Node& each = m_graph.node(id);
                if (each.is("ReduceL2") || each.is("ReduceSum") || each.is("ReduceSumSquare")) return true;
                if (each.is("ReduceMean") || linearWeight(m_graph, m_shapes, id)) break;
                value = onlyActivation(each);
            }
        }
        return false;
    }

    bool ancestor(ValueId early, ValueId late) const {
        for (int steps = 0; steps < 16 && late; ++steps) {
            if (late == early) return true;
            const NodeId id = m_graph.producer(late);
            if (!id) return false;
            late = changed(m_graph.node(id));
        }
        return false;
    }

    /// The projection behind a value, through anything that has one activation input, first inputs else.
    NodeId linearBehind(ValueId value, int forks = 2) const {
        for (int steps = 0; steps < 40 && value; ++steps) {
            const NodeId id = m_graph.producer(value);
            if (!id) return {};
            const Node& node = m_graph.node(id);
            if (absorbs(id)) {
                value = node.input(0);
                continue;
            }
            if (linearWeight(m_graph, m_shapes, id)) return id;
            if (node.is("Cos") || node.is("Sin") || node.is("Softmax") || node.is("MatMul")) return {};
            const ValueId only = onlyActivation(node);
            if (!only && node.is("Mul") && forks > 0 && !constant(node.input(0)) && !linearBehind(node.input(0), forks - 1)) {
                value = node.input(1); // the other one is a table that is computed
                continue;
            }
            value = only ? only : constant(node.input(0)) ? node.input(1) : node.input(0);
            if (value && constant(value)) return {};
        }
        return {};
    }
    bool leadsToLinear(ValueId value) const { return linearBehind(value).valid(); }

    const Graph& m_graph;
    const Shapes& m_shapes;
    const std::map<NodeId, std::size_t>& m_inputs; ///< of joins those to follow
    bool m_learned, m_part = false;
    RoleTrace m_trace;
    std::set<NodeId> m_undone; ///< a Concat and what picks one of its inputs
};

} // namespace

RoleTrace traceRole(const Graph& graph, const Shapes& shapes, ValueId operand, const std::map<NodeId, std::size_t>& inputs) { return RoleWalk(graph, shapes, operand, inputs).run(); }

} // namespace triptych
