// The numbers of quantised caches of keys and values.
// Source: ONNX Runtime's ContribOperators.md, GroupQueryAttention and PagedAttention, and what its CPU and CUDA implementations do.

#include "reference/attention_microsoft.h"

#include <algorithm>
#include <cmath>

namespace triptych {

float QuantisedCache::scaleAt(const Dims& dims, std::int64_t i) const {
    const std::int64_t line = i / dims[3];
    return static_cast<float>(broadcastAt(*scale, line / dims[2] / dims[1], line / dims[2] % dims[1], line % dims[2], i % dims[3]));
}

HostTensor QuantisedCache::from(const KernelCall& call, const HostTensor& x) const {
    if (!scale) return x;
    const std::int64_t size = x.dims[3], each = bits == 4 ? 2 : 1;
    if ((bits != 8 && bits != 4) || size % each != 0) refuse("its cache has another width than 8 or 4 bits");
    const auto scaled = [&](std::int64_t i) {
        const float given = scaleAt(x.dims, i);
        return static_cast<float>(x.at(static_cast<std::size_t>(i))) * (given == 0 ? inverseOfZero : 1.0F / given);
    };
    if (isFloat8) {
        HostTensor codes = make(call, DataType::float8e4m3fn, x.dims);
        for (std::int64_t i = 0; i < x.count(); ++i) codes.floats()[static_cast<std::size_t>(i)] = std::clamp(scaled(i), -448.0F, 448.0F);
        codes.normalise();
        return codes;
    }
    HostTensor out = make(call, bits == 4 ? DataType::uint8 : DataType::int8, {x.dims[0], x.dims[1], x.dims[2], size / each});
    for (std::int64_t i = 0; i < x.count(); ++i) {
        const auto code = static_cast<std::int64_t>(std::clamp(std::nearbyint(scaled(i)), bits == 4 ? -8.0F : -128.0F, bits == 4 ? 7.0F : 127.0F));
        std::int64_t& to = out.integers()[static_cast<std::size_t>(i / each)];
        if (each == 1) to = code;
        else to += (code + 8) << (i % 2 * 4);
    }
    return out;
}

HostTensor QuantisedCache::back(const KernelCall& call, const HostTensor& codes, DataType type) const {
    if (!scale) return codes;
    const std::int64_t each = bits == 4 ? 2 : 1;
    HostTensor out = make(call, type, {codes.dims[0], codes.dims[1], codes.dims[2], codes.dims[3] * each});
    for (std::int64_t i = 0; i < out.count(); ++i) {
        const auto at = static_cast<std::size_t>(i / each);
        const std::int64_t held = isFloat8 ? 0 : codes.integers()[at], code = each == 1 ? held : ((held >> (i % 2 * 4)) & 15) - 8;
        setElement(out, static_cast<std::size_t>(i), (isFloat8 ? codes.floats()[at] : static_cast<float>(code)) * scaleAt(out.dims, i));
    }
    out.normalise();
    return out;
}

} // namespace triptych
