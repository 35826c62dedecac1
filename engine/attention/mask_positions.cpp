// Masks that compare positions of queries with positions of keys:
//
//   keys <= queries                          causal
//   keys > queries - w,  |queries - keys| <= w    a window, where w is in the file
//   keys / c == queries / c                  blocks

#include "attention/mask.h"
#include "attention/trace.h"

#include <cmath>

namespace triptych {

namespace {

constexpr int longest = 12;
constexpr int deepest = 60;

bool isView(const Node& node) {
    for (const char* op : {"Reshape", "Unsqueeze", "Squeeze", "Cast", "Identity", "Transpose", "Expand", "Floor"})
        if (node.is(op)) return true;
    return false;
}

Dim fromEnd(const ValueShape& shape, std::size_t back) { return shape.ranked && shape.dims.size() > back ? shape.dims[shape.dims.size() - 1 - back] : Dim(1); }

bool alongKeys(const ValueShape& shape) { return fromEnd(shape, 0) > 1 && fromEnd(shape, 1) == 1; }
bool alongQueries(const ValueShape& shape) { return fromEnd(shape, 0) == 1 && fromEnd(shape, 1) > 1; }

} // namespace

/// A number that the file gives: no size and nothing that follows from one.
bool MaskReader::givenNumber(ValueId value, double& number) const {
    const ValueId plain = value ? bare(m_graph, m_shapes, value) : ValueId();
    if (!plain || !isGiven(m_graph, m_shapes, plain)) return false;
    const auto scalar = m_shapes.scalar(plain);
    if (scalar) number = *scalar;
    return scalar.has_value();
}

MaskReader::Position MaskReader::positionOf(ValueId value) const {
    Position position{value, 0};
    for (int steps = 0; steps < longest; ++steps) {
        const NodeId id = m_graph.producer(position.value);
        if (!id) break;
        const Node& node = m_graph.node(id);
        double number = 0;
        if (isView(node)) position.value = node.input(0);
        else if (node.is("Add") && givenNumber(node.input(0), number)) position = {node.input(1), position.given + number};
        else if ((node.is("Add") || node.is("Sub")) && givenNumber(node.input(1), number)) position = {node.input(0), position.given + (node.is("Add") ? number : -number)};
        else break;
    }
    return position;
}

void MaskReader::compared(const Node& node, MaskFacts& facts) const {
    const bool equal = node.is("Equal"), less = node.is("Less") || node.is("LessOrEqual"), greater = node.is("Greater") || node.is("GreaterOrEqual");
    if ((!equal && !less && !greater) || !node.input(0) || !node.input(1)) return;
    const ValueShape &a = m_shapes.of(node.input(0)), &b = m_shapes.of(node.input(1));
    const bool apart = (alongKeys(a) && alongQueries(b)) || (alongQueries(a) && alongKeys(b));
    const Position one = positionOf(node.input(0)), two = positionOf(node.input(1));
    const auto maker = [&](ValueId value, const char* op) {
        const NodeId id = m_graph.producer(value);
        return id && m_graph.node(id).is(op) ? id : NodeId();
    };
    if (equal) {
        const NodeId first = maker(one.value, "Div"), second = maker(two.value, "Div");
        double block = 0;
        if (apart && first && second && givenNumber(m_graph.node(first).input(1), block) && block > 1) facts.blockSparse = true;
        return;
    }
    if (apart) {
        // keys against queries + distance
        const double distance = alongKeys(a) ? two.given - one.given : one.given - two.given;
        (distance < -1 ? facts.window : facts.causal) = true;
        return;
    }
    // The difference of both against a number.
    double number = 0;
    const bool left = givenNumber(node.input(1), number);
    if (!left && !givenNumber(node.input(0), number)) return;
    ValueId value = left ? one.value : two.value;
    const NodeId absolute = maker(value, "Abs");
    if (absolute) value = positionOf(m_graph.node(absolute).input(0)).value;
    const NodeId difference = maker(value, "Sub");
    if (!difference) return;
    const ValueShape &c = m_shapes.of(m_graph.node(difference).input(0)), &d = m_shapes.of(m_graph.node(difference).input(1));
    if (!((alongKeys(c) && alongQueries(d)) || (alongQueries(c) && alongKeys(d)))) return;
    (absolute || std::fabs(number) > 1 ? facts.window : facts.causal) = true;
}

void MaskReader::comparisons(ValueId value, int depth, MaskFacts& facts) {
    if (!value || depth > deepest || !m_compared.insert(value).second) return;
    const NodeId id = m_graph.producer(value);
    if (!id) return;
    const Node& node = m_graph.node(id);
    compared(node, facts);
    // What picks from a table (buckets of distances, for a learned bias) hides nothing.
    for (std::size_t i = 0; i < (node.is("Gather") ? 1 : node.inputs.size()); ++i) comparisons(node.input(i), depth + 1, facts);
}

} // namespace triptych
