// From a softmax back to the scores product and on to the context product:
//
//   Q --+
//       MatMul -- [Mul scale] -- [soft cap] -- [Add mask | Where mask] -- Softmax -- [Cast, NaN guard, Dropout] -- MatMul -- context
//   K --+                                                                                                     V --+

#include "attention/core.h"

#include <algorithm>

namespace triptych {

namespace {

bool isProduct(const Node& node) { return node.is("MatMul") || node.is("Einsum") || node.is("Gemm") || node.is("com.microsoft", "FusedMatMul"); }

/// The sum that a value is divided by, where it is the sum of `exponent` along its last axis; none else.
NodeId sumOf(const Graph& graph, ValueId sum, ValueId exponent) {
    NodeId id = sum ? graph.producer(sum) : NodeId();
    while (id && (graph.node(id).is("Cast") || graph.node(id).is("Identity") || graph.node(id).is("Expand"))) id = graph.producer(graph.node(id).input(0));
    return id && graph.node(id).is("ReduceSum") && graph.node(id).input(0) == exponent ? id : NodeId();
}

bool isExponent(const Graph& graph, ValueId value) {
    const NodeId id = value ? graph.producer(value) : NodeId();
    return id && graph.node(id).is("Exp");
}

/// Whether a node ends a spelled-out softmax, and where not, whether its product with V is divided by its sum.
bool endsSoftmax(const Graph& graph, const Node& node) {
    if (node.is("Div")) return isExponent(graph, node.input(0)) && sumOf(graph, node.input(1), node.input(0));
    if (node.is("Mul")) {
        for (const std::size_t side : {0U, 1U}) {
            const NodeId inverse = node.input(1 - side) ? graph.producer(node.input(1 - side)) : NodeId();
            if (isExponent(graph, node.input(side)) && inverse && graph.node(inverse).is("Reciprocal") && sumOf(graph, graph.node(inverse).input(0), node.input(side))) return true;
        }
        return false;
    }
    if (!node.is("Exp")) return false;
    const NodeId before = node.input(0) ? graph.producer(node.input(0)) : NodeId();
    return before && graph.node(before).is("LogSoftmax");
}

/// The division of a product with V by the sum of these exponents; none where there is none.
NodeId lateDivision(const Graph& graph, const Node& exponent) {
    const ValueId value = exponent.output();
    for (const NodeId product : graph.readers(value)) {
        if (!isProduct(graph.node(product))) continue;
        for (const NodeId division : graph.readers(graph.node(product).output()))
            if (graph.node(division).is("Div") && sumOf(graph, graph.node(division).input(1), value)) return division;
    }
    return {};
}

class CoreWalk {
public:
    CoreWalk(const Graph& graph, const Shapes& shapes, NodeId softmax) : m_graph(graph), m_shapes(shapes) { m_core.softmax = softmax; }

    CoreResult run() {
        const Node& softmax = m_graph.node(m_core.softmax);
        ValueId input = softmax.input(0);
        if (!softmax.is("Softmax")) input = spelledOut(softmax);
        if (!input) return {};
        if (!backward(input, 0)) return {std::nullopt, m_reason, m_detail};
        if (!forward()) return {std::nullopt, m_reason, m_detail};
        operands();
        std::sort(m_core.nodes.begin(), m_core.nodes.end());
        m_core.nodes.erase(std::unique(m_core.nodes.begin(), m_core.nodes.end()), m_core.nodes.end());
        return {std::move(m_core), {}, {}};
    }

private:
    bool constant(ValueId value) const { return !value || m_shapes.isConstant(value); }
    /// The node whose operands a product of two activations multiplies: itself, or the Mul under a ReduceSum; null where it is none.
    const Node* productOf(const Node& node) const {
        if (isProduct(node)) return node.inputs.size() >= 2 && !constant(node.input(0)) && !constant(node.input(1)) ? &node : nullptr;
        const NodeId inner = node.is("ReduceSum") && node.input(0) ? m_graph.producer(node.input(0)) : NodeId();
        if (!inner || !m_graph.node(inner).is("Mul")) return nullptr;
        // An outer product, each operand stretched along an axis of the other: not the square of a norm.
        const Node& multiply = m_graph.node(inner);
        if (constant(multiply.input(0)) || constant(multiply.input(1))) return nullptr;
        const ValueShape &a = m_shapes.of(multiply.input(0)), &b = m_shapes.of(multiply.input(1));
        if (!a.known() || !b.known() || a.dims.size() != b.dims.size()) return nullptr;
        bool first = false, second = false;
        for (std::size_t i = 0; i < a.dims.size(); ++i) {
            first = first || (a.dims[i] == 1 && b.dims[i] > 1);
            second = second || (b.dims[i] == 1 && a.dims[i] > 1);
        }
        return first && second ? &multiply : nullptr;
    }
    bool activationProduct(const Node& node) const { return productOf(node) != nullptr; }

