#include "fusion/conditions.h"

#include <algorithm>
#include <fmt/format.h>

namespace triptych {

namespace {

class Check {
public:
    Check(const MatchContext& context, const MatchVariant& variant, const Condition& condition, const Binding& binding,
          Objection* explain)
        : m_context(context), m_variant(variant), m_condition(condition), m_binding(binding), m_explain(explain) {}

    bool run() const {
        switch (m_condition.word) {
        case Word::operandsActivations:
            return operands(false);
        case Word::operandsWeight:
            return operands(true);
        case Word::otherScalar:
        case Word::otherConstant:
        case Word::otherVector:
        case Word::otherActivation:
        case Word::otherRandom:
            return others();
        case Word::axis:
            return axis();
        case Word::attribute:
            return attribute();
        case Word::copies:
            return needsCopy(m_context, root(0)) || no(0, "needs no copy", "what {} reads is dense");
        case Word::dense:
            return !needsCopy(m_context, root(0)) || no(0, "needs a copy", "what {} reads is strided");
        case Word::swapsLast:
            return swapsLast();
        case Word::singleUse:
            return each(&Check::singleUse);
        case Word::notOutput:
            return each(&Check::notOutput);
        case Word::sameInput:
            return sameInput();
        case Word::sameOther:
            return sameOther();
        case Word::sameShape:
            return sameShape(false);
        case Word::sameWeightShape:
            return sameShape(true);
        case Word::oneAttention:
            return oneAttention();
        case Word::shapeFromArithmetic:
            return shapeFromArithmetic();
        }
        return false;
    }

private:
    UnitId unit(std::size_t i) const { return m_binding.units[m_condition.nodes[i]]; }
    const Unit& at(std::size_t i) const { return m_context.units[unit(i)]; }
    NodeId root(std::size_t i) const { return at(i).root(); }
    /// `detail` has one place, for the node.
    bool no(std::size_t i, const char* reason, const std::string& detail) const {
        if (m_explain)
            *m_explain = {unit(i), reason, fmt::format(fmt::runtime(detail), describe(m_context.graph, root(i)))};
        return false;
    }
    std::string valueName(ValueId value) const {
        return value ? "'" + escaped(m_context.graph.value(value).name) + "'" : "nothing";
    }
    /// Names go through a format string.
    static std::string escaped(const std::string& name) {
        std::string text;
        for (const char c : name) text += c == '{' ? "{{" : c == '}' ? "}}" : std::string(1, c);
        return text;
    }
    bool each(bool (Check::*check)(std::size_t) const) const {
        for (std::size_t i = 0; i < m_condition.nodes.size(); ++i)
            if (!(this->*check)(i)) return false;
        return true;
    }

