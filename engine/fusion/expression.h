#pragma once
// Expression trees over a graph: how the spelled-out forms of framework operators are written down in composites.cpp.
//
//   Mul(x, Sigmoid(x))          operators with their operands; Add and Mul match in either order
//   x, d:Sub(x, ReduceMean(x))  lower case names a value, the same value wherever it is repeated; NAME:EXPR names a
//   result $w                          any constant 0.5                         a constant with this one element
//   Cast?(x)                    an operator that may be missing
//
// ReduceMean, where it occurs, must reduce the last axes: what frameworks normalise over.

#include "shapes/shapes.h"

#include <functional>

namespace triptych {

class Expression {
public:
    /// `text` is written in this program, never by a user: malformed text is a programming error (asserted).
    explicit Expression(std::string_view text);
    /// The operator of the outermost call.
    const std::string& root() const { return m_terms.front().name; }

    struct Context {
        const Graph& graph;
        const Shapes& shapes;
        std::function<bool(ValueId)> constant;
    };
    /// The nodes that spell the expression ending in `root`, in topological order; empty where they don't.
    std::vector<NodeId> match(const Context& context, NodeId root) const;

private:
    enum class Kind : std::uint8_t { call, value, constant, number };
    struct Term {
        Kind kind = Kind::value;
        bool optional = false;
        std::string name;  ///< operator of a call
        int variable = -1; ///< of a value, or of a named call
        double number = 0;
        std::vector<std::size_t> operands; ///< positions in m_terms
    };
    struct Trial {
        std::vector<ValueId> variables;
        std::vector<NodeId> nodes;
    };
    std::size_t parse(std::string_view text, std::size_t& at);
    std::string word(std::string_view text, std::size_t& at) const;
    int variable(const std::string& name);
    bool matches(const Context& context, const Term& term, ValueId value, Trial& trial) const;
    bool matchesCall(const Context& context, const Term& term, ValueId value, Trial& trial) const;
    bool matchesOperands(const Context& context, const Term& term, NodeId node, bool swapped, Trial& trial) const;
    std::vector<Term> m_terms;
    std::vector<std::string> m_variables;
};

} // namespace triptych