    /// What a spelled-out softmax is taken of; none where it isn't one.
    ValueId spelledOut(const Node& end) {
        if (end.is("Div")) return throughExp(end.input(0));
        if (end.is("Mul")) return throughExp(isExponent(m_graph, end.input(0)) ? end.input(0) : end.input(1));
        const NodeId before = m_graph.producer(end.input(0));
        if (before && m_graph.node(before).is("LogSoftmax")) {
            m_core.nodes.push_back(before);
            return m_graph.node(before).input(0);
        }
        return throughExp(end.output());
    }

    /// Exp(x - max) before a division by its own sum.
    ValueId throughExp(ValueId value) {
        for (int steps = 0; steps < 6 && value; ++steps) {
            const NodeId id = m_graph.producer(value);
            if (!id) return {};
            const Node& node = m_graph.node(id);
            m_core.nodes.push_back(id);
            if (node.is("Exp")) {
                const NodeId before = m_graph.producer(node.input(0));
                if (before && m_graph.node(before).is("Sub")) {
                    m_core.nodes.push_back(before);
                    return m_graph.node(before).input(0);
                }
                return node.input(0);
            }
            if (!node.is("Cast") && !node.is("Identity")) return {};
            value = node.input(0);
        }
        return {};
    }

    /// Whether a product of two activations lies behind a value, without crossing a softmax or a weight.
    bool leadsToProduct(ValueId value, int depth = 0) {
        if (!value || depth > 48 || constant(value)) return false;
        if (const auto known = m_leads.find(value); known != m_leads.end()) return known->second;
        m_leads[value] = false;
        const NodeId id = m_graph.producer(value);
        if (!id) return false;
        const Node& node = m_graph.node(id);
        bool leads = activationProduct(node);
        const bool barrier = isProduct(node) || node.is("Softmax") || node.is("Conv") || node.is("Gemm");
        for (std::size_t i = 0; i < node.inputs.size() && !leads && !barrier; ++i) leads = leadsToProduct(node.inputs[i], depth + 1);
        return m_leads[value] = leads;
    }

    bool backward(ValueId value, int depth) {
        for (; depth < 80; ++depth) {
            const NodeId id = m_graph.producer(value);
            if (!id) return false;
            const Node& node = m_graph.node(id);
            if (activationProduct(node)) {
                m_core.scores = id;
                m_core.nodes.push_back(id);
                return true;
            }
            const ValueId next = step(node);
            if (!next) return false;
            m_core.nodes.push_back(id);
            value = next;
        }
        return false;
    }

