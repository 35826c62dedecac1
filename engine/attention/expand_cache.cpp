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

/// Past keys or values [B,N,P,D] of the beams that each of their tokens came from. Beams of a sequence stand beside each other; the
/// choice [sequences, beams, places] is of one among them. Source: ContribOperators.md, cache_indirection.
ValueId OpaqueExpansion::ofBeams(const std::string& role, ValueId kept) {
    const ValueId choice = m_emit.cast(role, m_node.input(m_inputs.beams), DataType::int64), any = m_emit.list(role + "/any", {-1});
    const ValueId shape = m_emit.op(role, "Shape", {kept}), heads = m_emit.slice(role, shape, 0, 1, 4);
    const auto shaped = [&](std::vector<ValueId> parts) { return m_emit.op(role, "Concat", std::move(parts), {{"axis", std::int64_t(0), {}}}); };
    const ValueId apart = m_emit.op(role, "Reshape", {kept, shaped({any, m_emit.sizeOf(role, choice, 1), heads})});
    const ValueId told = m_emit.op(role, "Slice", {choice, m_emit.list(role + "/begin", {0}), m_before, m_emit.list(role + "/places", {2})});
    const ValueId each = m_emit.unsqueeze(role, m_emit.unsqueeze(role, told, 2), 4);
    const ValueId from = m_emit.op(role, "Expand", {each, m_emit.op(role, "Shape", {apart})});
    return m_emit.op(role, "Reshape", {m_emit.op(role, "GatherElements", {apart, from}, {{"axis", std::int64_t(1), {}}}), shape});
}

/// How much of a shared buffer is filled: [1].
ValueId OpaqueExpansion::pastLength() {
    if (!m_call.sizes.forFile()) return m_emit.list("past_length", {boundPast(m_node, m_call.shapes)});
    return m_emit.base().reshape("past_length", m_emit.cast("past_length", m_node.input(m_inputs.pastLength), DataType::int64), {1});
}

/// Past keys and values in buffers with room for more: a length says how much of them is filled.
void OpaqueExpansion::sharedPast() {
    auto [bufferK, bufferV] = pastParts();
    if (keysInBlocks()) bufferK = reordered("past_k", bufferK, false);
    m_before = pastLength();
    const ValueId axis = m_emit.list("past_length/axis", {2}), end = m_emit.op("past_length", "Add", {m_before, m_emit.sizeOf("past_length", m_k, 2)});
    const auto joined = [&](const std::string& role, ValueId buffer, ValueId& now) {
        const ValueId kept = m_emit.op(role, "Slice", {buffer, m_emit.list(role + "/begin", {0}), m_before, axis}), fresh = now;
        const auto all = [&](ValueId before) { return m_emit.op(role, "Concat", {before, fresh}, {{"axis", std::int64_t(2), {}}}); };
        now = all(m_node.input(m_inputs.beams) ? ofBeams(role, kept) : kept);
        if (!m_call.wanted(1) && !m_call.wanted(2)) return ValueId();
        const ValueId rest = m_emit.op(role, "Slice", {buffer, end, m_emit.list(role + "/end", {std::numeric_limits<std::int64_t>::max()}), axis});
        return m_emit.op(role, "Concat", {m_node.input(m_inputs.beams) ? all(kept) : now, rest}, {{"axis", std::int64_t(2), {}}});
    };
    ValueId allK = joined("k_cache", bufferK, m_k);
    const ValueId allV = joined("v_cache", bufferV, m_v);
    if (allK && keysInBlocks()) allK = reordered("k_cache", allK, true);
    if (allK) present(allK, allV);
}

} // namespace triptych
