// Attention operators of com.microsoft that take a batch of sequences: Attention, QAttention, MultiHeadAttention, and those that decode
// one token with a buffer of past keys, DecoderMaskedSelfAttention and DecoderMaskedMultiHeadAttention.
// Source: ONNX Runtime's ContribOperators.md and what its CPU implementation does.

#include "reference/attention_microsoft.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace triptych {

HostTensor columns(const HostTensor& from, std::int64_t begin, std::int64_t width) {
    Dims dims = from.dims;
    const std::int64_t all = dims.back();
    if (begin < 0 || width < 0 || begin + width > all) refuse("its packed input has too few columns");
    dims.back() = width;
    HostTensor out = HostTensor::zeros(from.type, dims);
    for (std::int64_t i = 0; i < out.count(); ++i) copyElement(from, static_cast<std::size_t>(i / width * all + begin + i % width), out, static_cast<std::size_t>(i));
    return out;
}

HostTensor biased(HostTensor to, const HostTensor* bias, std::int64_t begin) {
    if (!bias) return to;
    const std::int64_t width = to.dims.back();
    if (bias->dims.size() != 1 || begin + width > bias->count() || !to.isFloat() || bias->type != to.type) refuse("its bias has too few elements");
    for (std::int64_t i = 0; i < to.count(); ++i) to.floats()[static_cast<std::size_t>(i)] += bias->floats()[static_cast<std::size_t>(begin + i % width)];
    to.normalise();
    return to;
}

double scaleOf(const KernelCall& call, const HostTensor& q) {
    const double given = call.node.attributes.real("scale", 0);
    return given != 0 ? given : 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(q.dims.back(), 1)));
}

void needAxes(const KernelCall& call, std::initializer_list<std::size_t> inputs, std::size_t least) {
    for (const std::size_t index : inputs)
        if (const HostTensor* given = call.input(index); given && given->dims.size() < least) refuse("its input " + std::to_string(index) + " has too few axes");
}

void needOneType(const KernelCall& call, std::initializer_list<std::size_t> inputs) {
    const DataType type = need(call, *inputs.begin()).type;
    for (const std::size_t index : inputs)
        if (call.input(index) && call.input(index)->type != type) refuse("its inputs are of different types");
}

HostTensor unpacked(const HostTensor& from, std::int64_t part) {
    const Dims& d = from.dims;
    return reshaped(columns(reshaped(transposed(from, {0, 2, 1, 4, 3}), {d[0] * d[2] * d[1] * d[4], d[3]}), part, 1), {d[0], d[2], d[1], d[4]});
}

namespace {

constexpr double lowest = -std::numeric_limits<double>::infinity();

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
        case 2: return d[0] == batch && d[1] == keys;
        case 3: return d[0] == batch && d[1] == queries && d[2] == keys;
        case 4: return d[0] == batch && d[1] == 1 && d[2] >= past + queries && d[3] >= keys;
        default: return false;
        }
    }
};

/// com.microsoft.Attention takes a mask of one column for no mask, whatever it holds.
const HostTensor* unlessDummy(const HostTensor* mask) { return mask && mask->dims.size() == 2 && mask->dims[1] == 1 ? nullptr : mask; }

/// Past keys and values of a call, as [B, N, P, D], and how many of them there are.
struct Past {
    std::optional<HostTensor> k, v;
    /// Of a buffer with room for more: its own present begins as the buffer does, and keeps what lies behind.
    std::optional<std::int64_t> filled;

    std::int64_t length() const { return filled ? *filled : k ? k->dims[2] : 0; }
};

/// Lines of axis 2 of [B, N, T, D].
HostTensor linesOf(const HostTensor& from, std::int64_t begin, std::int64_t end) {
    if (begin < 0 || end < begin || end > from.dims[2]) refuse("its lengths don't fit its past");
    Dims dims = from.dims;
    dims[2] = end - begin;
    HostTensor out = HostTensor::zeros(from.type, dims);
    const std::int64_t each = dims[2] * dims[3];
    for (std::int64_t i = 0; i < out.count(); ++i) copyElement(from, static_cast<std::size_t>(i / each * from.dims[2] * dims[3] + begin * dims[3] + i % each), out, static_cast<std::size_t>(i));
    return out;
}

