// LongformerAttention: each token sees those near it and the global ones; a global token sees all, through projections of its own.
// Source: ContribOperators.md, LongformerAttention, and ONNX Runtime's CUDA implementation.
//
//   x - q, k, v - scores + mask, in the window or of a global key - Softmax - context --------+
//   x - global q, k, v - scores + mask - Softmax - context of all - Where(the query is global) - Where(it is padding, 0)

#include "attention/opaque_expansion.h"

#include <limits>

namespace triptych {

/// Scores with the mask added that is given for each key [B,S]; hidden where a key is neither near the query nor global.
ValueId MaskExpansion::banded(ValueId scores) {
    const Node& node = m_call.node;
    const OpaqueInputs inputs = inputsOf(node);
    const auto perKey = [&](const char* role, ValueId value) { return m_emit.unsqueeze(role, m_emit.unsqueeze(role, value, 1), 1); };
    const ValueId masked = m_emit.op("mask", "Add", {scores, perKey("mask", node.input(inputs.mask))});
    const ValueId apart = m_emit.op("window", "Abs", {m_emit.op("window", "Sub", {rows(scores, {}), columns(scores)})});
    const ValueId near = m_emit.op("window", "Not", {m_emit.op("window", "Greater", {apart, m_emit.list("window/size", {node.attributes.integer("window", 0)})})});
    return hide(masked, m_emit.op("window", "Or", {near, perKey("global", m_emit.cast("global", node.input(inputs.global), DataType::boolean))}), "window");
}

/// The context [B,N,S,D] of local tokens, with that of global ones in its place where there are any.
ValueId OpaqueExpansion::withGlobal(ValueId context) {
    const ValueId mask = m_node.input(m_inputs.mask);
    std::vector<std::string> names; // they are an attention of their own, when what is written is opened
    const auto roles = rolesOf(m_node.input(m_inputs.global - 2), m_node.input(m_inputs.global - 1), {}, "global_", {&names, &names, &names});
    const auto split = [&](const char* role, std::size_t index, std::int64_t size) { return splitHeads(role, roles[index], m_spec.heads, size, 3); };
    const ValueId q = split("global_q", 0, m_spec.headDim), k = m_emit.base().transpose("global_k", split("global_k", 1, m_spec.headDim), {0, 1, 3, 2}), v = split("global_v", 2, m_spec.vHeadDim);
    ValueId scores = m_emit.op("global_scores", "Mul", {m_emit.op("global_scores", "MatMul", {q, k}), constant("scale_factor", *m_spec.scale)});
    scores = m_emit.op("global_mask", "Add", {scores, m_emit.unsqueeze("global_mask", m_emit.unsqueeze("global_mask", mask, 1), 1)});
    const ValueId weights = m_emit.op("global_softmax", "Softmax", {scores}, {{"axis", m_emit.base().lastAxis(4), {}}});
    const ValueId ofAll = m_emit.op("global_context", "MatMul", {weights, v});
    const auto perQuery = [&](const char* role, ValueId value) { return m_emit.unsqueeze(role, m_emit.unsqueeze(role, value, 1), 3); };
    const ValueId isGlobal = perQuery("global", m_emit.cast("global", m_node.input(m_inputs.global), DataType::boolean));
    const ValueId isPadding = perQuery("padding", m_emit.op("padding", "Less", {mask, constant("zero", 0)}));
    return m_emit.op("padding", "Where", {isPadding, constant("zero", 0), m_emit.op("global", "Where", {isGlobal, ofAll, context})});
}

} // namespace triptych
