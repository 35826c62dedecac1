// Opaque attention written out: ai.onnx Attention (opset 23 to 25), com.microsoft Attention, MultiHeadAttention and
// GroupQueryAttention. What is not known stays one node, with its reason.
//
//   q [B,S,H*D] - Reshape - Transpose -+
//                                      MatMul - Mul(scale) - [soft cap] - [mask] - Softmax - MatMul - Transpose - Reshape
//   k [B,T,K*D] - Reshape - Transpose -+                                                    |
//   v [B,T,K*D] - Reshape - Transpose ------------------------------------------------------+

#include "attention/expand.h"

#include <cmath>
#include <limits>

namespace triptych {

namespace {

class OpaqueExpansion {
public:
    OpaqueExpansion(Emitter& emit, const OpaqueCall& call) : m_emit(emit, call), m_call(call), m_node(call.node), m_spec(call.spec) {}

    Result<NamedAttention> run() {
        if (const std::string option = unknownOption(); !option.empty())
            return fail("decompose", "its " + option + " can't be written out", "it stays one operator", describe(m_call.graph, m_spec.opaque));
        m_type = m_call.shapes.of(m_node.input(0)).type;
        m_named.inputQ = m_spec.q;
        m_named.inputK = m_spec.k;
        m_named.inputV = m_spec.v;
        if (m_call.microsoft() && m_node.op == "Attention") packedInput();
        else inputs();
        if (m_call.grouped()) groupedPast();
        else past();
        core();
        return std::move(m_named);
    }

private:
    std::string unknownOption() const {
        const Attributes& a = m_node.attributes;
        const bool known = m_call.standard() || (m_call.microsoft() && (m_node.op == "Attention" || m_node.op == "MultiHeadAttention" || m_call.grouped()));
        if (!known) return "kind of operator";
        if (m_spec.heads <= 0 || m_kvHeads <= 0 || m_spec.headDim <= 0 || m_spec.vHeadDim <= 0) return "number of heads";
        if (!isFloating(m_call.shapes.of(m_node.input(0)).type)) return "type";
        if (m_opset < 11) return "opset, older than 11,";
        if (const std::string mask = MaskExpansion::unknown(m_call); !mask.empty()) return mask;
        if (m_call.standard()) return {};
        if (m_node.op == "Attention") {
            if (m_node.input(6)) return "shared buffer of past keys";
            if (a.integer("do_rotary", 0) != 0) return "rotary embedding inside the operator";
            return {};
        }
        if (m_node.op == "MultiHeadAttention") {
            if (m_node.input(8) || m_node.input(9)) return "shared buffer of past keys";
            if (m_call.rankOf(m_node.input(0)) == 5 && m_node.input(3)) return "bias on packed input";
            return {};
        }
        if (m_node.input(11) || a.integer("smooth_softmax", 0) > 0) return "attention sink";
        if (a.integer("do_rotary", 0) != 0 && (!m_node.input(7) || !m_node.input(8))) return "rotary embedding without caches";
        if (!m_node.input(5) || !m_node.input(6)) return "missing sequence lengths";
        if (m_call.wanted(3)) return "output of its scores";
        return {};
    }
    /// [B,S,N*D] to [B,N,S,D], or as it is where it has four axes already.
    ValueId splitHeads(const std::string& role, ValueId value, std::int64_t heads, std::int64_t size, std::size_t rank) {
        if (rank == 4) return value;
        return m_emit.base().transpose(role, m_emit.base().reshape(role, value, {0, -1, heads, size}), {0, 2, 1, 3});
    }

    /// K and V heads of a grouped query stand for several query heads each.
    ValueId repeatHeads(const std::string& role, ValueId value, std::int64_t size) {
        if (m_kvHeads == m_spec.heads) return value;
        const std::int64_t times = m_spec.heads / m_kvHeads;
        const ValueId many = m_emit.op(role, "Expand", {m_emit.unsqueeze(role, value, 2), m_emit.list(role + "/repeats", {1, 1, times, 1, 1})});
        return m_emit.base().reshape(role, many, {0, m_spec.heads, -1, size});
    }

