#include "fusion/group_graph.h"

#include <algorithm>

namespace triptych {

GroupGraph::GroupGraph(const Units& units)
    : m_units(units), m_group(units.size()), m_members(units.size()), m_rank(units.size()), m_products(units.size()) {
    for (std::size_t i = 0; i < units.size(); ++i) {
        const UnitId unit(i);
        m_group[unit] = unit;
        m_members[unit] = {unit};
        m_rank[unit] = i;
        m_products[unit] = units.isProduct(unit) ? 1 : 0;
    }
}

template <class Visit> void GroupGraph::eachReader(UnitId group, Visit visit) const {
    const Graph& graph = m_units.graph();
    for (const UnitId member : m_members[group])
        for (const NodeId node : m_units[member].nodes)
            for (const ValueId output : graph.node(node).outputs) {
                if (!output) continue;
                for (const NodeId reader : graph.readers(output)) {
                    const UnitId other = m_group[m_units.of(reader)];
                    if (other != group && m_units.grouped(m_units.of(reader))) visit(other);
                }
            }
}

template <class Visit> void GroupGraph::eachRead(UnitId group, Visit visit) const {
    for (const UnitId member : m_members[group])
        for (const ValueId input : m_units[member].inputs) {
            const UnitId producer = m_units.producer(input);
            if (producer && m_units.grouped(producer) && m_group[producer] != group) visit(m_group[producer]);
        }
}

/// Groups outside of `from` that are reached with ranks on this side of `limit`; false beyond searchLimit.
bool GroupGraph::search(const Groups& from, bool forward, std::size_t limit, std::vector<UnitId>& found) const {
    Groups seen = from;
    std::vector<UnitId> todo(from.begin(), from.end());
    const auto visit = [&](UnitId next) {
        const bool within = forward ? m_rank[next] < limit : m_rank[next] > limit;
        if (!within || !seen.insert(next).second) return;
        todo.push_back(next);
        found.push_back(next);
    };
    while (!todo.empty()) {
        const UnitId group = todo.back();
        todo.pop_back();
        if (forward)
            eachReader(group, visit);
        else
            eachRead(group, visit);
        if (found.size() > searchLimit) return false;
    }
    return true;
}

GroupGraph::Merge GroupGraph::merge(const std::vector<UnitId>& members) {
    Groups merged;
    for (const UnitId unit : members) merged.insert(m_group[unit]);
    if (merged.size() < 2) return Merge::done;
    std::size_t low = m_rank[*merged.begin()], high = low;
    for (const UnitId group : merged) {
        low = std::min(low, m_rank[group]);
        high = std::max(high, m_rank[group]);
    }
    std::vector<UnitId> after, before;
    if (!search(merged, true, high, after) || !search(merged, false, low, before)) return Merge::tooFar;
    // What is behind one member and ahead of another lies on a path that leaves the group and comes back.
    std::sort(after.begin(), after.end());
    for (const UnitId group : before)
        if (std::binary_search(after.begin(), after.end(), group)) return Merge::cycle;
    const auto larger = [&](UnitId a, UnitId b) { return m_members[a].size() < m_members[b].size(); };
    const UnitId kept = *std::max_element(merged.begin(), merged.end(), larger);
    rerank(merged, std::move(before), std::move(after), kept);
    for (const UnitId group : merged) {
        if (group == kept) continue;
        for (const UnitId unit : m_members[group]) m_group[unit] = kept;
        m_members[kept].insert(m_members[kept].end(), m_members[group].begin(), m_members[group].end());
        m_members[group] = {};
        m_products[kept] += m_products[group];
    }
    return Merge::done;
}

/// Hands the ranks of all groups concerned out again: first what the merged group reads, then it, then what reads it.
void GroupGraph::rerank(const Groups& merged, std::vector<UnitId> before, std::vector<UnitId> after, UnitId kept) {
    const auto byRank = [&](UnitId a, UnitId b) { return m_rank[a] < m_rank[b]; };
    std::sort(before.begin(), before.end(), byRank);
    std::sort(after.begin(), after.end(), byRank);
    std::vector<std::size_t> ranks;
    for (const auto* groups : {&before, &after})
        for (const UnitId group : *groups) ranks.push_back(m_rank[group]);
    for (const UnitId group : merged) ranks.push_back(m_rank[group]);
    std::sort(ranks.begin(), ranks.end());
    // The merged group needs one rank of the several it had; any of them between the two sides does.
    std::size_t next = 0;
    for (const UnitId group : before) m_rank[group] = ranks[next++];
    m_rank[kept] = ranks[next];
    next = ranks.size() - after.size();
    for (const UnitId group : after) m_rank[group] = ranks[next++];
}

} // namespace triptych
