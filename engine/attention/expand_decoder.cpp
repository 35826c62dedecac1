// DecoderAttention whose switches the file gives: places come before the batch; keys and values are of the queries' sequence, of another
// one, or of a cache.
// Source: ContribOperators.md, DecoderAttention, and ONNX Runtime's CUDA implementation.

#include "attention/opaque_expansion.h"

namespace triptych {

ValueId OpaqueExpansion::projectedBy(const std::string& role, ValueId x, ValueId weight, ValueId bias, std::vector<std::string>& names) {
    const ValueId product = m_emit.op(role, "MatMul", {x, weight});
    names.push_back(m_emit.base().names().back());
    const ValueId sum = m_emit.op(role, "Add", {product, bias});
    names.push_back(m_emit.base().names().back());
    return sum;
}

void OpaqueExpansion::decoder(const DecoderSwitches& does) {
    const std::int64_t width = m_spec.heads * m_spec.headDim;
    const ValueId bias = m_node.input(m_inputs.bias), weight = m_node.input(3), cacheK = m_node.input(m_inputs.past), cacheV = m_node.input(m_inputs.past + 1);
    const std::string& prefix = m_emit.base().prefix();
    const auto ownBias = [&](const std::string& role, std::int64_t begin, std::int64_t length) { return m_emit.part(role, bias, 0, begin, length, prefix + "." + role + "_bias"); };
    const auto split = [&](const std::string& role, ValueId value) { return m_emit.base().transpose(role, m_emit.base().reshape(role, value, {0, 0, m_spec.heads, m_spec.headDim}), {1, 2, 0, 3}); };
    m_q = split("q", projectedBy("q_proj", m_node.input(0), m_node.input(2), ownBias("q", 0, width), m_named.q));
    if (does.cross && does.past) {
        m_k = cacheK, m_v = cacheV;
    } else {
        m_named.wasPacked = true;
        std::vector<ValueId> parts;
        if (m_call.expansion == Expansion::canonical && cuttable(weight) && cuttable(bias)) {
            for (auto [role, begin, names] : {std::tuple("k", std::int64_t(0), &m_named.k), std::tuple("v", width, &m_named.v)})
                parts.push_back(projectedBy(role + std::string("_proj"), m_spec.k, m_emit.part(role, weight, 1, begin, width, prefix + "." + role + "_weight"), ownBias(role, width + begin, width), *names));
        } else {
            std::vector<std::string> names;
            parts = m_emit.base().split("kv", projectedBy("kv_proj", m_spec.k, weight, ownBias("kv", width, 2 * width), names), {width, width}, 3);
        }
        m_k = split("k", parts[0]), m_v = split("v", parts[1]);
    }
    const bool joins = does.past && !does.cross;
    if (joins) m_past = cacheK;
    for (const auto& [role, past, value, output] : {std::tuple("k_cache", cacheK, &m_k, 1U), std::tuple("v_cache", cacheV, &m_v, 2U)}) {
        const ValueId present = m_call.wanted(output);
        if (joins) *value = m_emit.op(role, "Concat", {past, *value}, {{"axis", std::int64_t(2), {}}}, present);
        else if (present) m_emit.op(role, "Identity", {*value}, {}, present);
    }
}

} // namespace triptych