/// Past keys or values of the beams that each of their tokens came from: of sequences whose beams stand beside each other, by [sequences, beams, places].
HostTensor ofBeams(const HostTensor& kept, const HostTensor& choice) {
    if (choice.dims.size() != 3 || !choice.isInteger() || choice.dims[0] * choice.dims[1] != kept.dims[0] || choice.dims[2] < kept.dims[2]) refuse("its choice of beams doesn't fit its past");
    HostTensor out = kept;
    const std::int64_t size = kept.dims[3], line = kept.dims[1] * kept.dims[2] * size;
    for (std::int64_t i = 0; i < out.count(); ++i) {
        const std::int64_t row = i / line, beam = choice.integers()[static_cast<std::size_t>(row * choice.dims[2] + i / size % kept.dims[2])];
        if (beam < 0 || beam >= choice.dims[1]) refuse("a beam is chosen that there isn't");
        copyElement(kept, static_cast<std::size_t>((row / choice.dims[1] * choice.dims[1] + beam) * line + i % line), out, static_cast<std::size_t>(i));
    }
    return out;
}

/// Past and new keys, and what is handed on.
HostTensor joined(const std::optional<HostTensor>& past, const Past& of, const HostTensor& now, HostTensor& present, const HostTensor* choice) {
    if (past && past->dims.size() != 4) refuse("its past has another rank than 4");
    if (choice && (!past || !of.filled)) refuse("its choice of beams needs a shared buffer");
    if (!past || !of.filled) return present = appended(past ? &*past : nullptr, now);
    const HostTensor kept = linesOf(*past, 0, *of.filled), all = appended(&kept, now), rest = linesOf(*past, *of.filled + now.dims[2], past->dims[2]);
    present = appended(&all, rest);
    if (!choice) return all;
    const HostTensor chosen = ofBeams(kept, *choice);
    return appended(&chosen, now);
}

/// The length of a shared buffer's content, where a call shares one.
void readLength(const KernelCall& call, std::size_t index, bool shares, Past& past) {
    const HostTensor* length = shares && past.k ? call.input(index) : nullptr;
    if (length && (length->count() != 1 || !length->isInteger())) refuse("its past's length is not one integer");
    if (length) past.filled = length->integers()[0];
}

/// Both halves of [2, B, N, P, H].
Past halves(const HostTensor* both) {
    if (!both) return {};
    if (both->dims.size() != 5 || both->dims[0] != 2) refuse("its past has another rank than 5");
    const Dims half(both->dims.begin() + 1, both->dims.end());
    const HostTensor flat = transposed(reshaped(*both, {2, both->count() / 2}), {1, 0});
    return {reshaped(columns(flat, 0, 1), half), reshaped(columns(flat, 1, 1), half), {}};
}

HostTensor stacked(const KernelCall& call, const HostTensor& k, const HostTensor& v) {
    if (k.dims != v.dims) refuse("its present needs keys and values of one size");
    Dims dims = k.dims;
    dims.insert(dims.begin(), 2);
    HostTensor both = make(call, k.type, dims);
    for (std::size_t i = 0; i < static_cast<std::size_t>(k.count()); ++i) {
        copyElement(k, i, both, i);
        copyElement(v, i, both, static_cast<std::size_t>(k.count()) + i);
    }
    return both;
}

/// The keys' buffer of DecoderMaskedSelfAttention: 16 bytes of each key side by side, then the next 16 of each.
HostTensor keysInBlocks(const HostTensor& k, bool back) {
    const std::int64_t width = 128 / bitsOf(k.type), blocks = k.dims[3] / width;
    if (k.dims[3] % width != 0) refuse("its head size doesn't fill blocks of 16 bytes");
    const Dims apart = back ? Dims{k.dims[0], k.dims[1], k.dims[2], blocks, width} : Dims{k.dims[0], k.dims[1], blocks, k.dims[2], width};
    return reshaped(transposed(reshaped(k, apart), {0, 1, 3, 2, 4}), k.dims);
}

/// Where the inputs of an operator with a packed weight are.
struct PackedInputs {
    std::size_t mask, bias, past, length, beams;
};

/// Heads turned by their positions behind a past: pair i of their halves by the position over 10000 to the power of 2i by the width.
/// Source: ONNX Runtime's CUDA implementation, add_bias_transpose.cu.
HostTensor turnedByAngles(const KernelCall& call, const HostTensor& x, std::int64_t past) {
    const std::int64_t given = call.node.attributes.integer("rotary_embedding_dim", 0), width = given > 0 ? given : x.dims.at(3), rows = x.dims.at(2);
    HostTensor cosines = make(call, DataType::float32, {rows, width / 2}), sines = cosines;
    for (std::int64_t i = 0; i < cosines.count(); ++i) {
        const double angle = static_cast<double>(past + i / (width / 2)) / std::pow(10000.0, 2 * static_cast<double>(i % (width / 2)) / static_cast<double>(width));
        cosines.floats()[static_cast<std::size_t>(i)] = static_cast<float>(std::cos(angle));
        sines.floats()[static_cast<std::size_t>(i)] = static_cast<float>(std::sin(angle));
    }
    return rotated(call, x, HostTensor::ofIntegers({1}, {0}), cosines, sines, false, width);
}

