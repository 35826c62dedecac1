// Sizes of products, convolutions and pools, whatever operator computes them.

#include "shapes/rules.h"

namespace triptych {

namespace {

Dims product(Dims a, Dims b) {
    const bool row = a.size() == 1, column = b.size() == 1;
    if (row) a.insert(a.begin(), 1);
    if (column) b.push_back(1);
    Dims dims = broadcast(Dims(a.begin(), a.end() - 2), Dims(b.begin(), b.end() - 2));
    if (!row) dims.push_back(a[a.size() - 2]);
    if (!column) dims.push_back(b.back());
    return dims;
}

/// One spatial size of a convolution or a pool.
Dim window(const RuleCall& call, Dim in, Dim kernel, std::size_t axis, std::size_t spatial) {
    const auto at = [&](const char* name, std::size_t index, std::int64_t absent) { return modest(call.node.attributes.integers(name), index, absent); };
    const std::int64_t stride = at("strides", axis, 1), dilation = at("dilations", axis, 1);
    if (in < 0 || in > (1LL << 60) || kernel <= 0 || kernel > (1LL << 31) || stride <= 0 || dilation <= 0) return unknownDim;
    const std::string automatic = call.node.attributes.text("auto_pad", "NOTSET");
    if (automatic.starts_with("SAME")) return (in + stride - 1) / stride;
    const bool none = automatic == "VALID";
    const std::int64_t before = none ? 0 : at("pads", axis, 0), after = none ? 0 : at("pads", axis + spatial, 0);
    const std::int64_t room = in + before + after - ((kernel - 1) * dilation + 1);
    if (room < 0) return 0;
    if (call.node.attributes.integer("ceil_mode", 0) == 0) return room / stride + 1;
    const std::int64_t out = (room + stride - 1) / stride + 1;
    // A window that would begin in the padding behind the end doesn't count.
    return (out - 1) * stride >= in + before ? out - 1 : out;
}

} // namespace

ValueShape multiplied(const ValueShape& a, const ValueShape& b, DataType type) {
    if (!a.ranked || !b.ranked || a.dims.empty() || b.dims.empty()) return {type, false, {}};
    return {type, true, product(a.dims, b.dims)};
}

ValueShape general(const RuleCall& call, const ValueShape& a, const ValueShape& b, DataType type) {
    if (!a.ranked || !b.ranked || a.dims.size() != 2 || b.dims.size() != 2) return {type, false, {}};
    const bool turnA = call.node.attributes.integer("transA", 0) != 0, turnB = call.node.attributes.integer("transB", 0) != 0;
    return {type, true, {a.dims[turnA ? 1 : 0], b.dims[turnB ? 0 : 1]}};
}

ValueShape convolved(const RuleCall& call, const ValueShape& in, const ValueShape& weight, DataType type, bool channelsLast) {
    if (!in.ranked || !weight.ranked || in.dims.size() < 3 || weight.dims.size() != in.dims.size()) return {type, false, {}};
    const std::size_t spatial = in.dims.size() - 2, first = channelsLast ? 1 : 2;
    Dims dims{in.dims[0]};
    if (!channelsLast) dims.push_back(weight.dims[0]);
    for (std::size_t i = 0; i < spatial; ++i) dims.push_back(window(call, in.dims[i + first], weight.dims[i + 2], i, spatial));
    if (channelsLast) dims.push_back(weight.dims[0]);
    return {type, true, std::move(dims)};
}

ValueShape pooled(const RuleCall& call, bool channelsLast) {
    ValueShape out = call.in(0);
    const auto* kernel = call.node.attributes.integers("kernel_shape");
    if (!out.ranked || out.dims.size() < 3 || !kernel || kernel->size() + 2 != out.dims.size()) return {out.type, false, {}};
    const std::size_t first = channelsLast ? 1 : 2;
    for (std::size_t i = 0; i < kernel->size(); ++i) out.dims[i + first] = window(call, out.dims[i + first], (*kernel)[i], i, kernel->size());
    return out;
}

} // namespace triptych
