// From a softmax back to the scores product and on to the context product:
//
//   Q --+
//       MatMul -- [Mul scale] -- [soft cap] -- [Add mask | Where mask] -- Softmax -- [Cast, NaN guard, Dropout] -- MatMul -- context
//   K --+                                                                                                     V --+

#include "attention/core.h"

#include "attention/product_axes.h"
#include "attention/products.h"
#include "attention/query_blocks.h"
#include "attention/starts.h"
#include "attention/trace.h"

#include <algorithm>
#include <cmath>

namespace triptych {

namespace {

class CoreWalk {
public:
    CoreWalk(const Graph& graph, const Shapes& shapes, NodeId softmax)
        : m_graph(graph), m_shapes(shapes), m_spelled(graph, shapes), m_products(graph, shapes, softmax) {
        m_core.softmax = softmax;
    }

    CoreResult run() {
        if (m_products.of(m_graph.node(m_core.softmax))) {
            m_core.scores = m_core.softmax;
            m_core.weighed = m_core.altered = true;
        } else if (const ValueId input = weighedFrom(m_graph.node(m_core.softmax)); !input || !backward(input, 0)) {
            return {std::nullopt, m_reason, m_detail};
        }
        if (!forward()) return {std::nullopt, m_reason, m_detail};
        takeOperands(m_graph, m_shapes, m_products, m_way, m_core);
        // As where a matrix is factorised by updates of its factors.
        if (const NodeId gram = timesItself(m_graph, m_core.v)) return {std::nullopt, "its values are one value multiplied by itself", describe(m_graph, m_core.context) + " reads " + describe(m_graph, gram) + ", a matrix of likeness: nothing that keys stand for"};
        std::sort(m_core.nodes.begin(), m_core.nodes.end());
        m_core.nodes.erase(std::unique(m_core.nodes.begin(), m_core.nodes.end()), m_core.nodes.end());
        return {std::move(m_core), {}, {}};
    }

private:
    /// What a softmax, spelled out or not, is taken of, or what stands in its place; none where it is none of them.
    ValueId weighedFrom(const Node& softmax) {
        if (addsBias(softmax)) m_core.masks.push_back(softmax.input(1));
        else if (m_spelled.ends(softmax) || m_spelled.sumsLate(softmax)) return spelledOut(softmax);
        else if (!isSoftmax(softmax)) return weighed();
        return softmax.input(0);
    }

    /// What a function in a softmax's place is taken of.
    ValueId weighed() {
        const auto function = weighing(m_graph, m_shapes, m_core.softmax);
        if (!function) return {};
        m_core.nodes.insert(m_core.nodes.end(), function->inner.begin(), function->inner.end());
        m_core.extras.insert(function->word);
        m_core.weighed = m_core.altered = true;
        return function->negated ? negated(function->scores) : function->scores;
    }

    /// What a spelled-out softmax is taken of; none where it isn't one.
    ValueId spelledOut(const Node& end) {
        if (end.is("Div")) return dividedBy(end.input(1), throughWeights(end.input(0)));
        if (end.is("Mul")) {
            const std::size_t weights = m_spelled.positive(end.input(0)) ? 0 : 1;
            return dividedBy(m_graph.node(m_spelled.maker(end.input(1 - weights))).input(0), throughWeights(end.input(weights)));
        }
        if (m_spelled.madeBy(end.input(0), "LogSoftmax")) {
            const NodeId before = m_spelled.maker(end.input(0));
            m_core.nodes.push_back(before);
            return m_graph.node(before).input(0);
        }
        return throughWeights(end.output());
    }

    /// Scores whose weights are divided by a sum, which may hold more than those of the keys.
    ValueId dividedBy(ValueId sum, ValueId scores) {
        if (!m_core.extras.contains("relu") && !m_core.extras.contains("squared_relu") && m_spelled.addsKey(sum)) m_core.extras.insert("sink");
        return scores;
    }

    /// Exp(x - max), or what else is positive, before a division by its own sum; masks may multiply it.
    ValueId throughWeights(ValueId value) {
        bool squared = false;
        for (int steps = 0; steps < 10 && value; ++steps) {
            const NodeId id = m_graph.producer(value);
            if (!id) return {};
            const Node& node = m_graph.node(id);
            m_core.nodes.push_back(id);
            if (const auto base = m_spelled.base(node)) {
                const ValueId exponent = node.input(node.is("Exp") ? 0 : 1);
                if (!node.is("Exp")) m_core.scale *= std::log(*base), m_core.scaled = true;
                const NodeId before = m_spelled.maker(exponent);
                if (before && m_graph.node(before).is("Sub")) {
                    m_core.nodes.push_back(before);
                    return m_graph.node(before).input(0);
                }
                return exponent;
            }
            const bool copies = node.is("Cast") || node.is("Identity") || node.is("Reshape") || node.is("Transpose");
            m_core.altered = m_core.altered || !copies;
            if (node.is("Relu")) {
                m_core.extras.insert(squared ? "squared_relu" : "relu");
                return node.input(0);
            }
            if (const auto hidden = m_spelled.hiding(node)) {
                m_core.multiplied.push_back(hidden->mask);
                value = hidden->weights;
            } else {
                const bool squares = m_spelled.squares(node);
                if (!copies && !squares) return {};
                squared = squared || squares;
                value = node.input(0);
            }
        }
        return {};
    }

