// Rotary position embedding: ai.onnx RotaryEmbedding (opset 23) and com.microsoft's.

#include "reference/attention.h"

namespace triptych {

/// Source: the ONNX operator specification, RotaryEmbedding.
HostTensor rotated(const KernelCall&, const HostTensor& x, const HostTensor& positions, const HostTensor& cosines, const HostTensor& sines, bool interleaved, std::int64_t rotary) {
    if (x.dims.size() != 4 || !x.isFloat()) refuse("its input can't be split into heads");
    const std::int64_t batch = x.dims[0], heads = x.dims[1], length = x.dims[2], size = x.dims[3], half = cosines.dims.empty() ? 0 : cosines.dims.back();
    const std::int64_t turned = rotary > 0 ? rotary : std::min(2 * half, size);
    if (half * 2 < turned || turned > size || sines.dims != cosines.dims) refuse("its caches don't fit its heads");
    HostTensor out = x;
    for (std::int64_t line = 0; line < batch * heads * length; ++line) {
        const std::int64_t s = line % length, b = line / length / heads;
        // Positions: none (the caches hold a row for each batch and place), one offset for all, or one for each place.
        std::int64_t row = b * length + s;
        if (positions.count() == 1) row = positions.integers()[0] + s;
        else if (positions.count() > 0) row = positions.integers().at(static_cast<std::size_t>(b * length + s));
        if (row < 0 || (row + 1) * half > cosines.count()) refuse("a position lies outside of its caches");
        float* to = out.floats().data() + line * size;
        const float* from = x.floats().data() + line * size;
        for (std::int64_t i = 0; i < turned / 2; ++i) {
            const float c = static_cast<float>(cosines.at(static_cast<std::size_t>(row * half + i))), d = static_cast<float>(sines.at(static_cast<std::size_t>(row * half + i)));
            const std::int64_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : turned / 2 + i;
            // Each product rounded, as separate operators do: what is quantised behind it would else be another number.
            const float products[] = {from[first] * c, from[second] * d, from[first] * d, from[second] * c};
            to[first] = products[0] - products[1];
            to[second] = products[2] + products[3];
        }
    }
    out.normalise();
    return out;
}

namespace {

Outputs rotaryEmbedding(const KernelCall& call, bool microsoft) {
    const Attributes& a = call.node.attributes;
    const HostTensor& x = need(call, 0);
    const HostTensor &cosines = need(call, microsoft ? 2 : 1), &sines = need(call, microsoft ? 3 : 2);
    const HostTensor* positions = call.input(microsoft ? 1 : 3);
    const std::int64_t rotary = a.integer("rotary_embedding_dim", 0);
    std::int64_t heads = a.integer("num_heads", 0);
    // com.microsoft leaves the number of heads out where the whole head is turned.
    if (heads == 0 && x.dims.size() == 3 && !cosines.dims.empty() && cosines.dims.back() > 0) heads = x.dims[2] / (2 * cosines.dims.back());
    HostTensor out = rotated(call, splitHeads(x, heads), positions ? *positions : HostTensor::ofIntegers({0}, {}), cosines, sines, a.integer("interleaved", 0) != 0, rotary);
    return {x.dims.size() == 4 ? std::move(out) : mergeHeads(out)};
}

} // namespace

void addRotary(KernelTable& table) {
    table["RotaryEmbedding"] = [](const KernelCall& call) { return rotaryEmbedding(call, false); };
    table["com.microsoft::RotaryEmbedding"] = [](const KernelCall& call) { return rotaryEmbedding(call, true); };
}

} // namespace triptych
