// Opaque attention written out: ai.onnx Attention and com.microsoft MultiHeadAttention and Attention without options that
// need a loop or a table of lengths. What is not known stays one node, with its reason.
//
//   q [B,S,H*D] - Reshape - Transpose -+
//                                      MatMul - Mul(scale) - [soft cap] - [mask] - Softmax - MatMul - Transpose - Reshape
//   k [B,T,K*D] - Reshape - Transpose -+                                                    |
//   v [B,T,K*D] - Reshape - Transpose ------------------------------------------------------+

#include "attention/rewrite.h"

#include <cmath>
#include <limits>

namespace triptych {

namespace {

class OpaqueExpansion {
public:
    OpaqueExpansion(Emitter& emit, const Graph& graph, const Shapes& shapes, const AttentionSpec& spec, Expansion expansion)
        : m_emit(emit), m_graph(graph), m_shapes(shapes), m_spec(spec), m_node(graph.node(spec.opaque)), m_expansion(expansion) {}

    Result<NamedAttention> run() {
        if (const std::string option = unknownOption(); !option.empty())
            return fail("decompose", "its " + option + " is not written out yet", "it stays one operator", describe(m_graph, m_spec.opaque));
        if (m_node.domain == "com.microsoft" && m_node.op == "Attention") packedInput();
        else inputs();
        core();
        return std::move(m_named);
    }

private:
    bool microsoft() const { return m_node.domain == "com.microsoft"; }

    std::string unknownOption() const {
        const Attributes& a = m_node.attributes;
        if (m_spec.heads <= 0 || m_spec.headDim <= 0) return "number of heads";
        if (!m_node.is("Attention") && !(microsoft() && (m_node.op == "MultiHeadAttention" || m_node.op == "Attention"))) return "kind of operator";
        for (std::size_t i = 1; i < m_node.outputs.size(); ++i)
            if (m_node.outputs[i] && (!m_graph.readers(m_node.outputs[i]).empty() || m_graph.isOutput(m_node.outputs[i]))) return "second output";
        if (m_node.is("Attention")) {
            if (m_node.input(4) || m_node.input(5)) return "past key and value";
            if (m_node.input(6)) return "list of lengths";
            return {};
        }
        if (m_node.op == "Attention") {
            if (m_node.input(3)) return "mask index";
            if (m_node.input(4)) return "past";
            if (a.integer("do_rotary", 0) != 0) return "rotary embedding";
            return {};
        }
        if (!m_node.input(1) || !m_node.input(2)) return "packed input";
        for (const std::size_t index : {4U, 6U, 7U, 8U, 9U})
            if (m_node.input(index)) return index == 4 ? "key padding mask" : "past key and value";
        return {};
    }

    std::size_t rankOf(ValueId value) const { return m_shapes.of(value).dims.size(); }

    /// [B,S,N*D] to [B,N,S,D], or as it is where it has four axes already.
    ValueId splitHeads(const std::string& role, ValueId value, std::int64_t heads, std::int64_t size) {
        if (rankOf(value) == 4) return value;
        return m_emit.transpose(role, m_emit.reshape(role, value, {0, -1, heads, size}), {0, 2, 1, 3});
    }

    /// K and V heads of a grouped query stand for several query heads each.
    ValueId repeatHeads(const std::string& role, ValueId value, std::int64_t size) {
        const std::int64_t given = m_node.is("Attention") ? operandHeads() : m_spec.heads;
        if (given <= 0 || given == m_spec.heads) return value;
        const std::int64_t times = m_spec.heads / given;
        const ValueId apart = m_emit.op(role, "Unsqueeze", {value, m_emit.integers(m_emit.prefix() + "/" + role + "/axis", {2})});
        const ValueId many = m_emit.op(role, "Expand", {apart, m_emit.integers(m_emit.prefix() + "/" + role + "/repeats", {1, 1, times, 1, 1})});
        return m_emit.reshape(role, many, {0, m_spec.heads, -1, size});
    }

    std::int64_t operandHeads() const {
        const ValueShape& k = m_shapes.of(m_node.input(1));
        if (k.ranked && k.dims.size() == 4) return k.dims[1];
        return m_node.attributes.integer("kv_num_heads", m_spec.heads);
    }

