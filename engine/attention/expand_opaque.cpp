// Opaque attention written out: ai.onnx Attention (opset 23 to 25) and those of com.microsoft that take Q, K and V or a packed weight.
// What is not known stays one node, with its reason.
//
//   q [B,S,H*D] - Reshape - Transpose -+
//                                      MatMul - Mul(scale) - [soft cap] - [mask] - Softmax - MatMul - Transpose - Reshape
//   k [B,T,K*D] - Reshape - Transpose -+                                                    |
//   v [B,T,K*D] - Reshape - Transpose ------------------------------------------------------+

#include "attention/opaque_expansion.h"

#include <cmath>
#include <limits>

namespace triptych {

Result<NamedAttention> OpaqueExpansion::run() {
    m_type = m_call.shapes.of(m_node.input(m_node.op == "QAttention" ? 3 : 0)).type;
    if (const std::string option = unknownOption(); !option.empty())
        return fail("decompose", "its " + option + " can't be written out", "it stays one operator", describe(m_call.graph, m_spec.opaque));
    m_named.inputQ = m_spec.q;
    m_named.inputK = m_spec.k;
    m_named.inputV = m_spec.v;
    if (m_node.input(m_inputs.pages)) {
        paged();
    } else if (const auto does = decoderSwitches(m_node, m_call.shapes)) {
        decoder(*does);
    } else {
        if (hasPackedWeight(m_node)) packedWeight();
        else inputs();
        if (m_call.grouped()) {
            groupedPast();
        } else {
            if (m_node.attributes.integer("do_rotary", 0) != 0) turnByAngles();
            past();
        }
    }
    core();
    return std::move(m_named);
}

/// An attribute or input of ai.onnx Attention that the versions up to opset 25 don't have; it may change what is computed.
std::string OpaqueExpansion::newerAttribute() const {
    static const std::set<std::string> known{"is_causal", "kv_num_heads", "left_window_size", "q_num_heads", "qk_matmul_output_mode", "right_window_size", "scale", "softcap", "softmax_precision"};
    if (!m_call.standard()) return {};
    for (const Attribute& each : m_node.attributes.items())
        if (!known.contains(each.name)) return each.name;
    return {};
}

std::string OpaqueExpansion::unknownOption() const {
    const Attributes& a = m_node.attributes;
    if (const std::string attribute = newerAttribute(); !attribute.empty()) return "attribute '" + attribute + "', of a later version,";
    if (m_spec.heads <= 0 || m_kvHeads <= 0 || m_spec.headDim <= 0 || m_spec.vHeadDim <= 0 || !m_spec.scale || m_spec.heads % m_kvHeads != 0) return "number of heads";
    if (!isFloating(m_type)) return "type";
    if (m_opset < 9) return "opset, older than 9,";
    if (m_opset < 10 && cutsByData()) return "opset, older than 10,";
    // Gathering from caches and scattering tokens need operators of opset 11.
    if (m_opset < 11 && (m_node.input(m_inputs.tokens) || (m_call.grouped() && m_node.input(m_inputs.past)))) return "opset, older than 11,";
    if (const std::string mask = MaskExpansion::unknown(m_call); !mask.empty()) return mask;
    if (m_call.bare()) return {};
    if (m_call.standard()) return m_node.inputs.size() > 7 ? "eighth input" : "";
    const std::size_t axes = m_call.rankOf(m_node.input(0)), plain = m_node.input(m_inputs.tokens) || m_node.input(m_inputs.pages) ? 2 : 3;
    const bool inAxes = axes == plain + 2 && (m_node.op == "MultiHeadAttention" || m_node.op == "PackedMultiHeadAttention");
    if (axes != plain && !inAxes) return "rank of its input";
    if (hasProjectedInputs(m_node) && !m_node.input(1) && m_node.input(2)) return "value without a key";
    if (m_node.input(m_inputs.pages)) return unknownOfPaged();
    if (m_call.grouped()) return unknownOfGrouped();
    const std::int64_t turned = a.integer("rotary_embedding_dim", 0);
    // The others have no such attribute.
    if (a.integer("do_rotary", 0) != 0 && m_node.op != "Attention" && m_node.op != "DecoderMaskedSelfAttention" && m_node.op != "QAttention") return "rotary embedding, which the operator doesn't have,";
    if (a.integer("do_rotary", 0) != 0 && (turned < 0 || turned > m_spec.headDim || (turned > 0 ? turned : m_spec.headDim) % 2 != 0)) return "rotary embedding, wider than its heads,";
    if (m_node.input(m_inputs.beams) && (!sharesPast(m_node) || m_opset < 11)) return "choice of beams, without a shared buffer,";
    if (a.integer("past_present_share_buffer", 0) != 0 && m_node.input(m_inputs.past) && !sharesPast(m_node)) return "shared buffer of past keys, without its length,";
    if (m_node.op == "LongformerAttention" && (!m_node.input(m_inputs.mask) || !m_node.input(m_inputs.global) || !m_node.input(m_inputs.global - 2))) return "missing choice of global tokens";
    if (m_node.input(m_inputs.tokens) && !m_node.input(m_inputs.tokens + 1)) return "missing sequence lengths";
    if (keysInBlocks() && sharesPast(m_node) && m_spec.headDim % (128 / bitsOf(m_type)) != 0) return "head size, which doesn't fill blocks of 16 bytes,";
    return {};
}

/// Whether it takes a Slice whose ends are computed, or every other element, or products of integers: operators of opset 10.
bool OpaqueExpansion::cutsByData() const {
    const ValueId mask = m_node.input(m_inputs.mask);
    const Dims& dims = m_call.sizes.shapes().of(mask).dims, &input = m_call.sizes.shapes().of(m_node.input(0)).dims;
    const bool ends = dims.size() == 1 && !input.empty() && (dims[0] == input[0] || dims[0] == 2 * input[0]);
    return m_call.standard() || m_call.grouped() || m_node.op == "QAttention" || m_node.input(m_inputs.tokens) || sharesPast(m_node) || (mask && dims.size() != 2 && dims.size() != 3 && !ends);
}

std::string OpaqueExpansion::unknownOfGrouped() const {
    const Attributes& a = m_node.attributes;
    const bool window = a.integer("sliding_window_cache", 0) != 0;
    if (m_node.input(m_inputs.scales).valid() != m_node.input(m_inputs.scales + 1).valid()) return "cache, quantised in part,";
    for (const std::size_t role : {0U, 1U})
        if (const std::string codes = unknownCodes(role); !codes.empty()) return codes;
    if (m_node.input(m_inputs.norms).valid() != m_node.input(m_inputs.norms + 1).valid()) return "norm of queries or keys alone";
    if (window && (!m_node.input(3) || a.integer("local_window_size", -1) <= 0 || m_call.wanted(3))) return "cache of a sliding window, without a past or with its scores,";
    if (a.integer("do_rotary", 0) != 0 && (!m_node.input(m_inputs.cosines) || !m_node.input(m_inputs.cosines + 1))) return "rotary embedding without caches";
    if (!m_node.input(m_inputs.lengths) || !m_node.input(m_inputs.total)) return "missing sequence lengths";
    if (m_node.input(1) && m_call.rankOf(m_node.input(1)) != 3) return "rank of its key";
    if (!bringsKeys() && m_call.sizes.shapes().of(m_node.input(1)).dims[1] != 0) return "number of new keys, of which there may be none,";
    if (!bringsKeys() && (!m_node.input(3) || window)) return "missing keys";
    const Dims lists = m_call.shapes.of(m_node.input(m_inputs.blocks)).dims;
    if (m_node.input(m_inputs.blocks) && (lists.size() != 2 || lists[0] < 1 || m_spec.heads % lists[0] != 0 || m_call.sizes.follows(lists[0]) || a.integer("sparse_block_size", 0) < 1)) return "list of blocks, which doesn't fit its heads,";
    // Hidden scores are told from the others by comparing floats.
    if (const std::int64_t asked = a.integer("qk_output", 0); m_call.wanted(3) && ((asked != 1 && asked != 2) || m_opset < 11)) return "output of its scores";
    return {};
}

bool OpaqueExpansion::cuttable(ValueId value) const {
    const auto source = weightSource(m_call.graph, value);
    return source && !(m_call.sizes.forFile() && source->tensor->payload.place == Payload::Place::absent);
}

void OpaqueExpansion::core() {
    // The standard's own expansion scales Q and K by the root; the canonical form scales the scores once.
    const bool onInputs = m_call.expansion == Expansion::asDocumented && m_call.standard() && *m_spec.scale > 0;
    ValueId q = m_q, k = m_emit.base().transpose("k_transposed", repeatHeads("k", m_k, m_spec.headDim), {0, 1, 3, 2});
    m_v = repeatHeads("v", m_v, m_spec.vHeadDim);
    if (onInputs) {
        q = m_emit.op("q_scaled", "Mul", {q, constant("scale_root", std::sqrt(*m_spec.scale))});
        k = m_emit.op("k_scaled", "Mul", {k, constant("scale_root", std::sqrt(*m_spec.scale))});
    }
    ValueId scores = m_emit.op("scores", "MatMul", {q, k});
    m_named.scores = m_emit.base().names().back();
    if (!onInputs) scores = m_emit.op("scale", "Mul", {scores, constant("scale_factor", *m_spec.scale)});
    show(0, scores);
    if (const double cap = m_node.attributes.real("softcap", 0); cap != 0) {
        scores = m_emit.op("softcap", "Div", {scores, constant("softcap_limit", cap)});
        scores = m_emit.op("softcap", "Tanh", {scores});
        scores = m_emit.op("softcap", "Mul", {scores, constant("softcap_limit", cap)});
    }
    show(1, scores);
    MaskExpansion mask(m_emit, m_call, m_type, m_keys, m_filled);
    scores = mask.apply(scores, m_past, m_before);
    show(2, scores);
    const ValueId weights = softmax(scores, !m_call.microsoft() && mask.mayHideAll());
    show(3, weights);
    const ValueId context = m_emit.op("context", "MatMul", {weights, m_v}, {}, m_fourAxes ? m_node.output() : ValueId());
    m_named.context = m_emit.base().names().back();
    if (!m_fourAxes) merge(m_node.input(m_inputs.global) ? withGlobal(context) : context);
}

/// Heads side by side again, and packed tokens without their padding.
void OpaqueExpansion::merge(ValueId context) {
    const bool placesFirst = m_node.op == "DecoderAttention";
    const ValueId turned = m_emit.base().transpose("merge", context, placesFirst ? std::vector<std::int64_t>{2, 0, 1, 3} : std::vector<std::int64_t>{0, 2, 1, 3});
    const std::int64_t width = m_spec.heads * m_spec.vHeadDim;
    if (!m_places) m_emit.base().reshape("merge", turned, {0, placesFirst ? 0 : -1, width}, m_node.output());
    else m_emit.op("merge", "Gather", {m_emit.base().reshape("merge", turned, {-1, width}), places()}, {{"axis", std::int64_t(0), {}}}, m_node.output());
}

/// ai.onnx can give out the scores of one of its steps, GroupQueryAttention those before or after the softmax, MultiHeadAttention and
/// its like those before it.
void OpaqueExpansion::show(std::int64_t step, ValueId value) {
    const std::int64_t asked = m_call.standard() ? m_node.attributes.integer("qk_matmul_output_mode", 0) : m_call.grouped() ? m_node.attributes.integer("qk_output", 0) + 1 : 2;
    const ValueId output = hasPackedWeight(m_node) ? ValueId() : m_call.wanted(3);
    if (!output || asked != step) return;
    if (m_call.grouped() && step == 2) { // what is hidden is 0 there
        const ValueId hidden = m_emit.op("qk_output", "Equal", {value, constant("minus_infinity", -std::numeric_limits<double>::infinity())});
        value = m_emit.op("qk_output", "Where", {hidden, constant("zero", 0), value});
    }
    if (!m_call.grouped() || !m_node.input(m_inputs.past)) {
        m_emit.op("qk_output", "Identity", {value}, {}, output);
        return;
    }
    // A buffer of past keys may have more room than there are keys.
    const ValueId total = m_emit.base().reshape("qk_output", m_emit.cast("qk_output", m_node.input(m_inputs.total), DataType::int64), {1});
    m_emit.op("qk_output", "Slice", {value, m_emit.list("qk_output/begin", {0}), total, m_emit.list("qk_output/axis", {3})}, {}, output);
}

ValueId OpaqueExpansion::softmax(ValueId scores, bool guarded) {
    const auto precision = static_cast<DataType>(m_call.standard() ? m_node.attributes.integer("softmax_precision", 0) : 0);
    const bool cast = precision != DataType::undefined && precision != m_type;
    const ValueId all = hasSink(m_node) ? withSink(scores) : scores, given = cast ? m_emit.cast("softmax", all, precision) : all;
    ValueId weights = m_emit.op("softmax", "Softmax", {given}, {{"axis", m_emit.base().lastAxis(4), {}}});
    m_named.softmax = m_emit.base().names().back();
    if (cast) weights = m_emit.cast("softmax", weights, m_type);
    if (hasSink(m_node)) weights = m_emit.slice("sink", weights, 3, 0, -1);
    if (!guarded || !m_call.sizes.forFile()) return weights;
    // A query that may see no key gets weights of 0. The guard is no part of what runtimes execute: it is written, not measured.
    const ValueId most = m_emit.reduced("guard", "ReduceMax", scores);
    const ValueId none = m_emit.op("guard", "Equal", {most, constant("minus_infinity", -std::numeric_limits<double>::infinity())});
    return m_emit.op("guard", "Where", {none, constant("zero", 0), weights});
}

/// A logit beside those of the keys: the softmax gives it a weight that goes nowhere.
ValueId OpaqueExpansion::withSink(ValueId scores) {
    const ValueId given = m_node.input(m_inputs.sink), each = given ? m_emit.base().reshape("sink", given, {1, -1, 1, 1}) : constant("sink_logit", 0);
    const ValueId rows = m_emit.slice("sink", m_emit.op("sink", "Shape", {scores}), 0, 0, 3);
    const ValueId column = m_emit.op("sink", "Expand", {each, m_emit.op("sink", "Concat", {rows, m_emit.list("sink/one", {1})}, {{"axis", std::int64_t(0), {}}})});
    return m_emit.op("sink", "Concat", {scores, column}, {{"axis", std::int64_t(3), {}}});
}

Result<NamedAttention> expandOpaque(Emitter& emit, const Graph& graph, const Shapes& shapes, const AttentionSpec& spec, Expansion expansion, const Sizes& sizes, const InputApart& apart) {
    return OpaqueExpansion(emit, {graph, shapes, spec, graph.node(spec.opaque), expansion, sizes, apart}).run();
}

} // namespace triptych
