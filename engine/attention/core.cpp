// From a softmax back to the scores product and on to the context product:
//
//   Q --+
//       MatMul -- [Mul scale] -- [soft cap] -- [Add mask | Where mask] -- Softmax -- [Cast, NaN guard, Dropout] -- MatMul -- context
//   K --+                                                                                                     V --+

#include "attention/core.h"

#include <algorithm>

namespace triptych {

namespace {

bool isProduct(const Node& node) { return node.is("MatMul") || node.is("Einsum") || node.is("com.microsoft", "FusedMatMul"); }

class CoreWalk {
public:
    CoreWalk(const Graph& graph, const Shapes& shapes, NodeId softmax) : m_graph(graph), m_shapes(shapes) { m_core.softmax = softmax; }

    CoreResult run() {
        const Node& softmax = m_graph.node(m_core.softmax);
        ValueId input = softmax.input(0);
        if (softmax.is("Div")) input = throughExp(input);
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
    bool activationProduct(const Node& node) const { return isProduct(node) && node.inputs.size() == 2 && !constant(node.input(0)) && !constant(node.input(1)); }

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
        for (const char* op : {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Slice", "Expand", "Clip", "Contiguous"})
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
        m_core.scaled = true;
        return next;
    }

    bool forward() {
        ValueId value = m_graph.node(m_core.softmax).output();
        for (int depth = 0; depth < 32; ++depth) {
            NodeId follower;
            for (const NodeId reader : m_graph.readers(value)) {
                const Node& node = m_graph.node(reader);
                if (activationProduct(node)) {
                    m_core.context = reader;
                    m_core.nodes.push_back(reader);
                    m_core.nodes.push_back(m_core.softmax);
                    m_probabilities = value;
                    return true;
                }
                for (const char* op : {"Cast", "Identity", "Dropout", "Reshape", "Transpose", "Where", "Mul", "Unsqueeze", "Squeeze", "Slice", "Pad", "Gather", "Expand", "Concat"})
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
        const Node &scores = m_graph.node(m_core.scores), &context = m_graph.node(m_core.context);
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
        if (node.is("Softmax") && !shapes.isConstant(node.input(0))) found.emplace_back(i);
        if (!node.is("Div")) continue;
        // Exp(x) / ReduceSum(Exp(x))
        const NodeId sum = node.input(1) ? graph.producer(node.input(1)) : NodeId();
        if (!sum || !graph.node(sum).is("ReduceSum") || graph.node(sum).input(0) != node.input(0)) continue;
        const NodeId exponent = graph.producer(node.input(0));
        if (exponent && graph.node(exponent).is("Exp")) found.emplace_back(i);
    }
    return found;
}

} // namespace triptych
