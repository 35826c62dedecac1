// Arithmetic on quantized tensors: operands come with a scale and a zero point each, and the output has the type of its zero point.
// Sources: the ONNX operator specification; ONNX Runtime's ContribOperators.md.

#include "shapes/rules.h"

#include <algorithm>

namespace triptych {

namespace {

bool channelsLast(const RuleCall& call) { return call.node.attributes.integer("channels_last", 0) != 0; }

void same(RuleCall& call) { call.set(0, call.in(0)); }

/// Operands by their places.
void joined(RuleCall& call, std::initializer_list<std::size_t> places, DataType type) {
    ValueShape out{type, true, {}};
    for (const std::size_t place : places) {
        const ValueShape& in = call.in(place);
        out.ranked = out.ranked && in.ranked;
        if (out.ranked) out.dims = broadcast(out.dims, in.dims);
    }
    call.set(0, out);
}

void sum(RuleCall& call) { joined(call, {0, 3}, call.in(0).type); }
void integerProduct(RuleCall& call) { joined(call, {0, 2}, DataType::int32); }
void choice(RuleCall& call) { joined(call, {0, 1, 4}, call.in(1).type); }

/// Input, weights, zero point of the output at 0, 3 and 7.
void convolution(RuleCall& call) { call.set(0, convolved(call, call.in(0), call.in(3), call.in(7).type, channelsLast(call))); }

void averagePool(RuleCall& call) { call.set(0, pooled(call, channelsLast(call))); }

void globalPool(RuleCall& call) {
    ValueShape out = call.in(0);
    if (out.ranked && out.dims.size() > 2) {
        const std::ptrdiff_t first = channelsLast(call) ? 1 : 2;
        std::fill(out.dims.begin() + first, out.dims.end() - (2 - first), 1);
    }
    call.set(0, out);
}

/// Scale and zero point of the output, then tensor, scale and zero point of each part.
void concat(RuleCall& call) {
    ValueShape out = call.in(2);
    out.type = call.in(1).type;
    const auto axis = out.ranked ? axisIn(call.node.attributes.integer("axis", 0), out.dims.size()) : std::nullopt;
    if (!axis) return call.setType(0, out.type);
    for (std::size_t i = 5; i < call.inputCount(); i += 3) {
        const ValueShape& next = call.in(i);
        const bool fits = next.ranked && next.dims.size() == out.dims.size();
        out.dims[*axis] = fits ? plus(out.dims[*axis], next.dims[*axis]) : unknownDim;
    }
    call.set(0, out);
}

/// Axes are an attribute, and none means all.
void reduction(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const bool mean = call.node.op == "QLinearReduceMean";
    const DataType type = mean ? in.type : in.type == DataType::uint8 ? DataType::uint32 : DataType::int32;
    if (!in.ranked) return call.setType(0, type);
    const auto* axes = call.node.attributes.integers("axes");
    std::vector<bool> gone(in.dims.size(), !axes || axes->empty());
    if (axes)
        for (const std::int64_t axis : *axes)
            if (const auto at = axisIn(axis, in.dims.size())) gone[*at] = true;
    Dims dims;
    for (std::size_t i = 0; i < in.dims.size(); ++i) {
        if (!gone[i]) dims.push_back(in.dims[i]);
        else if (call.node.attributes.integer("keepdims", 1) != 0) dims.push_back(1);
    }
    call.set(0, type, std::move(dims));
}

/// Quantized again only where it is told how.
void gemm(RuleCall& call) { call.set(0, general(call, call.in(0), call.in(3), call.has(8) ? call.in(8).type : DataType::float32)); }

void toFloat(RuleCall& call) {
    const DataType scale = call.in(2).type;
    call.set(0, multiplied(call.in(0), call.in(1), scale == DataType::undefined ? DataType::float32 : scale));
}

void integerMatMul(RuleCall& call) {
    const bool natural = call.in(0).type == DataType::uint16 && call.in(1).type == DataType::uint16;
    call.set(0, multiplied(call.in(0), call.in(1), natural ? DataType::uint32 : DataType::int32));
}

/// Rows, columns and so on of the sizes N, or of the constant that holds the weights' sizes.
void packedMatMul(RuleCall& call) {
    ValueShape out = call.in(0);
    std::int64_t columns = call.node.attributes.integer("N", unknownDim);
    if (call.node.op == "MatMulBnb4" && call.node.attributes.integer("transB", 1) == 0) columns = call.node.attributes.integer("K", unknownDim);
    if (call.node.op == "MatMulFpQ4")
        if (const auto shape = call.list(2, ""); shape && !shape->empty()) columns = shape->back();
    if (columns < 0 && call.node.op.starts_with("MatMulBlockQuantized")) columns = sizeAt(call.in(1), 0);
    if (out.ranked && !out.dims.empty()) out.dims.back() = std::max(columns, unknownDim);
    call.set(0, out);
    call.set(1, call.in(0)); // MatMulNBitsMlp: the sum that it normalised
}

/// Three products of one input, and the sum that was normalised.
void packedQkv(RuleCall& call) {
    ValueShape out = call.in(0);
    call.set(3, out);
    for (std::size_t i = 0; i < 3; ++i) {
        if (out.ranked && !out.dims.empty()) out.dims.back() = call.node.attributes.integer(i == 0 ? "Nq" : "Nkv", unknownDim);
        call.set(i, out);
    }
}

/// Rows of a table that holds several numbers a byte.
void gatherBlocks(RuleCall& call) {
    const ValueShape &data = call.in(0), &indices = call.in(1);
    const DataType type = call.in(2).type;
    const auto axis = data.ranked ? axisIn(call.node.attributes.integer("gather_axis", 0), data.dims.size()) : std::nullopt;
    if (!axis || !indices.ranked) return call.setType(0, type);
    Dims dims = data.dims;
    const std::int64_t bits = call.node.attributes.integer("bits", 4);
    if (data.type == DataType::uint8 && bits > 0 && bits < 8) dims.back() = times(dims.back(), 8 / bits);
    const auto at = dims.begin() + static_cast<std::ptrdiff_t>(*axis);
    dims.insert(dims.erase(at), indices.dims.begin(), indices.dims.end());
    call.set(0, type, std::move(dims));
}

/// B at 2 is a matrix that may lie turned: its other side are the columns.
void orderedMatMul(RuleCall& call) {
    ValueShape out = call.in(0);
    const ValueShape& b = call.in(2);
    if (!out.ranked || out.dims.empty() || b.dims.size() != 2) return call.setType(0, out.type);
    out.dims.back() = b.dims[0] == out.dims.back() ? b.dims[1] : b.dims[1] == out.dims.back() ? b.dims[0] : unknownDim;
    call.set(0, out);
}

/// Blocks of bytes, and the shape and strides that they stand for; and back.
void blockFloat(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const Dim rank = in.ranked ? static_cast<Dim>(in.dims.size()) : unknownDim;
    call.dataDependent = "its format of blocks decides";
    call.set(0, DataType::uint8, {unknownDim});
    call.set(1, DataType::int64, {rank});
    call.set(2, DataType::int64, {rank});
}

void fromBlockFloat(RuleCall& call) {
    const auto type = static_cast<DataType>(call.node.attributes.integer("dtype", 1));
    const ValueShape& shape = call.in(1);
    if (const auto dims = call.list(1, "")) return call.set(0, type, *dims);
    const Dim rank = sizeAt(shape, 0);
    if (rank < 0 || rank > 16) return call.setType(0, type);
    call.set(0, type, Dims(static_cast<std::size_t>(rank), unknownDim));
}

void ordered(RuleCall& call) {
    ValueShape out = call.in(0);
    const bool back = call.node.op == "DequantizeWithOrder";
    out.type = back ? static_cast<DataType>(call.node.attributes.integer("to", 1)) : DataType::int8;
    call.set(0, out);
}

} // namespace

void addQuantizedRules(RuleTable& table) {
    table["QLinearConv"] = table["com.microsoft::QLinearConv"] = convolution;
    for (const char* op : {"com.microsoft::QLinearAdd", "com.microsoft::QLinearMul"}) table[op] = sum;
    for (const char* op : {"com.microsoft::QLinearLeakyRelu", "com.microsoft::QLinearSigmoid", "com.microsoft::QLinearSoftmax", "com.microsoft::QOrderedGelu", "com.microsoft::QOrderedLayerNormalization"}) table[op] = same;
    table["com.microsoft::MulInteger"] = integerProduct;
    table["com.microsoft::QLinearWhere"] = choice;
    table["com.microsoft::QLinearAveragePool"] = averagePool;
    table["com.microsoft::QLinearGlobalAveragePool"] = globalPool;
    table["com.microsoft::QLinearConcat"] = concat;
    table["com.microsoft::QLinearReduceMean"] = table["com.microsoft::ReduceSumInteger"] = reduction;
    table["com.microsoft::QGemm"] = gemm;
    for (const char* op : {"com.microsoft::DynamicQuantizeMatMul", "com.microsoft::MatMulIntegerToFloat"}) table[op] = toFloat;
    table["com.microsoft::MatMulInteger16"] = integerMatMul;
    for (const char* op : {"com.microsoft::MatMulNBits", "com.microsoft::MatMulNBitsMlp", "com.microsoft::MatMulBnb4", "com.microsoft::MatMulFpQ4", "com.microsoft::MatMulBlockQuantizedFp4Weight", "com.microsoft::MatMulBlockQuantizedFp8Weight"})
        table[op] = packedMatMul;
    table["com.microsoft::MatMulNBitsQkv"] = packedQkv;
    table["com.microsoft::GatherBlockQuantized"] = gatherBlocks;
    table["com.microsoft::QOrderedMatMul"] = orderedMatMul;
    table["com.microsoft::QuantizeBFP"] = blockFloat;
    table["com.microsoft::DequantizeBFP"] = fromBlockFloat;
    for (const char* op : {"com.microsoft::QuantizeWithOrder", "com.microsoft::DequantizeWithOrder"}) table[op] = ordered;
}

} // namespace triptych
