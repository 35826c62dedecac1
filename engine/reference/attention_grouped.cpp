// com.microsoft GroupQueryAttention.
// Source: ONNX Runtime's ContribOperators.md and what its CPU implementation does.

#include "reference/attention_microsoft.h"

#include <algorithm>
#include <cmath>
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

/// The cache of a sliding window: its rows hold the latest positions. Source: ContribOperators.md, GroupQueryAttention.
struct WindowCache {
    std::int64_t places = 0, window = 0;

    /// How many of the positions that came so far are held.
    std::int64_t held(std::int64_t seen) const {
        const std::int64_t group = places - window + 1;
        return seen <= places ? seen : seen - group * ((seen - places + group - 1) / group);
    }
    /// Position of row `j` of past keys with the new ones behind them; -1 where there is none.
    std::int64_t position(std::int64_t before, std::int64_t j) const {
        if (j >= places) return before + j - places;
        return j < held(before) ? before - held(before) + j : -1;
    }
    HostTensor present(const KernelCall& call, const HostTensor& all, const std::vector<std::int64_t>& before, const std::vector<std::int64_t>& seen) const {
        HostTensor out = make(call, all.type, {all.dims[0], all.dims[1], places, all.dims[3]});
        const std::int64_t size = all.dims[3], rows = all.dims[2];
        for (std::int64_t i = 0; i < out.count(); ++i) {
            const std::int64_t line = i / size / places, row = i / size % places;
            const auto b = static_cast<std::size_t>(line / all.dims[1]);
            if (row >= held(seen[b])) continue;
            const std::int64_t position = seen[b] - held(seen[b]) + row;
            const std::int64_t from = position < before[b] ? position - before[b] + held(before[b]) : position - before[b] + places;
            if (from < 0 || from >= rows) refuse("its lengths don't fit its window's cache");
            copyElement(all, static_cast<std::size_t>((line * rows + from) * size + i % size), out, static_cast<std::size_t>(i));
        }
        return out;
    }
};

/// Scores as they are handed out: what is hidden is 0.
HostTensor shown(const HostTensor& scores) { return eachElement(scores, [](double x) { return x == lowest ? 0 : x; }); }

} // namespace

HostTensor rootNormalised(const HostTensor& x, const HostTensor& weight, double epsilon) {
    const std::int64_t size = x.dims.back();
    if (weight.count() != size) refuse("its norm's weight doesn't fit its heads");
    HostTensor out = x;
    for (std::int64_t line = 0; line < x.count(); line += std::max<std::int64_t>(size, 1)) {
        // Rounded at each step, as separate operators do: what is quantised behind it would else be another number.
        const auto each = [&](std::int64_t i) { return static_cast<float>(x.at(static_cast<std::size_t>(line + i))); };
        double squares = 0;
        for (std::int64_t i = 0; i < size; ++i) squares += static_cast<double>(each(i) * each(i));
        const float root = std::sqrt(static_cast<float>(squares / static_cast<double>(size)) + static_cast<float>(epsilon));
        for (std::int64_t i = 0; i < size; ++i) setElement(out, static_cast<std::size_t>(line + i), each(i) / root * static_cast<float>(weight.at(static_cast<std::size_t>(i))));
    }
    out.normalise();
    return out;
}

HostTensor countedFrom(const std::vector<std::int64_t>& first, std::int64_t count) {
    HostTensor places = HostTensor::zeros(DataType::int64, {static_cast<std::int64_t>(first.size()), count});
    for (std::int64_t i = 0; i < places.count(); ++i) places.integers()[static_cast<std::size_t>(i)] = first[static_cast<std::size_t>(i / count)] + i % count;
    return places;
}

