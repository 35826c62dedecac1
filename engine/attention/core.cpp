// From a softmax back to the scores product and on to the context product:
//
//   Q --+
//       MatMul -- [Mul scale] -- [soft cap] -- [Add mask | Where mask] -- Softmax -- [Cast, NaN guard, Dropout] -- MatMul -- context
//   K --+                                                                                                     V --+

#include "attention/core.h"

#include "attention/product_axes.h"
#include "attention/spelled.h"
#include "attention/trace.h"

#include <algorithm>

namespace triptych {

namespace {

bool isProduct(const Node& node) { return node.is("MatMul") || node.is("Einsum") || node.is("Gemm") || node.is("com.microsoft", "FusedMatMul"); }

/// ONNX Runtime joins what is added to scores with the softmax.
bool addsBias(const Node& node) { return node.is("com.microsoft", "BiasSoftmax"); }

/// It takes everything from its axis on together: only over the last one it is the softmax of an attention.
bool overLastAxis(const Shapes& shapes, const Node& node) {
    const auto rank = static_cast<std::int64_t>(shapes.of(node.input(0)).dims.size());
    const std::int64_t axis = node.attributes.integer("axis", 1);
    return addsBias(node) && node.input(1) && rank > 0 && (axis == -1 || axis == rank - 1);
}

class CoreWalk {
public:
    CoreWalk(const Graph& graph, const Shapes& shapes, NodeId softmax)
        : m_graph(graph), m_shapes(shapes), m_spelled(graph, shapes), m_learned(shapes.isConstant(graph.node(softmax).input(0))), m_folded(shapes.isFixed(graph.node(softmax).input(0))) {
        m_core.softmax = softmax;
    }

    CoreResult run() {
        const Node& softmax = m_graph.node(m_core.softmax);
        ValueId input = softmax.input(0);
        if (addsBias(softmax)) m_core.masks.push_back(softmax.input(1));
        else if (!softmax.is("Softmax")) input = spelledOut(softmax);
        if (!input) return {};
        if (!backward(input, 0)) return {std::nullopt, m_reason, m_detail};
        if (!forward()) return {std::nullopt, m_reason, m_detail};
        operands();
        std::sort(m_core.nodes.begin(), m_core.nodes.end());
        m_core.nodes.erase(std::unique(m_core.nodes.begin(), m_core.nodes.end()), m_core.nodes.end());
        return {std::move(m_core), {}, {}};
    }

private:
    /// Attention of learned queries among themselves depends on shapes alone.
    bool constant(ValueId value) const { return !value || (m_folded ? isGiven(m_graph, m_shapes, value) : m_learned ? m_shapes.isFixed(value) : m_shapes.isConstant(value)); }
    /// The node whose operands a product of two activations multiplies: itself, or the Mul under a ReduceSum; null where it is none.
    const Node* productOf(const Node& node) const {
        if (isProduct(node)) {
            // Learned queries are a constant, of heads or of a batch: not the two axes of a weight.
            const bool queries = constant(node.input(0)) && node.input(0) && m_shapes.of(node.input(0)).dims.size() >= 3;
            return node.inputs.size() >= 2 && (queries || !constant(node.input(0))) && !constant(node.input(1)) ? &node : nullptr;
        }
        const NodeId inner = node.is("ReduceSum") ? m_spelled.maker(node.input(0)) : NodeId();
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
        if (end.is("Mul")) return throughExp(m_spelled.madeBy(end.input(0), "Exp") ? end.input(0) : end.input(1));
        if (m_spelled.madeBy(end.input(0), "LogSoftmax")) {
            const NodeId before = m_spelled.maker(end.input(0));
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
                const NodeId before = m_spelled.maker(node.input(0));
                if (before && m_graph.node(before).is("Sub")) {
                    m_core.nodes.push_back(before);
                    return m_graph.node(before).input(0);
                }
                return node.input(0);
            }
            const bool passes = node.is("Cast") || node.is("Identity") || node.is("Reshape") || node.is("Transpose");
            if (!passes) return {};
            value = node.input(0);
        }
        return {};
    }

