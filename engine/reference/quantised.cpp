// Quantised tensors: to and from integers with a scale and a zero point, for the tensor, along an axis or in blocks.

#include "reference/kernels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace triptych {

namespace {

/// Which element of scale and zero point belongs to an element of the data.
std::vector<std::size_t> scaleIndex(const KernelCall& call, const Dims& data, const Dims& scale) {
    const std::int64_t count = elementCount(data).value_or(0), scales = elementCount(scale).value_or(0);
    std::vector<std::size_t> index(static_cast<std::size_t>(count), 0);
    if (scales == 1 && scale.size() <= 1) return index;
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", 1), data.size());
    const std::int64_t block = call.node.attributes.integer("block_size", 0);
    std::int64_t inner = 1;
    for (std::size_t i = axis + 1; i < data.size(); ++i) inner *= data[i];
    if (block == 0 ? (scale.size() != 1 || scales != data[axis]) : (scale.size() != data.size() || scale[axis] != (data[axis] + block - 1) / block)) refuse("its scale doesn't fit");
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t along = i / inner % data[axis];
        index[static_cast<std::size_t>(i)] = static_cast<std::size_t>(block == 0 ? along : (i / inner / data[axis] * scale[axis] + along / block) * inner + i % inner);
    }
    return index;
}

std::pair<double, double> rangeOf(DataType type) {
    switch (type) {
    case DataType::int8: return {-128, 127};
    case DataType::uint16: return {0, 65535};
    case DataType::int16: return {-32768, 32767};
    case DataType::int4: return {-8, 7};
    case DataType::uint4: return {0, 15};
    default: return {0, 255};
    }
}

/// How many steps of a scale a number is, as QuantizeLinear rounds: in floats, half to even.
double stepsOf(double number, double scale) { return std::nearbyint(static_cast<double>(static_cast<float>(number) / static_cast<float>(scale))); }

} // namespace

HostTensor fromIntegers(const KernelCall& call, const HostTensor& codes, const HostTensor& scale, const HostTensor* zero) {
    if (!codes.isInteger() || !scale.isFloat() || scale.count() != 1 || (zero && zero->count() != 1)) refuse("its scale and zero point are not one each");
    HostTensor out = make(call, scale.type, codes.dims);
    for (std::size_t i = 0; i < out.floats().size(); ++i) out.floats()[i] = static_cast<float>((codes.at(i) - (zero ? zero->at(0) : 0)) * scale.at(0));
    return out;
}

HostTensor toIntegers(const KernelCall& call, const HostTensor& numbers, const HostTensor& scale, const HostTensor* zero) {
    if (scale.count() != 1 || (zero && (zero->count() != 1 || !zero->isInteger()))) refuse("its scale and zero point are not one each");
    HostTensor out = make(call, zero ? zero->type : DataType::uint8, numbers.dims);
    const auto [low, high] = rangeOf(out.type);
    for (std::size_t i = 0; i < out.integers().size(); ++i)
        out.integers()[i] = static_cast<std::int64_t>(std::clamp(stepsOf(numbers.at(i), scale.at(0)) + (zero ? zero->at(0) : 0), low, high));
    return out;
}

namespace {

Outputs quantise(const KernelCall& call) {
    const HostTensor &x = need(call, 0), &scale = need(call, 1);
    const HostTensor* zero = call.input(2);
    const auto wanted = static_cast<DataType>(call.node.attributes.integer("output_dtype", 0));
    const DataType type = zero ? zero->type : wanted == DataType::undefined ? DataType::uint8 : wanted;
    if (isFloating(type)) refuse("quantising to floats isn't known");
    const auto index = scaleIndex(call, x.dims, scale.dims);
    const auto [low, high] = rangeOf(type);
    HostTensor out = make(call, type, x.dims);
    for (std::size_t i = 0; i < index.size(); ++i) {
        const double point = zero ? zero->at(index[i]) : 0;
        out.integers()[i] = static_cast<std::int64_t>(std::clamp(stepsOf(x.at(i), scale.at(index[i])) + point, low, high));
    }
    return {std::move(out)};
}

Outputs dequantise(const KernelCall& call) {
    const HostTensor &x = need(call, 0), &scale = need(call, 1);
    const HostTensor* zero = call.input(2);
    const auto index = scaleIndex(call, x.dims, scale.dims);
    const auto wanted = static_cast<DataType>(call.node.attributes.integer("output_dtype", 0));
    HostTensor out = make(call, wanted == DataType::undefined ? scale.type : wanted, x.dims);
    if (!out.isFloat()) refuse("it gives no floats");
    for (std::size_t i = 0; i < index.size(); ++i) out.floats()[i] = static_cast<float>((x.at(i) - (zero ? zero->at(index[i]) : 0)) * scale.at(index[i]));
    return {std::move(out)};
}

/// com.microsoft QLinearAdd and QLinearMul: of what two tensors of integers stand for. Source: ContribOperators.md.
template <typename Function>
Outputs combinedIntegers(const KernelCall& call, const Function& function) {
    const HostTensor a = fromIntegers(call, need(call, 0), need(call, 1), call.input(2)), b = fromIntegers(call, need(call, 3), need(call, 4), call.input(5));
    return {toIntegers(call, combined(call, a, b, function), need(call, 6), call.input(7))};
}

Outputs dynamicQuantise(const KernelCall& call) {
    const HostTensor& x = need(call, 0);
    double low = 0, high = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(x.count()); ++i) {
        low = std::min(low, x.at(i));
        high = std::max(high, x.at(i));
    }
    const auto scale = static_cast<float>((high - low) / 255);
    const double point = scale > 0 ? std::clamp(std::nearbyint(-low / static_cast<double>(scale)), 0.0, 255.0) : 0;
    HostTensor out = make(call, DataType::uint8, x.dims);
    for (std::size_t i = 0; i < out.integers().size(); ++i)
        out.integers()[i] = static_cast<std::int64_t>(std::clamp((scale > 0 ? stepsOf(x.at(i), static_cast<double>(scale)) : 0) + point, 0.0, 255.0));
    return {std::move(out), HostTensor::ofFloats({}, {scale}), HostTensor::ofIntegers({}, {static_cast<std::int64_t>(point)}, DataType::uint8)};
}

