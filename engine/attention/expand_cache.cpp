// Past keys and values of an opaque attention, and what is handed on to the next step.

#include "attention/opaque_expansion.h"

#include <limits>

namespace triptych {

/// Past keys and values, of one value where the operator packs them.
std::pair<ValueId, ValueId> OpaqueExpansion::pastParts() {
    if (m_call.standard()) return {m_node.input(4), m_node.input(5)};
    const ValueId first = m_node.input(m_inputs.past);
    if (!first) return {};
    if (!hasPackedWeight(m_node)) return {first, m_node.input(m_inputs.past + 1)};
    return {m_emit.gather("past_k", first, 0, 0), m_emit.gather("past_v", first, 0, 1)};
}

/// Keys and values that came before, and what is handed on to the next step.
void OpaqueExpansion::past() {
    if (sharesPast(m_node)) return sharedPast();
    const auto [pastK, pastV] = pastParts();
    m_past = pastK;
    if (hasPackedWeight(m_node)) {
        if (pastK) m_k = m_emit.op("k_cache", "Concat", {pastK, m_k}, {{"axis", std::int64_t(2), {}}});
        if (pastV) m_v = m_emit.op("v_cache", "Concat", {pastV, m_v}, {{"axis", std::int64_t(2), {}}});
        return present(m_k, m_v);
    }
    const auto handOn = [&](const char* role, ValueId before, ValueId now, ValueId present) {
        if (before) return m_emit.op(role, "Concat", {before, now}, {{"axis", std::int64_t(2), {}}}, present);
        if (present) m_emit.op(role, "Identity", {now}, {}, present);
        return now;
    };
    m_k = handOn("k_cache", pastK, m_k, m_call.wanted(1));
    m_v = handOn("v_cache", pastV, m_v, m_call.wanted(2));
}

/// Keys and values [B,N,T,D] as outputs, or as the one output of an operator that packs them.
void OpaqueExpansion::present(ValueId k, ValueId v) {
    const ValueId first = m_call.wanted(1), second = m_call.wanted(2);
    if (hasPackedWeight(m_node)) {
        if (first) m_emit.op("present", "Concat", {m_emit.unsqueeze("present", k, 0), m_emit.unsqueeze("present", v, 0)}, {{"axis", std::int64_t(0), {}}}, first);
        return;
    }
    if (first) m_emit.op("present_k", "Identity", {k}, {}, first);
    if (second) m_emit.op("present_v", "Identity", {v}, {}, second);
}

/// Whether the buffer of keys has another order than its shape says: 16 bytes of each head side by side, then the next 16.
/// Source: ContribOperators.md, DecoderMaskedSelfAttention.
bool OpaqueExpansion::keysInBlocks() const { return m_node.op == "DecoderMaskedSelfAttention"; }

/// A buffer of keys in the order that its shape says, or back in that of the operator.
ValueId OpaqueExpansion::reordered(const std::string& role, ValueId buffer, bool back) {
    const std::int64_t block = 128 / bitsOf(m_type), blocks = m_spec.headDim / block;
    const ValueId apart = m_emit.base().reshape(role, buffer, back ? Dims{0, m_spec.heads, -1, blocks, block} : Dims{0, m_spec.heads, blocks, -1, block});
    return m_emit.base().reshape(role, m_emit.base().transpose(role, apart, {0, 1, 3, 2, 4}), {0, m_spec.heads, -1, m_spec.headDim});
}

/// Past keys and values in buffers with room for more: a length says how much of them is filled.
void OpaqueExpansion::sharedPast() {
    auto [bufferK, bufferV] = pastParts();
    if (keysInBlocks()) bufferK = reordered("past_k", bufferK, false);
    const ValueId length = m_node.input(m_inputs.pastLength);
    m_before = m_call.sizes.forFile() ? m_emit.base().reshape("past_length", m_emit.cast("past_length", length, DataType::int64), {1}) : m_emit.list("past_length", {boundPast(m_node, m_call.shapes)});
    const ValueId axis = m_emit.list("past_length/axis", {2}), end = m_emit.op("past_length", "Add", {m_before, m_emit.sizeOf("past_length", m_k, 2)});
    const auto joined = [&](const std::string& role, ValueId buffer, ValueId& now) {
        now = m_emit.op(role, "Concat", {m_emit.op(role, "Slice", {buffer, m_emit.list(role + "/begin", {0}), m_before, axis}), now}, {{"axis", std::int64_t(2), {}}});
        if (!m_call.wanted(1) && !m_call.wanted(2)) return ValueId();
        const ValueId rest = m_emit.op(role, "Slice", {buffer, end, m_emit.list(role + "/end", {std::numeric_limits<std::int64_t>::max()}), axis});
        return m_emit.op(role, "Concat", {now, rest}, {{"axis", std::int64_t(2), {}}});
    };
    ValueId allK = joined("k_cache", bufferK, m_k);
    const ValueId allV = joined("v_cache", bufferV, m_v);
    if (allK && keysInBlocks()) allK = reordered("k_cache", allK, true);
    if (allK) present(allK, allV);
}

/// How many keys came before the new ones, for each batch: [B,1,1,1].
ValueId OpaqueExpansion::keysBefore(ValueId now, ValueId total) {
    const ValueId last = m_emit.base().reshape("before", m_emit.cast("before", m_node.input(5), DataType::int64), {-1, 1, 1, 1});
    const ValueId counted = m_emit.op("before", "Sub", {m_emit.op("before", "Add", {last, m_emit.list("before/one", {1})}), now});
    return m_emit.op("before", "Where", {m_emit.op("before", "Equal", {now, total}), m_emit.list("before/zero", {0}), counted});
}

/// Grouped queries: each batch has its own number of past keys, the rest of its past is padding.
void OpaqueExpansion::groupedPast() {
    const ValueId now = m_emit.sizeOf("length", m_q, 2), total = m_emit.base().reshape("total", m_emit.cast("total", m_node.input(6), DataType::int64), {1});
    // A first call has no past, whatever the lengths say: where there is none at all, keys begin with the queries.
    const bool cache = m_node.input(3).valid();
    if (cache) m_before = keysBefore(now, total);
    if (m_node.attributes.integer("do_rotary", 0) != 0) {
        const ValueId counted = m_emit.upTo("positions", now);
        const ValueId places = m_node.input(9) ? m_node.input(9) : cache ? m_emit.op("positions", "Add", {m_emit.base().reshape("positions", m_before, {-1, 1}), counted}) : m_emit.base().reshape("positions", counted, {1, -1});
        m_q = rotated("q_rotary", m_q, places, m_spec.heads);
        m_k = rotated("k_rotary", m_k, places, m_kvHeads);
    }
    m_past = m_node.input(3);
    const auto handOn = [&](const char* role, ValueId before, ValueId value, ValueId present) {
        if (!before) {
            if (present) m_emit.op(role, "Identity", {value}, {}, present);
            return value;
        }
        // What is analysed for given sizes shows the cache as exporters write it.
        if (!m_call.sizes.forFile()) return m_emit.op(role, "Concat", {before, value}, {{"axis", std::int64_t(2), {}}}, present);
        return cached(role, before, value, now, total, present);
    };
    m_k = handOn("k_cache", m_node.input(3), m_k, m_call.wanted(1));
    m_v = handOn("v_cache", m_node.input(4), m_v, m_call.wanted(2));
}

/// Element j of a cache: the past where j < before, then what is new, then zeros.
ValueId OpaqueExpansion::cached(const std::string& role, ValueId past, ValueId value, ValueId now, ValueId total, ValueId present) {
    // The larger of both without Max, which takes no integers before opset 12.
    const ValueId size = m_emit.sizeOf(role, past, 2), longest = m_emit.op(role, "Where", {m_emit.op(role, "Less", {size, total}), total, size});
    const ValueId key = m_emit.base().reshape(role, m_emit.upTo(role, longest), {1, 1, -1, 1});
    const ValueId moved = m_emit.op(role, "Add", {m_emit.op(role, "Sub", {key, m_before}), size});
    const ValueId end = m_emit.op(role, "Add", {m_before, now});
    const ValueId behind = m_emit.op(role, "Where", {m_emit.op(role, "Less", {key, end}), moved, m_emit.op(role, "Add", {size, now})});
    const ValueId index = m_emit.op(role, "Where", {m_emit.op(role, "Less", {key, m_before}), key, behind});
    const ValueId lengths = m_emit.op(role, "Concat", {m_emit.slice(role, m_emit.op(role, "Shape", {value}), 0, 0, 2), m_emit.list(role + "/any", {1}), m_emit.sizeOf(role, value, 3)}, {{"axis", std::int64_t(0), {}}});
    const ValueId nothing = m_emit.op(role, "Expand", {m_emit.number(role + "/zero", m_type, 0), lengths});
    const ValueId all = m_emit.op(role, "Concat", {past, value, nothing}, {{"axis", std::int64_t(2), {}}});
    return m_emit.op(role, "GatherElements", {all, m_emit.op(role, "Expand", {index, lengths})}, {{"axis", std::int64_t(2), {}}}, present);
}

/// x [B,N,S,D] turned by its positions [B,S]; what lies beyond the caches' width stays.
ValueId OpaqueExpansion::rotated(const std::string& role, ValueId x, ValueId positions, std::int64_t heads) {
    const Dims& caches = m_call.shapes.of(m_node.input(7)).dims;
    const std::int64_t half = caches.empty() ? m_spec.headDim / 2 : caches.back();
    const bool interleaved = m_node.attributes.integer("rotary_interleaved", 0) != 0;
    const auto angles = [&](std::size_t input) { return m_emit.unsqueeze(role, m_emit.op(role, "Gather", {m_node.input(input), positions}, {{"axis", std::int64_t(0), {}}}), 1); };
    const ValueId cosine = angles(7), sine = angles(8);
    const ValueId first = interleaved ? m_emit.slice(role, x, 3, 0, 2 * half, 2) : m_emit.slice(role, x, 3, 0, half);
    const ValueId second = interleaved ? m_emit.slice(role, x, 3, 1, 2 * half, 2) : m_emit.slice(role, x, 3, half, 2 * half);
    const auto product = [&](ValueId a, ValueId b) { return m_emit.op(role, "Mul", {a, b}); };
    ValueId a = m_emit.op(role, "Sub", {product(first, cosine), product(second, sine)}), b = m_emit.op(role, "Add", {product(first, sine), product(second, cosine)});
    std::vector<ValueId> pieces{a, b};
    if (interleaved) {
        const ValueId pairs = m_emit.op(role, "Concat", {m_emit.unsqueeze(role, a, 4), m_emit.unsqueeze(role, b, 4)}, {{"axis", std::int64_t(4), {}}});
        pieces = {m_emit.base().reshape(role, pairs, {0, heads, -1, 2 * half})};
    }
    if (2 * half < m_spec.headDim) pieces.push_back(m_emit.slice(role, x, 3, 2 * half, m_spec.headDim));
    return pieces.size() == 1 ? pieces[0] : m_emit.op(role, "Concat", pieces, {{"axis", std::int64_t(3), {}}});
}

} // namespace triptych
