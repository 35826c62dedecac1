// PagedAttention: tokens of several sequences one after another, whose past keys and values lie in pages that a table lists.
// Source: ContribOperators.md, PagedAttention, and ONNX Runtime's CUDA implementation.
//
//   k [tokens,K*D] - norm - rotary - ScatterND into the rows of all pages - Gather by the table [B,T,K,D]
//   q [tokens,N*D] - norm - rotary - ScatterND among padding [B,N,S,D] - ... - context - Gather [tokens,N*D]

#include "attention/opaque_expansion.h"

#include <limits>
#include <tuple>

namespace triptych {

std::string OpaqueExpansion::unknownOfPaged() const {
    const Attributes& a = m_node.attributes;
    for (const std::size_t input : {m_inputs.past, m_inputs.sums, m_inputs.lengths})
        if (!m_node.input(input)) return "missing cache or lengths";
    if (const std::string layout = a.text("kv_cache_layout", "SEPARATE"); layout != "SEPARATE" && layout != "LATENT") return "layout of its cache";
    if (isLatent() ? m_node.input(m_inputs.past + 1) || m_node.input(2) || !m_node.input(1) || m_kvHeads != 1 || m_spec.vHeadDim > m_spec.headDim : !m_node.input(m_inputs.past + 1)) return "caches, which don't fit its layout,";
    for (std::size_t role = 0; role < (isLatent() ? 1U : 2U); ++role)
        if (const std::string codes = unknownCodes(role); !codes.empty()) return codes;
    if (m_node.input(m_inputs.norms).valid() != m_node.input(m_inputs.norms + 1).valid()) return "norm of queries or keys alone";
    if (a.integer("do_rotary", 0) != 0 && (!m_node.input(m_inputs.cosines) || !m_node.input(m_inputs.cosines + 1))) return "rotary embedding without caches";
    if (a.integer("do_rotary", 0) == 0) return {};
    const Dims& caches = m_call.shapes.of(m_node.input(m_inputs.cosines)).dims;
    const std::int64_t first = a.integer("rotary_offset", 0), half = caches.empty() ? 0 : caches.back();
    if (first < 0 || half < 1 || half > m_spec.headDim || first > m_spec.headDim - 2 * half) return "rotary embedding, which doesn't fit its heads,";
    return {};
}

/// One cache holds rows that are keys as a whole, and values as far as they are wide.
bool OpaqueExpansion::isLatent() const { return m_node.attributes.text("kv_cache_layout", "SEPARATE") == "LATENT"; }

void OpaqueExpansion::paged() {
    const ValueId past = m_emit.cast("past", m_node.input(m_inputs.lengths), DataType::int64);
    const Tokens tokens = tokensOf(past);
    std::vector<ValueId> parts{m_node.input(0), m_node.input(1), m_node.input(2)};
    if (!parts[1]) parts = m_emit.base().split("qkv", parts[0], {m_spec.heads * m_spec.headDim, m_kvHeads * m_spec.headDim, m_kvHeads * m_spec.vHeadDim}, 2);
    // All tokens as one sequence [1,N,tokens,D]: each has its own position.
    const auto split = [&](const char* role, ValueId value, std::int64_t heads, std::int64_t size) { return m_emit.base().transpose(role, m_emit.base().reshape(role, value, {1, -1, heads, size}), {0, 2, 1, 3}); };
    m_q = split("q", parts[0], m_spec.heads, m_spec.headDim), m_k = split("k", parts[1], m_kvHeads, m_spec.headDim);
    if (!isLatent()) m_v = split("v", parts[2], m_kvHeads, m_spec.vHeadDim);
    turnHeads(m_node.attributes.integer("do_rotary", 0) != 0 ? m_emit.base().reshape("positions", tokens.position, {1, -1}) : ValueId());
    const ValueId sums = m_emit.cast("lengths", m_node.input(m_inputs.sums), DataType::int64);
    const ValueId lengths = m_emit.op("lengths", "Sub", {m_emit.slice("lengths", sums, 0, 1, std::numeric_limits<std::int64_t>::max()), m_emit.slice("lengths", sums, 0, 0, -1)});
    m_past = m_node.input(m_inputs.past);
    if (hidesLaterKeys(m_node) || m_node.attributes.integer("local_window_size", -1) > 0) m_before = m_emit.base().reshape("past", past, {-1, 1, 1, 1});
    const ValueId slots = slotsOf(tokens), rows = rowsOfKeys(m_emit.op("lengths", "Add", {past, lengths}));
    for (const auto& [role, value, index] : {std::tuple("k_cache", &m_k, 0U), std::tuple("v_cache", &m_v, 1U)}) {
        if (!*value) continue;
        const Codes codes = codesOf(index);
        const ValueId fresh = m_emit.base().reshape(role, m_emit.base().transpose(role, quantised(role, *value, codes), {0, 2, 1, 3}), {-1, m_kvHeads, codes.width()});
        const ValueId present = m_call.wanted(1 + index), kept = handedOn(role, codes, present);
        const ValueId cache = opened(role, m_node.input(m_inputs.past + index), codes), pages = intoPages(role, cache, fresh, slots, codes.width(), kept);
        close(role, codes, kept, present);
        *value = dequantised(role, m_emit.base().transpose(role, m_emit.op(role, "Gather", {pages, rows}, {{"axis", std::int64_t(0), {}}}), {0, 2, 1, 3}), codes);
    }
    if (isLatent()) m_v = m_spec.vHeadDim < m_spec.headDim ? m_emit.slice("v", m_k, 3, 0, m_spec.vHeadDim) : m_k;
    padQueries(tokens, lengths);
}

/// A token is of the sequence that as many others end before.
OpaqueExpansion::Tokens OpaqueExpansion::tokensOf(ValueId past) {
    const ValueId sums = m_emit.cast("tokens", m_node.input(m_inputs.sums), DataType::int64), token = m_emit.upTo("tokens", m_emit.sizeOf("tokens", m_node.input(0), 0));
    const ValueId ends = m_emit.slice("tokens", sums, 0, 1, std::numeric_limits<std::int64_t>::max());
    const ValueId ended = m_emit.op("tokens", "Not", {m_emit.op("tokens", "Less", {m_emit.base().reshape("tokens", token, {-1, 1}), ends})});
    const ValueId sequence = m_emit.base().reshape("tokens", m_emit.reduced("tokens", "ReduceSum", m_emit.cast("tokens", ended, DataType::int64)), {-1});
    const auto own = [&](ValueId of) { return m_emit.op("tokens", "Gather", {of, sequence}, {{"axis", std::int64_t(0), {}}}); };
    const ValueId place = m_emit.op("tokens", "Sub", {token, own(sums)});
    const bool asked = m_node.attributes.integer("do_rotary", 0) != 0 || !m_node.input(m_inputs.slots);
    return {sequence, place, asked ? m_emit.op("tokens", "Add", {own(past), place}) : ValueId()};
}

/// How many places a page has: [1].
ValueId OpaqueExpansion::placesOfPage(const std::string& role) { return m_emit.sizeOf(role, m_past, 1); }

/// Row of all pages to which each token goes: as it is told, or behind its sequence's past. Where it goes nowhere, the first row behind them.
ValueId OpaqueExpansion::slotsOf(const Tokens& tokens) {
    ValueId slots;
    if (const ValueId told = m_node.input(m_inputs.slots)) {
        slots = m_emit.cast("slots", told, DataType::int64);
    } else {
        const ValueId table = m_emit.cast("slots", m_node.input(m_inputs.pages), DataType::int64), size = placesOfPage("slots");
        const ValueId first = m_emit.op("slots", "Mul", {tokens.sequence, m_emit.sizeOf("slots", table, 1)});
        const ValueId entry = m_emit.op("slots", "Add", {first, m_emit.op("slots", "Div", {tokens.position, size})});
        const ValueId page = m_emit.op("slots", "Gather", {m_emit.base().reshape("slots", table, {-1}), entry}, {{"axis", std::int64_t(0), {}}});
        slots = m_emit.op("slots", "Add", {m_emit.op("slots", "Mul", {page, size}), m_emit.op("slots", "Mod", {tokens.position, size})});
    }
    const ValueId nowhere = m_emit.op("slots", "Less", {slots, m_emit.list("slots/none", {0})});
    return m_emit.op("slots", "Where", {nowhere, rowsOfPages("slots"), slots});
}

ValueId OpaqueExpansion::rowsOfPages(const std::string& role) { return m_emit.op(role, "Mul", {m_emit.sizeOf(role, m_past, 0), placesOfPage(role)}); }

/// Row of all pages for each key of each sequence [B,T]. A place holds a key where the table has a page and as far as the sequence goes;
/// the others may hold anything: for them the second row behind all pages, which holds zeros.
ValueId OpaqueExpansion::rowsOfKeys(ValueId total) {
    const ValueId table = m_emit.unsqueeze("keys", m_emit.cast("keys", m_node.input(m_inputs.pages), DataType::int64), 2), size = placesOfPage("keys"); // [B,M,1]
    const ValueId place = m_emit.upTo("keys", size), column = m_emit.base().reshape("keys", m_emit.upTo("keys", m_emit.sizeOf("keys", table, 1)), {-1, 1});
    const ValueId position = m_emit.op("keys", "Add", {m_emit.op("keys", "Mul", {column, size}), place});
    const ValueId mapped = m_emit.op("keys", "Not", {m_emit.op("keys", "Less", {table, m_emit.list("keys/none", {0})})});
    const ValueId filled = m_emit.op("keys", "And", {mapped, m_emit.op("keys", "Less", {position, m_emit.base().reshape("keys", total, {-1, 1, 1})})});
    m_filled = m_emit.base().reshape("filled", filled, {0, 1, 1, -1});
    const ValueId row = m_emit.op("keys", "Add", {m_emit.op("keys", "Mul", {table, size}), place}), zeros = m_emit.op("keys", "Add", {rowsOfPages("keys"), m_emit.list("keys/one", {1})});
    return m_emit.base().reshape("keys", m_emit.op("keys", "Where", {filled, row, zeros}), {0, -1});
}

/// The rows of a cache [pages, places, K, width] with tokens [tokens, K, width] written into them, and two more.
ValueId OpaqueExpansion::intoPages(const std::string& role, ValueId cache, ValueId tokens, ValueId slots, std::int64_t width, ValueId present) {
    const ValueId rows = m_emit.base().reshape(role, cache, {-1, m_kvHeads, width});
    const ValueId wider = m_emit.op(role, "Pad", {rows, m_emit.list(role + "/two", {0, 0, 0, 2, 0, 0})});
    const ValueId written = m_emit.op(role, "ScatterND", {wider, m_emit.unsqueeze(role, slots, 1), tokens});
    if (present) m_emit.op(role, "Reshape", {m_emit.slice(role, written, 0, 0, -2), m_emit.op(role, "Shape", {cache})}, {}, present);
    return written;
}

/// Queries [1,N,tokens,D] as sequences with padding [B,N,S,D].
void OpaqueExpansion::padQueries(const Tokens& tokens, ValueId lengths) {
    const ValueId batch = m_emit.sizeOf("padded", lengths, 0);
    ValueId longest;
    if (m_call.sizes.forFile()) {
        longest = m_emit.base().reshape("padded", m_emit.reduced("padded", "ReduceMax", lengths), {1});
    } else { // which sequence is how long is data: as if all were as long
        const Dims &all = m_call.shapes.of(m_node.input(0)).dims, &each = m_call.shapes.of(m_node.input(m_inputs.lengths)).dims;
        const Dim count = each.empty() || each[0] < 1 ? 1 : each[0];
        longest = m_emit.list("padded/longest", {(all[0] + count - 1) / count});
    }
    m_places = m_emit.op("places", "Add", {m_emit.op("places", "Mul", {tokens.sequence, longest}), tokens.place});
    const ValueId heads = m_emit.list("padded/heads", {m_spec.heads, m_spec.headDim});
    const auto shaped = [&](std::vector<ValueId> sizes) { return m_emit.op("padded", "Concat", std::move(sizes), {{"axis", std::int64_t(0), {}}}); };
    const ValueId empty = m_emit.op("padded", "Expand", {constant("zero", 0), shaped({m_emit.op("padded", "Mul", {batch, longest}), heads})});
    const ValueId rows = m_emit.base().reshape("padded", m_emit.base().transpose("padded", m_q, {0, 2, 1, 3}), {-1, m_spec.heads, m_spec.headDim});
    const ValueId full = m_emit.op("padded", "ScatterND", {empty, m_emit.unsqueeze("padded", m_places, 1), rows});
    // The longest sequence is data; heads are not.
    m_q = m_emit.base().transpose("padded", m_emit.base().reshape("padded", m_emit.op("padded", "Reshape", {full, shaped({batch, longest, m_emit.list("padded/width", {-1})})}), {0, -1, m_spec.heads, m_spec.headDim}), {0, 2, 1, 3});
}

} // namespace triptych
