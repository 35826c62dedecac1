// com.microsoft PagedAttention: tokens of several sequences one after another; their keys and values lie in pages that a table lists.
// Source: ONNX Runtime's ContribOperators.md and what its CUDA implementation does.

#include "reference/attention_microsoft.h"

#include <algorithm>
#include <array>
#include <limits>

namespace triptych {

namespace {

/// Where the keys of each sequence lie.
struct Pages {
    const HostTensor& table;
    std::int64_t size = 0, count = 0;

    /// Row of a position of a sequence, among all places of all pages; below 0 where the table has no page.
    std::int64_t row(std::int64_t sequence, std::int64_t position) const {
        if (position / size >= table.dims[1]) refuse("its table of pages is too short for its keys");
        const std::int64_t page = table.integers()[static_cast<std::size_t>(sequence * table.dims[1] + position / size)];
        if (page >= count) refuse("its table names a page that there isn't");
        return page < 0 ? -1 : page * size + position % size;
    }
};

/// Keys or values of one sequence as [1, K, count, D]; zeros where there is no page.
HostTensor read(const HostTensor& cache, const Pages& pages, std::int64_t sequence, std::int64_t count) {
    const std::int64_t heads = cache.dims[2], size = cache.dims[3];
    HostTensor out = HostTensor::zeros(cache.type, {1, heads, count, size});
    for (std::int64_t i = 0; i < out.count(); ++i)
        if (const std::int64_t row = pages.row(sequence, i / size % count); row >= 0) copyElement(cache, static_cast<std::size_t>((row * heads + i / size / count) * size + i % size), out, static_cast<std::size_t>(i));
    return out;
}

/// Heads [1, N, rows, D] of rows [begin, end) of [tokens, N*D].
HostTensor rowsOf(const HostTensor& tokens, std::int64_t begin, std::int64_t end, std::int64_t heads) {
    HostTensor rows = HostTensor::zeros(tokens.type, {1, end - begin, tokens.dims[1]});
    for (std::int64_t i = 0; i < rows.count(); ++i) copyElement(tokens, static_cast<std::size_t>(begin * tokens.dims[1] + i), rows, static_cast<std::size_t>(i));
    return splitHeads(rows, heads);
}

/// Norm and rotary embedding of the new tokens of a sequence with so many before them.
HostTensor turned(const KernelCall& call, HostTensor x, std::size_t norm, std::int64_t before) {
    const Attributes& a = call.node.attributes;
    if (call.input(norm)) x = rootNormalised(x, *call.input(norm), a.real("qk_norm_epsilon", 1e-6F));
    if (a.integer("do_rotary", 0) == 0) return x;
    const std::int64_t first = a.integer("rotary_offset", 0), size = x.dims[3], width = need(call, 8).dims.empty() ? 0 : 2 * need(call, 8).dims.back();
    if (first < 0 || width < 1 || first > size - width) refuse("its rotary embedding doesn't fit its heads");
    const HostTensor part = rotated(call, columns(x, first, width), countedFrom({before}, x.dims[2]), need(call, 8), need(call, 9), a.integer("rotary_interleaved", 0) != 0, 0);
    for (std::int64_t i = 0; i < part.count(); ++i) copyElement(part, static_cast<std::size_t>(i), x, static_cast<std::size_t>(i / width * size + first + i % width));
    return x;
}

/// New keys or values [1, K, rows, D] of the tokens from `begin` on, at their places.
void write(HostTensor& cache, const HostTensor& fresh, const Pages& pages, const HostTensor* slots, std::int64_t sequence, std::int64_t before, std::int64_t begin) {
    const std::int64_t rows = fresh.dims[2], size = fresh.dims[3], heads = cache.dims[2];
    if (fresh.dims[1] != heads || size != cache.dims[3]) refuse("its cache doesn't fit its keys");
    for (std::int64_t i = 0; i < fresh.count(); ++i) {
        const std::int64_t token = i / size % rows, row = slots ? slots->integers().at(static_cast<std::size_t>(begin + token)) : pages.row(sequence, before + token);
        if (row >= pages.count * pages.size) refuse("a token goes to a page that there isn't");
        if (row >= 0) copyElement(fresh, static_cast<std::size_t>(i), cache, static_cast<std::size_t>((row * heads + i / size / rows) * size + i % size));
    }
}

/// How the cache of keys (0) or of values (1) holds its numbers.
QuantisedCache formOf(const KernelCall& call, std::size_t role) {
    const bool four = call.node.attributes.text(role == 0 ? "k_cache_dtype" : "v_cache_dtype", "") == "int4";
    return {call.input(14 + role), four ? 4 : 8, need(call, 3 + role).type == DataType::float8e4m3fn, 0};
}

/// One cache holds rows that are keys as a whole, and values as far as `v_head_size` says.
bool isLatent(const KernelCall& call) { return call.node.attributes.text("kv_cache_layout", "SEPARATE") == "LATENT"; }

void check(const KernelCall& call) {
    needAxes(call, {0, 1, 2, 7}, 2);
    needAxes(call, {3, 4}, 4);
    needOneType(call, {0, 1, 2, 8, 9, 11, 12, 13});
    const bool latent = isLatent(call);
    if (need(call, 0).dims.size() != 2 || need(call, 3).dims[1] < 1 || need(call, 3).dims[3] < 1 || (latent && call.node.attributes.integer("v_head_size", 0) > need(call, 3).dims[3])) refuse("its cache isn't known");
    if (latent ? call.input(4) || call.input(2) || !call.input(1) : need(call, 3).dims[0] != need(call, 4).dims[0] || need(call, 3).dims[1] != need(call, 4).dims[1]) refuse("its caches don't fit its layout");
    for (std::size_t role = 0; role < (latent ? 1U : 2U); ++role) {
        const QuantisedCache form = formOf(call, role);
        const DataType type = need(call, 3 + role).type;
        if (form.scale ? !form.isFloat8 && type != (form.bits == 4 ? DataType::uint8 : DataType::int8) : type != need(call, 0).type) refuse("its cache has another type than what is put into it");
    }
    const HostTensor &sums = need(call, 5), &past = need(call, 6), &table = need(call, 7), *slots = call.input(10);
    if (!sums.isInteger() || !past.isInteger() || !table.isInteger() || sums.count() != past.count() + 1 || table.dims[0] != past.count() || (slots && (!slots->isInteger() || slots->count() != need(call, 0).dims[0])))
        refuse("its lengths don't fit its table of pages");
    if (sums.integers().front() != 0 || sums.integers().back() != need(call, 0).dims[0] || !std::is_sorted(sums.integers().begin(), sums.integers().end())) refuse("its lengths don't add up to its tokens");
}

/// Q, K and V of all tokens; V empty where the rows of keys hold it.
std::array<HostTensor, 3> tokensOf(const KernelCall& call, std::int64_t heads, std::int64_t kvHeads) {
    const HostTensor& q = need(call, 0);
    if (isLatent(call)) return {q, need(call, 1), HostTensor()};
    if (call.input(1)) return {q, need(call, 1), need(call, 2)};
    const std::int64_t size = q.dims[1] / (heads + 2 * kvHeads);
    return {columns(q, 0, heads * size), columns(q, heads * size, kvHeads * size), columns(q, (heads + kvHeads) * size, kvHeads * size)};
}

Outputs paged(const KernelCall& call) {
    check(call);
    const Attributes& a = call.node.attributes;
    const std::int64_t heads = a.integer("num_heads", 0), kvHeads = a.integer("kv_num_heads", 0), window = a.integer("local_window_size", -1), tokens = need(call, 0).dims[0];
    if (heads < 1 || kvHeads < 1 || heads > need(call, 0).dims[1] || kvHeads > heads) refuse("it has no number of heads");
    const bool latent = isLatent(call);
    const auto [q, k, v] = tokensOf(call, heads, kvHeads);
    if (k.dims[0] != tokens || (!latent && v.dims[0] != tokens)) refuse("its query, key and value don't fit together");
    HostTensor keys = need(call, 3), values = latent ? HostTensor() : need(call, 4);
    const QuantisedCache ofK = formOf(call, 0), ofV = latent ? ofK : formOf(call, 1);
    const Pages pages{need(call, 7), keys.dims[1], keys.dims[0]};
    const std::vector<std::int64_t>&sums = need(call, 5).integers(), &past = need(call, 6).integers();
    for (std::size_t b = 0; b < past.size(); ++b) {
        if (past[b] < 0) refuse("its lengths are negative");
        const auto put = [&](HostTensor& cache, const HostTensor& fresh) { write(cache, fresh, pages, call.input(10), static_cast<std::int64_t>(b), past[b], sums[b]); };
        put(keys, ofK.from(call, turned(call, rowsOf(k, sums[b], sums[b + 1], kvHeads), 13, past[b])));
        if (!latent) put(values, ofV.from(call, rowsOf(v, sums[b], sums[b + 1], kvHeads)));
    }
    const std::int64_t narrow = a.integer("v_head_size", 0), size = latent ? (narrow > 0 ? narrow : keys.dims[3]) : v.dims[1] / kvHeads;
    HostTensor out = make(call, q.type, {tokens, heads * size});
    for (std::size_t b = 0; b < past.size(); ++b) {
        const auto sequence = static_cast<std::int64_t>(b);
        const std::int64_t before = past[b], now = sums[b + 1] - sums[b];
        if (now == 0) continue;
        const HostTensor ownQ = turned(call, rowsOf(q, sums[b], sums[b + 1], heads), 12, before), ownK = ofK.back(call, read(keys, pages, sequence, before + now), q.type);
        const HostTensor ownV = latent ? columns(ownK, 0, size) : ofV.back(call, read(values, pages, sequence, before + now), q.type);
        CoreCall core{ownQ, ownK, ownV};
        core.scale = scaleOf(call, ownQ);
        core.softcap = a.real("softcap", 0);
        for (std::int64_t n = 0; call.input(11) && n < heads; ++n) core.sinks.push_back(need(call, 11).at(static_cast<std::size_t>(n)));
        const bool causal = a.integer("is_causal", 1) != 0;
        core.bias = [&, before, sequence](std::int64_t, std::int64_t, std::int64_t i, std::int64_t j) {
            const bool hidden = (causal && j > before + i) || (window > 0 && j <= before + i - window) || pages.row(sequence, j) < 0;
            return hidden ? -std::numeric_limits<double>::infinity() : 0.0;
        };
        const HostTensor merged = mergeHeads(attentionCore(call, core).context);
        for (std::int64_t i = 0; i < merged.count(); ++i) copyElement(merged, static_cast<std::size_t>(i), out, static_cast<std::size_t>(sums[b] * heads * size + i));
    }
    return withPresent(call, std::move(out), std::move(keys), std::move(values));
}

} // namespace

void addPagedAttention(KernelTable& table) { table["com.microsoft::PagedAttention"] = paged; }

} // namespace triptych
