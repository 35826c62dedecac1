// Elementwise operators, reductions, norms, and what keeps its input's shape.

#include "shapes/rules.h"

namespace triptych {

namespace {

void same(RuleCall& call) { call.set(0, call.in(0)); }

void joined(RuleCall& call, DataType type) {
    ValueShape out = call.in(0);
    for (std::size_t i = 1; i < call.inputCount(); ++i) {
        const ValueShape& next = call.in(i);
        out.ranked = out.ranked && next.ranked;
        if (out.ranked && !goTogether(out.dims, next.dims)) call.misfit = dimsText(out.dims) + " and " + dimsText(next.dims) + " don't go together";
        if (out.ranked) out.dims = broadcast(out.dims, next.dims);
        if (out.type == DataType::undefined) out.type = next.type;
    }
    if (type != DataType::undefined) out.type = type;
    call.set(0, out);
}

void arithmetic(RuleCall& call) { joined(call, DataType::undefined); }
void comparison(RuleCall& call) { joined(call, DataType::boolean); }

void toBoolean(RuleCall& call) {
    ValueShape out = call.in(0);
    out.type = DataType::boolean;
    call.set(0, out);
}

void cast(RuleCall& call) {
    ValueShape out = call.in(0);
    out.type = call.node.op == "CastLike" ? call.in(1).type : static_cast<DataType>(call.node.attributes.integer("to", 1));
    call.set(0, out);
}

void where(RuleCall& call) {
    ValueShape out = call.in(1);
    out.ranked = out.ranked && call.in(0).ranked && call.in(2).ranked;
    if (out.ranked) out.dims = broadcast(broadcast(out.dims, call.in(2).dims), call.in(0).dims);
    if (out.type == DataType::undefined) out.type = call.in(2).type;
    call.set(0, out);
}

void reduce(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const bool keep = call.node.attributes.integer("keepdims", 1) != 0;
    const auto axes = call.list(1, "axes");
    if (!in.ranked || (!axes && call.has(1))) return call.setType(0, in.type);
    std::vector<bool> reduced(in.dims.size(), !axes || axes->empty());
    if ((!axes || axes->empty()) && call.node.attributes.integer("noop_with_empty_axes", 0) != 0) return call.set(0, in);
    if (axes)
        for (const std::int64_t axis : *axes)
            if (const auto at = axisIn(axis, in.dims.size())) reduced[*at] = true;
    Dims dims;
    for (std::size_t i = 0; i < in.dims.size(); ++i) {
        if (!reduced[i]) dims.push_back(in.dims[i]);
        else if (keep) dims.push_back(1);
    }
    call.set(0, in.type, std::move(dims));
}

void argument(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const auto axis = in.ranked ? axisIn(call.node.attributes.integer("axis", 0), in.dims.size()) : std::nullopt;
    if (!axis) return call.setType(0, DataType::int64);
    Dims dims = in.dims;
    if (call.node.attributes.integer("keepdims", 1) != 0) dims[*axis] = 1;
    else dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(*axis));
    call.set(0, DataType::int64, std::move(dims));
}

void dropout(RuleCall& call) {
    call.set(0, call.in(0));
    if (call.node.outputs.size() < 2) return;
    ValueShape mask = call.in(0);
    if (call.opset >= 10) mask.type = DataType::boolean; // before, it had the type of the input
    call.set(1, mask);
}

/// Y, and statistics of each channel where it trains.
void batchNorm(RuleCall& call) {
    const ValueShape &in = call.in(0), &mean = call.in(3);
    call.set(0, in);
    for (std::size_t i = 1; i < call.node.outputs.size(); ++i) call.set(i, mean.type, {in.ranked && in.dims.size() < 2 ? 1 : sizeAt(in, 1)});
}

/// Y, and the statistics with the normalised axes kept as 1.
void layerNorm(RuleCall& call) {
    const ValueShape& in = call.in(0);
    call.set(0, in);
    if (!in.ranked) return;
    const auto axis = axisIn(call.node.attributes.integer("axis", -1), in.dims.size());
    Dims dims = in.dims;
    for (std::size_t i = axis.value_or(dims.size()); i < dims.size(); ++i) dims[i] = 1;
    for (std::size_t i = 1; i < call.node.outputs.size(); ++i) call.set(i, DataType::float32, dims);
}

/// com.microsoft: output, mean, inverse deviation, and the sum of input and skip.
void skipLayerNorm(RuleCall& call) {
    const ValueShape& in = call.in(0);
    call.set(0, in);
    if (in.ranked && !in.dims.empty()) {
        Dims dims = in.dims;
        dims.back() = 1;
        call.set(1, DataType::float32, dims);
        call.set(2, DataType::float32, dims);
    }
    call.set(3, in);
}

/// com.microsoft: ids B x S and tables V x E give B x S x E, a mask index B, and the sum.
void embedLayerNorm(RuleCall& call) {
    const ValueShape &ids = call.in(0), &table = call.in(2);
    if (!ids.ranked || ids.dims.size() != 2 || !table.ranked || table.dims.size() != 2) return;
    const Dims dims{ids.dims[0], ids.dims[1], table.dims[1]};
    call.set(0, table.type, dims);
    call.set(1, DataType::int32, {ids.dims[0]});
    call.set(2, table.type, dims);
}

void dequantize(RuleCall& call) {
    ValueShape out = call.in(0);
    const auto wanted = static_cast<DataType>(call.node.attributes.integer("output_dtype", 0)); // of opset 23
    out.type = wanted != DataType::undefined ? wanted : call.in(1).type == DataType::undefined ? DataType::float32 : call.in(1).type;
    call.set(0, out);
}

void quantize(RuleCall& call) {
    ValueShape out = call.in(0);
    out.type = call.has(2) ? call.in(2).type : static_cast<DataType>(call.node.attributes.integer("output_dtype", static_cast<int>(DataType::uint8)));
    if (out.type == DataType::undefined) out.type = DataType::uint8;
    call.set(0, out);
}

void dynamicQuantize(RuleCall& call) {
    ValueShape out = call.in(0);
    out.type = DataType::uint8;
    call.set(0, out);
    call.set(1, DataType::float32, {});
    call.set(2, DataType::uint8, {});
}

} // namespace

