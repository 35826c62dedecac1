#include "attention/call_order.h"

#include <algorithm>

namespace triptych {

namespace {

using Factors = std::vector<ColumnView::Factor>;

/// From outer to inner, without those of size 1; neighbours that count on are one.
Factors joined(const Factors& all) {
    Factors made;
    for (const ColumnView::Factor& factor : all) {
        if (factor.size == 1) continue;
        if (!made.empty() && made.back().stride == factor.size * factor.stride) made.back() = {made.back().size * factor.size, factor.stride};
        else made.push_back(factor);
    }
    return made;
}

bool hasOrder(const ColumnView& view, const Factors& expected) {
    Factors all;
    for (const auto& axis : view.axes) all.insert(all.end(), axis.begin(), axis.end());
    const Factors is = joined(all), wanted = joined(expected);
    return std::equal(is.begin(), is.end(), wanted.begin(), wanted.end(), [](const auto& a, const auto& b) { return a.size == b.size && a.stride == b.stride; });
}

class OrderCheck {
public:
    OrderCheck(const Graph& graph, const Shapes& shapes, const AttentionSpec& spec, const Core& core, const std::array<RoleTrace, 3>& traces, const CallForm& form)
        : m_graph(graph), m_shapes(shapes), m_spec(spec), m_core(core), m_traces(traces), m_form(form) {}

    bool holds() {
        const Node &scores = m_graph.node(m_core.scores), &context = m_graph.node(m_core.context), &softmax = m_graph.node(m_core.softmax);
        if (!scores.is("MatMul") || !context.is("MatMul") || scores.input(0) != m_core.q || scores.input(1) != m_core.k || context.input(1) != m_core.v) return false;
        if (!softmax.is("Softmax") || !overLastAxis(softmax) || m_core.extras.contains("cast")) return false;
        for (std::size_t role = 0; role < 3; ++role)
            if (!roleHolds(role)) return false;
        const Dims& out = m_shapes.of(m_graph.node(m_traces[0].linear).output()).dims;
        m_places = m_form.sequenceFirst ? out[0] : out[1];
        m_batch = m_form.sequenceFirst ? out[1] : out[0];
        return maskHolds() && (resultHolds(true) || resultHolds(false));
    }

private:
    bool overLastAxis(const Node& softmax) const {
        const std::int64_t axis = softmax.attributes.integer("axis", -1), rank = static_cast<std::int64_t>(m_shapes.of(softmax.output()).dims.size());
        return axis == -1 || axis == rank - 1;
    }

    bool roleHolds(std::size_t role) const {
        const RoleTrace& trace = m_traces[role];
        const Dims &out = m_shapes.of(trace.linear ? m_graph.node(trace.linear).output() : ValueId()).dims, &operand = m_shapes.of(trace.operand).dims;
        const std::int64_t size = role == 2 ? m_spec.vHeadDim : m_spec.headDim;
        if (!trace.columns || out.size() != 3 || operand.size() < 3 || size <= 0) return false;
        const std::int64_t columns = out[2];
        const bool keys = role == 1;
        if (operand[operand.size() - (keys ? 2 : 1)] != size) return false;
        // Heads stand one behind the other in a role's own columns, and with the others' between them where all are interleaved.
        const auto range = columnRange(*trace.columns, columns);
        if (!range || range->width != m_spec.heads * size) return false;
        const bool shared = std::any_of(m_traces.begin(), m_traces.end(), [&](const RoleTrace& other) { return &other != &trace && other.linear == trace.linear; });
        if (!shared && (!range->contiguous || range->width != columns)) return false;
        if (!range->contiguous && static_cast<std::int64_t>(range->runs.size()) != m_spec.heads) return false;
        const std::int64_t step = range->contiguous ? size : range->runs[1].first - range->runs[0].first;
        const std::int64_t outer = out[1] * columns, places = m_form.sequenceFirst ? out[0] : out[1];
        const ColumnView::Factor batch{m_form.sequenceFirst ? out[1] : out[0], m_form.sequenceFirst ? columns : outer}, heads{m_spec.heads, step};
        const ColumnView::Factor along{places, m_form.sequenceFirst ? outer : columns}, element{size, 1};
        return trace.columns->offset == range->offset && hasOrder(*trace.columns, keys ? Factors{batch, heads, element, along} : Factors{batch, heads, along, element});
    }