    /// Whether a product of two activations lies behind a value, without crossing a softmax or a weight.
    bool leadsToProduct(ValueId value, int depth = 0) {
        // Scores are numbers: a mask that is compared from a product is none of them.
        if (!value || depth > 48 || constant(value) || m_shapes.of(value).type == DataType::boolean) return false;
        if (const auto known = m_leads.find(value); known != m_leads.end()) return known->second;
        m_leads[value] = false;
        const NodeId id = m_graph.producer(value);
        if (!id) return false;
        const Node& node = m_graph.node(id);
        bool leads = activationProduct(node);
        const bool barrier = ((isProduct(node) || node.is("Conv")) && !mixesHeads(node)) || node.is("Softmax") || node.is("Gemm");
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
        if (mixesHeads(node)) {
            m_core.extras.insert("talking_heads");
            return node.input(0);
        }
        if (node.is("Concat")) { // a learned logit beside those of the keys takes attention away
            ValueId scores;
            bool beside = false;
            for (const ValueId each : node.inputs) {
                const bool leads = leadsToProduct(each);
                if (leads && !scores) scores = each;
                beside = beside || !leads;
            }
            if (scores && beside) m_core.extras.insert("sink"); // else pieces of the scores are put together again
            return scores;
        }
        if (node.is("Mul") || node.is("Div")) return scaled(node);
        if (node.is("Neg")) {
            m_core.scale = -m_core.scale;
            m_core.scaled = true;
            return node.input(0);
        }
        // For the range of exponents: a softmax is the same without it.
        if (const NodeId most = node.is("Sub") ? largestBehind(node.input(1)) : NodeId(); most && m_graph.node(most).is("ReduceMax") && bare(m_graph, m_shapes, m_graph.node(most).input(0)) == bare(m_graph, m_shapes, node.input(0))) {
            m_core.nodes.push_back(most);
            return node.input(0);
        }
        if (node.is("Add") || node.is("Sub") || node.is("Max") || node.is("Min")) {
            const bool first = leadsToProduct(node.input(0));
            const ValueId next = node.input(first ? 0 : 1), other = node.input(first ? 1 : 0);
            if (!first && !leadsToProduct(next)) return {};
            if (isMixersBias(next, other)) return next;
            if ((first && leadsToProduct(other)) || gathered(other)) m_core.extras.insert("disentangled");
            else m_core.masks.push_back(other);
            return next;
        }
        return {};
    }

    /// What made a value, behind an axis of one element.
    NodeId largestBehind(ValueId value) const {
        NodeId id = m_spelled.maker(value);
        if (id && (m_graph.node(id).is("Unsqueeze") || m_graph.node(id).is("Reshape"))) id = m_spelled.maker(m_graph.node(id).input(0));
        return id;
    }

    /// Scores against a table of positions, picked by distance.
    bool gathered(ValueId value) const {
        for (int steps = 0; steps < 8 && value; ++steps) {
            const NodeId id = m_graph.producer(value);
            if (!id || constant(value)) return false;
            if (m_graph.node(id).is("GatherElements")) return true;
            value = m_graph.node(id).input(0);
        }
        return false;
    }

    /// A square constant over the axis of heads, turned to the end for it.
    bool mixesHeads(const Node& node) const {
        if (constant(node.input(0)) || !constant(node.input(1))) return false;
        if (node.is("Conv")) { // heads as channels
            const Dims& kernel = m_shapes.of(node.input(1)).dims;
            return kernel.size() == 4 && kernel[0] == kernel[1] && kernel[2] == 1 && kernel[3] == 1 && m_shapes.of(node.input(0)).dims.size() == 4;
        }
        if (!node.is("MatMul")) return false;
        const Dims &weight = m_shapes.of(node.input(1)).dims, &from = m_shapes.of(node.input(0)).dims;
        const NodeId before = m_spelled.maker(node.input(0));
        return weight.size() == 2 && weight[0] == weight[1] && from.size() == 4 && before && m_graph.node(before).is("Transpose");
    }

    /// Added to heads that were mixed, before they are turned back.
    bool isMixersBias(ValueId mixed, ValueId bias) const {
        const NodeId before = m_spelled.maker(mixed);
        return before && mixesHeads(m_graph.node(before)) && constant(bias) && m_shapes.of(bias).dims.size() <= 1;
    }

    ValueId scaled(const Node& node) {
        const bool first = leadsToProduct(node.input(0));
        const ValueId next = node.input(first ? 0 : 1), other = node.input(first ? 1 : 0);
        if (!first && !leadsToProduct(next)) return {};
        const auto factor = m_shapes.scalar(other);
        if (factor == 1.0) return next; // as exporters write an alpha of 1
        if (factor) m_core.scale *= node.is("Mul") ? *factor : 1 / *factor;
        else m_core.scaleUnknown = true;
        m_core.scaled = true;
        return next;
    }

    /// Forward through what keeps probabilities what they are, along every reader, to the nearest product with an activation.
    bool forward() {
        struct Place {
            ValueId value;
            std::vector<NodeId> way;
        };
        std::vector<Place> open{{m_graph.node(m_core.softmax).output(), {}}};
        constexpr std::size_t most = 48;
        for (std::size_t i = 0; i < open.size() && i < most; ++i) {
            const Place here = open[i];
            for (const NodeId reader : m_graph.readers(here.value)) {
                const Node& node = m_graph.node(reader);
                if (activationProduct(node)) return reached(reader, here.value, here.way);
                const bool bias = node.is("Add") && isMixersBias(here.value, node.input(node.input(0) == here.value ? 1 : 0));
                if (mixesHeads(node) || bias) {
                    std::vector<NodeId> way = here.way;
                    way.push_back(reader);
                    open.push_back({node.output(), std::move(way)});
                }
                for (const char* op : {"Cast", "Identity", "Dropout", "Reshape", "Transpose", "Where", "Mul", "Unsqueeze", "Squeeze", "Slice", "Pad", "Gather", "Expand", "Concat", "QuantizeLinear", "DequantizeLinear", "ReduceSum"}) {
                    if (!node.is(op) || (node.is("ReduceSum") && !(here.way.size() && m_graph.node(here.way.back()).is("Mul")))) continue;
                    std::vector<NodeId> way = here.way;
                    way.push_back(reader);
                    open.push_back({node.output(), std::move(way)});
                    break;
                }
            }
        }
        m_reason = "no product of two activations reads its softmax";
        m_detail = describe(m_graph, m_core.softmax) + " follows " + describe(m_graph, m_core.scores);
        return false;
    }

