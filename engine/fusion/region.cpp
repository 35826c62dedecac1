// The core of attention as one kernel computes it:
//
//   Q -- views -- scale --+
//                       scores -- scale -- mask -- softmax -- dropout --+
//   K -- views -- scale --+                                           context -- views
//   V -- views ---------------------------------------------------------+
//
// Everything on a path from scores to context belongs to it; so do views and scalar scales that only it reads, and
// views that only read it: such a kernel reads strided Q, K and V, repeats heads, and writes merged heads.

#include "fusion/rule.h"
#include "fusion/structure.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

namespace triptych {

namespace {

class Finder {
public:
    Finder(const FusionInput& input, const Units& units, const DecomposedAttention& attention,
           const AttentionPart& part, bool withViews)
        : m_input(input), m_units(units), m_attention(attention), m_part(part), m_withViews(withViews) {}

    Region run() {
        if (!m_part.scores || !m_part.context)
            return no(m_attention.nodes.empty() ? NodeId() : m_attention.nodes.front(), "no scores",
                      "this attention has no product of Q and K");
        if (!m_part.softmax)
            return no(m_part.scores, "no softmax",
                      fmt::format("nothing normalises the scores of {}", describe(m_input.graph, m_part.scores)));
        m_first = m_units.of(m_part.scores);
        m_last = m_units.of(m_part.context);
        between();
        if (!m_members.contains(m_first) || !m_members.contains(m_last))
            return no(m_part.scores, "no path", "no path leads from the scores to the context");
        if (const NodeId leak = readOutside())
            return no(
                leak, "value is read outside",
                fmt::format("{} is read outside of the region, so it must be written", describe(m_input.graph, leak)));
        if (m_withViews) {
            takeUpstream();
            takeDownstream();
        } else {
            std::erase_if(m_members, [&](UnitId unit) { return m_units[unit].nodeClass == NodeClass::view; });
        }
        return {{m_members.begin(), m_members.end()}, m_part.scores, {}, {}};
    }

private:
    static Region no(NodeId at, std::string reason, std::string detail) {
        return {{}, at, std::move(reason), std::move(detail)};
    }

    template <class Visit> void eachReader(UnitId unit, Visit visit) const {
        for (const NodeId node : m_units[unit].nodes)
            for (const ValueId output : m_input.graph.node(node).outputs)
                if (output)
                    for (const NodeId reader : m_input.graph.readers(output))
                        if (m_units.of(reader) != unit && m_units.grouped(m_units.of(reader)))
                            visit(m_units.of(reader));
    }
    /// Units on a path from the scores to the context. Both walks stay between the two in the order of units.
    void between() {
        std::set<UnitId> ahead{m_first};
        std::vector<UnitId> todo{m_first};
        while (!todo.empty()) {
            const UnitId unit = todo.back();
            todo.pop_back();
            eachReader(unit, [&](UnitId next) {
                if (next <= m_last && ahead.insert(next).second) todo.push_back(next);
            });
        }
        if (!ahead.contains(m_last)) return;
        m_members = {m_last};
        todo = {m_last};
        while (!todo.empty()) {
            const UnitId unit = todo.back();
            todo.pop_back();
            for (const ValueId input : m_units[unit].inputs)
                if (const UnitId before = m_units.producer(input);
                    before && ahead.contains(before) && m_members.insert(before).second)
                    todo.push_back(before);
        }
    }
    NodeId readOutside() const {
        for (const UnitId unit : m_members) {
            if (unit == m_last) continue;
            bool outside = false;
            eachReader(unit, [&](UnitId reader) { outside = outside || !m_members.contains(reader); });
            for (const ValueId output : m_input.graph.node(m_units[unit].root()).outputs)
                outside = outside || (output && m_input.graph.isOutput(output));
            if (outside) return m_units[unit].root();
        }
        return {};
    }
    bool onlyReadHere(UnitId unit) const {
        bool here = true;
        eachReader(unit, [&](UnitId reader) { here = here && m_members.contains(reader); });
        for (const ValueId output : m_input.graph.node(m_units[unit].root()).outputs)
            here = here && !(output && m_input.graph.isOutput(output));
        return here;
    }
    bool scalarScale(UnitId unit) const {
        const Node& node = m_input.graph.node(m_units[unit].root());
        if (m_units[unit].nodes.size() != 1 || (!node.is("Mul") && !node.is("Div"))) return false;
        return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId value) {
            if (!m_units.isConstant(value)) return false;
            const ValueShape& shape = m_input.shapes.of(value);
            return shape.known() && shape.count() == 1;
        });
    }
    /// Operands of the two products alone: views before the mask are the mask's.
    void takeUpstream() {
        std::vector<UnitId> todo{m_first, m_last};
        while (!todo.empty()) {
            const UnitId unit = todo.back();
            todo.pop_back();
            for (const ValueId input : m_units[unit].inputs) {
                const UnitId before = m_units.producer(input);
                if (!before || m_members.contains(before) || !m_units.grouped(before)) continue;
                if (m_units[before].nodeClass != NodeClass::view && !scalarScale(before)) continue;
                if (!onlyReadHere(before)) continue;
                m_members.insert(before);
                todo.push_back(before);
            }
        }
    }
    void takeDownstream() {
        for (UnitId unit = m_last;;) {
            std::vector<UnitId> readers;
            eachReader(unit, [&](UnitId reader) { readers.push_back(reader); });
            const NodeId root = m_units[unit].root();
            if (readers.size() != 1 || m_input.graph.isOutput(m_input.graph.node(root).output()) ||
                m_units[readers.front()].nodeClass != NodeClass::view)
                return;
            unit = readers.front();
            m_members.insert(unit);
        }
    }

    const FusionInput& m_input;
    const Units& m_units;
    const DecomposedAttention& m_attention;
    const AttentionPart& m_part;
    bool m_withViews;
    UnitId m_first, m_last;
    std::set<UnitId> m_members;
};

} // namespace

Region attentionRegion(const FusionInput& input, const Units& units, const DecomposedAttention& attention,
                       const AttentionPart& part, bool withViews) {
    return Finder(input, units, attention, part, withViews).run();
}

} // namespace triptych