void addPlainRules(RuleTable& table) {
    for (const char* op : {"Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Log", "Sqrt", "Neg", "Abs", "Floor", "Ceil", "Round", "Reciprocal", "Softmax", "LogSoftmax", "Hardmax", "Clip", "Gelu", "Elu",
                           "Selu", "Celu", "LeakyRelu", "PRelu", "HardSigmoid", "HardSwish", "Swish", "Mish", "Softplus", "Softsign", "ThresholdedRelu", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh",
                           "Cosh", "Asinh", "Acosh", "Atanh", "Sign", "Not", "BitwiseNot", "CumSum", "CumProd", "Trilu", "LpNormalization", "MeanVarianceNormalization", "InstanceNormalization",
                           "GroupNormalization", "LRN", "ScatterND", "ScatterElements", "Scatter", "Shrink", "ReverseSequence", "TensorScatter", "com.microsoft::Gelu", "com.microsoft::FastGelu",
                           "com.microsoft::BiasGelu", "com.microsoft::QuickGelu", "com.microsoft::GroupNorm", "com.microsoft::Trilu"})
        table[op] = same;
    for (const char* op : {"Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "com.microsoft::BiasAdd", "com.microsoft::ComplexMul", "com.microsoft::ComplexMulConj"}) table[op] = arithmetic;
    for (const char* op : {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor"}) table[op] = comparison;
    for (const char* op : {"IsNaN", "IsInf"}) table[op] = toBoolean;
    for (const char* op : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"}) table[op] = reduce;
    for (const char* op : {"ArgMax", "ArgMin"}) table[op] = argument;
    for (const char* op : {"LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization", "com.microsoft::SimplifiedLayerNormalization"}) table[op] = layerNorm;
    for (const char* op : {"com.microsoft::SkipLayerNormalization", "com.microsoft::SkipSimplifiedLayerNormalization"}) table[op] = skipLayerNorm;
    for (const char* op : {"Cast", "CastLike", "BitCast"}) table[op] = cast;
    table["BatchNormalization"] = batchNorm;
    table["Where"] = where;
    table["Dropout"] = dropout;
    table["com.microsoft::EmbedLayerNormalization"] = embedLayerNorm;
    table["DequantizeLinear"] = table["com.microsoft::DequantizeLinear"] = dequantize;
    table["QuantizeLinear"] = table["com.microsoft::QuantizeLinear"] = quantize;
    table["DynamicQuantizeLinear"] = dynamicQuantize;
}

} // namespace triptych
