// Caches that hold keys and values as codes: float8, integers of 8 bits, or of 4.
// Source: ContribOperators.md, GroupQueryAttention and PagedAttention, and ONNX Runtime's implementations: they round x times the inverse of
// the scale. For a scale of 0 GroupQueryAttention's on CPUs takes 1, PagedAttention's 0.

#include "attention/opaque_expansion.h"

namespace triptych {

OpaqueExpansion::Codes OpaqueExpansion::codesOf(std::size_t role) const {
    const ValueId past = m_node.input(m_inputs.past + role);
    const std::int64_t size = role == 0 ? m_spec.headDim : m_spec.vHeadDim;
    if (!m_node.input(m_inputs.scales + role)) return {{}, past ? m_call.shapes.of(past).type : m_type, size};
    const DataType made = m_node.attributes.integer("kv_cache_bit_width", 8) == 4 ? DataType::uint8 : DataType::int8;
    return {m_node.input(m_inputs.scales + role), past ? m_call.shapes.of(past).type : made, size};
}

std::string OpaqueExpansion::unknownCodes(std::size_t role) const {
    const Codes codes = codesOf(role);
    if (!codes.scale) return codes.type == m_type ? "" : "quantised cache without a scale";
    const bool four = m_node.input(m_inputs.pages) ? m_node.attributes.text(role == 0 ? "k_cache_dtype" : "v_cache_dtype", "") == "int4" : m_node.attributes.integer("kv_cache_bit_width", 8) == 4;
    if (codes.isFloat8() && !four) return m_opset < 19 ? "cache of float8, in an opset older than 19," : "";
    if (m_opset < 11 || codes.type != (four ? DataType::uint8 : DataType::int8)) return "quantised cache";
    return codes.inHalves() && codes.size % 2 != 0 ? "quantised cache of an odd head size" : "";
}

/// Keys or values [B,K,S,D] as a cache's numbers: float8 within its range, 8 bits, or 4 and 8 more than it is, two in a byte, the first one low.
ValueId OpaqueExpansion::quantised(const std::string& role, ValueId x, const Codes& codes) {
    if (!codes.scale) return x;
    const auto number = [&](const std::string& name, double value) { return m_emit.number(role + "/" + name, DataType::float32, value); };
    const bool four = codes.inHalves();
    const ValueId none = m_emit.op(role, "Equal", {codes.scale, number("none", 0)});
    const ValueId inverse = m_emit.op(role, "Where", {none, number("for_none", m_node.input(m_inputs.pages) ? 0 : 1), m_emit.op(role, "Div", {number("one", 1), codes.scale})});
    const ValueId scaled = m_emit.op(role, "Mul", {widened(role, x), inverse});
    if (codes.isFloat8()) {
        const ValueId within = m_emit.op(role, "Clip", {scaled, number("least", -448), number("most", 448)});
        return m_emit.cast(role, m_emit.cast(role, within, DataType::float8e4m3fn), DataType::float32);
    }
    const ValueId whole = m_emit.op(role, "Round", {scaled});
    const ValueId within = m_emit.op(role, "Clip", {whole, number("least", four ? -8 : -128), number("most", four ? 7 : 127)});
    if (!four) return m_emit.cast(role, within, DataType::int8);
    const ValueId each = m_emit.cast(role, m_emit.op(role, "Add", {within, number("bias", 8)}), DataType::int32);
    const ValueId pairs = m_emit.op(role, "Mul", {m_emit.base().reshape(role, each, {0, m_kvHeads, -1, codes.width(), 2}), m_emit.cast(role, m_emit.list(role + "/places", {1, 16}), DataType::int32)});
    return m_emit.cast(role, m_emit.base().reshape(role, m_emit.reduced(role, "ReduceSum", pairs), {0, m_kvHeads, -1, codes.width()}), DataType::uint8);
}

ValueId OpaqueExpansion::dequantised(const std::string& role, ValueId cache, const Codes& codes) {
    if (!codes.scale) return cache;
    ValueId numbers = m_emit.cast(role, cache, codes.inHalves() ? DataType::int32 : DataType::float32);
    if (codes.inHalves()) {
        const ValueId sixteen = m_emit.number(role + "/sixteen", DataType::int32, 16);
        const ValueId low = m_emit.op(role, "Mod", {numbers, sixteen}), high = m_emit.op(role, "Div", {numbers, sixteen});
        const ValueId pairs = m_emit.op(role, "Concat", {m_emit.unsqueeze(role, low, 4), m_emit.unsqueeze(role, high, 4)}, {{"axis", std::int64_t(4), {}}});
        numbers = m_emit.cast(role, m_emit.base().reshape(role, pairs, {0, m_kvHeads, -1, codes.size}), DataType::float32);
        numbers = m_emit.op(role, "Sub", {numbers, m_emit.number(role + "/bias", DataType::float32, 8)});
    }
    return narrowed(role, m_emit.op(role, "Mul", {numbers, codes.scale}));
}

/// A cache as operators take it that join and pick: they have no float8, whose numbers are floats on the way.
ValueId OpaqueExpansion::opened(const std::string& role, ValueId cache, const Codes& codes) { return cache && codes.isFloat8() ? m_emit.cast(role, cache, DataType::float32) : cache; }

/// What the joined numbers are called that are handed on as `present`: none where nobody wants them.
ValueId OpaqueExpansion::handedOn(const std::string& role, const Codes& codes, ValueId present) {
    return present && codes.isFloat8() ? m_emit.base().builder().newValue(m_emit.base().prefix() + "/" + role + "/codes") : present;
}

void OpaqueExpansion::close(const std::string& role, const Codes& codes, ValueId kept, ValueId present) {
    if (present && codes.isFloat8()) m_emit.op(role, "Cast", {kept}, {{"to", static_cast<std::int64_t>(codes.type), {}}}, present);
}

} // namespace triptych
