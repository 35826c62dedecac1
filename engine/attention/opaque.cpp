// Attention as one operator:
//   ai.onnx Attention (opset 23 to 25), com.microsoft Attention, MultiHeadAttention, GroupQueryAttention,
//   SparseAttention, PagedAttention, DecoderMaskedMultiHeadAttention, DecoderMaskedSelfAttention, QAttention, PackedAttention,
//   PackedMultiHeadAttention, LongformerAttention, DecoderAttention whose switches the file gives;
//   ai.onnx.preview FlexAttention without graphs of its own, PyTorch's scaled_dot_product_attention.
// Others are named, not described: of com.microsoft, plugins of TensorRT, operators that an exporter left as PyTorch's.
// Sources: the ONNX operator specification; ONNX Runtime's ContribOperators.md.

#include "attention/assemble.h"
#include "attention/opaque_inputs.h"
#include "attention/product_axes.h"
#include "graph/torch_operator.h"

#include <array>
#include <cmath>

namespace triptych {

namespace {

std::int64_t lastDim(const Shapes& shapes, ValueId value) { return dimFromEnd(shapes, value, 0); }

std::int64_t dimAt(const Shapes& shapes, ValueId value, std::size_t axis) {
    if (!value) return 0;
    const ValueShape& shape = shapes.of(value);
    return shape.ranked && axis < shape.dims.size() && shape.dims[axis] > 0 ? shape.dims[axis] : 0;
}

std::size_t rank(const Shapes& shapes, ValueId value) { return value && shapes.of(value).ranked ? shapes.of(value).dims.size() : 0; }

void traceInputs(const Graph& graph, const Shapes& shapes, const std::array<ValueId, 3>& inputs, AttentionSpec& spec) {
    assembleRoles(graph, shapes, traceStreams(graph, shapes, inputs), spec);
}

/// A number of heads: 0 where it can be none.
std::int64_t headCount(const Node& node, const char* name, std::int64_t absent = 0) {
    constexpr std::int64_t most = 1 << 24;
    const std::int64_t count = node.attributes.integer(name, absent);
    return count > 0 && count <= most ? count : 0;
}

std::vector<ValueId> givenOf(const Node& node, const std::vector<std::size_t>& inputs) {
    std::vector<ValueId> given;
    for (const std::size_t index : inputs)
        if (node.input(index)) given.push_back(node.input(index));
    return given;
}

void setCausal(AttentionSpec& spec) {
    spec.causal = true;
    spec.masks.insert("causal");
}

/// Lengths of sequences hide the keys behind them.
void hideByLengths(const Shapes& shapes, ValueId lengths, AttentionSpec& spec) {
    if (lengths && !shapes.isConstant(lengths)) spec.masks.insert("padding");
}

/// ai.onnx Attention: Q, K, V as B x S x H*D or B x H x S x D, mask, past key and value.
void standardAttention(const Graph& graph, const Shapes& shapes, const Node& node, MaskReader& masks, AttentionSpec& spec) {
    const Attributes& attributes = node.attributes;
    const bool fourAxes = rank(shapes, node.input(0)) == 4;
    spec.heads = fourAxes ? dimAt(shapes, node.input(0), 1) : headCount(node, "q_num_heads");
    spec.kvHeads = fourAxes ? dimAt(shapes, node.input(1), 1) : headCount(node, "kv_num_heads");
    const auto size = [&](ValueId value, std::int64_t heads) { return fourAxes ? lastDim(shapes, value) : heads > 0 ? lastDim(shapes, value) / heads : 0; };
    spec.headDim = size(node.input(0), spec.heads);
    spec.vHeadDim = size(node.input(2), spec.kvHeads);
    traceInputs(graph, shapes, {node.input(0), node.input(1), node.input(2)}, spec);
    if (attributes.real("softcap", 0) != 0) spec.extras.insert("softcap");
    if (node.input(4)) spec.extras.insert("kv_cache");
    describeMasks(givenOf(node, {3}), masks, spec);
    hideByLengths(shapes, node.input(6), spec);
    // A window that ends at the query's own key on its right is what causal means; one that ends behind it hides nothing more than that.
    const std::int64_t right = attributes.integer("right_window_size", -1);
    if (attributes.integer("is_causal", 0) != 0 || right == 0) setCausal(spec);
    if (attributes.integer("left_window_size", -1) >= 0 || (right > 0 && !spec.causal.value_or(false))) spec.masks.insert("window");
    if (spec.kvHeads > 0 && spec.kvHeads < spec.heads) spec.extras.insert("kv_repeat");
}

/// com.microsoft Attention and what has its form: input, packed weight E x (Dq + Dk + Dv), bias, then masks and past.
void packedAttention(const Shapes& shapes, NodeId id, const Node& node, MaskReader& masks, AttentionSpec& spec) {
    spec.heads = spec.kvHeads = headCount(node, "num_heads");
    const std::int64_t columns = lastDim(shapes, node.input(1));
    std::int64_t q = columns / 3, v = columns / 3;
    if (const auto* sizes = node.attributes.integers("qkv_hidden_sizes"); sizes && sizes->size() == 3) {
        q = (*sizes)[0];
        v = (*sizes)[2];
    }
    if (spec.heads > 0) {
        spec.headDim = q / spec.heads;
        spec.vHeadDim = v / spec.heads;
    }
    spec.projections = ProjectionForm::packed;
    spec.q = spec.k = spec.v = node.input(0);
    std::int64_t offset = 0;
    for (auto [slot, width] : {std::pair(&spec.projectionQ, q), std::pair(&spec.projectionK, q), std::pair(&spec.projectionV, v)}) {
        *slot = Projection{{id}, node.input(0), node.input(1), node.input(2), {}, offset, width};
        offset += width;
    }
    for (const char* role : {"q", "k", "v"}) spec.evidence.push_back({role, node.name, "columns of the operator's packed weight, in the documented order"});
    const OpaqueInputs inputs = inputsOf(node);
    const bool dummy = rank(shapes, node.input(inputs.mask)) == 2 && lastDim(shapes, node.input(inputs.mask)) == 1; // taken for no mask
    describeMasks(givenOf(node, {dummy ? OpaqueInputs::absent : inputs.mask, inputs.attentionBias}), masks, spec);
    hideByLengths(shapes, node.input(inputs.tokens + 1), spec);
    if (node.attributes.integer("unidirectional", 0) != 0) setCausal(spec);
    if (node.attributes.integer("do_rotary", 0) != 0) spec.extras.insert("rope");
    if (node.input(inputs.past)) spec.extras.insert("kv_cache");
    if (node.input(inputs.global)) {
        spec.extras.insert("banded");
        spec.masks.insert("window");
    }
}

/// com.microsoft DecoderAttention: weights of its own for queries, and for keys and values together; places come before the batch.
void decoderAttention(const Shapes& shapes, NodeId id, const Node& node, const DecoderSwitches& does, MaskReader& masks, AttentionSpec& spec) {
    spec.kind = does.cross ? AttentionKind::cross : AttentionKind::self;
    spec.heads = spec.kvHeads = headCount(node, "num_heads");
    const std::int64_t width = lastDim(shapes, node.input(0));
    if (spec.heads > 0) spec.headDim = spec.vHeadDim = width / spec.heads;
    spec.q = node.input(0);
    spec.projectionQ = Projection{{id}, spec.q, node.input(2), node.input(4), {}, 0, width};
    spec.evidence.push_back({"q", node.name, "the operator's own weight"});
    const bool cached = does.cross && does.past;
    spec.projections = cached ? ProjectionForm::separate : ProjectionForm::packed;
    spec.k = spec.v = cached ? node.input(6) : node.input(does.cross ? 1 : 0);
    if (cached) spec.v = node.input(7);
    std::int64_t offset = 0;
    for (auto [slot, role] : {std::pair(&spec.projectionK, "k"), std::pair(&spec.projectionV, "v")}) {
        if (!cached) *slot = Projection{{id}, spec.k, node.input(3), node.input(4), {}, offset, width};
        spec.evidence.push_back({role, node.name, cached ? "the cache of another sequence" : "columns of the operator's packed weight, in the documented order"});
        offset += width;
    }
    describeMasks(givenOf(node, {does.padding ? 5 : OpaqueInputs::absent}), masks, spec);
    if (does.past && !does.cross) spec.extras.insert("kv_cache");
}

/// com.microsoft MultiHeadAttention and its relatives: Q, K, V (or packed), heads as an attribute.
void multiHeadAttention(const Graph& graph, const Shapes& shapes, const Node& node, MaskReader& masks, AttentionSpec& spec) {
    const OpaqueInputs inputs = inputsOf(node);
    const bool grouped = node.input(inputs.lengths).valid();
    spec.heads = headCount(node, "num_heads");
    spec.kvHeads = grouped ? headCount(node, "kv_num_heads", spec.heads) : spec.heads;
    const ValueId q = node.input(0), k = node.input(1) ? node.input(1) : q, v = node.input(2) ? node.input(2) : k;
    if (spec.heads > 0) {
        // Side by side in one input, with an axis for the roles or without.
        const std::int64_t parts = node.input(1) || rank(shapes, q) >= 4 ? spec.heads : spec.heads + 2 * spec.kvHeads;
        spec.headDim = rank(shapes, q) >= 4 ? lastDim(shapes, q) : lastDim(shapes, q) / parts;
        const bool own = node.input(2) && spec.kvHeads > 0;
        // Values may be a part of latent rows, which are keys as a whole.
        const std::int64_t narrow = node.attributes.text("kv_cache_layout", "") == "LATENT" ? node.attributes.integer("v_head_size", 0) : 0;
        spec.vHeadDim = !own ? (narrow > 0 ? narrow : spec.headDim) : rank(shapes, v) >= 4 ? lastDim(shapes, v) : lastDim(shapes, v) / spec.kvHeads;
    }
    traceInputs(graph, shapes, {q, k, v}, spec);
    // [B,S,N,3,H]: the roles of each head stand beside each other.
    if (spec.projections == ProjectionForm::packed && !node.input(2) && rank(shapes, k) >= 4) spec.projections = ProjectionForm::packedInterleaved;
    describeMasks(givenOf(node, {inputs.mask, inputs.attentionBias}), masks, spec);
    const bool causal = node.attributes.integer("unidirectional", 0) != 0 || (grouped && hidesLaterKeys(node));
    if (causal) setCausal(spec);
    hideByLengths(shapes, node.input(inputs.tokens + 1), spec);
    // Each batch has as many keys as a length says; without a past all have the same.
    for (const std::size_t each : {inputs.lengths, inputs.sums})
        if (grouped && (node.input(inputs.past) || !causal)) hideByLengths(shapes, node.input(each), spec);
    if (node.input(inputs.blocks)) spec.masks.insert("block_sparse");
    if (node.attributes.integer("do_rotary", 0) != 0) spec.extras.insert("rope");
    if (grouped && node.attributes.integer("local_window_size", -1) > 0) spec.masks.insert("window");
    if (node.attributes.real("softcap", 0) != 0) spec.extras.insert("softcap");
    if (hasSink(node)) spec.extras.insert("sink");
    if (node.input(inputs.norms)) spec.extras.insert("qk_norm");
    if (node.input(inputs.past)) spec.extras.insert("kv_cache");
    if (spec.kvHeads > 0 && spec.kvHeads < spec.heads) spec.extras.insert("kv_repeat");
}

/// Q, K and V as B x H x S x D.
void fourAxesAttention(const Graph& graph, const Shapes& shapes, const Node& node, const BareAttention& bare, MaskReader& masks, AttentionSpec& spec) {
    spec.heads = dimAt(shapes, node.input(0), 1);
    spec.kvHeads = dimAt(shapes, node.input(1), 1);
    spec.headDim = lastDim(shapes, node.input(0));
    spec.vHeadDim = lastDim(shapes, node.input(2));
    traceInputs(graph, shapes, {node.input(0), node.input(1), node.input(2)}, spec);
    describeMasks(givenOf(node, {bare.mask ? 3 : OpaqueInputs::absent}), masks, spec);
    if (bare.causal) setCausal(spec);
    if (spec.kvHeads > 0 && spec.kvHeads < spec.heads) spec.extras.insert("kv_repeat");
}

/// Both specifications: one over the root of the head size, unless it is given. com.microsoft takes 0 for "not given".
std::optional<double> scaleOf(const Node& node, const Shapes& shapes, const AttentionSpec& spec) {
    if (const auto bare = bareAttention(node, shapes); bare && bare->scale) return bare->scale;
    const double given = node.attributes.real("scale", 0);
    if (node.domain.empty() ? node.attributes.has("scale") : given != 0) return given;
    return spec.headDim > 0 ? std::optional(1 / std::sqrt(static_cast<double>(spec.headDim))) : std::nullopt;
}

} // namespace

std::string unknownAttention(const Node& node) {
    const bool microsoft = node.domain == "com.microsoft";
    if (microsoft ? !node.op.ends_with("Attention") || hasPackedWeight(node) || hasProjectedInputs(node) : node.is("Attention")) return {};
    constexpr std::size_t shortest = 4; // of these words: "Add" and "Mul" are asked for none
    const auto named = [](std::string_view own) {
        const auto says = [&](std::string_view word) { return own.find(word) != std::string_view::npos; };
        return own.size() >= shortest && (says("ttention") || says("Attn") || says("QKVToContext") || says("fMHA") || says("fMHCA"));
    };
    return named(calledOperator(node)) ? fullName(node) : std::string();
}

std::optional<AttentionSpec> opaqueAttention(const Graph& graph, const Shapes& shapes, NodeId id, MaskReader& masks) {
    const Node& node = graph.node(id);
    // Every node of a graph is asked: a specification is made only where there is one to fill.
    const bool standard = node.is("Attention"), packed = hasPackedWeight(node), projected = hasProjectedInputs(node);
    const auto bare = bareAttention(node, shapes);
    const auto does = decoderSwitches(node, shapes);
    if (!standard && !packed && !projected && !bare && !does) return std::nullopt;
    const std::size_t needed = standard ? 3 : packed ? 2 : 1;
    for (std::size_t i = 0; i < needed; ++i)
        if (!node.input(i)) return std::nullopt; // damaged: what it attends to is left out
    AttentionSpec spec;
    spec.opaque = id;
    spec.nodes = {id};
    spec.scope = node.scope;
    spec.scaleAt = ScalePlace::inside;
    spec.form = fullName(node);
    if (standard) standardAttention(graph, shapes, node, masks, spec);
    else if (bare) fourAxesAttention(graph, shapes, node, *bare, masks, spec);
    else if (packed) packedAttention(shapes, id, node, masks, spec);
    else if (does) decoderAttention(shapes, id, node, *does, masks, spec);
    else multiHeadAttention(graph, shapes, node, masks, spec);
    spec.scale = scaleOf(node, shapes, spec);
    return spec;
}

} // namespace triptych