    void inputs() {
        ValueId q = m_node.input(0), k = m_node.input(1), v = m_node.input(2);
        if (m_call.grouped() && !k) {
            const auto parts = m_emit.split("qkv", q, {m_spec.heads * m_spec.headDim, m_kvHeads * m_spec.headDim, m_kvHeads * m_spec.headDim});
            heads(parts, {3, 3, 3});
            return;
        }
        if (m_call.rankOf(q) == 5) { // [B,S,N,3,H]
            const std::array<const char*, 3> roles{"q", "k", "v"};
            std::array<ValueId*, 3> to{&m_q, &m_k, &m_v};
            for (std::int64_t i = 0; i < 3; ++i) *to[static_cast<std::size_t>(i)] = m_emit.base().transpose(roles[static_cast<std::size_t>(i)], m_emit.gather(roles[static_cast<std::size_t>(i)], q, 3, i), {0, 2, 1, 3});
            return;
        }
        if (m_call.rankOf(k) == 5) { // [B,L,N,2,H]
            if (m_node.input(3)) q = m_emit.op("q", "Add", {q, m_emit.part("q", m_node.input(3), 0, 0, m_spec.heads * m_spec.headDim, m_emit.base().prefix() + ".q_bias")});
            m_q = splitHeads("q", q, m_spec.heads, m_spec.headDim, 3);
            m_k = m_emit.base().transpose("k", m_emit.gather("k", k, 3, 0), {0, 2, 1, 3});
            m_v = m_emit.base().transpose("v", m_emit.gather("v", k, 3, 1), {0, 2, 1, 3});
            return;
        }
        const std::array ranks{m_call.rankOf(q), m_call.rankOf(k), m_call.rankOf(v)};
        m_fourAxes = ranks[0] == 4;
        if (m_node.op == "MultiHeadAttention" && m_node.input(3)) addBias(q, k, v);
        heads({q, k, v}, ranks);
    }

    void heads(const std::vector<ValueId>& parts, const std::array<std::size_t, 3>& ranks) {
        m_q = splitHeads("q", parts[0], m_spec.heads, m_spec.headDim, ranks[0]);
        m_k = splitHeads("k", parts[1], m_kvHeads, m_spec.headDim, ranks[1]);
        m_v = splitHeads("v", parts[2], m_kvHeads, m_spec.vHeadDim, ranks[2]);
    }

    /// com.microsoft MultiHeadAttention: one bias for all three projections; keys and values of four axes have theirs already.
    void addBias(ValueId& q, ValueId& k, ValueId& v) {
        std::int64_t begin = 0;
        const std::int64_t width = m_spec.heads * m_spec.headDim;
        for (auto [value, role, length] : {std::tuple(&q, "q", width), std::tuple(&k, "k", width), std::tuple(&v, "v", m_spec.heads * m_spec.vHeadDim)}) {
            if (m_call.rankOf(*value) == 3)
                *value = m_emit.op(role, "Add", {*value, m_emit.part(role, m_node.input(3), 0, begin, length, m_emit.base().prefix() + "." + role + "_bias")});
            begin += length;
        }
    }

    /// com.microsoft Attention: the projections are inside.
    void packedInput() {
        const ValueId x = m_node.input(0);
        m_named.inputQ = m_named.inputK = m_named.inputV = x;
        m_named.wasPacked = true;
        const auto weight = weightSource(m_call.graph, m_node.input(1));
        const auto bias = m_node.input(2) ? weightSource(m_call.graph, m_node.input(2)) : std::nullopt;
        const auto usable = [&](const std::optional<WeightSource>& source) { return source && !(m_call.sizes.forFile() && source->tensor->payload.place == Payload::Place::absent); };
        const std::int64_t width = m_spec.heads * m_spec.headDim, vWidth = m_spec.heads * m_spec.vHeadDim;
        std::vector<ValueId> roles;
        if (m_call.expansion == Expansion::canonical && usable(weight) && (!m_node.input(2) || usable(bias))) {
            std::int64_t begin = 0;
            for (auto [role, length, names] : {std::tuple("q", width, &m_named.q), std::tuple("k", width, &m_named.k), std::tuple("v", vWidth, &m_named.v)}) {
                const std::string projection = role + std::string("_proj"), name = m_emit.base().prefix() + "." + role;
                ValueId value = m_emit.op(projection, "MatMul", {x, m_emit.part(role, m_node.input(1), 1, begin, length, name + "_weight")});
                names->push_back(m_emit.base().names().back());
                if (bias) {
                    value = m_emit.op(projection, "Add", {value, m_emit.part(role, m_node.input(2), 0, begin, length, name + "_bias")});
                    names->push_back(m_emit.base().names().back());
                }
                roles.push_back(value);
                begin += length;
            }
        } else {
            ValueId whole = m_emit.op("qkv_proj", "MatMul", {x, m_node.input(1)});
            if (m_node.input(2)) whole = m_emit.op("qkv_proj", "Add", {whole, m_node.input(2)});
            roles = m_emit.split("qkv", whole, {width, width, vWidth});
        }
        heads(roles, {3, 3, 3});
    }

