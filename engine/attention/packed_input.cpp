// An operator that takes Q, K and V, or K and V, in one input: the projection before it as one projection a role.

#include "attention/decomposer.h"

#include "attention/product_axes.h"

#include <algorithm>

namespace triptych {

namespace {

/// Rows one after another, and columns within them.
bool inOrder(const ColumnView& view) {
    std::int64_t before = INT64_MAX;
    for (const auto& axis : view.axes) {
        for (const ColumnView::Factor& factor : axis) {
            if (factor.size == 1) continue;
            if (factor.stride <= 0 || factor.stride >= before) return false;
            before = factor.stride;
        }
    }
    return true;
}

} // namespace

/// The columns of each role that an input holds: beside each other, or along an axis of the roles.
std::vector<std::optional<ColumnRange>> Decomposer::rangesOf(const RoleTrace& trace, const std::vector<std::int64_t>& widths, std::int64_t columns) const {
    std::vector<std::optional<ColumnRange>> ranges;
    std::int64_t begin = 0;
    const std::size_t rank = trace.columns->axes.size();
    for (std::size_t i = 0; i < widths.size(); ++i) {
        ColumnView own = *trace.columns;
        const bool along = rank >= 5; // [B,S,N,roles,H]
        const bool cut = along ? own.slice(rank - 2, static_cast<std::int64_t>(i), 1, 1) : own.slice(rank - 1, begin, widths[i], 1);
        auto range = cut && inOrder(own) ? columnRange(own, columns) : std::nullopt;
        ranges.push_back(range && range->width == widths[i] ? std::move(range) : std::nullopt);
        begin += widths[i];
    }
    return ranges;
}

/// Each role's own projection [B,S,columns]; empty where something else than views and a bias lies between, or a weight can't be cut.
std::vector<ValueId> Decomposer::inputApart(const AttentionSpec& spec, std::size_t input, NamedAttention& named) {
    static constexpr std::array plain{"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"};
    const RoleTrace trace = traceRole(m_graph, m_shapes, restored(m_graph, m_shapes, m_graph.node(spec.opaque).input(input)));
    if (!trace.linear || !trace.columns || m_graph.node(trace.linear).is("Conv") || (m_sizes.forFile() && weightIsAbsent(trace))) return {};
    const std::set<NodeId> ineffective = cancelledViews(m_graph, m_shapes, trace);
    for (const NodeId id : trace.path)
        if (id != trace.bias && !ineffective.contains(id) && !isOneOf(m_graph.node(id), plain)) return {};
    const Node& product = m_graph.node(trace.linear);
    const Dims& out = m_shapes.of(product.output()).dims;
    if (out.size() != 3) return {};
    const std::int64_t kvWidth = spec.kvHeads * spec.headDim, vWidth = spec.kvHeads * spec.vHeadDim;
    const std::vector<std::int64_t> widths = input == 0 ? std::vector{spec.heads * spec.headDim, kvWidth, vWidth} : std::vector{kvWidth, vWidth};
    const auto ranges = rangesOf(trace, widths, out.back());
    if (std::any_of(ranges.begin(), ranges.end(), [](const auto& range) { return !range; })) return {};
    const std::array names{&named.q, &named.k, &named.v};
    std::vector<ValueId> apart;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        const std::size_t role = i + (input == 0 ? 0 : 1);
        Emitter emit = emitter(product.name, product.scope, sourcesOf({trace.linear, spec.opaque}));
        OwnColumns part(m_graph, m_shapes, *ranges[i], out.back());
        const auto own = ownProjection(emit, m_graph, m_shapes, trace, part, roleNames[role], weightPrefix(product), *names[role]);
        if (!own) return {};
        apart.push_back(*own);
        named.nodes.insert(named.nodes.end(), emit.names().begin(), emit.names().end());
        for (const NodeId node : part.written()) m_candidate[node.position()] = true;
    }
    m_candidate[trace.linear.position()] = true;
    for (const NodeId node : trace.path) m_candidate[node.position()] = true;
    named.wasPacked = true;
    return apart;
}

} // namespace triptych