/// Attention of a batch whose Q, K and V lie side by side [B, S, Dq + Dk + Dv].
Outputs ofPacked(const KernelCall& call, const HostTensor& all, const PackedInputs& at, bool inBlocks) {
    const Attributes& a = call.node.attributes;
    needAxes(call, {at.mask}, 1);
    if (all.dims.size() != 3) refuse("its input has another rank than 3");
    const std::int64_t heads = a.integer("num_heads", 0);
    std::vector<std::int64_t> widths(3, all.dims.back() / 3);
    if (const auto* sizes = a.integers("qkv_hidden_sizes"); sizes && sizes->size() == 3) widths = *sizes;
    HostTensor q = splitHeads(columns(all, 0, widths[0]), heads), newK = splitHeads(columns(all, widths[0], widths[1]), heads);
    const HostTensor newV = splitHeads(columns(all, widths[0] + widths[1], widths[2]), heads);
    Past past = halves(call.input(at.past));
    const bool shares = a.integer("past_present_share_buffer", 0) != 0;
    readLength(call, at.length, shares, past);
    if (shares && past.k && !past.filled) refuse("its past has no length");
    if (a.integer("do_rotary", 0) != 0)
        for (HostTensor* each : {&q, &newK}) *each = turnedByAngles(call, *each, past.length());
    const bool turn = inBlocks && past.filled;
    if (turn) past.k = keysInBlocks(*past.k, false);
    HostTensor presentK, presentV;
    const HostTensor k = joined(past.k, past, newK, presentK, call.input(at.beams)), v = joined(past.v, past, newV, presentV, call.input(at.beams));
    ClassicMask mask{unlessDummy(call.input(at.mask)), call.input(at.bias), a.real("mask_filter_value", -10000), a.integer("unidirectional", 0) != 0, q.dims[0], past.length()};
    if (!mask.fits(q.dims[2], k.dims[2])) refuse("its mask doesn't fit its scores");
    CoreCall core{q, k, v};
    core.scale = scaleOf(call, q);
    if (mask.any()) core.bias = mask;
    Outputs outputs{mergeHeads(attentionCore(call, core).context)};
    if (call.node.outputs.size() > 1) outputs.push_back(stacked(call, turn ? keysInBlocks(presentK, true) : presentK, presentV));
    return outputs;
}

constexpr std::size_t none = 99; // an input that no operator has

Outputs packedAttention(const KernelCall& call, bool inBlocks) {
    needAxes(call, {0}, 3);
    needAxes(call, {1}, 2);
    needAxes(call, {2}, 1);
    needOneType(call, {0, 1, 2, 4, 5});
    return ofPacked(call, biased(product(call, need(call, 0), need(call, 1)), call.input(2), 0), {3, 5, 4, 6, inBlocks ? 8 : none}, inBlocks);
}

/// The product is one of integers; scales turn it into floats.
Outputs quantisedAttention(const KernelCall& call) {
    needAxes(call, {0}, 3);
    needAxes(call, {1}, 2);
    needAxes(call, {2}, 1);
    const HostTensor &x = need(call, 0), &w = need(call, 1), &xScale = need(call, 3), &scale = need(call, 4);
    if (!x.isInteger() || !w.isInteger()) refuse("its input and weight are not integers");
    const HostTensor sums = product(call, lessZero(x, call.input(6), true), lessZero(w, call.input(7), false));
    const std::int64_t width = sums.dims.back();
    const auto fits = [&](const HostTensor& each) { return each.count() == 1 || each.dims == Dims{width}; };
    if (xScale.count() != 1 || !fits(scale) || (call.input(7) && !fits(*call.input(7)))) refuse("its scales and zero points don't fit its weight");
    HostTensor all = make(call, scale.type, sums.dims);
    for (std::int64_t i = 0; i < all.count(); ++i) setElement(all, static_cast<std::size_t>(i), sums.at(static_cast<std::size_t>(i)) * xScale.at(0) * scale.at(scale.count() == 1 ? 0 : static_cast<std::size_t>(i % width)));
    all.normalise();
    return ofPacked(call, biased(std::move(all), call.input(2), 0), {5, none, 8, none, none}, false);
}

