// GroupQueryAttention and SparseAttention: their cache, whole, quantised, or of a window.

#include "attention/opaque_expansion.h"

#include <limits>
#include <tuple>

namespace triptych {

/// How many keys came before the new ones, for each batch: [B,1,1,1].
ValueId OpaqueExpansion::keysBefore(ValueId now, ValueId total) {
    const ValueId counted = m_emit.op("before", "Sub", {seenKeys(), now});
    return m_emit.op("before", "Where", {m_emit.op("before", "Equal", {now, total}), m_emit.list("before/zero", {0}), counted});
}

/// How many keys there are with the new ones, for each batch: [B,1,1,1].
ValueId OpaqueExpansion::seenKeys() {
    const ValueId last = m_emit.base().reshape("before", m_emit.cast("before", m_node.input(m_inputs.lengths), DataType::int64), {-1, 1, 1, 1});
    // GroupQueryAttention is told the last key's position.
    return m_node.op == "GroupQueryAttention" ? m_emit.op("before", "Add", {last, m_emit.list("before/one", {1})}) : last;
}

/// Whether new keys are given: of a cache that another layer filled there are none.
bool OpaqueExpansion::bringsKeys() const { return !(m_node.op == "GroupQueryAttention" && m_node.input(1) && m_call.shapes.of(m_node.input(1)).dims.at(1) == 0); }

/// Grouped queries: each batch has its own number of past keys, the rest of its past is padding.
void OpaqueExpansion::groupedPast() {
    // A first call has no past, whatever the lengths say: where there is none at all, keys begin with the queries.
    const bool cache = m_node.input(3).valid(), counts = !m_node.input(m_inputs.positions) && m_node.attributes.integer("do_rotary", 0) != 0;
    const ValueId now = cache || counts ? m_emit.sizeOf("length", m_q, 2) : ValueId();
    const ValueId total = cache ? m_emit.base().reshape("total", m_emit.cast("total", m_node.input(m_inputs.total), DataType::int64), {1}) : ValueId();
    if (cache) m_before = keysBefore(now, total);
    ValueId places = m_node.input(m_inputs.positions);
    if (counts) {
        const ValueId counted = m_emit.upTo("positions", now);
        places = cache ? m_emit.op("positions", "Add", {m_emit.base().reshape("positions", m_before, {-1, 1}), counted}) : m_emit.base().reshape("positions", counted, {1, -1});
    }
    turnHeads(places);
    m_past = m_node.input(3);
    // Where no keys are new, the cache holds all of them.
    const ValueId kept = bringsKeys() ? m_before : seenKeys(), added = bringsKeys() ? now : m_emit.list("length/none", {0});
    if (m_node.attributes.integer("sliding_window_cache", 0) != 0) placeWindow(now);
    for (const auto& [role, index, value] : {std::tuple("k_cache", 0U, &m_k), std::tuple("v_cache", 1U, &m_v)}) {
        const Codes codes = codesOf(index);
        const ValueId present = m_call.wanted(1 + index), output = handedOn(role, codes, present);
        const ValueId fresh = quantised(role, *value, codes), past = opened(role, m_node.input(3 + index), codes);
        *value = dequantised(role, joined(role, past, fresh, {kept, added, total}, output), codes);
        close(role, codes, output, present);
    }
}

/// Past keys or values and new ones; `present`: what is handed on of them.
ValueId OpaqueExpansion::joined(const std::string& role, ValueId past, ValueId value, const Counts& counts, ValueId present) {
    if (!past) {
        if (present) m_emit.op(role, "Identity", {value}, {}, present);
        return value;
    }
    if (m_keys) {
        if (present) windowed(role, past, value, counts.added, present);
        return m_emit.op(role, "Concat", {past, value}, {{"axis", std::int64_t(2), {}}});
    }
    // What is analysed for given sizes shows the cache as exporters write it.
    if (!m_call.sizes.forFile()) return m_emit.op(role, "Concat", {past, value}, {{"axis", std::int64_t(2), {}}}, present);
    return cached(role, past, value, counts, present);
}

/// How many of the keys that came so far [B,1,1,1] a cache with that many places still holds. They go in groups, as many as the
/// cache has places besides the window, and the one before it. Source: ContribOperators.md, GroupQueryAttention.
ValueId OpaqueExpansion::residents(ValueId seen, ValueId places) {
    const ValueId group = m_emit.op("resident", "Sub", {places, m_emit.list("resident/beside", {m_node.attributes.integer("local_window_size", 0) - 1})});
    const ValueId over = m_emit.op("resident", "Sub", {m_emit.op("resident", "Add", {m_emit.op("resident", "Sub", {seen, places}), group}), m_emit.list("resident/one", {1})});
    const ValueId gone = m_emit.op("resident", "Mul", {m_emit.op("resident", "Div", {over, group}), group});
    return m_emit.op("resident", "Where", {m_emit.op("resident", "Less", {places, seen}), m_emit.op("resident", "Sub", {seen, gone}), seen});
}

/// The cache of a sliding window: its rows hold the latest positions, and the new keys stand behind all of them.
void OpaqueExpansion::placeWindow(ValueId now) {
    const ValueId places = m_emit.sizeOf("window", m_past, 2), kept = residents(m_before, places);
    m_firstKept = m_emit.op("window", "Sub", {m_before, kept});
    const ValueId slot = m_emit.base().reshape("window", m_emit.upTo("window", m_emit.op("window", "Add", {places, now})), {1, 1, 1, -1});
    const ValueId old = m_emit.op("window", "Less", {slot, places}), used = m_emit.op("window", "Less", {slot, kept});
    const ValueId position = m_emit.op("window", "Where", {old, m_emit.op("window", "Add", {slot, m_firstKept}), m_emit.op("window", "Add", {m_emit.op("window", "Sub", {slot, places}), m_before})});
    // What no query reaches hides as a later key does.
    const ValueId empty = m_emit.op("window", "And", {old, m_emit.op("window", "Not", {used})});
    m_keys = m_emit.op("window", "Where", {empty, m_emit.list("window/nowhere", {std::numeric_limits<std::int32_t>::max()}), position});
}

/// What the cache of a sliding window holds behind a step.
ValueId OpaqueExpansion::windowed(const std::string& role, ValueId past, ValueId value, ValueId now, ValueId present) {
    const ValueId places = m_emit.sizeOf(role, past, 2), seen = seenKeys(), kept = residents(seen, places);
    const ValueId row = m_emit.base().reshape(role, m_emit.upTo(role, places), {1, 1, -1, 1});
    const ValueId position = m_emit.op(role, "Add", {m_emit.op(role, "Sub", {seen, kept}), row});
    const ValueId fresh = m_emit.op(role, "Add", {m_emit.op(role, "Sub", {position, m_before}), places});
    const ValueId from = m_emit.op(role, "Where", {m_emit.op(role, "Less", {position, m_before}), m_emit.op(role, "Sub", {position, m_firstKept}), fresh});
    return picked(role, past, value, m_emit.op(role, "Where", {m_emit.op(role, "Less", {row, kept}), from, m_emit.op(role, "Add", {places, now})}), present);
}

/// Element j of a cache: the past where j < kept, then what is new, then zeros; in SparseAttention, whose past is always the buffer
/// that its present shares, what lies there.
ValueId OpaqueExpansion::cached(const std::string& role, ValueId past, ValueId value, const Counts& counts, ValueId present) {
    // The larger of both without Max, which takes no integers before opset 12.
    const ValueId size = m_emit.sizeOf(role, past, 2), longest = m_emit.op(role, "Where", {m_emit.op(role, "Less", {size, counts.total}), counts.total, size});
    const ValueId key = m_emit.base().reshape(role, m_emit.upTo(role, longest), {1, 1, -1, 1});
    const ValueId moved = m_emit.op(role, "Add", {m_emit.op(role, "Sub", {key, counts.kept}), size});
    const ValueId end = m_emit.op(role, "Add", {counts.kept, counts.added});
    const ValueId rest = m_node.op == "GroupQueryAttention" ? m_emit.op(role, "Add", {size, counts.added}) : key;
    const ValueId behind = m_emit.op(role, "Where", {m_emit.op(role, "Less", {key, end}), moved, rest});
    return picked(role, past, value, m_emit.op(role, "Where", {m_emit.op(role, "Less", {key, counts.kept}), key, behind}), present);
}

/// Places [B,1,n,1] of past keys or values, of the new ones behind them, or of the zeros behind both.
ValueId OpaqueExpansion::picked(const std::string& role, ValueId past, ValueId value, ValueId index, ValueId present) {
    const ValueId lengths = m_emit.op(role, "Concat", {m_emit.slice(role, m_emit.op(role, "Shape", {value}), 0, 0, 2), m_emit.list(role + "/any", {1}), m_emit.sizeOf(role, value, 3)}, {{"axis", std::int64_t(0), {}}});
    const Codes codes = codesOf(role[0] == 'k' ? 0 : 1);
    const ValueId nothing = m_emit.op(role, "Expand", {m_emit.number(role + "/nothing", codes.isFloat8() ? DataType::float32 : codes.type, 0), lengths});
    const ValueId all = m_emit.op(role, "Concat", {past, value, nothing}, {{"axis", std::int64_t(2), {}}});
    return m_emit.op(role, "GatherElements", {all, m_emit.op(role, "Expand", {index, lengths})}, {{"axis", std::int64_t(2), {}}}, present);
}

} // namespace triptych
