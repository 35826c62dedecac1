#include "fusion/expression.h"

#include <algorithm>
#include <cassert>
#include <cctype>
#include <cmath>
#include <cstdlib>

namespace triptych {

namespace {

/// The reduced axes are the last ones.
bool reducesLastAxes(const Expression::Context& context, const Node& node) {
    const std::vector<std::int64_t>* axes = node.attributes.integers("axes");
    std::vector<std::int64_t> folded;
    if (!axes) {
        const HostTensor* tensor = node.input(1) ? context.shapes.constant(node.input(1)) : nullptr;
        if (!tensor || !tensor->isInteger()) return false;
        folded = tensor->integers();
        axes = &folded;
    }
    if (!node.input(0)) return false;
    const ValueShape& shape = context.shapes.of(node.input(0));
    std::vector<std::int64_t> fromEnd;
    for (const std::int64_t axis : *axes) {
        if (axis >= 0 && !shape.ranked) return false;
        fromEnd.push_back(axis < 0 ? axis : axis - static_cast<std::int64_t>(shape.dims.size()));
    }
    std::sort(fromEnd.rbegin(), fromEnd.rend());
    for (std::size_t i = 0; i < fromEnd.size(); ++i)
        if (fromEnd[i] != -1 - static_cast<std::int64_t>(i)) return false;
    return !fromEnd.empty();
}

bool commutes(std::string_view op) {
    return op == "Add" || op == "Mul";
}

} // namespace

Expression::Expression(std::string_view text) {
    std::size_t at = 0;
    parse(text, at);
    assert(at == text.size() && m_terms.front().kind == Kind::call);
}

std::string Expression::word(std::string_view text, std::size_t& at) const {
    std::string word;
    while (at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '.'))
        word += text[at++];
    return word;
}

int Expression::variable(const std::string& name) {
    const auto found = std::find(m_variables.begin(), m_variables.end(), name);
    if (found != m_variables.end()) return static_cast<int>(found - m_variables.begin());
    m_variables.push_back(name);
    return static_cast<int>(m_variables.size()) - 1;
}

std::size_t Expression::parse(std::string_view text, std::size_t& at) {
    const auto skip = [&] {
        while (at < text.size() && text[at] == ' ') ++at;
    };
    const std::size_t position = m_terms.size();
    m_terms.emplace_back();
    Term term;
    skip();
    if (text[at] == '$') {
        term.kind = Kind::constant;
        word(text, ++at);
    } else {
        std::string name = word(text, at);
        if (at < text.size() && text[at] == ':') {
            term.variable = variable(name);
            name = word(text, ++at);
        }
        if (std::isdigit(static_cast<unsigned char>(name.front()))) {
            term.kind = Kind::number;
            term.number = std::strtod(name.c_str(), nullptr);
        } else if (std::islower(static_cast<unsigned char>(name.front()))) {
            term.variable = variable(name);
        } else {
            term.kind = Kind::call;
            term.name = std::move(name);
            term.optional = text[at] == '?';
            at += term.optional ? 2 : 1; // the bracket too
            do term.operands.push_back(parse(text, at));
            while (text[at++] == ',');
        }
    }
    skip();
    m_terms[position] = std::move(term);
    return position;
}

bool Expression::matches(const Context& context, const Term& term, ValueId value, Trial& trial) const {
    if (!value) return false;
    switch (term.kind) {
    case Kind::constant:
        return context.constant(value);
    case Kind::number: {
        if (!context.constant(value)) return false;
        const std::optional<double> number = context.shapes.scalar(value);
        return number && std::abs(*number - term.number) <= 1e-3 * std::abs(term.number);
    }
    case Kind::value:
        break;
    case Kind::call:
        if (!matchesCall(context, term, value, trial)) return false;
        break;
    }
    if (term.variable < 0) return true;
    ValueId& bound = trial.variables[static_cast<std::size_t>(term.variable)];
    if (bound) return bound == value;
    if (term.kind == Kind::value && context.constant(value)) return false;
    bound = value;
    return true;
}

bool Expression::matchesCall(const Context& context, const Term& term, ValueId value, Trial& trial) const {
    const NodeId producer = context.graph.producer(value);
    if (producer && context.graph.node(producer).is(term.name) && context.graph.node(producer).output() == value) {
        const Trial before = trial;
        for (const bool swapped : {false, true}) {
            if (swapped && !commutes(term.name)) break;
            if (matchesOperands(context, term, producer, swapped, trial)) return true;
            trial = before;
        }
    }
    return term.optional && matches(context, m_terms[term.operands.front()], value, trial);
}

bool Expression::matchesOperands(const Context& context, const Term& term, NodeId id, bool swapped,
                                 Trial& trial) const {
    const Node& node = context.graph.node(id);
    if (node.op == "ReduceMean" && !reducesLastAxes(context, node)) return false;
    for (std::size_t i = 0; i < term.operands.size(); ++i)
        if (!matches(context, m_terms[term.operands[i]], node.input(swapped ? 1 - i : i), trial)) return false;
    trial.nodes.push_back(id);
    return true;
}

std::vector<NodeId> Expression::match(const Context& context, NodeId root) const {
    Trial trial;
    trial.variables.resize(m_variables.size());
    if (!matches(context, m_terms.front(), context.graph.node(root).output(), trial)) return {};
    std::vector<NodeId> nodes = std::move(trial.nodes);
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    // Nothing between its operators may be seen from outside: then it is one operator, and convex.
    for (const NodeId id : nodes) {
        if (id == root) continue;
        for (const ValueId output : context.graph.node(id).outputs) {
            if (!output) continue;
            if (context.graph.isOutput(output)) return {};
            for (const NodeId reader : context.graph.readers(output))
                if (!std::binary_search(nodes.begin(), nodes.end(), reader)) return {};
        }
    }
    return nodes;
}

} // namespace triptych
