// Operators of com.microsoft that are neither attention nor quantized, and of com.microsoft.nchwc, where optimised models keep images.
// Source: ONNX Runtime's ContribOperators.md.

#include "shapes/rules.h"

#include <algorithm>

namespace triptych {

namespace {

void same(RuleCall& call) { call.set(0, call.in(0)); }

void scores(RuleCall& call) { call.set(0, call.in(1)); }

/// Bits of a mask, 32 a word.
ValueShape bits(const ValueShape& of) {
    const Dim count = of.ranked ? elementCount(of.dims).value_or(unknownDim) : unknownDim;
    return {DataType::uint32, true, {count < 0 ? unknownDim : (count + 31) / 32}};
}

/// Data and bias, then a residual.
void biasDropout(RuleCall& call) {
    ValueShape out = call.in(0);
    call.set(0, out);
    if (call.node.op.starts_with("Bitmask")) return call.set(1, bits(out));
    out.type = DataType::boolean;
    call.set(1, out);
}

/// One half is the gate of the other.
void biasSplitGelu(RuleCall& call) {
    ValueShape out = call.in(0);
    if (out.ranked && !out.dims.empty() && out.dims.back() >= 0) out.dims.back() /= 2;
    call.set(0, out);
}

/// Transposed ones, and those whose first axis is one of the rows: then it goes behind the batch.
void fusedMatMul(RuleCall& call) {
    const auto turned = [&](ValueShape in, const char* turn, const char* turnBatch) {
        if (!in.ranked || in.dims.size() < 2) return in;
        if (call.node.attributes.integer(turnBatch, 0) != 0) std::rotate(in.dims.begin(), in.dims.begin() + 1, in.dims.end() - 1);
        if (call.node.attributes.integer(turn, 0) != 0) std::swap(in.dims[in.dims.size() - 1], in.dims[in.dims.size() - 2]);
        return in;
    };
    const ValueShape a = turned(call.in(0), "transA", "transBatchA"), b = turned(call.in(1), "transB", "transBatchB");
    call.set(0, multiplied(a, b, a.type == DataType::undefined ? b.type : a.type));
}

void gemmFloat8(RuleCall& call) { call.set(0, general(call, call.in(0), call.in(1), static_cast<DataType>(call.node.attributes.integer("dtype", 1)))); }

void distances(RuleCall& call) { call.set(0, call.in(0).type, {sizeAt(call.in(0), 0), sizeAt(call.in(1), 0)}); }

void expandDims(RuleCall& call) {
    ValueShape out = call.in(0);
    const auto axis = call.integer(1);
    const auto at = axis && out.ranked ? axisIn(*axis, out.dims.size() + 1) : std::nullopt;
    if (!at) return call.setType(0, out.type);
    out.dims.insert(out.dims.begin() + static_cast<std::ptrdiff_t>(*at), 1);
    call.set(0, out);
}

/// Rows of a table.
void embedding(RuleCall& call) {
    ValueShape out = call.in(1);
    out.type = call.in(0).type;
    if (out.ranked) out.dims.push_back(sizeAt(call.in(0), 1));
    call.set(0, out);
}

/// Characters of words to one vector a word.
void wordEmbedding(RuleCall& call) {
    ValueShape out = call.in(0);
    out.type = call.in(1).type;
    if (out.ranked && !out.dims.empty()) out.dims.back() = sizeAt(call.in(1), 0);
    call.set(0, out);
}

/// Distinct values of a list, the place of each element among them, and how often each is.
void unique(RuleCall& call) {
    call.dataDependent = "as many as there are distinct values";
    call.set(0, call.in(0).type, {unknownDim});
    call.set(1, DataType::int64, {sizeAt(call.in(0), 0)});
    call.set(2, DataType::int64, {unknownDim});
}

void allFinite(RuleCall& call) { call.set(0, DataType::boolean, {1}); }

/// Sequences of tokens up to the most that may be generated, then what beam search knows of them.
void generation(RuleCall& call) {
    const Dim batch = sizeAt(call.in(0), 0), most = std::max(call.integer(1).value_or(unknownDim), unknownDim);
    call.dataDependent = "as many tokens as it is allowed to make";
    const Dim words = std::max(call.node.attributes.integer("vocab_size", unknownDim), unknownDim);
    if (!call.node.op.ends_with("BeamSearch")) {
        call.set(0, DataType::int32, {batch, most});
        return call.set(1, DataType::float32, {batch, words}); // Sampling: the scores that it drew from
    }
    const Dim beams = std::max(call.integer(3).value_or(unknownDim), unknownDim), returned = std::max(call.integer(4).value_or(unknownDim), unknownDim);
    const Dim given = sizeAt(call.in(0), 1);
    call.set(0, DataType::int32, {batch, returned, most});
    call.set(1, DataType::float32, {batch, returned});
    call.set(2, DataType::float32, {given < 0 || most < given ? unknownDim : most - given, batch, beams, words});
}

void removePadding(RuleCall& call) {
    const ValueShape& in = call.in(0);
    call.dataDependent = "as many as there are tokens that are no padding";
    call.set(0, in.type, {unknownDim, sizeAt(in, 2)});
    call.set(1, DataType::int32, {sizeAt(in, 0), sizeAt(in, 1)});
    call.set(2, DataType::int32, {plus(sizeAt(in, 0), 1)});
    call.set(3, DataType::int32, {1});
}

void restorePadding(RuleCall& call) { call.set(0, call.in(0).type, {sizeAt(call.in(1), 0), sizeAt(call.in(1), 1), sizeAt(call.in(0), 1)}); }

void timeWarping(RuleCall& call) {
    call.dataDependent = "the best path decides";
    call.set(0, DataType::int32, {2, unknownDim});
}

/// Tokens that may be taken at once, and where they stand.
void bifurcation(RuleCall& call) {
    call.dataDependent = "as many tokens as were predicted";
    call.set(0, call.in(0).type, {unknownDim});
    call.set(1, call.in(0).type, {});
}

void opaque(RuleCall& call) { call.dataDependent = "it is compiled for one device, and tells no shapes"; }

void nhwcConvolution(RuleCall& call) { call.set(0, convolved(call, call.in(0), call.in(1), call.in(0).type, true)); }
void nhwcPool(RuleCall& call) { call.set(0, pooled(call, true)); }
void convolution(RuleCall& call) { call.set(0, convolved(call, call.in(0), call.in(1), call.in(0).type, false)); }
void pool(RuleCall& call) { call.set(0, pooled(call, false)); }

void globalPool(RuleCall& call) {
    ValueShape out = call.in(0);
    for (std::size_t i = 2; i < out.dims.size(); ++i) out.dims[i] = 1;
    call.set(0, out);
}

/// Channels are filled up to whole blocks of 8 or 16, as the processor likes them.
void reorderInput(RuleCall& call) {
    ValueShape out = call.in(0);
    if (!out.ranked || out.dims.size() != 4) return call.setType(0, out.type);
    if (call.node.attributes.integer("channels_last", 0) != 0) std::rotate(out.dims.begin() + 1, out.dims.end() - 1, out.dims.end());
    if (out.dims[1] % 16 != 0) {
        out.dims[1] = unknownDim;
        call.dataDependent = "its channels are filled up to what the processor likes";
    }
    call.set(0, out);
}

void reorderOutput(RuleCall& call) {
    ValueShape out = call.in(0);
    if (!out.ranked || out.dims.size() != 4) return call.setType(0, out.type);
    out.dims[1] = call.node.attributes.integer("channels", unknownDim);
    if (call.node.attributes.integer("channels_last", 0) != 0) std::rotate(out.dims.begin() + 1, out.dims.begin() + 2, out.dims.end());
    call.set(0, out);
}

void blockedUpsample(RuleCall& call) {
    ValueShape out = call.in(0);
    const auto* scales = call.node.attributes.integers("scales");
    for (std::size_t i = 0; i < out.dims.size(); ++i) out.dims[i] = times(out.dims[i], entry(scales, i, unknownDim));
    call.set(0, out);
}

void addImages(RuleTable& table) {
    for (const char* op : {"com.microsoft::NhwcConv", "com.microsoft::NhwcFusedConv"}) table[op] = nhwcConvolution;
    table["com.microsoft::NhwcMaxPool"] = nhwcPool;
    table["com.microsoft.nchwc::Conv"] = convolution;
    for (const char* op : {"com.microsoft.nchwc::MaxPool", "com.microsoft.nchwc::AveragePool"}) table[op] = pool;
    for (const char* op : {"com.microsoft.nchwc::GlobalMaxPool", "com.microsoft.nchwc::GlobalAveragePool"}) table[op] = globalPool;
    table["com.microsoft.nchwc::ReorderInput"] = reorderInput;
    table["com.microsoft.nchwc::ReorderOutput"] = reorderOutput;
    table["com.microsoft.nchwc::Upsample"] = blockedUpsample;
}

} // namespace

void addMicrosoftRules(RuleTable& table) {
    for (const char* op : {"com.microsoft::BiasSoftmax", "com.microsoft::Inverse", "com.microsoft::MoE", "com.microsoft::QMoE", "com.microsoft::GatedRMSNorm", "com.microsoft::GatedAdd", "com.microsoft::SampleOp"}) table[op] = same;
    table["com.microsoft::NGramRepeatBlock"] = scores;
    for (const char* op : {"com.microsoft::BiasDropout", "com.microsoft::BitmaskDropout", "com.microsoft::BitmaskBiasDropout"}) table[op] = biasDropout;
    table["com.microsoft::BiasSplitGelu"] = biasSplitGelu;
    for (const char* op : {"com.microsoft::FusedMatMul", "com.microsoft::FusedMatMulActivation", "com.microsoft::TransposeMatMul", "com.microsoft::SparseToDenseMatMul", "com.microsoft::GemmFastGelu"}) table[op] = fusedMatMul;
    table["com.microsoft::GemmFloat8"] = gemmFloat8;
    table["com.microsoft::CDist"] = distances;
    table["com.microsoft::ExpandDims"] = expandDims;
    table["com.microsoft::TorchEmbedding"] = embedding;
    table["com.microsoft::WordConvEmbedding"] = wordEmbedding;
    table["com.microsoft::Unique"] = unique;
    table["com.microsoft::IsAllFinite"] = allFinite;
    for (const char* op : {"com.microsoft::BeamSearch", "com.microsoft::WhisperBeamSearch", "com.microsoft::GreedySearch", "com.microsoft::Sampling"}) table[op] = generation;
    table["com.microsoft::RemovePadding"] = removePadding;
    table["com.microsoft::RestorePadding"] = restorePadding;
    table["com.microsoft::DynamicTimeWarping"] = timeWarping;
    table["com.microsoft::BifurcationDetector"] = bifurcation;
    for (const char* op : {"com.microsoft::EPContext", "com.microsoft::Snpe"}) table[op] = opaque;
    addImages(table);
}

} // namespace triptych