/// Where the inputs of an operator with projected inputs are.
struct HeadInputs {
    std::size_t bias, mask, attentionBias, past, length, beams;
};

Outputs multiHead(const KernelCall& call, const HeadInputs& at, bool shares) {
    needAxes(call, {0, 1, 2}, 3);
    needAxes(call, {at.bias, at.mask}, 1);
    needAxes(call, {at.past, at.past + 1}, 4);
    needOneType(call, {0, 1, 2, at.bias, at.attentionBias, at.past, at.past + 1});
    const Attributes& a = call.node.attributes;
    const std::int64_t heads = a.integer("num_heads", 0);
    const HostTensor &query = need(call, 0), *key = call.input(1), *bias = call.input(at.bias);
    HostTensor q, k, v;
    const bool inFive = query.dims.size() == 5 && call.node.op == "MultiHeadAttention";
    if (!inFive && query.dims.size() != 3) refuse("its query has another rank than 3");
    if (inFive) {
        const auto part = [&](std::int64_t role) { return splitHeads(biased(mergeHeads(unpacked(query, role)), bias, role * query.dims[2] * query.dims[4]), query.dims[2]); };
        q = part(0), k = part(1), v = part(2);
    } else if (!key && call.node.op == "DecoderMaskedMultiHeadAttention") {
        const HostTensor all = biased(query, bias, 0);
        const std::int64_t width = all.dims.back() / 3;
        q = splitHeads(columns(all, 0, width), heads);
        k = splitHeads(columns(all, width, width), heads);
        v = splitHeads(columns(all, 2 * width, width), heads);
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
    Past past;
    if (call.input(at.past)) past.k = *call.input(at.past);
    if (call.input(at.past + 1)) past.v = *call.input(at.past + 1);
    readLength(call, at.length, shares, past);
    HostTensor presentK, presentV;
    k = joined(past.k, past, k, presentK, call.input(at.beams));
    v = joined(past.v, past, v, presentV, call.input(at.beams));
    ClassicMask mask{call.input(at.mask), call.input(at.attentionBias), a.real("mask_filter_value", -10000), a.integer("unidirectional", 0) != 0, q.dims[0], past.length()};
    if (!mask.fits(q.dims[2], k.dims[2])) refuse("its mask doesn't fit its scores");
    CoreCall core{q, k, v};
    core.scale = scaleOf(call, q);
    core.keep = 2; // as ONNX Runtime gives them out: before the softmax
    if (mask.any()) core.bias = mask;
    CoreOutput made = attentionCore(call, core);
    Outputs outputs{mergeHeads(made.context)};
    if (call.node.outputs.size() > 1) {
        outputs.push_back(std::move(presentK));
        outputs.push_back(std::move(presentV));
        outputs.push_back(std::move(made.kept));
        outputs.resize(std::min<std::size_t>(call.node.outputs.size(), 4));
    }
    return outputs;
}

} // namespace

Outputs withPresent(const KernelCall& call, HostTensor context, HostTensor keys, HostTensor values) {
    Outputs outputs;
    outputs.push_back(std::move(context));
    for (HostTensor* each : {&keys, &values})
        if (outputs.size() < call.node.outputs.size()) outputs.push_back(std::move(*each));
    return outputs;
}

void addMicrosoftAttention(KernelTable& table) {
    table["com.microsoft::Attention"] = [](const KernelCall& call) { return packedAttention(call, false); };
    table["com.microsoft::DecoderMaskedSelfAttention"] = [](const KernelCall& call) { return packedAttention(call, true); };
    table["com.microsoft::QAttention"] = quantisedAttention;
    table["com.microsoft::MultiHeadAttention"] = [](const KernelCall& call) { return multiHead(call, {3, 4, 5, 6, 8, 9}, true); };
    table["com.microsoft::DecoderMaskedMultiHeadAttention"] = [](const KernelCall& call) {
        return multiHead(call, {10, 3, 4, 5, 7, 9}, call.node.attributes.integer("past_present_share_buffer", 0) != 0);
    };
    addBandedAttention(table);
    addDecoderAttention(table);
    addGroupedAttention(table);
    addPackedAttention(table);
    addPagedAttention(table);
    addPositionBias(table);
    addSparseAttention(table);
}

} // namespace triptych