    bool backward(ValueId value, int depth) {
        for (; depth < 80; ++depth) {
            const NodeId id = m_graph.producer(value);
            if (!id) return false;
            const Node& node = m_graph.node(id);
            if (m_products.of(node)) {
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
        for (const char* op : {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Slice", "Expand", "Contiguous"})
            if (node.is(op)) return node.input(0);
        for (const char* op : {"Clip", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Relu", "LeakyRelu", "Elu", "Sigmoid", "Abs"})
            if (node.is(op)) return altered(node.input(0));
        if (node.is("Pow") && m_products.constant(node.input(1))) return altered(node.input(0));
        if (node.is("Gather") && m_products.constant(node.input(1))) return node.input(0);
        if (auto part = addedToPart(m_graph, m_shapes, node)) {
            m_core.nodes.insert(m_core.nodes.end(), part->nodes.begin(), part->nodes.end());
            // What was added in place may be written once more, as an assignment.
            if (std::find(m_core.masks.begin(), m_core.masks.end(), part->bias) == m_core.masks.end()) m_core.masks.push_back(part->bias);
            return altered(node.input(0));
        }
        // Bands are cut from chunks: padded, sliced askew, and scattered into one matrix.
        if (node.is("Pad") || node.is("ScatterND")) {
            m_core.extras.insert("banded");
            return m_products.leadsTo(node.input(0)) ? node.input(0) : node.input(2);
        }
        if (node.is("TopK")) {
            m_core.extras.insert("top_k");
            return altered(node.input(0));
        }
        if (node.is("Cast") || node.is("Tanh")) {
            m_core.extras.insert(node.is("Cast") ? "cast" : "softcap");
            return node.input(0);
        }
        if (node.is("Where")) {
            for (const std::size_t branch : {1U, 2U}) {
                if (!m_products.leadsTo(node.input(branch))) continue;
                m_core.masks.push_back(node.input(0));
                m_core.selecting.push_back(node.input(0));
                return node.input(branch);
            }
            return {};
        }
        if (m_products.mixesHeads(node)) {
            m_core.extras.insert("talking_heads");
            return node.input(0);
        }
        if (node.is("Concat")) { // a learned logit beside those of the keys takes attention away
            ValueId scores;
            bool beside = false;
            for (std::size_t i = 0; i < std::min(node.inputs.size(), Products::asked); ++i) {
                const bool leads = m_products.leadsTo(node.inputs[i]);
                if (leads && scores) alsoScores(node.inputs[i]);
                if (leads && !scores) scores = node.inputs[i];
                beside = beside || !leads;
            }
            if (scores && beside) m_core.extras.insert("sink"); // else pieces of the scores are put together again
            return scores;
        }
        if (node.is("Mul") || node.is("Div") || node.is("com.microsoft", "QLinearMul")) return scaled(node);
        if (node.is("com.microsoft", "QLinearAdd")) return joined(node);
        if (node.is("Neg")) return negated(node.input(0));
        // For the range of exponents: a softmax is the same without it.
        if (node.is("Sub") && takesLargest(node.input(1), node.input(0))) return node.input(0);
        // Channels that are least alike attend most: the largest less each (DANet).
        if (node.is("Sub") && takesLargest(node.input(0), node.input(1))) return negated(node.input(1));
        if (node.is("Add") || node.is("Sub") || node.is("Max") || node.is("Min")) return joined(node);
        return {};
    }

    /// Scores of other keys that stand beside those that are followed: their nodes and masks are those of the core.
    void alsoScores(ValueId scores) {
        if (m_beside.size() >= Products::asked || !m_beside.insert(scores).second) return; // what joins joins of joins is walked once
        Core followed = m_core;
        backward(scores, 0);
        for (auto Core::* list : {&Core::masks, &Core::selecting}) followed.*list = std::move(m_core.*list);
        followed.nodes = std::move(m_core.nodes);
        m_core = std::move(followed);
        m_pieces = true;
    }

    ValueId altered(ValueId next) {
        m_core.altered = true;
        return next;
    }

    ValueId negated(ValueId next) {
        m_core.scale = -m_core.scale;
        m_core.scaled = true;
        return next;
    }

    /// Scores and what is added to them or bounds them.
    ValueId joined(const Node& node) {
        const bool first = m_products.leadsTo(node.input(0));
        const ValueId next = factorOf(node, first ? 0 : 1), other = factorOf(node, first ? 1 : 0);
        if (!first && !m_products.leadsTo(next)) return {};
        if (m_products.isMixersBias(next, other)) return next;
        const bool number = m_shapes.scalar(other).has_value();
        // A clamp is no mask; a softmax is the same with a number added to all scores.
        if (number && (node.is("Max") || node.is("Min"))) return altered(next);
        const bool threshold = m_core.weighed && node.is("Sub") && first && dimFromEnd(m_shapes, other, 0) == 1 && m_products.leadsTo(other);
        // Rows and columns by turns, until both sum to 1.
        const bool balances = node.is("Sub") && first && m_spelled.madeBy(other, "ReduceLogSumExp") && bare(m_graph, m_shapes, m_graph.node(m_spelled.maker(other)).input(0)) == bare(m_graph, m_shapes, next);
        if (balances) {
            m_core.extras.insert("sinkhorn");
            m_core.altered = true;
        } else if (threshold) { // of the scores themselves: what is left of them sums to 1
            if (m_core.extras.erase("relu") > 0) m_core.extras.insert("sparsemax");
            if (m_core.extras.erase("squared_relu") > 0) m_core.extras.insert("entmax");
        } else if ((first && m_products.leadsTo(other)) || gathersScores(m_graph, m_products, other)) {
            m_core.extras.insert("disentangled");
            m_core.addends.push_back(other);
        }
        else if (!number) m_core.masks.push_back(other);
        // A mask that is taken away, or that is scaled with the scores.
        m_core.altered = m_core.altered || (!number && !balances && ((node.is("Sub") && first) || m_core.scaled));
        return node.is("Sub") && !first ? negated(next) : next;
    }

    /// Whether a value is the largest of the scores, perhaps behind an axis of one element; what takes it is part of the core then.
    bool takesLargest(ValueId value, ValueId scores) {
        NodeId id = m_spelled.maker(value);
        if (id && (m_graph.node(id).is("Unsqueeze") || m_graph.node(id).is("Reshape") || m_graph.node(id).is("Expand"))) id = m_spelled.maker(m_graph.node(id).input(0));
        if (!id || !m_graph.node(id).is("ReduceMax") || bare(m_graph, m_shapes, m_graph.node(id).input(0)) != bare(m_graph, m_shapes, scores)) return false;
        m_core.nodes.push_back(id);
        return true;
    }

    ValueId scaled(const Node& node) {
        const bool first = m_products.leadsTo(node.input(0));
        const ValueId next = factorOf(node, first ? 0 : 1), other = factorOf(node, first ? 1 : 0);
        if (!first && !m_products.leadsTo(next)) return {};
        const auto factor = scalarFactor(m_shapes, node, first ? 1 : 0);
        if (factor == 1.0 || restoresIntegers(m_graph, m_shapes, other)) return next; // 1: as exporters write an alpha of 1
        if (factor) m_core.scale *= node.is("Div") ? 1 / *factor : *factor;
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
        constexpr std::size_t most = 48, mostReaders = 256, mostEnds = 32; // a value that thousands read costs each of them no more
        std::size_t looked = 0;
        std::vector<std::pair<NodeId, ValueId>> ends; // of the ways, and what of them is read
        std::vector<NodeId> products;
        for (std::size_t i = 0; i < open.size() && i < most; ++i) {
            const Place here = open[i];
            for (const NodeId reader : m_graph.readers(here.value)) {
                if (++looked > mostReaders) break;
                const Node& node = m_graph.node(reader);
                if (m_products.of(node) && !spreadsWeights(m_graph, m_shapes, m_core.softmax, here.value, reader)) {
                    if (products.empty() && !reached(reader, here.value, here.way)) return false;
                    if (!m_pieces) return true;
                    m_core.nodes.push_back(reader);
                    m_core.nodes.insert(m_core.nodes.end(), here.way.begin(), here.way.end());
                    products.push_back(reader);
                    continue;
                }
                if (!keepsWeights(node, here.value, here.way)) {
                    if (ends.size() < mostEnds) ends.emplace_back(reader, here.value);
                    continue;
                }
                std::vector<NodeId> way = here.way;
                way.push_back(reader);
                open.push_back({node.output(), std::move(way)});
            }
        }
        if (!products.empty()) {
            if (products.size() > 1) m_core.result = sumOfPieces(m_graph, m_core.context, products, m_core.nodes);
            return true;
        }
        for (const auto& [end, weights] : ends) {
            // Logits of pairs, or a transport between two sets, weigh no values.
            if (!m_products.leadsToProduct(end)) continue;
            const Node& node = m_graph.node(end);
            const bool spread = spreadsWeights(m_graph, m_shapes, m_core.softmax, weights, end), constant = Products::multiplies(node) && !spread;
            m_reason = spread ? "no sum over the keys reads its softmax" : constant ? "its values are weights of the file" : "no product of two activations reads its softmax";
            m_detail = describe(m_graph, m_core.softmax) + " follows " + describe(m_graph, m_core.scores) + "; " + describe(m_graph, end) + (spread ? " is an outer product of its weights, as where a memory is written" : constant ? " multiplies it by a constant" : " keeps no weights");
            break;
        }
        return false;
    }

    /// Whether a node leaves probabilities weights of the same keys, after the nodes of `way`.
    bool keepsWeights(const Node& node, ValueId value, const std::vector<NodeId>& way) const {
        if (m_products.mixesHeads(node) || (node.is("Add") && m_products.isMixersBias(value, besides(node, value)))) return true;
        if (node.is("Add") || node.is("Sub")) return m_shapes.scalar(besides(node, value)) || m_spelled.weighs(besides(node, value)); // kept above 0, or mixed with other weights
        if (node.is("ReduceSum")) return !way.empty() && m_graph.node(way.back()).is("Mul");
        if (node.is("Div")) return node.input(0) == value && (m_shapes.scalar(node.input(1)) || m_spelled.sumOf(node.input(1), value)); // by the number of keys, or brought to a sum of 1 again
        if (node.is("ScatterElements")) return node.input(2) == value; // the largest ones, put back to their keys
        for (const char* op : {"Cast", "Identity", "Dropout", "Reshape", "Transpose", "Where", "Mul", "Unsqueeze", "Squeeze", "Slice", "Split", "Pad", "Gather", "Expand", "Concat", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
            if (node.is(op)) return true;
        return false;
    }

    bool reached(NodeId product, ValueId probabilities, const std::vector<NodeId>& way) {
        m_core.context = product;
        m_core.nodes.push_back(product);
        m_core.nodes.push_back(m_core.softmax);
        m_core.nodes.insert(m_core.nodes.end(), way.begin(), way.end());
        m_core.result = m_graph.node(product).output();
        m_way.probabilities = probabilities;
        // The Mul of a product that is spelled out with ReduceSum reads the probabilities itself.
        const Node* operands = m_products.of(m_graph.node(product));
        for (std::size_t i = 0; i < way.size(); ++i)
            if (&m_graph.node(way[i]) == operands) m_way.probabilities = i == 0 ? m_graph.node(m_core.softmax).output() : m_graph.node(way[i - 1]).output();
        m_way.nodes = way;
        readWay(m_graph, m_shapes, m_products, m_way, m_core);
        for (const NodeId each : way) {
            if (!m_graph.node(each).is("Where")) continue;
            m_core.extras.insert("nan_guard");
            const NodeId condition = m_spelled.maker(m_graph.node(each).input(0));
            if (condition && m_graph.node(condition).is("IsNaN")) m_core.nodes.push_back(condition);
        }
        const Node& softmax = m_graph.node(m_core.softmax);
        if (!m_core.weighed && (!m_spelled.base(softmax) || m_spelled.ends(softmax))) return true;
        const NodeId division = m_spelled.lateDivision(softmax.output(), m_core.result);
        if (!division && m_core.weighed) return true;
        if (const NodeId online = division ? NodeId() : m_spelled.onlineDivision(softmax.output(), m_core.result)) {
            m_core.nodes.push_back(online);
            m_core.result = m_graph.node(online).output();
            return true;
        }
        if (!division) {
            m_reason = "the product with exponents is divided by no sum of them";
            m_detail = describe(m_graph, product);
            return false;
        }
        m_core.nodes.push_back(division);
        m_core.nodes.push_back(m_spelled.sumOf(m_graph.node(division).input(1), softmax.output()));
        m_core.result = dividedBy(m_graph.node(division).input(1), m_graph.node(division).output());
        return true;
    }

    const Graph& m_graph;
    const Shapes& m_shapes;
    Spelled m_spelled;
    Products m_products;
    Core m_core;
    ContextWay m_way;
    std::set<ValueId> m_beside; ///< scores of other keys that were walked
    bool m_pieces = false; ///< scores of other keys stand beside those that were followed: products of their own may weigh their values
    std::string m_reason, m_detail;
};

} // namespace

CoreResult findCore(const Graph& graph, const Shapes& shapes, NodeId softmax) {
    CoreResult found = CoreWalk(graph, shapes, softmax).run();
    if (found.core) joinPositions(graph, shapes, *found.core);
    return found;
}

} // namespace triptych