/// Sums of integers back in a narrow type. `factor` of a column (of a product) or of a channel (of a convolution).
HostTensor requantised(const KernelCall& call, const HostTensor& sums, const HostTensor* zero, const std::function<double(std::size_t)>& factor) {
    HostTensor out = make(call, zero ? zero->type : DataType::uint8, sums.dims);
    const auto [low, high] = rangeOf(out.type);
    const double point = zero && zero->count() > 0 ? zero->at(0) : 0;
    for (std::size_t i = 0; i < out.integers().size(); ++i) out.integers()[i] = static_cast<std::int64_t>(std::clamp(std::nearbyint(sums.at(i) * factor(i)) + point, low, high));
    return out;
}

double scaleAt(const HostTensor& scale, std::size_t index) { return scale.at(scale.count() == 1 ? 0 : index); }

Outputs quantisedProduct(const KernelCall& call) {
    const HostTensor sums = product(call, lessZero(need(call, 0), call.input(2), true), lessZero(need(call, 3), call.input(5), false));
    const HostTensor &a = need(call, 1), &b = need(call, 4), &y = need(call, 6);
    const auto columns = static_cast<std::size_t>(sums.dims.empty() ? 1 : sums.dims.back()), rows = static_cast<std::size_t>(sums.dims.size() < 2 ? 1 : sums.dims[sums.dims.size() - 2]);
    return {requantised(call, sums, call.input(7), [&](std::size_t i) { return scaleAt(a, i / columns % rows) * scaleAt(b, i % columns) / y.at(0); })};
}

HostTensor turned(const KernelCall& call, const HostTensor& matrix) {
    if (matrix.dims.size() != 2) refuse("its operand is no matrix");
    HostTensor out = make(call, matrix.type, {matrix.dims[1], matrix.dims[0]});
    const auto rows = static_cast<std::size_t>(matrix.dims[0]), columns = static_cast<std::size_t>(matrix.dims[1]);
    for (std::size_t i = 0; i < out.integers().size(); ++i) out.integers()[i] = matrix.integers()[i % rows * columns + i / rows];
    return out;
}

/// com.microsoft QGemm: alpha (A B + C), C in units of the sums; floats where no scale of Y is given. Source: ContribOperators.md.
Outputs quantisedGemm(const KernelCall& call) {
    const Attributes& attributes = call.node.attributes;
    const HostTensor a = attributes.integer("transA", 0) != 0 ? turned(call, need(call, 0)) : need(call, 0), b = attributes.integer("transB", 0) != 0 ? turned(call, need(call, 3)) : need(call, 3);
    HostTensor sums = product(call, lessZero(a, call.input(2), true), lessZero(b, call.input(5), false));
    if (sums.dims.size() != 2) refuse("its operand is no matrix");
    const auto columns = static_cast<std::size_t>(std::max<Dim>(sums.dims[1], 1)), all = sums.integers().size(), rows = all / columns;
    if (const HostTensor* c = call.input(6); c && c->count() > 0) {
        const auto many = static_cast<std::size_t>(c->count());
        const bool oneEachRow = c->dims.size() == 2 && c->dims[1] == 1 && many == rows;
        if (many != 1 && many != columns && many != all && !oneEachRow) refuse("its C doesn't fit");
        for (std::size_t i = 0; i < all; ++i) sums.integers()[i] += c->integers()[oneEachRow ? i / columns : i % many];
    }
    const HostTensor &scaleA = need(call, 1), &scaleB = need(call, 4), *scaleY = call.input(7);
    const double alpha = static_cast<double>(attributes.real("alpha", 1));
    const auto factor = [&](std::size_t i) { return alpha * scaleA.at(0) * scaleAt(scaleB, i % columns); };
    if (scaleY) return {requantised(call, sums, call.input(8), [&](std::size_t i) { return factor(i) / scaleY->at(0); })};
    HostTensor out = make(call, scaleA.type, sums.dims);
    if (!out.isFloat()) refuse("its scale is not of floats");
    for (std::size_t i = 0; i < all; ++i) out.floats()[i] = static_cast<float>(sums.at(i) * factor(i));
    return {std::move(out)};
}

