// Masks that compare positions of queries with positions of keys:
//
//   keys <= queries                          causal
//   keys > queries - w,  |queries - keys| <= w    a window, where w is in the file
//   keys - queries <= w                      a window too: later keys are seen, unless w is 0
//   keys / c == queries / c                  blocks
//   table[queries / c]                       blocks that a table lists

#include "attention/mask.h"

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

} // namespace

/// Whether a value runs along keys; a count of places stands for as many as there are, be it one or a number that isn't known.
bool MaskReader::alongKeys(ValueId value) const {
    const ValueShape& shape = m_shapes.of(value);
    if (fromEnd(shape, 0) > 1 && fromEnd(shape, 1) == 1) return true;
    return shape.ranked && shape.dims.size() == 1 && maker(value, "Range");
}

/// Whether a value runs along queries; that of a single query is counted, where lengths are not.
bool MaskReader::alongQueries(ValueId value, int depth) const {
    const ValueShape& shape = m_shapes.of(value);
    // As many as data say, where the longest sequence is data.
    if (depth > 0 && maker(value, "Range")) return true;
    if (!shape.ranked || fromEnd(shape, 0) != 1 || (depth == 0 && alongKeys(value))) return false;
    if (fromEnd(shape, 1) > 1) return true;
    const NodeId id = m_graph.producer(value);
    if (!id || depth > longest / 2) return false;
    const Node& node = m_graph.node(id);
    if (isView(node)) return alongQueries(node.input(0), depth + 1);
    return (node.is("Add") || node.is("Sub")) && (alongQueries(node.input(0), depth + 1) || alongQueries(node.input(1), depth + 1));
}

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

NodeId MaskReader::maker(ValueId value, const char* op) const {
    const NodeId id = m_graph.producer(value);
    return id && m_graph.node(id).is(op) ? id : NodeId();
}

/// 1 where a is of keys and b of queries, -1 the other way round, 0 where they aren't one of each.
int MaskReader::orderOf(ValueId a, ValueId b) const {
    if (alongKeys(a) && alongQueries(b)) return 1;
    return alongKeys(b) && alongQueries(a) ? -1 : 0;
}

bool MaskReader::ofOneRow(ValueId a, ValueId b) const {
    const auto row = [&](ValueId value) {
        for (int steps = 0; steps < longest; ++steps) {
            const NodeId id = m_graph.producer(value);
            if (!id) break;
            const Node& node = m_graph.node(id);
            if (!isView(node) && !node.is("Slice") && !node.is("Pad") && !node.is("Concat")) break;
            value = node.input(0);
        }
        return value;
    };
    return row(a) == row(b);
}

std::optional<MaskReader::Bound> MaskReader::boundOf(const Node& node) const {
    const bool less = node.is("Less") || node.is("LessOrEqual"), greater = node.is("Greater") || node.is("GreaterOrEqual");
    if ((!less && !greater) || !node.input(0) || !node.input(1)) return std::nullopt;
    // Positions are whole: what ends at d with it or without it ends half a place beside it.
    const double half = node.is("LessOrEqual") || node.is("Greater") ? 0.5 : -0.5;
    const Position one = positionOf(node.input(0)), two = positionOf(node.input(1));
    if (const int order = orderOf(node.input(0), node.input(1))) {
        const bool ofRow = ofOneRow(one.value, two.value);
        return Bound{order * (two.given - one.given + half), ofRow ? Bound::Form::difference : Bound::Form::sides, ofRow && one.value != two.value};
    }
    // The difference of both against a number.
    double number = 0;
    const bool left = givenNumber(node.input(1), number);
    if (!left && !givenNumber(node.input(0), number)) return std::nullopt;
    const Position& compared = left ? one : two;
    const double at = number - compared.given + (left ? half : -half);
    const NodeId absolute = maker(compared.value, "Abs");
    const NodeId difference = maker(absolute ? positionOf(m_graph.node(absolute).input(0)).value : compared.value, "Sub");
    if (!difference) return std::nullopt;
    const Node& sub = m_graph.node(difference);
    const int order = orderOf(sub.input(0), sub.input(1));
    if (order == 0) return std::nullopt;
    return Bound{order * (at - positionOf(sub.input(0)).given + positionOf(sub.input(1)).given), absolute ? Bound::Form::absolute : Bound::Form::difference};
}

void MaskReader::compared(const Node& node, MaskFacts& facts) const {
    if (const auto bound = boundOf(node)) {
        // Where both sides are compared, what the file adds may be a part of the past.
        const bool window = bound->form == Bound::Form::sides ? bound->at < -1 : bound->form == Bound::Form::absolute || !bound->isCausal();
        (window ? facts.window : facts.causal) = true;
        facts.later = facts.later || (bound->ofBlocks && bound->at > 1);
        return;
    }
    if (picksBlocks(node)) facts.blockSparse = true;
    if (!node.is("Equal") || !node.input(0) || !node.input(1) || orderOf(node.input(0), node.input(1)) == 0) return;
    const NodeId first = maker(positionOf(node.input(0)).value, "Div"), second = maker(positionOf(node.input(1)).value, "Div");
    double block = 0;
    if (first && second && givenNumber(m_graph.node(first).input(1), block) && block > 1) facts.blockSparse = true;
}

bool MaskReader::picksBlocks(const Node& node) const {
    if (!node.is("Gather") || m_shapes.of(node.outputs[0]).type != DataType::boolean) return false;
    const NodeId division = maker(positionOf(node.input(1)).value, "Div");
    double block = 0;
    return division && givenNumber(m_graph.node(division).input(1), block) && block > 1;
}

bool MaskReader::isOneComparison(ValueId value, MaskFacts& facts) const {
    NodeId id = m_graph.producer(value);
    for (int steps = 0; steps < longest && id && (isView(m_graph.node(id)) || m_graph.node(id).is("Not")); ++steps) id = m_graph.producer(m_graph.node(id).input(0));
    if (!id) return false;
    const Node& node = m_graph.node(id);
    const bool lower = node.is("Trilu") && node.attributes.integer("upper", 1) == 0 && !node.input(1) && maker(node.input(0), "ConstantOfShape");
    const auto bound = boundOf(node);
    const bool causal = lower || (bound && bound->form != Bound::Form::absolute && bound->isCausal());
    const bool window = bound && bound->form == Bound::Form::difference && !causal;
    facts.causal = facts.causal || causal;
    facts.window = facts.window || window;
    return causal || window;
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