    /// Keys and values that came before, and what is handed on to the next step.
    void past() {
        const bool packed = m_call.microsoft() && m_node.op == "Attention";
        ValueId pastK = m_node.input(m_call.standard() ? 4 : 6), pastV = m_node.input(m_call.standard() ? 5 : 7);
        if (packed) {
            const ValueId both = m_node.input(4);
            pastK = both ? m_emit.gather("past_k", both, 0, 0) : ValueId();
            pastV = both ? m_emit.gather("past_v", both, 0, 1) : ValueId();
        }
        m_past = pastK;
        if (packed) {
            if (pastK) m_k = m_emit.op("k_cache", "Concat", {pastK, m_k}, {{"axis", std::int64_t(2), {}}});
            if (pastV) m_v = m_emit.op("v_cache", "Concat", {pastV, m_v}, {{"axis", std::int64_t(2), {}}});
            if (const ValueId present = m_call.wanted(1)) m_emit.op("present", "Concat", {m_emit.unsqueeze("present", m_k, 0), m_emit.unsqueeze("present", m_v, 0)}, {{"axis", std::int64_t(0), {}}}, present);
            return;
        }
        const auto handOn = [&](const char* role, ValueId before, ValueId now, ValueId present) {
            if (before) return m_emit.op(role, "Concat", {before, now}, {{"axis", std::int64_t(2), {}}}, present);
            if (present) m_emit.op(role, "Identity", {now}, {}, present);
            return now;
        };
        m_k = handOn("k_cache", pastK, m_k, m_call.wanted(1));
        m_v = handOn("v_cache", pastV, m_v, m_call.wanted(2));
    }

    /// Grouped queries: each batch has its own number of past keys, the rest of its past is padding.
    void groupedPast() {
        const ValueId now = m_emit.sizeOf("length", m_q, 2), total = m_emit.base().reshape("total", m_emit.cast("total", m_node.input(6), DataType::int64), {1});
        // A first call has no past, whatever the lengths say.
        const ValueId last = m_emit.base().reshape("before", m_emit.cast("before", m_node.input(5), DataType::int64), {-1, 1, 1, 1});
        const ValueId counted = m_emit.op("before", "Sub", {m_emit.op("before", "Add", {last, m_emit.list("before/one", {1})}), now});
        const ValueId first = m_emit.op("before", "Equal", {now, total});
        m_before = m_emit.op("before", "Where", {first, m_emit.list("before/zero", {0}), counted});
        if (m_node.attributes.integer("do_rotary", 0) != 0) {
            const ValueId places = m_node.input(9) ? m_node.input(9) : m_emit.op("positions", "Add", {m_emit.base().reshape("positions", m_before, {-1, 1}), m_emit.upTo("positions", now)});
            m_q = rotated("q_rotary", m_q, places, m_spec.heads);
            m_k = rotated("k_rotary", m_k, places, m_kvHeads);
        }
        m_past = m_node.input(3);
        const auto handOn = [&](const char* role, ValueId before, ValueId value, ValueId present) {
            if (!before) {
                if (present) m_emit.op(role, "Identity", {value}, {}, present);
                return value;
            }
            // What is analysed for given sizes shows the cache as exporters write it.
            if (!m_call.sizes.forFile()) return m_emit.op(role, "Concat", {before, value}, {{"axis", std::int64_t(2), {}}}, present);
            return cached(role, before, value, now, total, present);
        };
        m_k = handOn("k_cache", m_node.input(3), m_k, m_call.wanted(1));
        m_v = handOn("v_cache", m_node.input(4), m_v, m_call.wanted(2));
    }