/// Sums of integers as floats again: com.microsoft MatMulIntegerToFloat, with scales for all or for each row and column.
HostTensor scaledSums(const KernelCall& call, const HostTensor& sums, DataType type, const HostTensor& a, const HostTensor& b, const HostTensor* bias) {
    HostTensor out = make(call, type, sums.dims);
    if (!out.isFloat()) refuse("its scale is not of floats");
    const auto columns = static_cast<std::size_t>(sums.dims.empty() ? 1 : sums.dims.back()), rows = static_cast<std::size_t>(sums.dims.size() < 2 ? 1 : sums.dims[sums.dims.size() - 2]);
    for (std::size_t i = 0; i < out.floats().size(); ++i)
        out.floats()[i] = static_cast<float>(sums.at(i) * scaleAt(a, i / columns % rows) * scaleAt(b, i % columns) + (bias ? bias->at(i % columns) : 0));
    return out;
}

Outputs productToFloat(const KernelCall& call) {
    const HostTensor sums = product(call, lessZero(need(call, 0), call.input(4), true), lessZero(need(call, 1), call.input(5), false));
    return {scaledSums(call, sums, need(call, 2).type, need(call, 2), need(call, 3), call.input(6))};
}

/// com.microsoft DynamicQuantizeMatMul: the same of a float tensor, which is made integers of first.
Outputs dynamicProduct(const KernelCall& call) {
    const Outputs a = dynamicQuantise(call);
    const HostTensor sums = product(call, lessZero(a[0], &a[2], true), lessZero(need(call, 1), call.input(3), false));
    return {scaledSums(call, sums, need(call, 0).type, a[1], need(call, 2), call.input(4))};
}

/// Weights less one zero point for each filter.
HostTensor filtersLessZero(const HostTensor& w, const HostTensor* zero) {
    HostTensor out = w;
    out.type = DataType::int32;
    const std::size_t each = w.dims.empty() || w.dims[0] == 0 ? 1 : static_cast<std::size_t>(w.count() / w.dims[0]);
    for (std::size_t i = 0; zero && zero->count() > 0 && i < out.integers().size(); ++i) out.integers()[i] -= static_cast<std::int64_t>(scaleAt(*zero, i / each));
    return out;
}

Outputs quantisedConvolution(const KernelCall& call) {
    const HostTensor sums = convolved(call, lessZero(need(call, 0), call.input(2), true), filtersLessZero(need(call, 3), call.input(5)), call.input(8));
    const HostTensor &x = need(call, 1), &w = need(call, 4), &y = need(call, 6);
    const Split split(sums.dims, 1);
    return {requantised(call, sums, call.input(7), [&](std::size_t i) { return x.at(0) * scaleAt(w, i / split.inner % split.size) / y.at(0); })};
}

/// com.microsoft MatMulNBits: B is N rows of blocks along K, each number a few bits. Source: ContribOperators.md.
Outputs productOfBits(const KernelCall& call) {
    const Attributes& a = call.node.attributes;
    const std::int64_t k = a.integer("K", 0), n = a.integer("N", 0), bits = a.integer("bits", 4), block = a.integer("block_size", 32);
    if (k < 1 || n < 1 || block < 1 || (bits != 2 && bits != 4 && bits != 8)) refuse("its sizes make no sense");
    const std::int64_t blocks = (k + block - 1) / block, bytes = block * bits / 8, zeroBytes = (blocks * bits + 7) / 8;
    const HostTensor &packed = need(call, 1), &scales = need(call, 2), *zeros = call.input(3);
    if (packed.count() < n * blocks * bytes || scales.count() < n * blocks || call.input(4)) refuse("its packed weight doesn't fit K and N");
    HostTensor weight = make(call, need(call, 0).type, {k, n});
    const auto mask = (std::int64_t(1) << bits) - 1;
    for (std::int64_t column = 0; column < n; ++column) {
        for (std::int64_t row = 0; row < k; ++row) {
            const std::int64_t at = row / block, within = row % block * bits;
            const std::int64_t number = packed.integers()[static_cast<std::size_t>((column * blocks + at) * bytes + within / 8)] >> (within % 8) & mask;
            double zero = static_cast<double>(std::int64_t(1) << (bits - 1));
            if (zeros && zeros->isInteger()) zero = static_cast<double>(zeros->integers().at(static_cast<std::size_t>(column * zeroBytes + at * bits / 8)) >> (at * bits % 8) & mask);
            else if (zeros) zero = zeros->at(static_cast<std::size_t>(column * blocks + at));
            weight.floats()[static_cast<std::size_t>(row * n + column)] = static_cast<float>((static_cast<double>(number) - zero) * scales.at(static_cast<std::size_t>(column * blocks + at)));
        }
    }
    HostTensor out = product(call, need(call, 0), weight);
    if (const HostTensor* bias = call.input(5))
        for (std::size_t i = 0; i < out.floats().size(); ++i) out.floats()[i] += bias->floats().at(i % static_cast<std::size_t>(n));
    return {std::move(out)};
}

