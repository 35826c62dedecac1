// com.microsoft DecoderAttention: self or cross attention, as its inputs say; places come before the batch.
// Source: ONNX Runtime's ContribOperators.md and what its CUDA implementation does.

#include "reference/attention_microsoft.h"

#include <limits>

namespace triptych {

namespace {

Outputs decoder(const KernelCall& call) {
    needAxes(call, {0, 1}, 3);
    needAxes(call, {2, 3}, 2);
    needAxes(call, {6, 7}, 4);
    needOneType(call, {0, 1, 2, 3, 4, 6, 7});
    const auto on = [&](std::size_t input) { return need(call, input).count() == 1 && need(call, input).at(0) != 0; };
    const bool cross = on(8), past = on(9) && on(10), padding = on(11);
    if (on(9) && !on(10)) refuse("it reads a cache that it doesn't have");
    const std::int64_t heads = call.node.attributes.integer("num_heads", 0), width = need(call, 0).dims[2];
    const auto projected = [&](const HostTensor& x, std::size_t weight, std::int64_t begin) { return biased(product(call, transposed(x, {1, 0, 2}), need(call, weight)), &need(call, 4), begin); };
    const HostTensor q = splitHeads(projected(need(call, 0), 2, 0), heads);
    HostTensor k, v;
    if (cross && past) {
        k = need(call, 6), v = need(call, 7);
    } else {
        const HostTensor both = projected(need(call, cross ? 1 : 0), 3, width);
        k = splitHeads(columns(both, 0, width), heads), v = splitHeads(columns(both, width, width), heads);
        if (past) k = appended(&need(call, 6), k), v = appended(&need(call, 7), v);
    }
    CoreCall core{q, k, v};
    core.scale = scaleOf(call, q);
    const HostTensor* mask = padding ? &need(call, 5) : nullptr;
    if (mask && mask->dims != Dims{q.dims[0], k.dims[2]}) refuse("its mask doesn't fit its keys");
    if (mask) core.bias = [&](std::int64_t b, std::int64_t, std::int64_t, std::int64_t j) { return mask->at(static_cast<std::size_t>(b * k.dims[2] + j)) != 0 ? -std::numeric_limits<double>::infinity() : 0.0; };
    return withPresent(call, transposed(mergeHeads(attentionCore(call, core).context), {1, 0, 2}), k, v);
}

} // namespace

void addDecoderAttention(KernelTable& table) { table["com.microsoft::DecoderAttention"] = decoder; }

} // namespace triptych
