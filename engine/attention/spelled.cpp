#include "attention/spelled.h"

#include "attention/trace.h"

#include <algorithm>
#include <array>
#include <numbers>

namespace triptych {

NodeId Spelled::maker(ValueId value) const {
    const ValueId found = value ? bare(m_graph, m_shapes, value) : ValueId();
    return found ? m_graph.producer(found) : NodeId();
}

bool Spelled::madeBy(ValueId value, const char* op) const {
    const NodeId id = maker(value);
    return id && m_graph.node(id).is(op);
}

std::optional<double> Spelled::base(const Node& node) const {
    if (node.is("Exp")) return std::numbers::e;
    const auto number = node.is("Pow") ? m_shapes.scalar(node.input(0)) : std::nullopt;
    return number && *number > 1 && !m_shapes.scalar(node.input(1)) ? number : std::nullopt;
}

ValueId Spelled::sumBefore(const Node& node) const {
    if (node.is("Expand") || node.is("Clip") || node.is("Unsqueeze")) return node.input(0);
    if (!node.is("Add") && !node.is("Max")) return {};
    for (const std::size_t side : {0U, 1U}) {
        const NodeId other = maker(node.input(1 - side));
        if (m_shapes.isConstant(node.input(1 - side)) || (madeBy(node.input(side), "ReduceSum") && other && base(m_graph.node(other)))) return node.input(side);
    }
    return {};
}

NodeId Spelled::sumOf(ValueId sum, ValueId exponent) const {
    NodeId id = maker(sum);
    constexpr int longest = 6;
    for (int steps = 0; steps < longest && id && sumBefore(m_graph.node(id)); ++steps) id = maker(sumBefore(m_graph.node(id)));
    if (!id || (!m_graph.node(id).is("ReduceSum") && !m_graph.node(id).is("ReduceL1"))) return {};
    const ValueId summed = m_graph.node(id).input(0); // or the magnitude of each, as retention does
    const ValueId each = madeBy(summed, "Abs") ? m_graph.node(maker(summed)).input(0) : summed;
    return bare(m_graph, m_shapes, each) == bare(m_graph, m_shapes, exponent) ? id : NodeId();
}

bool Spelled::addsKey(ValueId sum) const {
    constexpr int longest = 6;
    constexpr double small = 1e-2; // what only keeps a sum above 0
    NodeId id = maker(sum);
    for (int steps = 0; steps < longest && id; ++steps) {
        const Node& node = m_graph.node(id);
        const ValueId before = sumBefore(node);
        if (!before) return false;
        const auto number = m_shapes.scalar(node.input(node.input(0) == before ? 1 : 0));
        if (node.is("Add") && !(number && *number < small)) return true;
        id = maker(before);
    }
    return false;
}

bool Spelled::squares(const Node& node) const {
    if (node.is("Pow")) return m_shapes.scalar(node.input(1)) == 2.0;
    return node.is("Mul") && node.input(0) && node.input(1) && bare(m_graph, m_shapes, node.input(0)) == bare(m_graph, m_shapes, node.input(1));
}

std::optional<Spelled::Hidden> Spelled::hiding(const Node& node) const {
    if (node.is("Mul") && !squares(node)) {
        for (const std::size_t side : {0U, 1U})
            if (positive(node.input(side), 1)) return Hidden{node.input(side), node.input(1 - side)};
    }
    if (node.is("Where")) {
        for (const std::size_t branch : {1U, 2U})
            if (m_shapes.scalar(node.input(3 - branch)) == 0.0 && positive(node.input(branch), 1)) return Hidden{node.input(branch), node.input(0)};
    }
    return std::nullopt;
}

bool Spelled::positive(ValueId value, int depth) const {
    const NodeId id = maker(value);
    constexpr int deepest = 3;
    if (!id || depth > deepest) return false;
    const Node& node = m_graph.node(id);
    if (base(node) || node.is("Relu")) return true;
    if (squares(node)) return madeBy(node.input(0), "Relu");
    return depth == 0 && hiding(node);
}

bool Spelled::weighs(ValueId value, int depth) const {
    constexpr int deepest = 2;
    for (int steps = 0; steps < 8 && value; ++steps) {
        const NodeId id = maker(value);
        if (!id) return false;
        const Node& node = m_graph.node(id);
        if (node.is("Softmax")) return true;
        if (node.is("Mul")) return depth < deepest && (weighs(node.input(0), depth + 1) || weighs(node.input(1), depth + 1));
        const bool passes = node.is("Identity") || node.is("Cast") || node.is("Dropout") || node.is("Expand") || node.is("Unsqueeze") || node.is("Transpose") || node.is("Reshape") ||
                            node.is("Squeeze") || node.is("Gather") || node.is("Slice") || node.is("Split"); // some of the heads
        if (!passes) return false;
        value = node.input(0);
    }
    return false;
}

bool Spelled::ends(const Node& node) const {
    if (node.is("Div")) return positive(node.input(0)) && sumOf(node.input(1), node.input(0));
    if (node.is("Exp")) return madeBy(node.input(0), "LogSoftmax") || lessLogarithm(node);
    if (!node.is("Mul")) return false;
    for (const std::size_t side : {0U, 1U})
        if (madeBy(node.input(1 - side), "Reciprocal") && positive(node.input(side)) && sumOf(m_graph.node(maker(node.input(1 - side))).input(0), node.input(side))) return true;
    return false;
}

bool Spelled::lessLogarithm(const Node& exponent) const {
    const NodeId sub = maker(exponent.input(0));
    if (!sub || !m_graph.node(sub).is("Sub")) return false;
    NodeId sum = maker(m_graph.node(sub).input(1));
    if (sum && m_graph.node(sum).is("Log")) { // of the sum of the exponents
        sum = maker(m_graph.node(sum).input(0));
        const NodeId exponents = sum && m_graph.node(sum).is("ReduceSum") ? maker(m_graph.node(sum).input(0)) : NodeId();
        return exponents && m_graph.node(exponents).is("Exp") && bare(m_graph, m_shapes, m_graph.node(exponents).input(0)) == bare(m_graph, m_shapes, m_graph.node(sub).input(0));
    }
    return sum && m_graph.node(sum).is("ReduceLogSumExp") && bare(m_graph, m_shapes, m_graph.node(sum).input(0)) == bare(m_graph, m_shapes, m_graph.node(sub).input(0));
}

NodeId Spelled::lateDivision(ValueId exponent, ValueId product, int depth) const {
    constexpr int deepest = 12;
    if (depth > deepest) return {};
    for (const NodeId division : m_graph.readers(product)) {
        const Node& node = m_graph.node(division);
        if (node.is("Div") && node.input(0) == product && sumOf(node.input(1), exponent)) return division;
        const bool passes = node.is("Identity") || node.is("Cast") || node.is("Transpose") || node.is("Reshape");
        if (const NodeId found = passes ? lateDivision(exponent, node.output(), depth + 1) : NodeId()) return found;
    }
    return {};
}

bool Spelled::addsUp(ValueId sum, ValueId exponent) const {
    static constexpr std::array between{"Add", "Mul", "Concat", "ReduceSum", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Expand", "Max", "Clip"};
    constexpr std::size_t most = 192;
    std::set<ValueId> seen{sum};
    std::vector<ValueId> open{sum};
    for (std::size_t i = 0; i < open.size() && i < most; ++i) {
        if (sumOf(open[i], exponent)) return true;
        const NodeId id = maker(open[i]);
        if (!id || !isOneOf(m_graph.node(id), between)) continue;
        for (const ValueId input : m_graph.node(id).inputs)
            if (input && open.size() < most && seen.insert(input).second) open.push_back(input);
    }
    return false;
}

NodeId Spelled::onlineDivision(ValueId exponent, ValueId product) const {
    static constexpr std::array passing{"Add", "Concat", "ReduceSum", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Identity", "Cast"};
    constexpr std::size_t most = 192, mostDivisions = 4; // readers, and sums that are asked
    std::size_t looked = 0, divisions = 0;
    std::vector<ValueId> open{product};
    for (std::size_t i = 0; i < open.size(); ++i) {
        for (const NodeId reader : m_graph.readers(open[i])) {
            if (++looked > most) return {};
            const Node& node = m_graph.node(reader);
            if (node.is("Div") && node.input(0) == open[i] && ++divisions <= mostDivisions && addsUp(node.input(1), exponent)) return reader;
            const bool rescales = node.is("Mul") && madeBy(node.input(node.input(0) == open[i] ? 1 : 0), "Exp");
            if (rescales || isOneOf(node, passing)) open.push_back(node.output());
        }
    }
    return {};
}

bool Spelled::sumsLate(const Node& node) const {
    if (!base(node) || ends(node)) return false;
    bool sum = false, division = false;
    std::vector<ValueId> open{node.output()};
    for (std::size_t i = 0; i < open.size() && i < 8; ++i) {
        for (const NodeId reader : m_graph.readers(open[i])) {
            const Node& each = m_graph.node(reader);
            sum = sum || each.is("ReduceSum");
            division = division || each.is("Div") || each.is("Mul");
            if (each.is("Identity") || each.is("Cast") || each.is("Transpose") || each.is("Reshape")) open.push_back(each.output());
        }
    }
    return sum && !division;
}

} // namespace triptych