    ValueId step(const Node& node) {
        for (const char* op : {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Slice", "Expand", "Clip", "Contiguous", "QuantizeLinear", "DequantizeLinear"})
            if (node.is(op)) return node.input(0);
        if (node.is("Gather") && constant(node.input(1))) return node.input(0);
        // Bands are cut from chunks: padded, sliced askew, and scattered into one matrix.
        if (node.is("Pad") || node.is("ScatterND")) {
            m_core.extras.insert("banded");
            return leadsToProduct(node.input(0)) ? node.input(0) : node.input(2);
        }
        if (node.is("Cast")) {
            m_core.extras.insert("cast");
            return node.input(0);
        }
        if (node.is("Tanh")) {
            m_core.extras.insert("softcap");
            return node.input(0);
        }
        if (node.is("Where")) {
            for (const std::size_t branch : {1U, 2U}) {
                if (!leadsToProduct(node.input(branch))) continue;
                m_core.masks.push_back(node.input(0));
                m_core.selecting.push_back(node.input(0));
                return node.input(branch);
            }
            return {};
        }
        if (node.is("Mul") || node.is("Div")) return scaled(node);
        if (node.is("Add") || node.is("Sub") || node.is("Max") || node.is("Min")) {
            const bool first = leadsToProduct(node.input(0));
            const ValueId next = node.input(first ? 0 : 1), other = node.input(first ? 1 : 0);
            if (!first && !leadsToProduct(next)) return {};
            if (first && leadsToProduct(other)) m_core.extras.insert("disentangled");
            else m_core.masks.push_back(other);
            return next;
        }
        return {};
    }

    ValueId scaled(const Node& node) {
        const bool first = leadsToProduct(node.input(0));
        const ValueId next = node.input(first ? 0 : 1), other = node.input(first ? 1 : 0);
        if (!first && !leadsToProduct(next)) return {};
        if (const auto factor = m_shapes.scalar(other)) m_core.scale *= node.is("Mul") ? *factor : 1 / *factor;
        else m_core.scaleUnknown = true;
        m_core.scaled = true;
        return next;
    }

    bool forward() {
        ValueId value = m_graph.node(m_core.softmax).output();
        for (int depth = 0; depth < 32; ++depth) {
            NodeId follower;
            for (const NodeId reader : m_graph.readers(value)) {
                const Node& node = m_graph.node(reader);
                // The Mul of a product that is spelled out with ReduceSum comes first.
                const NodeId sum = node.is("Mul") && m_graph.readers(node.output()).size() == 1 ? m_graph.readers(node.output())[0] : NodeId();
                if (sum && activationProduct(m_graph.node(sum))) {
                    m_core.context = sum;
                    m_core.nodes.insert(m_core.nodes.end(), {reader, sum, m_core.softmax});
                    m_probabilities = value;
                    m_core.result = m_graph.node(sum).output();
                    return true;
                }
                if (activationProduct(node)) {
                    m_core.context = reader;
                    m_core.nodes.push_back(reader);
                    m_core.nodes.push_back(m_core.softmax);
                    m_probabilities = value;
                    m_core.result = node.output();
                    if (const NodeId division = m_graph.node(m_core.softmax).is("Exp") ? lateDivision(m_graph, m_graph.node(m_core.softmax)) : NodeId()) {
                        m_core.nodes.push_back(division);
                        m_core.nodes.push_back(sumOf(m_graph, m_graph.node(division).input(1), m_graph.node(m_core.softmax).output()));
                        m_core.result = m_graph.node(division).output();
                    }
                    return true;
                }
                for (const char* op : {"Cast", "Identity", "Dropout", "Reshape", "Transpose", "Where", "Mul", "Unsqueeze", "Squeeze", "Slice", "Pad", "Gather", "Expand", "Concat", "QuantizeLinear", "DequantizeLinear"})
                    if (!follower && node.is(op)) follower = reader;
            }
            if (!follower) break;
            const Node& node = m_graph.node(follower);
            if (node.is("Where")) {
                m_core.extras.insert("nan_guard");
                const NodeId condition = m_graph.producer(node.input(0));
                if (condition && m_graph.node(condition).is("IsNaN")) m_core.nodes.push_back(condition);
            }
            m_core.nodes.push_back(follower);
            value = node.output();
        }
        m_reason = "no product of two activations reads its softmax";
        m_detail = describe(m_graph, m_core.softmax) + " follows " + describe(m_graph, m_core.scores);
        return false;
    }

    /// Which operand of an Einsum or MatMul is which: softmax runs over the keys.
    void operands() {
        const Node &scores = *productOf(m_graph.node(m_core.scores)), &context = *productOf(m_graph.node(m_core.context));
        if (scores.is("Mul")) m_core.nodes.push_back(m_graph.producer(m_graph.node(m_core.scores).input(0)));
        // A Gemm or a FusedMatMul scales what it multiplies.
        if (const float alpha = scores.is("Gemm") || scores.op == "FusedMatMul" ? scores.attributes.real("alpha", 1) : 1; alpha != 1) {
            m_core.scale *= static_cast<double>(alpha);
            m_core.scaled = true;
        }
        m_core.q = scores.input(0);
        m_core.k = scores.input(1);
        if (scores.is("Einsum")) {
            const std::string equation = scores.attributes.text("equation");
            const std::size_t comma = equation.find(','), arrow = equation.find("->");
            if (comma != std::string::npos && arrow != std::string::npos && arrow > comma) {
                std::string out = equation.substr(arrow + 2), first = equation.substr(0, comma);
                while (!out.empty() && out.back() == ' ') out.pop_back();
                // The last axis of the scores is the keys'.
                if (!out.empty() && first.find(out.back()) != std::string::npos) std::swap(m_core.q, m_core.k);
            }
        }
        m_core.v = context.input(0) == m_probabilities ? context.input(1) : context.input(0);
    }

    const Graph& m_graph;
    const Shapes& m_shapes;
    Core m_core;
    std::unordered_map<ValueId, bool> m_leads;
    ValueId m_probabilities;
    std::string m_reason, m_detail;
};

} // namespace

CoreResult findCore(const Graph& graph, const Shapes& shapes, NodeId softmax) { return CoreWalk(graph, shapes, softmax).run(); }

std::vector<NodeId> softmaxes(const Graph& graph, const Shapes& shapes) {
    std::vector<NodeId> found;
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const Node& node = graph.nodes()[i];
        const bool live = node.input(0) && !shapes.isConstant(node.input(0));
        if (live && (node.is("Softmax") || endsSoftmax(graph, node) || (node.is("Exp") && lateDivision(graph, node)))) found.emplace_back(i);
    }
    return found;
}

} // namespace triptych
