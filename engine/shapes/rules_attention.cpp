// Attention operators and what newer opsets bring with them.
// Sources: the ONNX operator specification (opset 23 to 25, ai.onnx.preview 1); ONNX Runtime's ContribOperators.md.

#include "shapes/rules.h"

#include "graph/torch_operator.h"

namespace triptych {

namespace {

Dim last(const ValueShape& shape) { return shape.ranked && !shape.dims.empty() ? shape.dims.back() : unknownDim; }
Dim over(Dim whole, std::int64_t parts) { return whole < 0 || parts <= 0 ? unknownDim : whole / parts; }

/// Y, present key, present value, query-key product.
void standardAttention(RuleCall& call) {
    const ValueShape &q = call.in(0), &k = call.in(1), &v = call.in(2);
    if (!q.ranked || !k.ranked || !v.ranked) return call.setType(0, q.type);
    const bool four = q.dims.size() == 4;
    const std::int64_t heads = four ? q.dims[1] : call.node.attributes.integer("q_num_heads", unknownDim);
    const std::int64_t kvHeads = four ? sizeAt(k, 1) : call.node.attributes.integer("kv_num_heads", unknownDim);
    const Dim batch = sizeAt(q, 0), rows = sizeAt(q, four ? 2 : 1), keys = sizeAt(k, four ? 2 : 1);
    const Dim size = four ? last(k) : over(last(k), kvHeads), vSize = four ? last(v) : over(last(v), kvHeads);
    const Dim past = call.has(4) ? sizeAt(call.in(4), 2) : 0, total = plus(past, keys);
    if (four) call.set(0, q.type, {batch, heads, rows, vSize});
    else call.set(0, q.type, {batch, rows, times(heads, vSize)});
    call.set(1, k.type, {batch, kvHeads, total, size});
    call.set(2, v.type, {batch, kvHeads, total, vSize});
    call.set(3, q.type, {batch, heads, rows, total});
}

/// ai.onnx.preview FlexAttention: as Attention of four axes, with what is done to scores and probabilities in graphs of its own.
void flexAttention(RuleCall& call) {
    const ValueShape &q = call.in(0), &v = call.in(2);
    if (!q.ranked || q.dims.size() != 4) return call.setType(0, q.type);
    call.set(0, q.type, {q.dims[0], q.dims[1], q.dims[2], last(v)});
}

/// An operator of PyTorch that an attribute names: scaled_dot_product_attention of any number of axes.
void torchOperator(RuleCall& call) {
    const ValueShape &q = call.in(0), &v = call.in(2);
    const std::string own = calledOperator(call.node);
    if (!own.ends_with("scaled_dot_product_attention")) return void(call.dataDependent = "no shape rule for PyTorch's '" + own + "'");
    if (!q.ranked || q.dims.empty()) return call.setType(0, q.type);
    Dims dims = q.dims;
    dims.back() = last(v);
    call.set(0, q.type, std::move(dims));
}

/// com.microsoft Attention: B x S x Dv, present 2 x B x N x T x H.
void packedAttention(RuleCall& call) {
    const ValueShape &in = call.in(0), &weight = call.in(1);
    if (!in.ranked || in.dims.size() != 3) return call.setType(0, in.type);
    const std::int64_t heads = call.node.attributes.integer("num_heads", unknownDim);
    Dim hidden = over(last(weight), 3);
    if (const auto* sizes = call.node.attributes.integers("qkv_hidden_sizes"); sizes && sizes->size() == 3) hidden = (*sizes)[2];
    call.set(0, in.type, {in.dims[0], in.dims[1], hidden});
    if (call.has(4) && call.has(6) && call.node.attributes.integer("past_present_share_buffer", 0) != 0) return call.set(1, call.in(4));
    const Dim past = call.has(4) ? sizeAt(call.in(4), 3) : 0;
    call.set(1, in.type, {2, in.dims[0], heads, plus(past, in.dims[1]), over(hidden, heads)});
}

/// com.microsoft MultiHeadAttention: B x S x Dv, present key and value B x N x T x H.
void multiHeadAttention(RuleCall& call) {
    const ValueShape &q = call.in(0), &k = call.in(1), &v = call.in(2);
    if (!q.ranked) return call.setType(0, q.type);
    const std::int64_t heads = call.node.attributes.integer("num_heads", unknownDim);
    if (q.dims.size() == 5) { // packed B x S x N x 3 x H
        call.set(0, q.type, {q.dims[0], q.dims[1], times(q.dims[2], q.dims[4])});
        return;
    }
    const bool decodes = call.node.op == "DecoderMaskedMultiHeadAttention", separate = v.ranked;
    const Dim hidden = !separate ? over(last(q), decodes ? 3 : 1) : v.dims.size() == 4 ? times(sizeAt(v, 1), sizeAt(v, 3)) : last(v);
    const Dim keys = k.ranked ? sizeAt(k, k.dims.size() == 4 ? 2 : 1) : sizeAt(q, 1);
    call.set(0, q.type, {sizeAt(q, 0), sizeAt(q, 1), hidden});
    const std::size_t first = decodes ? 5 : 6, length = decodes ? 7 : 8;
    const bool shared = call.has(first) && call.has(length) && (!decodes || call.node.attributes.integer("past_present_share_buffer", 0) != 0);
    const Dim total = shared ? unknownDim : plus(call.has(first) ? sizeAt(call.in(first), 2) : 0, keys);
    call.set(1, q.type, {sizeAt(q, 0), heads, total, over(separate ? last(q) : hidden, heads)});
    call.set(2, q.type, {sizeAt(q, 0), heads, total, over(hidden, heads)});
    call.set(3, q.type, {sizeAt(q, 0), heads, sizeAt(q, 1), total});
    if (!shared) return;
    // The buffer of past keys is that of present ones; how many of them count is the length's value.
    for (const std::size_t i : {0U, 1U}) call.set(1 + i, call.in(first + i));
    call.dataDependent = "how much of the past is filled is an input";
}

/// com.microsoft GroupQueryAttention: like Q; present key and value B x K x T x H.
void groupQueryAttention(RuleCall& call) {
    const ValueShape& q = call.in(0);
    if (!q.ranked || q.dims.size() != 3) return call.setType(0, q.type);
    const std::int64_t heads = call.node.attributes.integer("num_heads", unknownDim), kvHeads = call.node.attributes.integer("kv_num_heads", unknownDim);
    const bool packed = !call.has(1);
    const Dim size = over(q.dims[2], packed ? plus(heads, times(2, kvHeads)) : heads);
    call.set(0, q.type, {q.dims[0], q.dims[1], times(size, heads)});
    Dim total = call.integer(6).value_or(unknownDim);
    const bool window = call.node.attributes.integer("sliding_window_cache", 0) != 0;
    if (window) total = call.has(3) ? sizeAt(call.in(3), 2) : unknownDim;
    else if (total < 0) total = call.has(3) ? plus(sizeAt(call.in(3), 2), q.dims[1]) : q.dims[1];
    // A quantised cache has integers of 8 bits, or two of 4 in each byte.
    const bool quantised = call.has(12), four = quantised && call.node.attributes.integer("kv_cache_bit_width", 8) == 4;
    const DataType cache = call.has(3) ? call.in(3).type : four ? DataType::uint8 : quantised ? DataType::int8 : q.type;
    for (const std::size_t index : {1U, 2U}) call.set(index, cache, {q.dims[0], kvHeads, total, four ? over(size, 2) : size});
    call.set(3, q.type, {q.dims[0], heads, q.dims[1], total});
}

void rotaryEmbedding(RuleCall& call) { call.set(0, call.in(0)); }

} // namespace

void addAttentionRules(RuleTable& table) {
    table["Attention"] = standardAttention;
    table["ai.onnx.preview::FlexAttention"] = flexAttention;
    table["org.pytorch.aten::ATen"] = table["aten::scaled_dot_product_attention"] = torchOperator;
    table["com.microsoft::Attention"] = packedAttention;
    table["com.microsoft::MultiHeadAttention"] = table["com.microsoft::DecoderMaskedMultiHeadAttention"] = multiHeadAttention;
    table["com.microsoft::GroupQueryAttention"] = groupQueryAttention;
    table["RotaryEmbedding"] = table["com.microsoft::RotaryEmbedding"] = rotaryEmbedding;
}

} // namespace triptych