    void inputs() {
        ValueId q = m_node.input(0), k = m_node.input(1), v = m_node.input(2);
        m_type = m_shapes.of(q).type;
        m_fourAxes = rankOf(q) == 4;
        m_named.inputQ = m_spec.q;
        m_named.inputK = m_spec.k;
        m_named.inputV = m_spec.v;
        const std::int64_t kvHeads = m_node.is("Attention") ? operandHeads() : m_spec.heads;
        if (microsoft() && m_node.input(3)) addBias(q, k, v);
        m_q = splitHeads("q", q, m_spec.heads, m_spec.headDim);
        m_k = repeatHeads("k", splitHeads("k", k, kvHeads, m_spec.headDim), m_spec.headDim);
        m_v = repeatHeads("v", splitHeads("v", v, kvHeads, m_spec.vHeadDim), m_spec.vHeadDim);
    }

    /// com.microsoft MultiHeadAttention: one bias for all three projections.
    void addBias(ValueId& q, ValueId& k, ValueId& v) {
        const auto bias = weightSource(m_graph, m_node.input(3));
        if (!bias) return;
        std::int64_t begin = 0;
        const std::int64_t width = m_spec.heads * m_spec.headDim;
        for (auto [value, role, length] : {std::tuple(&q, "q", width), std::tuple(&k, "k", width), std::tuple(&v, "v", m_spec.heads * m_spec.vHeadDim)}) {
            const ValueId part = m_emit.builder().addInitializer(cutTensor(*bias, {{begin, length}}, 0, m_emit.prefix() + "." + role + "_bias"));
            *value = m_emit.op(role, "Add", {*value, part});
            begin += length;
        }
    }

    /// com.microsoft Attention: the projections are inside.
    void packedInput() {
        const ValueId x = m_node.input(0);
        m_type = m_shapes.of(x).type;
        m_named.inputQ = m_named.inputK = m_named.inputV = x;
        m_named.wasPacked = true;
        const auto weight = weightSource(m_graph, m_node.input(1));
        const auto bias = m_node.input(2) ? weightSource(m_graph, m_node.input(2)) : std::nullopt;
        const std::int64_t width = m_spec.heads * m_spec.headDim, vWidth = m_spec.heads * m_spec.vHeadDim;
        std::vector<ValueId> roles;
        if (m_expansion == Expansion::canonical && weight && (!m_node.input(2) || bias)) {
            std::int64_t begin = 0;
            for (auto [role, length, names] : {std::tuple("q", width, &m_named.q), std::tuple("k", width, &m_named.k), std::tuple("v", vWidth, &m_named.v)}) {
                const std::vector<std::pair<std::int64_t, std::int64_t>> run{{begin, length}};
                const std::string name = m_emit.prefix() + "." + role;
                ValueId value = m_emit.op(role + std::string("_proj"), "MatMul", {x, m_emit.builder().addInitializer(cutTensor(*weight, run, 1, name + "_weight"))});
                names->push_back(m_emit.names().back());
                if (bias) {
                    value = m_emit.op(role + std::string("_proj"), "Add", {value, m_emit.builder().addInitializer(cutTensor(*bias, run, 0, name + "_bias"))});
                    names->push_back(m_emit.names().back());
                }
                roles.push_back(value);
                begin += length;
            }
        } else {
            ValueId whole = m_emit.op("qkv_proj", "MatMul", {x, m_node.input(1)});
            if (m_node.input(2)) whole = m_emit.op("qkv_proj", "Add", {whole, m_node.input(2)});
            std::int64_t begin = 0;
            for (auto [role, length] : {std::pair("q", width), std::pair("k", width), std::pair("v", vWidth)}) {
                const auto list = [&](const char* what, std::int64_t number) { return m_emit.integers(m_emit.prefix() + "/" + role + "/" + what, {number}); };
                roles.push_back(m_emit.op(role, "Slice", {whole, list("begin", begin), list("end", begin + length), list("axis", 2)}));
                begin += length;
            }
        }
        const auto split = [&](const char* role, ValueId value, std::int64_t size) { return m_emit.transpose(role, m_emit.reshape(role, value, {0, -1, m_spec.heads, size}), {0, 2, 1, 3}); };
        m_q = split("q", roles[0], m_spec.headDim);
        m_k = split("k", roles[1], m_spec.headDim);
        m_v = split("v", roles[2], m_spec.vHeadDim);
    }