    bool reached(NodeId product, ValueId probabilities, const std::vector<NodeId>& way) {
        m_core.context = product;
        m_core.nodes.push_back(product);
        m_core.nodes.push_back(m_core.softmax);
        m_core.nodes.insert(m_core.nodes.end(), way.begin(), way.end());
        m_core.result = m_graph.node(product).output();
        m_probabilities = probabilities;
        // The Mul of a product that is spelled out with ReduceSum reads the probabilities itself.
        const Node* operands = productOf(m_graph.node(product));
        for (std::size_t i = 0; i < way.size(); ++i)
            if (&m_graph.node(way[i]) == operands) m_probabilities = i == 0 ? m_graph.node(m_core.softmax).output() : m_graph.node(way[i - 1]).output();
        for (const NodeId each : way) {
            if (!m_graph.node(each).is("Where")) continue;
            m_core.extras.insert("nan_guard");
            const NodeId condition = m_spelled.maker(m_graph.node(each).input(0));
            if (condition && m_graph.node(condition).is("IsNaN")) m_core.nodes.push_back(condition);
        }
        const Node& softmax = m_graph.node(m_core.softmax);
        if (!softmax.is("Exp") || m_spelled.ends(softmax)) return true;
        const NodeId division = m_spelled.lateDivision(softmax.output(), m_core.result);
        if (!division) {
            m_reason = "the product with exponents is divided by no sum of them";
            m_detail = describe(m_graph, product);
            return false;
        }
        m_core.nodes.push_back(division);
        m_core.nodes.push_back(m_spelled.sumOf(m_graph.node(division).input(1), softmax.output()));
        m_core.result = m_graph.node(division).output();
        return true;
    }

    /// Whether the softmax runs over the rows of the scores product, as an odd number of turns leaves it.
    bool overRows() const {
        const Node& softmax = m_graph.node(m_core.softmax);
        bool rows = false;
        for (const NodeId each : m_core.nodes) {
            const Node& node = m_graph.node(each);
            const auto* perm = node.is("Transpose") && each.position() < m_core.softmax.position() ? node.attributes.integers("perm") : nullptr;
            if (!perm || perm->size() < 2) continue;
            const auto rank = static_cast<std::int64_t>(perm->size());
            if ((*perm)[perm->size() - 1] == rank - 2 && (*perm)[perm->size() - 2] == rank - 1) rows = !rows;
        }
        const auto rank = static_cast<std::int64_t>(m_shapes.of(softmax.output()).dims.size());
        const std::int64_t axis = softmax.is("Softmax") ? softmax.attributes.integer("axis", -1) : -1;
        return rows != (rank >= 2 && (axis == -2 || axis == rank - 2));
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
        if (endsInFirst(scores)) std::swap(m_core.q, m_core.k); // the last axis of the scores is the keys'
        if (overRows()) std::swap(m_core.q, m_core.k);
        const bool plain = isProduct(m_graph.node(m_core.scores)) && isProduct(m_graph.node(m_core.context));
        const std::size_t values = context.input(0) == m_probabilities ? 1 : 0;
        if (plain) {
            m_core.headDim = summedSize(m_graph, m_shapes, m_core.scores);
            m_core.vHeadDim = ownSize(m_graph, m_shapes, m_core.context, values);
        }
        m_core.v = context.input(0) == m_probabilities ? context.input(1) : context.input(0);
    }

    const Graph& m_graph;
    const Shapes& m_shapes;
    Spelled m_spelled;
    bool m_learned, m_folded; ///< what the softmax is taken of depends on no input; on no size either
    Core m_core;
    std::unordered_map<ValueId, bool> m_leads;
    ValueId m_probabilities;
    std::string m_reason, m_detail;
};

} // namespace

CoreResult findCore(const Graph& graph, const Shapes& shapes, NodeId softmax) { return CoreWalk(graph, shapes, softmax).run(); }

std::vector<NodeId> softmaxes(const Graph& graph, const Shapes& shapes) {
    std::vector<NodeId> found;
    const Spelled spelled(graph, shapes);
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const Node& node = graph.nodes()[i];
        const bool live = node.input(0) && !isGiven(graph, shapes, node.input(0));
        if (live && (node.is("Softmax") || overLastAxis(shapes, node) || spelled.ends(node) || spelled.sumsLate(node))) found.emplace_back(i);
    }
    return found;
}

} // namespace triptych
