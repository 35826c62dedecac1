// Attention operators of com.microsoft: Attention, MultiHeadAttention, GroupQueryAttention.
// Source: ONNX Runtime's ContribOperators.md and what its CPU implementation does.

#include "reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace triptych {

namespace {

constexpr double lowest = -std::numeric_limits<double>::infinity();

/// Columns [begin, begin + width) of a tensor's last axis.
HostTensor columns(const HostTensor& from, std::int64_t begin, std::int64_t width) {
    Dims dims = from.dims;
    const std::int64_t all = dims.back();
    if (begin < 0 || width < 0 || begin + width > all) refuse("its packed input has too few columns");
    dims.back() = width;
    HostTensor out = HostTensor::zeros(from.type, dims);
    for (std::int64_t i = 0; i < out.count(); ++i) copyElement(from, static_cast<std::size_t>(i / width * all + begin + i % width), out, static_cast<std::size_t>(i));
    return out;
}

/// A bias added along the last axis, from its element `begin` on.
HostTensor biased(HostTensor to, const HostTensor* bias, std::int64_t begin) {
    if (!bias) return to;
    const std::int64_t width = to.dims.back();
    if (begin + width > bias->count() || !to.isFloat()) refuse("its bias has too few elements");
    for (std::int64_t i = 0; i < to.count(); ++i) to.floats()[static_cast<std::size_t>(i)] += bias->floats()[static_cast<std::size_t>(begin + i % width)];
    to.normalise();
    return to;
}

/// What hides keys in Attention and MultiHeadAttention.
struct ClassicMask {
    const HostTensor* index = nullptr; ///< [B], [2B], [3B+2], [B,T], [B,S,T] or [B,1,M,M]
    const HostTensor* bias = nullptr;
    double filter = -10000;
    bool causal = false;
    std::int64_t batch = 0, past = 0;

    double operator()(std::int64_t b, std::int64_t n, std::int64_t i, std::int64_t j) const {
        double sum = bias ? broadcastAt(*bias, b, n, i, j) : 0;
        if (causal && j > past + i) return lowest;
        if (!index) return sum;
        const auto at = [&](std::int64_t position) { return index->integers().at(static_cast<std::size_t>(position)); };
        bool shown = true;
        switch (index->dims.size()) {
        case 1: // ends of the keys, then perhaps their begins; what follows them in a list of 3B+2 says nothing new
            shown = j < at(b) && (index->dims[0] != 2 * batch || j >= at(batch + b));
            break;
        case 2: shown = at(b * index->dims[1] + j) > 0; break;
        case 3: shown = at((b * index->dims[1] + i) * index->dims[2] + j) > 0; break;
        default: shown = at((b * index->dims[2] + past + i) * index->dims[3] + j) > 0; break;
        }
        return shown ? sum : sum + filter;
    }
    bool any() const { return index || bias || causal; }
    /// Whether the mask has a place for each query and key.
    bool fits(std::int64_t queries, std::int64_t keys) const {
        if (!index) return true;
        const Dims& d = index->dims;
        switch (d.size()) {
        case 1: return d[0] == batch || d[0] == 2 * batch || d[0] == 3 * batch + 2;
        case 2: return d[0] >= batch && d[1] >= keys;
        case 3: return d[0] >= batch && d[1] >= queries && d[2] >= keys;
        case 4: return d[0] >= batch && d[1] == 1 && d[2] >= past + queries && d[3] >= keys;
        default: return false;
        }
    }
};

/// com.microsoft.Attention takes a mask of one column for no mask, whatever it holds.
const HostTensor* unlessDummy(const HostTensor* mask) { return mask && mask->dims.size() == 2 && mask->dims[1] == 1 ? nullptr : mask; }

double scaleOf(const KernelCall& call, const HostTensor& q) {
    const double given = call.node.attributes.real("scale", 0);
    return given != 0 ? given : 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(q.dims.back(), 1)));
}

/// Damaged graphs give operands of any rank.
void needAxes(const KernelCall& call, std::initializer_list<std::size_t> inputs, std::size_t least) {
    for (const std::size_t index : inputs)
        if (const HostTensor* given = call.input(index); given && given->dims.size() < least) refuse("its input " + std::to_string(index) + " has too few axes");
}

Outputs packedAttention(const KernelCall& call) {
    needAxes(call, {0}, 3);
    needAxes(call, {1}, 2);
    needAxes(call, {2, 3}, 1);
    const Attributes& a = call.node.attributes;
    if (a.integer("do_rotary", 0) != 0 || call.input(6)) refuse("rotary or a shared past isn't known");
    const HostTensor& x = need(call, 0);
    const std::int64_t heads = a.integer("num_heads", 0);
    const HostTensor all = biased(product(call, x, need(call, 1)), call.input(2), 0);
    std::vector<std::int64_t> widths(3, all.dims.back() / 3);
    if (const auto* sizes = a.integers("qkv_hidden_sizes"); sizes && sizes->size() == 3) widths = *sizes;
    const HostTensor q = splitHeads(columns(all, 0, widths[0]), heads);
    HostTensor k = splitHeads(columns(all, widths[0], widths[1]), heads), v = splitHeads(columns(all, widths[0] + widths[1], widths[2]), heads);
    const HostTensor* past = call.input(4);
    std::int64_t before = 0;
    if (past) {
        if (past->dims.size() != 5) refuse("its past has another rank than 5");
        before = past->dims[3];
        const Dims half(past->dims.begin() + 1, past->dims.end());
        const HostTensor flat = transposed(reshaped(*past, {2, past->count() / 2}), {1, 0});
        const HostTensor pastK = reshaped(columns(flat, 0, 1), half), pastV = reshaped(columns(flat, 1, 1), half);
        k = appended(&pastK, k);
        v = appended(&pastV, v);
    }
    ClassicMask mask{unlessDummy(call.input(3)), call.input(5), a.real("mask_filter_value", -10000), a.integer("unidirectional", 0) != 0, x.dims[0], before};
    if (!mask.fits(q.dims[2], k.dims[2])) refuse("its mask doesn't fit its scores");
    CoreCall core{q, k, v};
    core.scale = scaleOf(call, q);
    if (mask.any()) core.bias = mask;
    Outputs outputs{mergeHeads(attentionCore(call, core).context)};
    if (call.node.outputs.size() > 1) {
        if (k.dims != v.dims) refuse("its present needs keys and values of one size");
        Dims dims = k.dims;
        dims.insert(dims.begin(), 2);
        HostTensor present = make(call, k.type, dims);
        for (std::size_t i = 0; i < static_cast<std::size_t>(k.count()); ++i) {
            copyElement(k, i, present, i);
            copyElement(v, i, present, static_cast<std::size_t>(k.count()) + i);
        }
        outputs.push_back(std::move(present));
    }
    return outputs;
}