    /// A mask is added as it is, or split in batch and heads where the scores have them in one axis.
    bool maskHolds() const {
        const Dims& scores = m_shapes.of(m_graph.node(m_core.scores).output()).dims;
        if (scores.size() != 3 && !(scores.size() == 4 && scores[0] == m_batch && scores[1] == m_spec.heads)) return false;
        for (const ValueId mask : m_core.masks) {
            const ValueShape& shape = m_shapes.of(mask);
            const std::size_t rank = shape.dims.size();
            if (!shape.ranked || rank > scores.size()) return false;
            if (scores.size() == 3 && rank == 3 && shape.dims[0] != 1 && shape.dims[0] != scores[0]) return false;
        }
        return true;
    }

    /// Views, one behind the other, between two values; empty optional where something else is.
    std::optional<ColumnView> through(ValueId from, ValueId to) const {
        static constexpr std::array views{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout"};
        std::vector<std::pair<NodeId, ValueId>> way;
        for (ValueId at = to; at != from;) {
            const NodeId id = at ? m_graph.producer(at) : NodeId();
            if (!id || way.size() > 20 || std::none_of(views.begin(), views.end(), [&](const char* op) { return m_graph.node(id).is(op); })) return std::nullopt;
            way.emplace_back(id, at);
            at = m_graph.node(id).input(0);
        }
        if (!m_shapes.of(from).known()) return std::nullopt;
        ColumnView view = ColumnView::whole(m_shapes.of(from).dims);
        for (std::size_t i = way.size(); i-- > 0;)
            if (!applyView(m_shapes, view, m_graph.node(way[i].first), m_graph.node(way[i].first).input(0), way[i].second)) return std::nullopt;
        return view;
    }

    /// From the context to the result, where the rows of the output projection are places first or batches first.
    bool resultHolds(bool placesFirst) const {
        const Projection& projection = *m_spec.projectionOut;
        const Node& product = m_graph.node(projection.nodes[0]);
        if (product.is("Gemm") && (product.attributes.real("alpha", 1) != 1 || product.attributes.real("beta", 1) != 1 || product.attributes.integer("transA", 0) != 0)) return false;
        const std::int64_t size = m_spec.vHeadDim, heads = m_spec.heads;
        const auto merged = through(m_core.result, product.input(0));
        const Dims &rows = m_shapes.of(product.input(0)).dims, &out = m_shapes.of(projection.output).dims;
        if (!merged || rows.empty() || rows.back() != heads * size || out.empty()) return false;
        const ColumnView::Factor batch{m_batch, heads * m_places * size}, head{heads, m_places * size}, place{m_places, size}, element{size, 1};
        if (!hasOrder(*merged, placesFirst ? Factors{place, batch, head, element} : Factors{batch, place, head, element})) return false;
        const auto last = through(projection.output, m_form.result);
        const std::int64_t width = out.back();
        const ColumnView::Factor outBatch{m_batch, placesFirst ? width : m_places * width}, outPlace{m_places, placesFirst ? m_batch * width : width}, column{width, 1};
        const Dims wanted = m_form.resultSequenceFirst ? Dims{m_places, m_batch, width} : Dims{m_batch, m_places, width};
        return last && m_shapes.of(m_form.result).dims == wanted && hasOrder(*last, m_form.resultSequenceFirst ? Factors{outPlace, outBatch, column} : Factors{outBatch, outPlace, column});
    }

    const Graph& m_graph;
    const Shapes& m_shapes;
    const AttentionSpec& m_spec;
    const Core& m_core;
    const std::array<RoleTrace, 3>& m_traces;
    const CallForm& m_form;
    Dim m_places = 0, m_batch = 0; ///< of the queries
};

} // namespace

bool keepsCanonicalOrder(const Graph& graph, const Shapes& shapes, const AttentionSpec& spec, const Core& core, const std::array<RoleTrace, 3>& traces, const CallForm& form) {
    return OrderCheck(graph, shapes, spec, core, traces, form).holds();
}

} // namespace triptych