    /// Element j of a cache: the past where j < before, then what is new, then zeros.
    ValueId cached(const std::string& role, ValueId past, ValueId value, ValueId now, ValueId total, ValueId present) {
        // The larger of both without Max, which takes no integers before opset 12.
        const ValueId size = m_emit.sizeOf(role, past, 2), longest = m_emit.op(role, "Where", {m_emit.op(role, "Less", {size, total}), total, size});
        const ValueId key = m_emit.base().reshape(role, m_emit.upTo(role, longest), {1, 1, -1, 1});
        const ValueId moved = m_emit.op(role, "Add", {m_emit.op(role, "Sub", {key, m_before}), size});
        const ValueId end = m_emit.op(role, "Add", {m_before, now});
        const ValueId behind = m_emit.op(role, "Where", {m_emit.op(role, "Less", {key, end}), moved, m_emit.op(role, "Add", {size, now})});
        const ValueId index = m_emit.op(role, "Where", {m_emit.op(role, "Less", {key, m_before}), key, behind});
        const ValueId nothing = m_emit.op(role, "Mul", {m_emit.slice(role, value, 2, 0, 1), m_emit.number(role + "/zero", m_type, 0)});
        const ValueId all = m_emit.op(role, "Concat", {past, value, nothing}, {{"axis", std::int64_t(2), {}}});
        const ValueId lengths = m_emit.op(role, "Concat", {m_emit.slice(role, m_emit.op(role, "Shape", {value}), 0, 0, 2), m_emit.list(role + "/any", {1}), m_emit.sizeOf(role, value, 3)}, {{"axis", std::int64_t(0), {}}});
        return m_emit.op(role, "GatherElements", {all, m_emit.op(role, "Expand", {index, lengths})}, {{"axis", std::int64_t(2), {}}}, present);
    }

    /// x [B,N,S,D] turned by its positions [B,S]; what lies beyond the caches' width stays.
    ValueId rotated(const std::string& role, ValueId x, ValueId places, std::int64_t heads) {
        const Dims& caches = m_call.shapes.of(m_node.input(7)).dims;
        const std::int64_t half = caches.empty() ? m_spec.headDim / 2 : caches.back();
        const bool interleaved = m_node.attributes.integer("rotary_interleaved", 0) != 0;
        const auto angles = [&](std::size_t input) { return m_emit.unsqueeze(role, m_emit.op(role, "Gather", {m_node.input(input), places}, {{"axis", std::int64_t(0), {}}}), 1); };
        const ValueId cosine = angles(7), sine = angles(8);
        const ValueId first = interleaved ? m_emit.slice(role, x, 3, 0, 2 * half, 2) : m_emit.slice(role, x, 3, 0, half);
        const ValueId second = interleaved ? m_emit.slice(role, x, 3, 1, 2 * half, 2) : m_emit.slice(role, x, 3, half, 2 * half);
        const auto product = [&](ValueId a, ValueId b) { return m_emit.op(role, "Mul", {a, b}); };
        ValueId a = m_emit.op(role, "Sub", {product(first, cosine), product(second, sine)}), b = m_emit.op(role, "Add", {product(first, sine), product(second, cosine)});
        std::vector<ValueId> pieces{a, b};
        if (interleaved) {
            const ValueId pairs = m_emit.op(role, "Concat", {m_emit.unsqueeze(role, a, 4), m_emit.unsqueeze(role, b, 4)}, {{"axis", std::int64_t(4), {}}});
            pieces = {m_emit.base().reshape(role, pairs, {0, heads, -1, 2 * half})};
        }
        if (2 * half < m_spec.headDim) pieces.push_back(m_emit.slice(role, x, 3, 2 * half, m_spec.headDim));
        return pieces.size() == 1 ? pieces[0] : m_emit.op(role, "Concat", pieces, {{"axis", std::int64_t(3), {}}});
    }

    ValueId constant(const char* name, double value) { return m_emit.number(name, m_type, value); }

    double scale() const {
        const double given = m_node.attributes.real("scale", 0);
        // com.microsoft takes 0 as "not given"; ai.onnx says absent.
        if (m_call.standard() ? m_node.attributes.has("scale") : given != 0) return given;
        return 1 / std::sqrt(static_cast<double>(m_spec.headDim));
    }

