// com.microsoft LongformerAttention: a window round each token, and global tokens with projections of their own.
// Source: ONNX Runtime's ContribOperators.md and what its CUDA implementation does.

#include "reference/attention_microsoft.h"

#include <cstdlib>
#include <limits>

namespace triptych {

namespace {

/// Attention of all tokens by one packed weight and its bias: [B, S, E].
HostTensor ofWeight(const KernelCall& call, std::size_t weight, const ScoreBias& bias) {
    const std::int64_t heads = call.node.attributes.integer("num_heads", 0);
    const HostTensor all = biased(product(call, need(call, 0), need(call, weight)), &need(call, weight + 1), 0);
    const std::int64_t width = all.dims.back() / 3;
    const HostTensor q = splitHeads(columns(all, 0, width), heads), k = splitHeads(columns(all, width, width), heads), v = splitHeads(columns(all, 2 * width, width), heads);
    CoreCall core{q, k, v};
    core.scale = scaleOf(call, q);
    core.bias = bias;
    return mergeHeads(attentionCore(call, core).context);
}

Outputs banded(const KernelCall& call) {
    needAxes(call, {0}, 3);
    needAxes(call, {1, 3, 4, 6}, 2);
    needOneType(call, {0, 1, 2, 3, 4, 5});
    const HostTensor &x = need(call, 0), &mask = need(call, 3), &global = need(call, 6);
    const std::int64_t length = x.dims[1], window = call.node.attributes.integer("window", 0);
    if (mask.count() != x.dims[0] * length || global.count() != mask.count() || !global.isInteger()) refuse("its mask doesn't fit its tokens");
    const auto isGlobal = [&](std::int64_t b, std::int64_t i) { return global.integers()[static_cast<std::size_t>(b * length + i)] != 0; };
    const auto masked = [&](std::int64_t b, std::int64_t i) { return mask.at(static_cast<std::size_t>(b * length + i)); };
    HostTensor out = ofWeight(call, 1, [&](std::int64_t b, std::int64_t, std::int64_t i, std::int64_t j) {
        return std::abs(i - j) <= window || isGlobal(b, j) ? masked(b, j) : -std::numeric_limits<double>::infinity();
    });
    const HostTensor ofAll = ofWeight(call, 4, [&](std::int64_t b, std::int64_t, std::int64_t, std::int64_t j) { return masked(b, j); });
    if (ofAll.dims != out.dims) refuse("its global weights don't fit the others");
    const std::int64_t width = out.dims.back();
    for (std::int64_t i = 0; i < out.count(); ++i) {
        const std::int64_t b = i / width / length, token = i / width % length;
        if (masked(b, token) < 0) setElement(out, static_cast<std::size_t>(i), 0); // padding
        else if (isGlobal(b, token)) copyElement(ofAll, static_cast<std::size_t>(i), out, static_cast<std::size_t>(i));
    }
    return {std::move(out)};
}

} // namespace

void addBandedAttention(KernelTable& table) { table["com.microsoft::LongformerAttention"] = banded; }

} // namespace triptych