/// com.microsoft MatMulBnb4: numbers of four bits that pick from a table, the upper half of a byte first, with a scale for each block of all of
/// them in a row. Source: ContribOperators.md; the tables: onnxruntime/contrib_ops/cpu/quantization/blockwise_quant_block_bnb4.h.
Outputs productOfPicked(const KernelCall& call) {
    static constexpr std::array<float, 16> fp4{0, 5.208333333e-03F, 0.66666667F, 1, 0.33333333F, 0.5F, 0.16666667F, 0.25F, 0, -5.208333333e-03F, -0.66666667F, -1, -0.33333333F, -0.5F, -0.16666667F, -0.25F};
    static constexpr std::array<float, 16> nf4{-1, -0.6961928009986877F, -0.5250730514526367F, -0.39491748809814453F, -0.28444138169288635F, -0.18477343022823334F, -0.09105003625154495F, 0,
                                               0.07958029955625534F, 0.16093020141124725F, 0.24611230194568634F, 0.33791524171829224F, 0.44070982933044434F, 0.5626170039176941F, 0.7229568362236023F, 1};
    const Attributes& a = call.node.attributes;
    const std::int64_t k = a.integer("K", 0), n = a.integer("N", 0), block = a.integer("block_size", 0);
    if (k < 1 || n < 1 || block < 1 || a.integer("transB", 1) == 0) refuse("its sizes make no sense");
    const auto& table = a.integer("quant_type", 1) == 0 ? fp4 : nf4;
    const HostTensor &packed = need(call, 1), &scales = need(call, 2);
    if (packed.count() < (k * n + 1) / 2 || scales.count() < (k * n + block - 1) / block || !packed.isInteger()) refuse("its packed weight doesn't fit K and N");
    HostTensor weight = make(call, need(call, 0).type, {k, n});
    for (std::int64_t i = 0; i < k * n; ++i) {
        const std::int64_t pair = packed.integers()[static_cast<std::size_t>(i / 2)], pick = (i % 2 == 0 ? pair >> 4 : pair) & 15;
        weight.floats().at(static_cast<std::size_t>(i % k * n + i / k)) = static_cast<float>(static_cast<double>(table[static_cast<std::size_t>(pick)]) * scales.at(static_cast<std::size_t>(i / block)));
    }
    return {product(call, need(call, 0), weight)};
}

} // namespace

void addQuantised(KernelTable& table) {
    for (const char* name : {"QuantizeLinear", "com.microsoft::QuantizeLinear"}) table[name] = quantise;
    for (const char* name : {"DequantizeLinear", "com.microsoft::DequantizeLinear"}) table[name] = dequantise;
    table["DynamicQuantizeLinear"] = dynamicQuantise;
    table["QLinearMatMul"] = quantisedProduct;
    table["com.microsoft::QLinearAdd"] = [](const KernelCall& call) { return combinedIntegers(call, [](double a, double b) { return a + b; }); };
    table["com.microsoft::QLinearMul"] = [](const KernelCall& call) { return combinedIntegers(call, [](double a, double b) { return a * b; }); };
    table["com.microsoft::QGemm"] = quantisedGemm;
    table["com.microsoft::MatMulIntegerToFloat"] = productToFloat;
    table["com.microsoft::DynamicQuantizeMatMul"] = dynamicProduct;
    table["QLinearConv"] = quantisedConvolution;
    table["ConvInteger"] = [](const KernelCall& call) -> Outputs {
        return {convolved(call, lessZero(need(call, 0), call.input(2), true), filtersLessZero(need(call, 1), call.input(3)), nullptr)};
    };
    table["com.microsoft::MatMulNBits"] = productOfBits;
    table["com.microsoft::MatMulBnb4"] = productOfPicked;
}

} // namespace triptych
