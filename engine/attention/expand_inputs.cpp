// Q, K and V of an opaque attention as heads, with the projections that lie inside of it.

#include "attention/opaque_expansion.h"

namespace triptych {

/// Places of tokens among padding: their sequences one after another, each as long as the longest. [tokens]
ValueId OpaqueExpansion::places() {
    if (m_places) return m_places;
    const ValueId all = m_emit.base().reshape("places", m_emit.cast("places", m_node.input(m_inputs.tokens), DataType::int64), {-1});
    // What follows those of tokens are places of padding.
    return m_places = m_emit.op("places", "Slice", {all, m_emit.list("places/begin", {0}), m_emit.sizeOf("places", m_node.input(0), 0), m_emit.list("places/axis", {0})});
}

/// Tokens of all sequences [tokens, N, D] as sequences with padding [B,N,S,D].
ValueId OpaqueExpansion::padded(const std::string& role, ValueId tokens, std::int64_t heads, std::int64_t size) {
    const ValueId offsets = m_node.input(m_inputs.tokens), each = m_emit.list(role + "/each", {heads, size});
    const auto shaped = [&](ValueId like) { return m_emit.op(role, "Concat", {m_emit.op(role, "Shape", {like}), each}, {{"axis", std::int64_t(0), {}}}); };
    const ValueId empty = m_emit.op(role, "Expand", {constant("zero", 0), shaped(m_emit.base().reshape(role, offsets, {-1}))});
    const ValueId full = m_emit.op(role, "ScatterND", {empty, m_emit.unsqueeze(role, places(), 1), tokens});
    return m_emit.base().transpose(role, m_emit.op(role, "Reshape", {full, shaped(offsets)}), {0, 2, 1, 3});
}

/// [B,S,N*D] to [B,N,S,D], or as it is where it has four axes already.
ValueId OpaqueExpansion::splitHeads(const std::string& role, ValueId value, std::int64_t heads, std::int64_t size, std::size_t rank) {
    if (rank == 4) return value;
    if (m_node.input(m_inputs.tokens)) return padded(role, m_emit.base().reshape(role, value, {0, heads, size}), heads, size);
    return m_emit.base().transpose(role, m_emit.base().reshape(role, value, {0, -1, heads, size}), {0, 2, 1, 3});
}

/// K and V heads of a grouped query stand for several query heads each.
ValueId OpaqueExpansion::repeatHeads(const std::string& role, ValueId value, std::int64_t size) {
    if (m_kvHeads == m_spec.heads) return value;
    const std::int64_t times = m_spec.heads / m_kvHeads;
    const ValueId many = m_emit.op(role, "Expand", {m_emit.unsqueeze(role, value, 2), m_emit.list(role + "/repeats", {1, 1, times, 1, 1})});
    return m_emit.base().reshape(role, many, {0, m_spec.heads, -1, size});
}

/// Roles that lie side by side along an axis of their own, as heads; with their bias, where they are all three.
void OpaqueExpansion::partsOf(ValueId packed, std::int64_t axis, const std::vector<std::pair<const char*, ValueId*>>& roles) {
    for (std::size_t i = 0; i < roles.size(); ++i) {
        const auto& [role, to] = roles[i];
        ValueId own = m_emit.gather(role, packed, axis, static_cast<std::int64_t>(i));
        const ValueId bias = roles.size() == 3 ? m_node.input(m_inputs.bias) : ValueId();
        const std::int64_t width = m_spec.heads * m_spec.headDim;
        if (bias) {
            const ValueId each = m_emit.part(role, bias, 0, static_cast<std::int64_t>(i) * width, width, m_emit.base().prefix() + "." + role + "_bias");
            own = m_emit.op(role, "Add", {own, m_emit.base().reshape(role, each, {m_spec.heads, m_spec.headDim})});
        }
        *to = m_node.input(m_inputs.tokens) ? padded(role, own, m_spec.heads, m_spec.headDim) : m_emit.base().transpose(role, own, {0, 2, 1, 3});
    }
}

void OpaqueExpansion::inputs() {
    ValueId q = m_node.input(0), k = m_node.input(1), v = m_node.input(2);
    const ValueId bias = m_node.input(m_inputs.bias);
    const std::size_t rank = m_call.rankOf(q);
    const bool alone = m_call.microsoft() && !k;
    // Tokens without padding have no axis of batches.
    const bool padding = !m_node.input(m_inputs.tokens);
    if (const auto apart = alone && padding ? m_call.apart(0) : std::vector<ValueId>(); !apart.empty()) {
        q = apart[0], k = apart[1], v = apart[2];
        if (bias) addBias(q, k, v);
        return heads({q, k, v}, {3, 3, 3});
    }
    if (alone && rank >= 4) return partsOf(q, static_cast<std::int64_t>(rank) - 2, {{"q", &m_q}, {"k", &m_k}, {"v", &m_v}}); // [B,S,N,3,H], [tokens,N,3,H]
    if (alone) {
        if (bias) q = m_emit.op("qkv", "Add", {q, bias});
        heads(m_emit.base().split("qkv", q, {m_spec.heads * m_spec.headDim, m_kvHeads * m_spec.headDim, m_kvHeads * m_spec.vHeadDim}, 3), {3, 3, 3});
        return;
    }
    if (m_call.rankOf(k) == 5) { // [B,L,N,2,H]
        if (bias) q = m_emit.op("q", "Add", {q, m_emit.part("q", bias, 0, 0, m_spec.heads * m_spec.headDim, m_emit.base().prefix() + ".q_bias")});
        m_q = splitHeads("q", q, m_spec.heads, m_spec.headDim, 3);
        if (const auto apart = m_call.apart(1); !apart.empty()) {
            m_k = splitHeads("k", apart[0], m_kvHeads, m_spec.headDim, 3);
            m_v = splitHeads("v", apart[1], m_kvHeads, m_spec.vHeadDim, 3);
            return;
        }
        return partsOf(k, 3, {{"k", &m_k}, {"v", &m_v}});
    }
    m_fourAxes = rank == 4;
    const std::array ranks{rank, m_call.rankOf(k), m_call.rankOf(v)};
    if (bias) addBias(q, k, v);
    heads({q, k, v}, ranks);
}

void OpaqueExpansion::heads(const std::vector<ValueId>& parts, const std::array<std::size_t, 3>& ranks) {
    m_q = splitHeads("q", parts[0], m_spec.heads, m_spec.headDim, ranks[0]);
    m_k = splitHeads("k", parts[1], m_kvHeads, m_spec.headDim, ranks[1]);
    m_v = splitHeads("v", parts[2], m_kvHeads, m_spec.vHeadDim, ranks[2]);
}

/// One bias for all three projections; keys and values of four axes have theirs already.
void OpaqueExpansion::addBias(ValueId& q, ValueId& k, ValueId& v) {
    std::int64_t begin = 0;
    const std::int64_t width = m_spec.heads * m_spec.headDim;
    for (auto [value, role, length] : {std::tuple(&q, "q", width), std::tuple(&k, "k", width), std::tuple(&v, "v", m_spec.heads * m_spec.vHeadDim)}) {
        if (m_call.rankOf(*value) != 4)
            *value = m_emit.op(role, "Add", {*value, m_emit.part(role, m_node.input(m_inputs.bias), 0, begin, length, m_emit.base().prefix() + "." + role + "_bias")});
        begin += length;
    }
}

/// x times a weight, plus a bias. QAttention: of integers, with the scales and zero points of both.
ValueId OpaqueExpansion::projected(const std::string& role, ValueId weight, ValueId bias, const std::vector<ValueId>& quantisation) {
    const ValueId x = m_node.input(0);
    ValueId value;
    if (quantisation.empty()) {
        value = m_emit.op(role, "MatMul", {x, weight});
    } else {
        const ValueId xScale = quantisation[0], scale = quantisation[1], xZero = quantisation[2], zero = quantisation[3];
        value = m_emit.op(role, "MatMulInteger", zero ? std::vector{x, weight, xZero, zero} : xZero ? std::vector{x, weight, xZero} : std::vector{x, weight});
        value = m_emit.cast(role, value, DataType::float32); // sums of integers exceed a float16
        const auto widened = [&](ValueId number) { return m_type == DataType::float32 ? number : m_emit.cast(role, number, DataType::float32); };
        value = m_emit.op(role, "Mul", {value, m_emit.op(role, "Mul", {widened(xScale), widened(scale)})});
        if (m_type != DataType::float32) value = m_emit.cast(role, value, m_type);
    }
    return bias ? m_emit.op(role, "Add", {value, bias}) : value;
}

/// com.microsoft Attention and what has its form: the projections are inside.
void OpaqueExpansion::packedWeight() {
    m_named.inputQ = m_named.inputK = m_named.inputV = m_node.input(0);
    m_named.wasPacked = true;
    std::vector<ValueId> quantisation;
    if (m_node.op == "QAttention") quantisation = {m_node.input(3), m_node.input(4), m_node.input(6), m_node.input(7)};
    heads(rolesOf(m_node.input(1), m_node.input(m_inputs.bias), quantisation, "", {&m_named.q, &m_named.k, &m_named.v}), {3, 3, 3});
}

/// Projections of the three roles by one packed weight, each with columns of its own where the file has them.
/// @param names  of the nodes that project each role
std::vector<ValueId> OpaqueExpansion::rolesOf(ValueId weight, ValueId bias, const std::vector<ValueId>& quantisation, const std::string& prefix, const std::array<std::vector<std::string>*, 3>& names) {
    const std::int64_t width = m_spec.heads * m_spec.headDim;
    const std::array widths{width, width, m_spec.heads * m_spec.vHeadDim};
    const auto single = [&](ValueId value) { return !value || m_call.shapes.of(value).count() == 1; };
    bool apart = m_call.expansion == Expansion::canonical && cuttable(weight) && (!bias || cuttable(bias));
    for (const ValueId each : quantisation) apart = apart && (single(each) || cuttable(each));
    if (!apart) return m_emit.base().split(prefix + "qkv", projected(prefix + "qkv_proj", weight, bias, quantisation), {widths.begin(), widths.end()}, m_node.input(m_inputs.tokens) ? 2 : 3);
    std::vector<ValueId> roles;
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < widths.size(); begin += widths[i++]) {
        const std::string role = prefix + std::string(1, "qkv"[i]), name = m_emit.base().prefix() + "." + role;
        const auto part = [&](ValueId of, std::int64_t axis, const char* what) { return m_emit.part(role, of, axis, begin, widths[i], name + what); };
        std::vector<ValueId> own = quantisation;
        if (!own.empty() && !single(own[1])) own[1] = part(own[1], 0, "_scale");
        if (!own.empty() && !single(own[3])) own[3] = part(own[3], 0, "_zero_point");
        const ValueId ownWeight = part(weight, 1, "_weight"), ownBias = bias ? part(bias, 0, "_bias") : ValueId();
        const std::size_t first = m_emit.base().names().size();
        roles.push_back(projected(role + "_proj", ownWeight, ownBias, own));
        names[i]->push_back(m_emit.base().names()[first]);
        if (bias) names[i]->push_back(m_emit.base().names().back());
    }
    return roles;
}

} // namespace triptych
