// com.microsoft GroupQueryAttention.
// Source: ONNX Runtime's ContribOperators.md and what its CPU implementation does.

#include "reference/attention_microsoft.h"

#include <algorithm>
#include <limits>

namespace triptych {

namespace {

constexpr double lowest = -std::numeric_limits<double>::infinity();

/// Keys and values of each batch: its past, then what is new; behind that zeros.
HostTensor present(const KernelCall& call, const HostTensor* past, const HostTensor& now, const std::vector<std::int64_t>& before, std::int64_t total) {
    HostTensor out = make(call, now.type, {now.dims[0], now.dims[1], total, now.dims[3]});
    const std::int64_t size = now.dims[3];
    for (std::int64_t line = 0; line < now.dims[0] * now.dims[1]; ++line) {
        const std::int64_t kept = before[static_cast<std::size_t>(line / now.dims[1])];
        if (kept < 0 || kept + now.dims[2] > total || (kept > 0 && (!past || kept > past->dims[2]))) refuse("its lengths don't fit its past");
        for (std::int64_t i = 0; i < kept * size; ++i) copyElement(*past, static_cast<std::size_t>(line * past->dims[2] * size + i), out, static_cast<std::size_t>(line * total * size + i));
        for (std::int64_t i = 0; i < now.dims[2] * size; ++i) copyElement(now, static_cast<std::size_t>(line * now.dims[2] * size + i), out, static_cast<std::size_t>((line * total + kept) * size + i));
    }
    return out;
}

/// Scores as they are handed out: what is hidden is 0.
HostTensor shown(const HostTensor& scores) { return eachElement(scores, [](double x) { return x == lowest ? 0 : x; }); }

Outputs groupQuery(const KernelCall& call) {
    needAxes(call, {0, 1, 2}, 3);
    needAxes(call, {3, 4}, 4);
    needOneType(call, {0, 1, 2, 3, 4, 7, 8, 10, 11});
    const Attributes& a = call.node.attributes;
    for (std::size_t i = 12; i < 16; ++i)
        if (call.input(i)) refuse("quantised caches and norms of queries aren't known");
    if (a.integer("sliding_window_cache", 0) != 0) refuse("the cache of a sliding window isn't known");
    const std::int64_t heads = a.integer("num_heads", 0), kvHeads = a.integer("kv_num_heads", 0), window = a.integer("local_window_size", -1);
    const bool causal = a.integer("causal", 1) != 0;
    const HostTensor& query = need(call, 0);
    HostTensor q, k, v;
    if (!call.input(1)) {
        if (heads < 1 || kvHeads < 1) refuse("it has no number of heads");
        if (call.input(2) || query.dims.back() % (heads + 2 * kvHeads) != 0) refuse("its packed input doesn't fit its heads");
        const std::int64_t size = query.dims.back() / (heads + 2 * kvHeads);
        q = splitHeads(columns(query, 0, heads * size), heads);
        k = splitHeads(columns(query, heads * size, kvHeads * size), kvHeads);
        v = splitHeads(columns(query, (heads + kvHeads) * size, kvHeads * size), kvHeads);
    } else {
        q = splitHeads(query, heads);
        k = splitHeads(need(call, 1), kvHeads);
        v = splitHeads(need(call, 2), kvHeads);
    }
    const std::int64_t now = q.dims[2], total = static_cast<std::int64_t>(need(call, 6).at(0));
    const bool prompt = now == total;
    if (k.dims[2] != now || v.dims[2] != now || (!call.input(3) && !prompt) || (call.input(3) && call.input(4) && call.input(3)->dims != call.input(4)->dims)) refuse("its lengths don't fit its keys");
    if (!need(call, 5).isInteger() || need(call, 5).count() != q.dims[0]) refuse("its lengths are not one for each batch");
    const std::vector<std::int64_t>& lengths = need(call, 5).integers(); // less one
    std::vector<std::int64_t> before;
    for (std::int64_t b = 0; b < q.dims[0]; ++b) before.push_back(prompt ? 0 : lengths[static_cast<std::size_t>(b)] + 1 - now);
    if (a.integer("do_rotary", 0) != 0) {
        HostTensor positions = HostTensor::zeros(DataType::int64, {q.dims[0], now});
        for (std::int64_t i = 0; i < positions.count(); ++i)
            positions.integers()[static_cast<std::size_t>(i)] = call.input(9) ? call.input(9)->integers().at(static_cast<std::size_t>(i)) : before[static_cast<std::size_t>(i / now)] + i % now;
        const bool interleaved = a.integer("rotary_interleaved", 0) != 0;
        q = rotated(call, q, positions, need(call, 7), need(call, 8), interleaved, 0);
        k = rotated(call, k, positions, need(call, 7), need(call, 8), interleaved, 0);
    }
    const std::int64_t length = std::max(total, call.input(3) ? call.input(3)->dims.at(2) : 0);
    k = present(call, call.input(3), k, before, length);
    v = present(call, call.input(4), v, before, length);
    const HostTensor* bias = call.input(10);
    CoreCall core{q, k, v};
    core.scale = scaleOf(call, q);
    core.softcap = a.real("softcap", 0);
    if (const HostTensor* sink = call.input(11)) {
        if (sink->count() != heads) refuse("its sink isn't one for each head");
        for (std::size_t i = 0; i < static_cast<std::size_t>(heads); ++i) core.sinks.push_back(sink->at(i));
    } else if (a.integer("smooth_softmax", 0) > 0) {
        core.sinks.assign(static_cast<std::size_t>(heads), 0);
    }
    core.bias = [&, window, causal](std::int64_t b, std::int64_t n, std::int64_t i, std::int64_t j) {
        const std::int64_t position = before[static_cast<std::size_t>(b)] + i;
        if (causal ? j > position : j > lengths[static_cast<std::size_t>(b)]) return lowest;
        if (window > 0 && j <= position - window) return lowest;
        return bias ? broadcastAt(*bias, b, n, i, j) : 0.0;
    };
    const std::int64_t asked = a.integer("qk_output", 0);
    core.keep = asked == 1 ? 2 : 3;
    CoreOutput made = attentionCore(call, core);
    Outputs outputs{mergeHeads(made.context)};
    if (call.node.outputs.size() > 1) {
        outputs.push_back(std::move(k));
        outputs.push_back(std::move(v));
        if (call.node.outputs.size() > 3 && (asked == 1 || asked == 2)) outputs.push_back(shown(columns(made.kept, 0, total)));
        outputs.resize(std::min(call.node.outputs.size(), outputs.size()));
    }
    return outputs;
}

} // namespace

void addGroupedAttention(KernelTable& table) { table["com.microsoft::GroupQueryAttention"] = groupQuery; }

} // namespace triptych
