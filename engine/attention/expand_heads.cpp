// What opaque attention does to the heads of queries and keys before their product: norms, and rotary embedding by a table or by angles.

#include "attention/opaque_expansion.h"

#include <cmath>

namespace triptych {

/// Norms of queries and keys, then their rotary embedding by positions [B,S].
void OpaqueExpansion::turnHeads(ValueId positions) {
    if (m_node.input(m_inputs.norms)) {
        m_q = normalised("q_norm", m_q, m_node.input(m_inputs.norms));
        if (bringsKeys()) m_k = normalised("k_norm", m_k, m_node.input(m_inputs.norms + 1));
    }
    if (m_node.attributes.integer("do_rotary", 0) == 0) return;
    m_q = rotated("q_rotary", m_q, positions, m_spec.heads);
    if (bringsKeys()) m_k = rotated("k_rotary", m_k, positions, m_kvHeads);
}

/// x over the root of its mean square along each head, times a weight; in float32, as the operator computes it.
ValueId OpaqueExpansion::normalised(const std::string& role, ValueId x, ValueId weight) {
    const ValueId exact = widened(role, x);
    const ValueId mean = m_emit.reduced(role, "ReduceMean", m_emit.op(role, "Mul", {exact, exact}));
    const double epsilon = m_node.attributes.real("qk_norm_epsilon", 1e-6F);
    const ValueId root = m_emit.op(role, "Sqrt", {m_emit.op(role, "Add", {mean, m_emit.number(role + "/epsilon", DataType::float32, epsilon)})});
    return narrowed(role, m_emit.op(role, "Mul", {m_emit.op(role, "Div", {exact, root}), widened(role, weight)}));
}

ValueId OpaqueExpansion::widened(const std::string& role, ValueId value) { return m_type == DataType::float32 ? value : m_emit.cast(role, value, DataType::float32); }
ValueId OpaqueExpansion::narrowed(const std::string& role, ValueId value) { return m_type == DataType::float32 ? value : m_emit.cast(role, value, m_type); }

/// x [B,N,S,D] turned by its positions [B,S]; what lies beyond the caches' width stays.
ValueId OpaqueExpansion::rotated(const std::string& role, ValueId x, ValueId positions, std::int64_t heads) {
    const Dims& caches = m_call.shapes.of(m_node.input(m_inputs.cosines)).dims;
    const auto angles = [&](std::size_t input) { return m_emit.unsqueeze(role, m_emit.op(role, "Gather", {m_node.input(input), positions}, {{"axis", std::int64_t(0), {}}}), 1); };
    const ValueId cosine = angles(m_inputs.cosines), sine = angles(m_inputs.cosines + 1);
    const std::int64_t half = caches.empty() ? m_spec.headDim / 2 : caches.back(), first = m_node.attributes.integer("rotary_offset", 0);
    if (first == 0) return turnedBy(role, x, cosine, sine, half, heads, m_spec.headDim);
    // What lies before is as it was; the rest is turned as a head of its own would be.
    const ValueId rest = m_emit.slice(role, x, 3, first, m_spec.headDim);
    return m_emit.op(role, "Concat", {m_emit.slice(role, x, 3, 0, first), turnedBy(role, rest, cosine, sine, half, heads, m_spec.headDim - first)}, {{"axis", std::int64_t(3), {}}});
}

/// x [B,N,S,size] turned by cosines and sines that end in half of the width that is turned.
ValueId OpaqueExpansion::turnedBy(const std::string& role, ValueId x, ValueId cosine, ValueId sine, std::int64_t half, std::int64_t heads, std::int64_t size) {
    const bool interleaved = m_node.attributes.integer("rotary_interleaved", 0) != 0;
    const ValueId first = interleaved ? m_emit.slice(role, x, 3, 0, 2 * half, 2) : m_emit.slice(role, x, 3, 0, half);
    const ValueId second = interleaved ? m_emit.slice(role, x, 3, 1, 2 * half, 2) : m_emit.slice(role, x, 3, half, 2 * half);
    const auto product = [&](ValueId a, ValueId b) { return m_emit.op(role, "Mul", {a, b}); };
    ValueId a = m_emit.op(role, "Sub", {product(first, cosine), product(second, sine)}), b = m_emit.op(role, "Add", {product(first, sine), product(second, cosine)});
    std::vector<ValueId> pieces{a, b};
    if (interleaved) {
        const ValueId pairs = m_emit.op(role, "Concat", {m_emit.unsqueeze(role, a, 4), m_emit.unsqueeze(role, b, 4)}, {{"axis", std::int64_t(4), {}}});
        pieces = {m_emit.base().reshape(role, pairs, {0, heads, -1, 2 * half})};
    }
    if (2 * half < size) pieces.push_back(m_emit.slice(role, x, 3, 2 * half, size));
    return pieces.size() == 1 ? pieces[0] : m_emit.op(role, "Concat", pieces, {{"axis", std::int64_t(3), {}}});
}

/// Attention's own rotary embedding, in float32: pair i of a head's halves is turned by its position over 10000 to the power of 2i by
/// the width that is turned; positions go on behind the past. Source: ONNX Runtime's CUDA implementation, add_bias_transpose.cu.
void OpaqueExpansion::turnByAngles() {
    const std::int64_t given = m_node.attributes.integer("rotary_embedding_dim", 0), width = given > 0 ? given : m_spec.headDim;
    std::vector<float> powers;
    for (std::int64_t i = 0; i < width; i += 2) powers.push_back(static_cast<float>(std::pow(10000.0, static_cast<double>(i) / static_cast<double>(width))));
    const ValueId divisor = m_emit.base().builder().addInitializer(makeTensor(m_emit.base().prefix() + "/angles/powers", {width / 2}, powers));
    ValueId position = m_emit.upTo("angles", m_emit.sizeOf("angles", m_q, 2));
    if (const ValueId kept = m_node.input(m_inputs.past)) position = m_emit.op("angles", "Add", {position, sharesPast(m_node) ? pastLength() : m_emit.sizeOf("angles", kept, 3)});
    const ValueId angle = m_emit.op("angles", "Div", {m_emit.base().reshape("angles", m_emit.cast("angles", position, DataType::float32), {-1, 1}), divisor});
    const ValueId cosine = m_emit.op("angles", "Cos", {angle}), sine = m_emit.op("angles", "Sin", {angle});
    for (const auto& [role, heads] : {std::pair("q_rotary", &m_q), std::pair("k_rotary", &m_k)}) *heads = narrowed(role, turnedBy(role, widened(role, *heads), cosine, sine, width / 2, m_spec.heads, m_spec.headDim));
}

} // namespace triptych