/// One of the tensors that [B, S, N, parts, H] packs, as [B, N, S, H].
HostTensor unpacked(const HostTensor& from, std::int64_t part) {
    const Dims& d = from.dims;
    return reshaped(columns(reshaped(transposed(from, {0, 2, 1, 4, 3}), {d[0] * d[2] * d[1] * d[4], d[3]}), part, 1), {d[0], d[2], d[1], d[4]});
}

Outputs multiHead(const KernelCall& call) {
    needAxes(call, {0, 1, 2}, 3);
    needAxes(call, {3, 4}, 1);
    needAxes(call, {6, 7}, 4);
    const Attributes& a = call.node.attributes;
    if (call.input(8) || call.input(9)) refuse("a shared past isn't known");
    const std::int64_t heads = a.integer("num_heads", 0);
    const HostTensor &query = need(call, 0), *key = call.input(1), *bias = call.input(3);
    HostTensor q, k, v;
    if (query.dims.size() == 5) {
        if (bias) refuse("a bias on packed input isn't known");
        q = unpacked(query, 0);
        k = unpacked(query, 1);
        v = unpacked(query, 2);
    } else {
        const std::int64_t width = query.dims.back();
        q = splitHeads(biased(query, bias, 0), heads);
        if (!key) refuse("its key is missing");
        if (key->dims.size() == 5) {
            k = unpacked(*key, 0);
            v = unpacked(*key, 1);
        } else {
            const bool flat = key->dims.size() == 3;
            k = splitHeads(flat ? biased(*key, bias, width) : *key, heads);
            v = splitHeads(flat ? biased(need(call, 2), bias, 2 * width) : need(call, 2), heads);
        }
    }
    const std::int64_t past = call.input(6) ? call.input(6)->dims.at(2) : 0;
    k = appended(call.input(6), k);
    v = appended(call.input(7), v);
    ClassicMask mask{call.input(4), call.input(5), a.real("mask_filter_value", -10000), a.integer("unidirectional", 0) != 0, q.dims[0], past};
    if (!mask.fits(q.dims[2], k.dims[2])) refuse("its mask doesn't fit its scores");
    CoreCall core{q, k, v};
    core.scale = scaleOf(call, q);
    core.keep = 2; // as ONNX Runtime gives them out: before the softmax
    if (mask.any()) core.bias = mask;
    CoreOutput made = attentionCore(call, core);
    Outputs outputs{mergeHeads(made.context)};
    if (call.node.outputs.size() > 1) {
        outputs.push_back(k);
        outputs.push_back(v);
        outputs.push_back(std::move(made.kept));
        outputs.resize(std::min<std::size_t>(call.node.outputs.size(), 4));
    }
    return outputs;
}

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

Outputs groupQuery(const KernelCall& call) {
    needAxes(call, {0, 1, 2}, 3);
    needAxes(call, {3, 4}, 4);
    const Attributes& a = call.node.attributes;
    if (call.input(11) || a.integer("smooth_softmax", 0) > 0) refuse("attention sinks aren't known");
    const std::int64_t heads = a.integer("num_heads", 0), kvHeads = a.integer("kv_num_heads", 0), window = a.integer("local_window_size", -1);
    const HostTensor& query = need(call, 0);
    HostTensor q, k, v;
    if (!call.input(1)) {
        if (heads < 1 || kvHeads < 1) refuse("it has no number of heads");
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
    std::vector<std::int64_t> before;
    for (std::int64_t b = 0; b < q.dims[0]; ++b) before.push_back(prompt ? 0 : need(call, 5).integers().at(static_cast<std::size_t>(b)) + 1 - now);
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
    core.bias = [&, window](std::int64_t b, std::int64_t n, std::int64_t i, std::int64_t j) {
        const std::int64_t position = before[static_cast<std::size_t>(b)] + i;
        if (j > position || (window > 0 && j <= position - window)) return lowest;
        return bias ? broadcastAt(*bias, b, n, i, j) : 0.0;
    };
    Outputs outputs{mergeHeads(attentionCore(call, core).context)};
    if (call.node.outputs.size() > 1) {
        outputs.push_back(std::move(k));
        outputs.push_back(std::move(v));
        outputs.resize(std::min<std::size_t>(call.node.outputs.size(), 3));
    }
    return outputs;
}

} // namespace

void addMicrosoftAttention(KernelTable& table) {
    table["com.microsoft::Attention"] = packedAttention;
    table["com.microsoft::MultiHeadAttention"] = multiHead;
    table["com.microsoft::GroupQueryAttention"] = groupQuery;
}

} // namespace triptych
