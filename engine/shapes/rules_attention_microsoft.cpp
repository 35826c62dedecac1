// Attention of com.microsoft in its rarer forms: packed tokens, paged and fixed caches, quantized, linear, with a state.
// Source: ONNX Runtime's ContribOperators.md.

#include "shapes/rules.h"

#include <algorithm>

namespace triptych {

namespace {

Dim last(const ValueShape& shape) { return shape.ranked && !shape.dims.empty() ? shape.dims.back() : unknownDim; }
Dim over(Dim whole, std::int64_t parts) { return whole < 0 || parts <= 0 ? unknownDim : whole / parts; }
std::int64_t heads(const RuleCall& call, const char* name = "num_heads") { return call.node.attributes.integer(name, unknownDim); }

void same(RuleCall& call) { call.set(0, call.in(0)); }

/// The last axis of what comes in takes another size.
ValueShape widened(ValueShape in, Dim size, DataType type) {
    in.type = type;
    if (in.ranked && !in.dims.empty()) in.dims.back() = size;
    return in;
}

/// Size of V in weights of Q, K and V side by side.
Dim valueSize(const RuleCall& call, const ValueShape& weights) {
    const auto* sizes = call.node.attributes.integers("qkv_hidden_sizes");
    return sizes && sizes->size() == 3 ? (*sizes)[2] : over(last(weights), 3);
}

/// Tokens of all sequences, one after another.
void packedAttention(RuleCall& call) { call.set(0, widened(call.in(0), valueSize(call, call.in(1)), call.in(0).type)); }

void packedMultiHead(RuleCall& call) {
    const ValueShape& q = call.in(0);
    if (!q.ranked) return call.setType(0, q.type);
    const Dim size = q.dims.size() == 4 ? times(q.dims[1], q.dims[3]) : call.has(2) ? last(call.in(2)) : last(q);
    call.set(0, q.type, {q.dims.empty() ? unknownDim : q.dims[0], size});
}

/// The caches are what came in. Q may hold K and V too, and V may be narrower than Q.
void pagedAttention(RuleCall& call) {
    const ValueShape& q = call.in(0);
    const bool packed = !call.has(1);
    const std::int64_t count = heads(call), groups = heads(call, "kv_num_heads"), narrow = call.node.attributes.integer("v_head_size", 0);
    const bool latent = call.node.attributes.text("kv_cache_layout", "SEPARATE") == "LATENT";
    const Dim size = narrow > 0 ? narrow : over(last(q), packed && !latent ? plus(count, times(2, groups)) : count);
    call.set(0, q.type, {sizeAt(q, 0), times(count, size)});
    call.set(1, call.in(3));
    call.set(2, call.in(4));
}

/// The caches have room for the longest sequence.
void sparseAttention(RuleCall& call) {
    const ValueShape& q = call.in(0);
    const std::int64_t count = heads(call);
    const Dim size = over(last(q), call.has(1) ? count : plus(count, times(2, heads(call, "kv_num_heads"))));
    call.set(0, widened(q, times(count, size), q.type));
    call.set(1, call.in(3));
    call.set(2, call.in(4));
}

/// Rows come first, then the batch; whether the caches grow is an input.
void decoderAttention(RuleCall& call) {
    const ValueShape& q = call.in(0);
    call.set(0, q);
    const std::int64_t count = heads(call);
    call.dataDependent = "whether the cache is used and grows is an input";
    for (const std::size_t i : {1U, 2U}) call.set(i, q.type, {sizeAt(q, 1), count, unknownDim, over(last(q), count)});
}

/// One token; the cache of both K and V is what came in.
void decoderSelfAttention(RuleCall& call) {
    call.set(0, widened(call.in(0), over(last(call.in(1)), 3), call.in(0).type));
    call.set(1, call.in(4));
}

/// Input, weights, bias, scales, ..., past at 8.
void quantizedAttention(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const std::int64_t count = heads(call);
    const DataType type = call.in(3).type;
    const Dim hidden = over(last(call.in(1)), 3), past = call.has(8) ? sizeAt(call.in(8), 3) : 0;
    call.set(0, widened(in, hidden, type));
    call.set(1, type, {2, sizeAt(in, 0), count, plus(past, sizeAt(in, 1)), over(hidden, count)});
}

/// Weights of Q, K and V at 5, 6 and 7.
void orderedAttention(RuleCall& call) { call.set(0, widened(call.in(0), sizeAt(call.in(7), 1), call.in(0).type)); }

/// State after the last token, or (state_window) after each of the last ones: then these are the first axis.
Dims stated(const RuleCall& call, Dims dims) {
    if (const std::int64_t slots = call.node.attributes.integer("state_window", 0); slots > 0) dims.insert(dims.begin(), slots);
    return dims;
}

void linearAttention(RuleCall& call) {
    const ValueShape &q = call.in(0), &k = call.in(1), &v = call.in(2);
    const std::int64_t count = heads(call, "q_num_heads"), groups = heads(call, "kv_num_heads");
    const Dim size = over(last(v), groups);
    call.set(0, widened(q, times(std::max(count, groups), size), q.type));
    const DataType state = call.has(3) ? call.in(3).type : q.type;
    call.set(1, state, stated(call, {sizeAt(q, 0), groups, over(last(k), groups), size}));
}

void sameGates(RuleCall& call) {
    call.set(0, call.in(0));
    call.set(1, call.in(call.has(3) ? 3 : 0));
}

/// Tokens (of all sequences, or a batch of them), heads and their size; a state for each sequence.
void gatedDeltaNet(RuleCall& call) {
    const ValueShape &q = call.in(0), &k = call.in(1), &v = call.in(2);
    if (!q.ranked || !v.ranked || q.dims.size() < 3 || v.dims.size() != q.dims.size()) return call.setType(0, q.type);
    const std::size_t axis = q.dims.size() - 2;
    const Dim batch = call.has(3) ? resized(sizeAt(call.in(3), 0), -1) : sizeAt(call.in(6), 0), values = v.dims[axis], size = v.dims.back();
    Dims dims = v.dims;
    if (q.dims[axis] < 0 || values < 0) dims[axis] = unknownDim;
    else dims[axis] = std::max(q.dims[axis], values);
    call.set(0, q.type, std::move(dims));
    call.set(1, DataType::float32, {batch, values, size, q.dims.back()});
    const Dim each = plus(plus(values, times(sizeAt(k, axis), last(k))), times(values, size));
    call.set(2, DataType::float32, {batch, times(each, call.node.attributes.integer("state_update_capacity", 0))});
}

/// The state holds as many places before the first as the kernel reaches back, along the last axis, or the second where channels are last.
void causalConvolution(RuleCall& call) {
    const ValueShape& in = call.in(0);
    call.set(0, in);
    if (!in.ranked || in.dims.size() < 3) return call.setType(1, in.type);
    Dims dims = in.dims;
    const Dim reach = times(resized(last(call.in(1)), -1), call.node.attributes.integer("dilation", 1));
    (call.node.attributes.integer("channels_last", 0) != 0 ? dims[1] : dims.back()) = reach;
    call.set(1, in.type, stated(call, std::move(dims)));
}

/// The same for sequences one after another; the state is what came in, and what is appended to it may be told.
void packedCausalConvolution(RuleCall& call) {
    const ValueShape& state = call.in(4);
    call.set(0, call.in(0));
    call.set(1, state);
    call.set(2, call.in(0).type, {sizeAt(state, 0), call.node.attributes.integer("state_update_capacity", 0), sizeAt(call.in(0), 1)});
}

/// Keys shaped like queries; the gated value has a copy for each of their connections.
void engramGate(RuleCall& call) {
    for (const std::size_t i : {0U, 1U}) call.set(i, call.in(0));
}

/// Embedding, then Q and K each with its turned half.
void gemmaRotary(RuleCall& call) {
    call.set(0, call.in(1));
    call.set(1, call.in(3));
}

void gatedPositionBias(RuleCall& call) {
    const ValueShape &q = call.in(0), &bias = call.in(2);
    const Dim batch = call.has(6) ? sizeAt(call.in(6), 0) : sizeAt(q, 0);
    call.set(0, q.type, {batch, heads(call), sizeAt(bias, 2), sizeAt(bias, 3)});
}

void positionBias(RuleCall& call) {
    const auto length = [&](std::size_t input) { return std::max(call.integer(input).value_or(unknownDim), unknownDim); };
    call.set(0, call.in(0).type, {1, sizeAt(call.in(0), 1), length(1), length(2)});
}

/// Tables of bytes: the output has the type of their scales.
void quantizedEmbedding(RuleCall& call) {
    const ValueShape& ids = call.in(0);
    call.set(0, call.in(8).type, {sizeAt(ids, 0), sizeAt(ids, 1), sizeAt(call.in(2), 1)});
    call.set(1, DataType::int32, {sizeAt(ids, 0)});
}

void skipGroupNorm(RuleCall& call) {
    call.set(0, call.in(0));
    call.set(1, call.in(0));
}

/// A hash for each head of each n-gram, and the ids that the next call needs.
void nGramHashes(RuleCall& call) {
    const ValueShape& ids = call.in(0);
    const Dim before = resized(heads(call, "max_ngram_size"), -1);
    call.set(0, ids.type, {sizeAt(ids, 0), sizeAt(ids, 1), times(before, heads(call, "n_head_per_ngram"))});
    call.set(1, ids.type, {sizeAt(ids, 0), before});
}

void packedNGramHashes(RuleCall& call) {
    const ValueShape& ids = call.in(0);
    const Dim before = resized(heads(call, "max_ngram_size"), -1);
    call.set(0, ids.type, {sizeAt(ids, 0), times(before, heads(call, "n_head_per_ngram"))});
    call.set(1, ids.type, {unknownDim, before});
    call.dataDependent = "as many as there are requests";
}

} // namespace

void addMicrosoftAttentionRules(RuleTable& table) {
    table["com.microsoft::PackedAttention"] = packedAttention;
    table["com.microsoft::PackedMultiHeadAttention"] = packedMultiHead;
    table["com.microsoft::PagedAttention"] = pagedAttention;
    table["com.microsoft::SparseAttention"] = sparseAttention;
    table["com.microsoft::DecoderAttention"] = decoderAttention;
    table["com.microsoft::DecoderMaskedSelfAttention"] = decoderSelfAttention;
    table["com.microsoft::QAttention"] = quantizedAttention;
    table["com.microsoft::QOrderedAttention"] = orderedAttention;
    for (const char* op : {"com.microsoft::LongformerAttention", "com.microsoft::QOrderedLongformerAttention", "com.microsoft::MRotaryEmbedding"}) table[op] = same;
    table["com.microsoft::LinearAttention"] = linearAttention;
    table["com.microsoft::LinearAttentionGate"] = sameGates;
    table["com.microsoft::GatedDeltaNet"] = gatedDeltaNet;
    table["com.microsoft::CausalConvWithState"] = causalConvolution;
    table["com.microsoft::VarlenCausalConvWithState"] = packedCausalConvolution;
    table["com.microsoft::EngramGate"] = engramGate;
    table["com.microsoft::GemmaRotaryEmbedding"] = gemmaRotary;
    table["com.microsoft::GatedRelativePositionBias"] = gatedPositionBias;
    table["com.microsoft::RelativePositionBias"] = positionBias;
    table["com.microsoft::QEmbedLayerNormalization"] = quantizedEmbedding;
    table["com.microsoft::SkipGroupNorm"] = skipGroupNorm;
    table["com.microsoft::NGramHashMapping"] = nGramHashes;
    table["com.microsoft::VarlenNGramHashMapping"] = packedNGramHashes;
}

} // namespace triptych