std::tuple<HostTensor, HostTensor, HostTensor> groupedHeads(const KernelCall& call, std::int64_t heads, std::int64_t kvHeads) {
    const HostTensor& query = need(call, 0);
    if (call.input(1)) return {splitHeads(query, heads), splitHeads(need(call, 1), kvHeads), splitHeads(need(call, 2), kvHeads)};
    if (heads < 1 || kvHeads < 1 || heads > query.dims.back() || kvHeads > heads) refuse("it has no number of heads");
    if (call.input(2) || query.dims.back() % (heads + 2 * kvHeads) != 0) refuse("its packed input doesn't fit its heads");
    const std::int64_t size = query.dims.back() / (heads + 2 * kvHeads);
    const auto part = [&](std::int64_t first, std::int64_t count) { return splitHeads(columns(query, first * size, count * size), count); };
    return {part(0, heads), part(heads, kvHeads), part(heads + kvHeads, kvHeads)};
}

namespace {

/// Norms of queries and keys, then their rotary embedding.
void turn(const KernelCall& call, const std::vector<std::int64_t>& before, HostTensor& q, HostTensor& k) {
    const Attributes& a = call.node.attributes;
    const std::int64_t now = q.dims[2];
    if (call.input(14)) {
        q = rootNormalised(q, *call.input(14), a.real("qk_norm_epsilon", 1e-6F));
        k = rootNormalised(k, *call.input(15), a.real("qk_norm_epsilon", 1e-6F));
    }
    if (a.integer("do_rotary", 0) != 0) {
        HostTensor positions = countedFrom(before, now);
        if (const HostTensor* told = call.input(9)) {
            if (told->count() != positions.count()) refuse("its positions don't fit its queries");
            positions = reshaped(*told, positions.dims);
        }
        const bool interleaved = a.integer("rotary_interleaved", 0) != 0;
        q = rotated(call, q, positions, need(call, 7), need(call, 8), interleaved, 0);
        if (k.dims[2] > 0) k = rotated(call, k, positions, need(call, 7), need(call, 8), interleaved, 0);
    }
}

/// What attention sees of keys or values, and what of them is handed on.
struct Kept {
    HostTensor seen, present;
};

/// @param lengths  keys of each batch with the new ones, less one
Kept keptOf(const KernelCall& call, const QuantisedCache& codec, const HostTensor* past, const HostTensor& fresh, const std::optional<WindowCache>& window, const std::vector<std::int64_t>& before,
            const std::vector<std::int64_t>& lengths, std::int64_t length) {
    const HostTensor codes = codec.from(call, fresh);
    if (past && past->type != codes.type) refuse("its cache has another type than what is put into it");
    if (!window) {
        HostTensor all = present(call, past, codes, before, length);
        HostTensor seen = codec.back(call, all, fresh.type);
        return {std::move(seen), std::move(all)};
    }
    std::vector<std::int64_t> counts;
    for (const std::int64_t last : lengths) counts.push_back(last + 1);
    const HostTensor all = appended(past, codes);
    return {codec.back(call, all, fresh.type), window->present(call, all, before, counts)};
}

/// A logit for each head that takes attention away; empty where there is none.
std::vector<double> sinksOf(const KernelCall& call, std::int64_t heads) {
    const HostTensor* sink = call.input(11);
    if (!sink) return std::vector<double>(call.node.attributes.integer("smooth_softmax", 0) > 0 ? static_cast<std::size_t>(heads) : 0, 0);
    if (sink->count() != heads) refuse("its sink isn't one for each head");
    std::vector<double> sinks;
    for (std::size_t i = 0; i < static_cast<std::size_t>(heads); ++i) sinks.push_back(sink->at(i));
    return sinks;
}

Outputs groupQuery(const KernelCall& call) {
    needAxes(call, {0, 1, 2}, 3);
    needAxes(call, {3, 4}, 4);
    needOneType(call, {0, 1, 2, 7, 8, 10, 11, 14, 15});
    if (!call.input(12)) needOneType(call, {0, 3, 4});
    const Attributes& a = call.node.attributes;
    for (const std::size_t i : {12U, 14U})
        if ((call.input(i) == nullptr) != (call.input(i + 1) == nullptr)) refuse("of its scales and norms one is missing");
    const QuantisedCache ofK{call.input(12), a.integer("kv_cache_bit_width", 8), call.input(3) && call.input(3)->type == DataType::float8e4m3fn}, ofV{call.input(13), ofK.bits, ofK.isFloat8};
    const std::int64_t heads = a.integer("num_heads", 0), kvHeads = a.integer("kv_num_heads", 0), window = a.integer("local_window_size", -1);
    const bool causal = a.integer("causal", 1) != 0;
    auto [q, k, v] = groupedHeads(call, heads, kvHeads);
    const std::int64_t now = q.dims[2], total = static_cast<std::int64_t>(need(call, 6).at(0));
    const bool prompt = now == total;
    // Where no keys are new, the past holds all of them: another layer put them there.
    const bool shares = k.dims[2] == 0 && now > 0 && call.input(3) && call.input(4);
    if (k.dims[2] != (shares ? 0 : now) || v.dims[2] != k.dims[2] || (!call.input(3) && !prompt) || (call.input(3) && call.input(4) && call.input(3)->dims != call.input(4)->dims)) refuse("its lengths don't fit its keys");
    if (!need(call, 5).isInteger() || need(call, 5).count() != q.dims[0]) refuse("its lengths are not one for each batch");
    const std::vector<std::int64_t>& lengths = need(call, 5).integers(); // less one
    std::vector<std::int64_t> before;
    for (std::int64_t b = 0; b < q.dims[0]; ++b) before.push_back(prompt ? 0 : lengths[static_cast<std::size_t>(b)] + 1 - now);
    turn(call, before, q, k);
    const std::int64_t room = call.input(3) ? call.input(3)->dims.at(2) : 0, length = std::max(total, room);
    const bool windowed = a.integer("sliding_window_cache", 0) != 0;
    if (windowed && (shares || window < 1 || room < window || !call.input(4) || !causal)) refuse("its window doesn't fit its cache");
    const auto cache = windowed ? std::optional(WindowCache{room, window}) : std::nullopt;
    std::vector<std::int64_t> kept = before;
    for (std::size_t b = 0; shares && b < kept.size(); ++b) kept[b] = lengths[b] + 1;
    Kept keys = keptOf(call, ofK, call.input(3), k, cache, kept, lengths, length), values = keptOf(call, ofV, call.input(4), v, cache, kept, lengths, length);
    const HostTensor* bias = call.input(10);
    CoreCall core{q, keys.seen, values.seen};
    core.scale = scaleOf(call, q);
    core.softcap = a.real("softcap", 0);
    core.sinks = sinksOf(call, heads);
    core.bias = [&, window, causal](std::int64_t b, std::int64_t n, std::int64_t i, std::int64_t place) {
        const std::int64_t position = before[static_cast<std::size_t>(b)] + i, j = cache ? cache->position(before[static_cast<std::size_t>(b)], place) : place;
        if (j < 0) return lowest;
        if (causal ? j > position : j > lengths[static_cast<std::size_t>(b)]) return lowest;
        if (window > 0 && j <= position - window) return lowest;
        return bias ? broadcastAt(*bias, b, n, i, j) : 0.0;
    };
    const std::int64_t asked = a.integer("qk_output", 0);
    core.keep = asked == 1 ? 2 : 3;
    CoreOutput made = attentionCore(call, core);
    Outputs outputs = withPresent(call, mergeHeads(made.context), std::move(keys.present), std::move(values.present));
    if (call.node.outputs.size() > 3 && (asked == 1 || asked == 2)) outputs.push_back(shown(columns(made.kept, 0, total)));
    return outputs;
}

} // namespace

void addGroupedAttention(KernelTable& table) { table["com.microsoft::GroupQueryAttention"] = groupQuery; }

} // namespace triptych
