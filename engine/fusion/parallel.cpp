// Which projections read the same value and could be one product. Roles come from the decomposition, which traced them.

#include "attention/same_value.h"
#include "fusion/merged_members.h"
#include "fusion/rule.h"
#include "fusion/structure.h"

#include <algorithm>
#include <map>

namespace triptych {

namespace {

std::int64_t bytesOf(const ValueShape& shape) {
    const int bits = bitsOf(shape.type);
    if (!shape.known() || bits == 0) return -1;
    return (shape.count() * bits + 7) / 8;
}

class Finder {
public:
    Finder(const FusionInput& input, const PatternLibrary& library, const Units& units)
        : m_input(input), m_library(library), m_units(units) {}

    ParallelFinds run() {
        const std::vector<DecomposedAttention>& attentions = m_input.decomposition->attentions;
        for (std::size_t i = 0; i < attentions.size(); ++i) {
            ofStream(attentions[i], i);
            for (const DecomposedStream& each : attentions[i].joined) ofStream(each, i);
        }
        for (std::size_t i = 0; i < m_units.size(); ++i) gated(UnitId(i));
        return std::move(m_found);
    }

private:
    using Roles = std::vector<std::string>;

    PatternId patternOf(const Roles& roles) const {
        for (std::size_t i = 0; i < m_library.patterns.size(); ++i)
            if (m_library.patterns[i].rule->roles == roles) return PatternId(i);
        return {};
    }
    void add(Roles roles, std::vector<std::vector<NodeId>> members, ValueId shared, std::vector<std::size_t> attention,
             bool merged) {
        ParallelGroup group;
        group.pattern = patternOf(roles);
        if (!group.pattern) return;
        if (const auto [known, isNew] = m_ofMembers.emplace(members, m_found.groups.size()); !isNew && !attention.empty()) {
            // Several attentions of the same projections, as of the blocks of one sequence, are served by one product.
            auto& all = m_found.groups[known->second].attention;
            all.insert(all.end(), attention.begin(), attention.end());
            return;
        }
        group.id = "parallel_" + std::to_string(m_found.groups.size());
        const bool one = members.front() == members.back(); // what stays one product has nothing left to save
        const auto others = one ? 0 : static_cast<std::int64_t>(roles.size()) - 1;
        group.sharedInput = shared;
        group.sharedInputBytes = bytesOf(m_input.shapes.of(shared));
        group.bytesSaved = group.sharedInputBytes < 0 ? -1 : others * group.sharedInputBytes;
        group.launchesSaved = others;
        group.roles = std::move(roles);
        group.members = std::move(members);
        group.attention = std::move(attention);
        group.alreadyMerged = merged;
        // A kernel could still merge what isn't quantised: add zeros for a missing bias, compute a weight.
        if (one) return m_found.groups.push_back(std::move(group));
        if (const auto joined = mergedMembers(m_input.graph, m_input.shapes, group, m_input.opset); !joined && joined.error().quantised)
            m_found.misses.push_back({group.pattern, joined.error().at, "weights don't join", joined.error().reason + ": " + describe(m_input.graph, joined.error().at)});
        m_found.groups.push_back(std::move(group));
    }
    /// Each sequence of an attention has projections of its own.
    void ofStream(const DecomposedStream& stream, std::size_t position) {
        // Keys and values of what surrounds each block: padded and gathered before they are cut, they stay one product.
        if (stream.wasPacked && !stream.k.empty() && stream.k == stream.v && stream.k != stream.q)
            return add({"k", "v"}, {stream.k, stream.v}, stream.inputK, {position}, true);
        const bool qk = mergeable(stream.q, stream.inputQ, stream.k, stream.inputK);
        const bool kv = mergeable(stream.k, stream.inputK, stream.v, stream.inputV);
        if (qk && kv && stream.q != stream.v)
            add({"q", "k", "v"}, {stream.q, stream.k, stream.v}, stream.inputQ, {position},
                stream.wasPacked);
        else if (kv)
            add({"k", "v"}, {stream.k, stream.v}, stream.inputK, {position}, stream.wasPacked);
        else if (qk)
            add({"q", "k"}, {stream.q, stream.k}, stream.inputQ, {position}, stream.wasPacked);
    }

