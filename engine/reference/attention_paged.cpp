// com.microsoft PagedAttention: tokens of several sequences one after another; their keys and values lie in pages that a table lists.
// Source: ONNX Runtime's ContribOperators.md and what its CUDA implementation does.

#include "reference/attention_microsoft.h"

#include <algorithm>
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
    return rotated(call, x, countedFrom({before}, x.dims[2]), need(call, 8), need(call, 9), a.integer("rotary_interleaved", 0) != 0, 0);
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

void check(const KernelCall& call) {
    needAxes(call, {0, 1, 2, 7}, 2);
    needAxes(call, {3, 4}, 4);
    needOneType(call, {0, 1, 2, 3, 4, 8, 9, 11, 12, 13});
    if (need(call, 0).dims.size() != 2 || need(call, 3).dims != need(call, 4).dims || need(call, 3).dims[1] < 1 || call.node.attributes.integer("rotary_offset", 0) != 0) refuse("its cache isn't known");
    const HostTensor &sums = need(call, 5), &past = need(call, 6), &table = need(call, 7), *slots = call.input(10);
    if (!sums.isInteger() || !past.isInteger() || !table.isInteger() || sums.count() != past.count() + 1 || table.dims[0] != past.count() || (slots && (!slots->isInteger() || slots->count() != need(call, 0).dims[0])))
        refuse("its lengths don't fit its table of pages");
    if (sums.integers().front() != 0 || sums.integers().back() != need(call, 0).dims[0] || !std::is_sorted(sums.integers().begin(), sums.integers().end())) refuse("its lengths don't add up to its tokens");
}

Outputs paged(const KernelCall& call) {
    check(call);
    const Attributes& a = call.node.attributes;
    const std::int64_t heads = a.integer("num_heads", 0), kvHeads = a.integer("kv_num_heads", 0), window = a.integer("local_window_size", -1), tokens = need(call, 0).dims[0];
    if (heads < 1 || kvHeads < 1) refuse("it has no number of heads");
    HostTensor q = need(call, 0);
    const std::int64_t size = need(call, 3).dims[3];
    HostTensor k = call.input(1) ? need(call, 1) : columns(q, heads * size, kvHeads * size), v = call.input(1) ? need(call, 2) : columns(q, (heads + kvHeads) * size, kvHeads * size);
    if (!call.input(1)) q = columns(q, 0, heads * size);
    if (k.dims[0] != tokens || v.dims[0] != tokens) refuse("its query, key and value don't fit together");
    HostTensor keys = need(call, 3), values = need(call, 4);
    const Pages pages{need(call, 7), keys.dims[1], keys.dims[0]};
    const std::vector<std::int64_t>&sums = need(call, 5).integers(), &past = need(call, 6).integers();
    for (std::size_t b = 0; b < past.size(); ++b) {
        if (past[b] < 0) refuse("its lengths are negative");
        write(keys, turned(call, rowsOf(k, sums[b], sums[b + 1], kvHeads), 13, past[b]), pages, call.input(10), static_cast<std::int64_t>(b), past[b], sums[b]);
        write(values, rowsOf(v, sums[b], sums[b + 1], kvHeads), pages, call.input(10), static_cast<std::int64_t>(b), past[b], sums[b]);
    }
    HostTensor out = make(call, q.type, {tokens, heads * size});
    for (std::size_t b = 0; b < past.size(); ++b) {
        const auto sequence = static_cast<std::int64_t>(b);
        const std::int64_t before = past[b], now = sums[b + 1] - sums[b];
        if (now == 0) continue;
        const HostTensor ownQ = turned(call, rowsOf(q, sums[b], sums[b + 1], heads), 12, before), ownK = read(keys, pages, sequence, before + now), ownV = read(values, pages, sequence, before + now);
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