    ValueId constant(const char* name, double value) { return m_emit.scalar(m_emit.prefix() + "/" + name, m_type, value); }

    void core() {
        const double scale = m_node.attributes.has("scale") && m_node.attributes.real("scale", 0) != 0 ? m_node.attributes.real("scale", 1) : 1 / std::sqrt(static_cast<double>(m_spec.headDim));
        // The standard's own expansion scales Q and K by the root; the canonical form scales the scores once.
        const bool onInputs = m_expansion == Expansion::asDocumented && m_node.is("Attention");
        ValueId q = m_q, k = m_emit.transpose("k_transposed", m_k, {0, 1, 3, 2});
        if (onInputs) {
            q = m_emit.op("q_scaled", "Mul", {q, constant("scale_root", std::sqrt(scale))});
            k = m_emit.op("k_scaled", "Mul", {k, constant("scale_root", std::sqrt(scale))});
        }
        ValueId scores = m_emit.op("scores", "MatMul", {q, k});
        m_named.scores = m_emit.names().back();
        if (!onInputs) scores = m_emit.op("scale", "Mul", {scores, constant("scale_factor", scale)});
        if (const double cap = m_node.attributes.real("softcap", 0); cap != 0) {
            scores = m_emit.op("softcap", "Div", {scores, constant("softcap_limit", cap)});
            scores = m_emit.op("softcap", "Tanh", {scores});
            scores = m_emit.op("softcap", "Mul", {scores, constant("softcap_limit", cap)});
        }
        scores = masked(scores);
        ValueId weights = m_emit.op("softmax", "Softmax", {scores}, {{"axis", std::int64_t(-1), {}}});
        m_named.softmax = m_emit.names().back();
        const bool flat = !m_fourAxes;
        const ValueId context = m_emit.op("context", "MatMul", {weights, m_v}, {}, flat ? ValueId() : m_node.output());
        m_named.context = m_emit.names().back();
        if (flat) {
            const ValueId turned = m_emit.transpose("merge", context, {0, 2, 1, 3});
            m_emit.reshape("merge", turned, {0, -1, m_spec.heads * m_spec.vHeadDim}, m_node.output());
        }
    }

    ValueId masked(ValueId scores) {
        const ValueId mask = m_node.is("Attention") ? m_node.input(3) : m_node.input(5);
        const bool causal = m_node.attributes.integer(m_node.is("Attention") ? "is_causal" : "unidirectional", 0) != 0;
        const double lowest = -std::numeric_limits<double>::infinity();
        if (causal) {
            // Lower triangle of ones in the shape of the scores: no length is written into the file.
            const ValueId shape = m_emit.op("causal", "Shape", {scores});
            const ValueId tail = m_emit.op("causal", "Slice", {shape, m_emit.integers(m_emit.prefix() + "/causal/begin", {2}), m_emit.integers(m_emit.prefix() + "/causal/end", {4})});
            const ValueId ones = m_emit.op("causal", "ConstantOfShape", {tail}, {{"value", makeTensor("", {1}, std::vector<std::int64_t>{1}), {}}});
            const ValueId lower = m_emit.op("causal", "Trilu", {ones}, {{"upper", std::int64_t(0), {}}});
            const ValueId keep = m_emit.op("causal", "Cast", {lower}, {{"to", static_cast<std::int64_t>(DataType::boolean), {}}});
            scores = m_emit.op("causal", "Where", {keep, scores, constant("minus_infinity", lowest)});
        }
        if (!mask) return scores;
        if (m_shapes.of(mask).type == DataType::boolean) return m_emit.op("mask", "Where", {mask, scores, constant("minus_infinity", lowest)});
        return m_emit.op("mask", "Add", {scores, mask});
    }

    Emitter& m_emit;
    const Graph& m_graph;
    const Shapes& m_shapes;
    const AttentionSpec& m_spec;
    const Node& m_node;
    Expansion m_expansion;
    NamedAttention m_named;
    ValueId m_q, m_k, m_v;
    DataType m_type = DataType::float32;
    bool m_fourAxes = false;
};

} // namespace

Result<NamedAttention> expandOpaque(Emitter& emit, const Graph& graph, const Shapes& shapes, const AttentionSpec& spec, Expansion expansion) {
    return OpaqueExpansion(emit, graph, shapes, spec, expansion).run();
}

} // namespace triptych