    bool operands(bool weight) const {
        const Unit& product = at(0);
        const auto constant = [&](ValueId value) { return m_context.units.isConstant(value); };
        const bool any = std::any_of(product.inputs.begin(), product.inputs.end(), constant);
        if (any == weight) return true;
        return weight ? no(0, "no weight", "both operands of {} are activations")
                      : no(0, "operand is a weight", "one operand of {} is constant");
    }
    /// Operands of a unit that no edge of the match accounts for.
    std::vector<ValueId> otherOperands(std::size_t node) const {
        const Unit& unit = m_context.units[m_binding.units[node]];
        std::vector<ValueId> others;
        for (std::size_t i = 0; i < unit.inputs.size(); ++i) {
            bool matched = false;
            for (std::size_t step = 0; step < m_variant.steps.size(); ++step)
                matched =
                    matched || (m_variant.steps[step].node == node && m_binding.operands[step] == static_cast<int>(i));
            if (!matched) others.push_back(unit.inputs[i]);
        }
        return others;
    }
    /// Every operand that no edge accounts for; where the match starts here, one of the operands.
    bool others() const {
        const std::size_t node = m_condition.nodes[0];
        const bool starts = m_variant.nodes[node].in.empty();
        bool holds = !starts;
        for (const ValueId value : otherOperands(node)) {
            const bool fits = other(value);
            if (!starts && !fits) return false;
            holds = holds || fits;
        }
        return holds;
    }
    bool other(ValueId value) const {
        const bool constant = m_context.units.isConstant(value);
        const ValueShape& shape = m_context.shapes.of(value);
        switch (m_condition.word) {
        case Word::otherScalar:
            if (constant && shape.known() && shape.count() == 1) return true;
            return no(0, "not a scalar",
                      fmt::format("operand {} of {{}} is no constant of one element", valueName(value)));
        case Word::otherConstant:
            return constant ||
                   no(0, "not a constant", fmt::format("operand {} of {{}} is not constant", valueName(value)));
        case Word::otherVector:
            if (constant && shape.ranked && shape.dims.size() <= 1) return true;
            return no(0, "not a vector",
                      fmt::format("operand {} of {{}} is no constant of one dimension", valueName(value)));
        case Word::otherActivation:
            return !constant ||
                   no(0, "operand is constant", fmt::format("operand {} of {{}} is constant", valueName(value)));
        default:
            return fromRandom(value) ||
                   no(0, "not random",
                      fmt::format("operand {} of {{}} comes from no random operator", valueName(value)));
        }
    }
    bool fromRandom(ValueId value) const {
        for (int steps = 0; steps < 8 && value; ++steps) {
            const NodeId producer = m_context.graph.producer(value);
            if (!producer) return false;
            const Node& node = m_context.graph.node(producer);
            if (node.op.starts_with("Random") || node.op == "Bernoulli") return true;
            value = node.input(0);
        }
        return false;
    }
    bool axis() const {
        const std::int64_t wanted = std::get<std::int64_t>(m_condition.value);
        const Node& node = m_context.graph.node(at(0).nodes.front());
        const std::int64_t axis = node.attributes.integer("axis", -1);
        const ValueShape shape = node.input(0) ? m_context.shapes.of(node.input(0)) : ValueShape();
        const auto rank = static_cast<std::int64_t>(shape.dims.size());
        if (axis == wanted ||
            (shape.ranked && (axis < 0 ? axis + rank : axis) == (wanted < 0 ? wanted + rank : wanted)))
            return true;
        return no(0, wanted == -1 ? "not last axis" : "other axis",
                  fmt::format("the axis of {{}} is {}, not {}", axis, wanted));
    }
    bool attribute() const {
        const Attribute* found = m_context.graph.node(root(0)).attributes.find(m_condition.key);
        const bool same =
            found && std::visit(
                         [&](const auto& wanted) {
                             using T = std::decay_t<decltype(wanted)>;
                             if constexpr (std::is_same_v<T, std::monostate>)
                                 return true;
                             else
                                 return std::holds_alternative<T>(found->value) && std::get<T>(found->value) == wanted;
                         },
                         m_condition.value);
        return same || no(0, "attribute differs",
                          fmt::format("attribute {} of {{}} has another value", escaped(m_condition.key)));
    }
    bool swapsLast() const {
        const std::vector<std::int64_t>* perm = m_context.graph.node(root(0)).attributes.integers("perm");
        bool swaps = perm && perm->size() >= 2;
        for (std::size_t i = 0; swaps && i < perm->size(); ++i) {
            const std::size_t rank = perm->size();
            const std::size_t wanted = i + 2 < rank ? i : i + 1 == rank ? rank - 2 : rank - 1;
            swaps = (*perm)[i] == static_cast<std::int64_t>(wanted);
        }
        return swaps || no(0, "other permutation", "{} does more than swap the last two axes");
    }
    /// Stops at the second reader: a mask may have thousands, and be looked at from each of them.
    bool singleUse(std::size_t i) const {
        UnitId only;
        for (const ValueId output : m_context.graph.node(root(i)).outputs) {
            if (!output) continue;
            if (m_context.graph.isOutput(output))
                return no(i, "graph output",
                          fmt::format("output {} of {{}} is an output of the graph", valueName(output)));
            for (const NodeId reader : m_context.graph.readers(output)) {
                const UnitId unit = m_context.units.of(reader);
                if (!m_context.units.grouped(unit) || unit == only) continue;
                if (only)
                    return no(i, "multiple readers",
                              fmt::format("{{}} is read by {} and by {}", readerName(only), readerName(unit)));
                only = unit;
            }
        }
        return true;
    }
    std::string readerName(UnitId unit) const {
        return escaped(m_context.graph.node(m_context.units[unit].root()).name);
    }
    bool notOutput(std::size_t i) const {
        for (const ValueId output : m_context.graph.node(root(i)).outputs)
            if (output && m_context.graph.isOutput(output))
                return no(i, "graph output",
                          fmt::format("output {} of {{}} is an output of the graph", valueName(output)));
        return true;
    }
    bool sameInput() const {
        for (std::size_t i = 1; i < m_condition.nodes.size(); ++i)
            if (at(i).inputs.empty() || at(0).inputs.empty() || at(i).inputs.front() != at(0).inputs.front())
                return no(i, "inputs differ",
                          fmt::format("{{}} doesn't read what {} reads", escaped(describe(m_context.graph, root(0)))));
        return true;
    }
    bool sameOther() const {
        const std::vector<ValueId> first = otherOperands(m_condition.nodes[0]);
        for (std::size_t i = 1; i < m_condition.nodes.size(); ++i) {
            const std::vector<ValueId> next = otherOperands(m_condition.nodes[i]);
            const bool shared = std::any_of(next.begin(), next.end(), [&](ValueId value) {
                return std::find(first.begin(), first.end(), value) != first.end();
            });
            if (!shared)
                return no(i, "inputs differ",
                          fmt::format("{{}} reads nothing that {} reads", escaped(describe(m_context.graph, root(0)))));
        }
        return true;
    }
    bool sameShape(bool ofWeight) const {
        const auto shapeOf = [&](std::size_t i) -> const ValueShape* {
            const Unit& unit = at(i);
            const ValueId value =
                ofWeight ? m_context.graph.node(unit.nodes.front()).input(1) : m_context.graph.node(root(i)).output();
            return value ? &m_context.shapes.of(value) : nullptr;
        };
        const ValueShape* first = shapeOf(0);
        for (std::size_t i = 1; i < m_condition.nodes.size(); ++i) {
            const ValueShape* next = shapeOf(i);
            if (!first || !next || !first->known() || !next->known())
                return no(i, "shape unknown", "the shape at {} is not known");
            if (first->dims != next->dims)
                return no(i, "shapes differ",
                          fmt::format("{{}} has another shape than {}", escaped(describe(m_context.graph, root(0)))));
        }
        return true;
    }
    bool oneAttention() const {
        if (!m_context.attentionsOf) return true;
        std::vector<AttentionId> common = (*m_context.attentionsOf)[root(0)];
        for (std::size_t i = 1; i < m_condition.nodes.size(); ++i) {
            const std::vector<AttentionId>& next = (*m_context.attentionsOf)[root(i)];
            std::erase_if(common,
                          [&](AttentionId id) { return std::find(next.begin(), next.end(), id) == next.end(); });
        }
        return !common.empty() ||
               no(0, "not in one attention", "{} and what it is joined with are no parts of one attention");
    }
    bool shapeFromArithmetic() const {
        const ValueId shape = m_context.graph.node(root(0)).input(1);
        const UnitId producer = shape ? m_context.units.producer(shape) : UnitId();
        if (producer && m_context.units[producer].nodeClass == NodeClass::shape) return true;
        return no(0, "shape is constant", "the shape that {} is given comes from no shape arithmetic");
    }

    const MatchContext& m_context;
    const MatchVariant& m_variant;
    const Condition& m_condition;
    const Binding& m_binding;
    Objection* m_explain;
};

} // namespace

bool holds(const MatchContext& context, const MatchVariant& variant, const Condition& condition, const Binding& binding,
           Objection* explain) {
    return Check(context, variant, condition, binding, explain).run();
}

bool needsCopy(const MatchContext& context, NodeId reshape) {
    const Node& node = context.graph.node(reshape);
    if (node.op != "Reshape" && node.op != "Flatten") return false;
    ValueId value = node.input(0);
    // A handful of views stands between two operators that write dense memory.
    for (int steps = 0; steps < 16 && value; ++steps) {
        const NodeId producer = context.graph.producer(value);
        const UnitId unit = context.units.producer(value);
        if (!unit || context.units[unit].nodeClass != NodeClass::view) return false;
        const std::string& op = context.graph.node(producer).op;
        if (op == "Transpose" || op == "Expand") return true;
        if (op == "Reshape" || op == "Flatten") return false;
        value = context.graph.node(producer).input(0);
    }
    return false;
}

} // namespace triptych
