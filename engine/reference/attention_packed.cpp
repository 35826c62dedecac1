// com.microsoft PackedAttention and PackedMultiHeadAttention: tokens of several sequences one after another, without padding; and how
// they come there, RemovePadding and RestorePadding.
// Source: ONNX Runtime's ContribOperators.md.

#include "reference/attention_microsoft.h"

#include <algorithm>

namespace triptych {

namespace {

/// Where the tokens of each sequence begin and end.
std::vector<std::int64_t> boundaries(const HostTensor& sums, std::int64_t tokens) {
    if (!sums.isInteger() || sums.count() < 1) refuse("its lengths are not integers");
    const std::vector<std::int64_t>& all = sums.integers();
    if (all.front() != 0 || all.back() != tokens || !std::is_sorted(all.begin(), all.end())) refuse("its lengths don't add up to its tokens");
    return all;
}

/// Each sequence's place for a token, among as many as the longest has, is where the list of offsets has it.
std::vector<std::int64_t> placesOf(const HostTensor& offsets, const std::vector<std::int64_t>& bounds, std::int64_t tokens) {
    if (!offsets.isInteger() || offsets.dims.size() != 2 || offsets.dims[0] + 1 != static_cast<std::int64_t>(bounds.size()) || offsets.count() < tokens) refuse("its offsets don't fit its lengths");
    std::vector<std::int64_t> places(static_cast<std::size_t>(tokens));
    for (std::size_t b = 0; b + 1 < bounds.size(); ++b) {
        for (std::int64_t t = bounds[b]; t < bounds[b + 1]; ++t) {
            const std::int64_t place = offsets.integers()[static_cast<std::size_t>(t)] - static_cast<std::int64_t>(b) * offsets.dims[1];
            // The attention of a sequence ends where its length says: tokens stand at its beginning.
            if (place < 0 || place >= bounds[b + 1] - bounds[b] || bounds[b + 1] - bounds[b] > offsets.dims[1]) refuse("its offsets don't fit its lengths");
            places[static_cast<std::size_t>(t)] = place;
        }
    }
    return places;
}

/// Rows [begin, end) of [tokens, N*D] as heads [1, N, rows, D].
HostTensor headsOf(const HostTensor& from, std::int64_t begin, std::int64_t end, std::int64_t heads) {
    const std::int64_t width = from.dims[1];
    HostTensor rows = HostTensor::zeros(from.type, {1, end - begin, width});
    for (std::int64_t i = 0; i < rows.count(); ++i) copyElement(from, static_cast<std::size_t>(begin * width + i), rows, static_cast<std::size_t>(i));
    return splitHeads(rows, heads);
}

/// Attention of each sequence on its own.
Outputs ofSequences(const KernelCall& call, const HostTensor& q, const HostTensor& k, const HostTensor& v, std::size_t offsets, const HostTensor* bias) {
    const std::int64_t tokens = q.dims[0], heads = call.node.attributes.integer("num_heads", 0);
    if (k.dims[0] != tokens || v.dims[0] != tokens) refuse("its query, key and value don't fit together");
    const auto bounds = boundaries(need(call, offsets + 1), tokens);
    const auto places = placesOf(need(call, offsets), bounds, tokens);
    HostTensor out = make(call, q.type, {tokens, v.dims[1]});
    for (std::size_t b = 0; b + 1 < bounds.size(); ++b) {
        const std::int64_t begin = bounds[b], end = bounds[b + 1];
        if (begin == end) continue;
        const HostTensor ownQ = headsOf(q, begin, end, heads), ownK = headsOf(k, begin, end, heads), ownV = headsOf(v, begin, end, heads);
        CoreCall core{ownQ, ownK, ownV};
        core.scale = scaleOf(call, ownQ);
        if (bias)
            core.bias = [&, b, begin](std::int64_t, std::int64_t n, std::int64_t i, std::int64_t j) {
                return broadcastAt(*bias, static_cast<std::int64_t>(b), n, places[static_cast<std::size_t>(begin + i)], places[static_cast<std::size_t>(begin + j)]);
            };
        const HostTensor merged = mergeHeads(attentionCore(call, core).context);
        for (std::int64_t i = 0; i < merged.count(); ++i) copyElement(merged, static_cast<std::size_t>(i), out, static_cast<std::size_t>(begin * v.dims[1] + i));
    }
    return {std::move(out)};
}

Outputs packedWeight(const KernelCall& call) {
    needAxes(call, {0, 1}, 2);
    needOneType(call, {0, 1, 2, 5});
    const HostTensor all = biased(product(call, need(call, 0), need(call, 1)), call.input(2), 0);
    if (all.dims.size() != 2) refuse("its tokens have more than one axis");
    std::vector<std::int64_t> widths(3, all.dims.back() / 3);
    if (const auto* sizes = call.node.attributes.integers("qkv_hidden_sizes"); sizes && sizes->size() == 3) widths = *sizes;
    return ofSequences(call, columns(all, 0, widths[0]), columns(all, widths[0], widths[1]), columns(all, widths[0] + widths[1], widths[2]), 3, call.input(5));
}

Outputs packedHeads(const KernelCall& call) {
    needAxes(call, {0, 1, 2}, 2);
    needOneType(call, {0, 1, 2, 3, 6});
    const HostTensor &query = need(call, 0), *bias = call.input(3);
    if (query.dims.size() == 4) { // [tokens, N, 3, H]
        Dims dims = query.dims;
        dims.insert(dims.begin(), 1);
        const HostTensor five = reshaped(query, dims);
        const auto part = [&](std::int64_t i) { return biased(reshaped(mergeHeads(unpacked(five, i)), {dims[1], dims[2] * dims[4]}), bias, i * dims[2] * dims[4]); };
        return ofSequences(call, part(0), part(1), part(2), 4, call.input(6));
    }
    const HostTensor &key = need(call, 1), &value = need(call, 2);
    if (query.dims.size() != 2 || key.dims.size() != 2 || value.dims.size() != 2) refuse("its tokens have more than one axis");
    const std::int64_t width = query.dims[1];
    return ofSequences(call, biased(query, bias, 0), biased(key, bias, width), biased(value, bias, 2 * width), 4, call.input(6));
}

/// Tokens of [B, S, E] that are no padding: the first of each sequence. Then the places of tokens and of padding, sums of lengths, the longest.
Outputs removePadding(const KernelCall& call) {
    const HostTensor &x = need(call, 0), &counts = need(call, 1);
    if (x.dims.size() != 3 || !counts.isInteger() || counts.count() != x.dims[0]) refuse("its lengths are not one for each sequence");
    const std::int64_t longest = x.dims[1], width = x.dims[2];
    std::vector<std::int64_t> sums{0}, places, padding;
    for (std::int64_t b = 0; b < x.dims[0]; ++b) {
        const std::int64_t own = counts.integers()[static_cast<std::size_t>(b)];
        if (own < 0 || own > longest) refuse("its lengths exceed its sequences");
        sums.push_back(sums.back() + own);
        for (std::int64_t i = 0; i < longest; ++i) (i < own ? places : padding).push_back(b * longest + i);
    }
    HostTensor out = make(call, x.type, {sums.back(), width});
    for (std::int64_t i = 0; i < out.count(); ++i) copyElement(x, static_cast<std::size_t>(places[static_cast<std::size_t>(i / width)] * width + i % width), out, static_cast<std::size_t>(i));
    const std::int64_t most = counts.integers().empty() ? 0 : *std::max_element(counts.integers().begin(), counts.integers().end());
    places.insert(places.end(), padding.begin(), padding.end());
    const std::int64_t batch = x.dims[0];
    return {std::move(out), HostTensor::ofIntegers({batch, longest}, std::move(places), DataType::int32), HostTensor::ofIntegers({batch + 1}, std::move(sums), DataType::int32),
            HostTensor::ofIntegers({1}, {most}, DataType::int32)};
}

/// Tokens back at their places, with zeros as padding.
Outputs restorePadding(const KernelCall& call) {
    const HostTensor &tokens = need(call, 0), &offsets = need(call, 1);
    if (tokens.dims.size() != 2 || offsets.dims.size() != 2 || !offsets.isInteger() || offsets.count() < tokens.dims[0]) refuse("its offsets don't fit its tokens");
    const std::int64_t width = tokens.dims[1];
    HostTensor out = make(call, tokens.type, {offsets.dims[0], offsets.dims[1], width});
    for (std::int64_t i = 0; i < tokens.count(); ++i) {
        const std::int64_t place = offsets.integers()[static_cast<std::size_t>(i / width)];
        if (place < 0 || place >= offsets.count()) refuse("its offsets don't fit its tokens");
        copyElement(tokens, static_cast<std::size_t>(i), out, static_cast<std::size_t>(place * width + i % width));
    }
    return {std::move(out)};
}

} // namespace

void addPackedAttention(KernelTable& table) {
    table["com.microsoft::PackedAttention"] = packedWeight;
    table["com.microsoft::PackedMultiHeadAttention"] = packedHeads;
    table["com.microsoft::RemovePadding"] = removePadding;
    table["com.microsoft::RestorePadding"] = restorePadding;
}

} // namespace triptych