    /// Whether two products can be one; where they could but for their quantisation, that is a near miss.
    bool mergeable(const std::vector<NodeId>& a, ValueId inputA, const std::vector<NodeId>& b, ValueId inputB) {
        if (a.empty() || b.empty() || !inputA || !inputB || a == b) return false;
        const Graph& graph = m_input.graph;
        const auto miss = [&](const std::string& detail) {
            if (const PatternId pattern = patternOf({"q", "k", "v"}))
                m_found.misses.push_back({pattern, b.front(), "quantised differently", describe(graph, b.front()) + detail + describe(graph, a.front())});
            return false;
        };
        if (inputA != inputB) {
            const ValueId before = unquantised(graph, inputA);
            return before != inputA && before == unquantised(graph, inputB) && miss(" reads the same value by another scale or zero point than ");
        }
        // One product has one scale of what it gives.
        const Node &one = graph.node(a.front()), &two = graph.node(b.front());
        for (const std::size_t operand : sharedOperands(one))
            if (one.op == two.op && !sameValue(graph, m_input.shapes, one.input(operand), two.input(operand))) return miss(" has another scale or zero point of its input or result than ");
        return true;
    }

    /// Scales and zero points of what a quantised product reads and gives: there is one for all its columns.
    static std::vector<std::size_t> sharedOperands(const Node& product) {
        if (product.is("com.microsoft", "QGemm")) return {1, 2, 7, 8};
        if (product.is("QLinearMatMul") || product.is("QLinearConv")) return {1, 2, 6, 7};
        return {};
    }

    bool is(UnitId unit, std::string_view name) const {
        return m_units[unit].names[0] == name || m_units[unit].names[1] == name;
    }
    bool isOneOf(UnitId unit, std::string_view set) const {
        const std::vector<std::string>& names = *operatorSet(set);
        return std::find(names.begin(), names.end(), m_units[unit].names[0]) != names.end();
    }
    ValueId weightOf(UnitId linear) const { return m_input.graph.node(m_units[linear].nodes.front()).input(1); }

    /// gate = act(x Wg), up = x Wu, gate * up: both weights of one shape, and nothing else reads the products.
    void gated(UnitId mul) {
        if (!is(mul, "Mul") || m_units[mul].inputs.size() != 2) return;
        for (const std::size_t side : {std::size_t(0), std::size_t(1)}) {
            const UnitId activation = m_units.producer(m_units[mul].inputs[side]);
            const UnitId up = m_units.producer(m_units[mul].inputs[1 - side]);
            if (!activation || !up || !is(up, "Linear")) continue;
            if (!isOneOf(activation, "activation") && !isOneOf(activation, "gelu")) continue;
            if (m_units[activation].inputs.empty()) continue;
            const UnitId gate = m_units.producer(m_units[activation].inputs.front());
            if (!gate || gate == up || !is(gate, "Linear")) continue;
            const ValueId shared = m_units[gate].inputs.front();
            const ValueShape& gateWeight = m_input.shapes.of(weightOf(gate));
            const ValueShape& upWeight = m_input.shapes.of(weightOf(up));
            if (shared != m_units[up].inputs.front() || !gateWeight.ranked || gateWeight.dims != upWeight.dims)
                continue;
            return add({"gate", "up"}, {m_units[gate].nodes, m_units[up].nodes}, shared, {}, false);
        }
    }

    const FusionInput& m_input;
    const PatternLibrary& m_library;
    const Units& m_units;
    ParallelFinds m_found;
    std::map<std::vector<std::vector<NodeId>>, std::size_t> m_ofMembers; ///< the group of these products
};

} // namespace

ParallelFinds parallelGroups(const FusionInput& input, const PatternLibrary& library, const Units& units) {
    if (!input.decomposition) return {};
    return Finder(input, library, units).run();
}

} // namespace triptych