    void core() {
        // The standard's own expansion scales Q and K by the root; the canonical form scales the scores once.
        const bool onInputs = m_call.expansion == Expansion::asDocumented && m_call.standard() && scale() > 0;
        ValueId q = m_q, k = m_emit.base().transpose("k_transposed", repeatHeads("k", m_k, m_spec.headDim), {0, 1, 3, 2});
        m_v = repeatHeads("v", m_v, m_spec.vHeadDim);
        if (onInputs) {
            q = m_emit.op("q_scaled", "Mul", {q, constant("scale_root", std::sqrt(scale()))});
            k = m_emit.op("k_scaled", "Mul", {k, constant("scale_root", std::sqrt(scale()))});
        }
        ValueId scores = m_emit.op("scores", "MatMul", {q, k});
        m_named.scores = m_emit.base().names().back();
        if (!onInputs) scores = m_emit.op("scale", "Mul", {scores, constant("scale_factor", scale())});
        show(0, scores);
        if (const double cap = m_node.attributes.real("softcap", 0); cap != 0) {
            scores = m_emit.op("softcap", "Div", {scores, constant("softcap_limit", cap)});
            scores = m_emit.op("softcap", "Tanh", {scores});
            scores = m_emit.op("softcap", "Mul", {scores, constant("softcap_limit", cap)});
        }
        show(1, scores);
        MaskExpansion mask(m_emit, m_call, m_type);
        scores = mask.apply(scores, m_past, m_before);
        show(2, scores);
        const ValueId weights = softmax(scores, m_call.standard() && mask.mayHideAll());
        show(3, weights);
        const ValueId context = m_emit.op("context", "MatMul", {weights, m_v}, {}, m_fourAxes ? m_node.output() : ValueId());
        m_named.context = m_emit.base().names().back();
        if (m_fourAxes) return;
        const ValueId turned = m_emit.base().transpose("merge", context, {0, 2, 1, 3});
        m_emit.base().reshape("merge", turned, {0, -1, m_spec.heads * m_spec.vHeadDim}, m_node.output());
    }

    /// ai.onnx can give out the scores of one of its steps, MultiHeadAttention those before the softmax.
    void show(std::int64_t step, ValueId value) {
        const std::int64_t asked = m_call.standard() ? m_node.attributes.integer("qk_matmul_output_mode", 0) : 2;
        if (m_call.microsoft() && m_node.op != "MultiHeadAttention") return;
        if (const ValueId output = m_call.wanted(3); output && asked == step) m_emit.op("qk_output", "Identity", {value}, {}, output);
    }

    ValueId softmax(ValueId scores, bool guarded) {
        const auto precision = static_cast<DataType>(m_call.standard() ? m_node.attributes.integer("softmax_precision", 0) : 0);
        const bool cast = precision != DataType::undefined && precision != m_type;
        const ValueId given = cast ? m_emit.cast("softmax", scores, precision) : scores;
        ValueId weights = m_emit.op("softmax", "Softmax", {given}, {{"axis", std::int64_t(-1), {}}});
        m_named.softmax = m_emit.base().names().back();
        if (cast) weights = m_emit.cast("softmax", weights, m_type);
        if (!guarded || !m_call.sizes.forFile()) return weights;
        // A query that may see no key gets weights of 0. The guard is no part of what runtimes execute: it is written, not measured.
        const ValueId most = m_emit.largest("guard", scores);
        const ValueId none = m_emit.op("guard", "Equal", {most, constant("minus_infinity", -std::numeric_limits<double>::infinity())});
        return m_emit.op("guard", "Where", {none, constant("zero", 0), weights});
    }

    OpaqueEmitter m_emit;
    const OpaqueCall& m_call;
    const Node& m_node;
    const AttentionSpec& m_spec;
    const std::int64_t m_kvHeads = m_spec.operandKvHeads > 0 ? m_spec.operandKvHeads : m_spec.kvHeads;
    NamedAttention m_named;
    ValueId m_q, m_k, m_v, m_past, m_before;
    DataType m_type = DataType::float32;
    bool m_fourAxes = false;
    std::int64_t m_opset = m_emit.base().opset();
};

} // namespace

Result<NamedAttention> expandOpaque(Emitter& emit, const Graph& graph, const Shapes& shapes, const AttentionSpec& spec, Expansion expansion, const Sizes& sizes) {
    return OpaqueExpansion(emit, {graph, shapes, spec, graph.node(spec.opaque), expansion, sizes}).run();
}

} // namespace triptych
