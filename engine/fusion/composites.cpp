// How frameworks' operators look after export. The longest spelling of each is tried first, and nodes are visited from
// the last to the first, so that a LayerNorm with scale and shift is not found as one without.

#include "fusion/composites.h"

#include "fusion/expression.h"

#include <algorithm>
#include <map>

namespace triptych {

namespace {

struct Spelling {
    std::string kind;
    Expression expression;
};

class Spellings {
public:
    Spellings() {
        layerNorm();
        rmsNorm();
        gelu();
        add("SiLU", "Mul(x, Sigmoid(x))");
        add("Softmax", "Where(IsNaN(s:Softmax(x)), $z, s)");
        add("Softmax", "Div(e:Exp(Sub(x, ReduceMax(x))), ReduceSum(e))");
        add("Softmax", "Div(e:Exp(x), ReduceSum(e))");
        add("Softmax", "Exp(LogSoftmax(x))");
    }
    const std::vector<Spelling>* endingIn(const std::string& op) const {
        const auto found = m_byRoot.find(op);
        return found == m_byRoot.end() ? nullptr : &found->second;
    }

private:
    void add(const std::string& kind, const std::string& text) {
        Expression expression(text);
        const std::string root = expression.root();
        m_byRoot[root].push_back({kind, std::move(expression)});
    }
    void layerNorm() {
        const std::string difference = "d:Sub(x, ReduceMean(x))";
        for (const std::string square : {"Pow(Cast?(d), 2)", "Mul(d, d)", "Pow(Sub(x, ReduceMean(x)), 2)"}) {
            const std::string deviation = "Sqrt(Add(ReduceMean(" + square + "), $e))";
            for (const std::string& normal : {"Div(" + difference + ", " + deviation + ")",
                                              "Mul(" + difference + ", Reciprocal(" + deviation + "))",
                                              "Mul(" + difference + ", Div(1, " + deviation + "))"}) {
                add("LayerNorm", "Add(Mul(Cast?(" + normal + "), $g), $b)");
                add("LayerNorm", "Mul(Cast?(" + normal + "), $g)");
                add("LayerNorm", normal);
            }
        }
    }
    void rmsNorm() {
        for (const std::string square : {"Pow(h, 2)", "Mul(h, h)"}) {
            const std::string root = "Sqrt(Add(ReduceMean(" + square + "), $e))";
            // The cast in front may be shared with the residual: then it is no part of the norm.
            for (const std::string operand : {"h:Cast(x)", "h"})
                for (const std::string& normal :
                     {"Mul(" + operand + ", Reciprocal(" + root + "))", "Mul(" + operand + ", Div(1, " + root + "))",
                      "Div(" + operand + ", " + root + ")"}) {
                    add("RMSNorm", "Mul(Cast?(" + normal + "), $g)");
                    add("RMSNorm", normal);
                }
        }
    }
    void gelu() {
        std::vector<std::string> inner{"Erf(Div(x, 1.41421356))", "Erf(Mul(x, 0.70710678))"};
        for (const std::string cube : {"Pow(x, 3)", "Mul(x, Mul(x, x))"})
            inner.push_back("Tanh(Mul(Add(x, Mul(" + cube + ", 0.044715)), 0.79788456))");
        for (const std::string curve : {"Mul(Mul(x, 0.044715), x)", "Mul(Mul(x, x), 0.044715)"})
            inner.push_back("Tanh(Mul(Mul(x, 0.79788456), Add(" + curve + ", 1)))");
        for (const std::string& part : inner) {
            const std::string gate = "Add(" + part + ", 1)";
            add("GELU", "Mul(Mul(x, " + gate + "), 0.5)");
            add("GELU", "Mul(x, Mul(" + gate + ", 0.5))");
            add("GELU", "Mul(Mul(x, 0.5), " + gate + ")");
        }
        add("GELU", "Mul(x, Sigmoid(Mul(x, 1.702)))");
    }
    std::map<std::string, std::vector<Spelling>> m_byRoot;
};

/// MatMul with a constant weight, then Add of a constant vector, on either side.
std::vector<NodeId> matchLinear(const Expression::Context& context, NodeId root) {
    static const Expression spelling("Add(MatMul(x, $w), $b)");
    std::vector<NodeId> nodes = spelling.match(context, root);
    if (nodes.empty()) return {};
    const Node& add = context.graph.node(root);
    for (const ValueId operand : add.inputs)
        if (context.constant(operand)) {
            const ValueShape& shape = context.shapes.of(operand);
            if (!shape.ranked || shape.dims.size() != 1) return {};
        }
    return nodes;
}

} // namespace

std::vector<Composite> findComposites(const Graph& graph, const Shapes& shapes,
                                      const std::function<bool(ValueId)>& constant) {
    static const Spellings spellings;
    const Expression::Context context{graph, shapes, constant};
    std::vector<Composite> found;
    IndexVector<NodeId, bool> taken(graph.nodes().size());
    const auto take = [&](const std::string& kind, std::vector<NodeId> nodes) {
        if (nodes.empty() || std::any_of(nodes.begin(), nodes.end(), [&](NodeId node) { return taken[node]; }))
            return false;
        for (const NodeId node : nodes) taken[node] = true;
        found.push_back({kind, std::move(nodes)});
        return true;
    };
    for (std::size_t i = graph.nodes().size(); i-- > 0;) {
        const NodeId root(i);
        const Node& node = graph.node(root);
        if (taken[root] || !node.domain.empty() || !node.output() || constant(node.output())) continue;
        bool done = false;
        if (const auto* candidates = spellings.endingIn(node.op))
            for (const Spelling& spelling : *candidates)
                if ((done = take(spelling.kind, spelling.expression.match(context, root)))) break;
        if (!done && node.op == "Add") take("Linear", matchLinear(context, root));
    }
    std::sort(found.begin(), found.end(),
              [](const Composite& a, const Composite& b) { return a.nodes.back() < b.nodes.back(); });
    return found;
}

} // namespace triptych
