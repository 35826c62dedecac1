#pragma once
// The graph of groups while it is being contracted. It stays without a cycle, whatever is asked of it.

#include "fusion/units.h"

#include <set>

namespace triptych {

/// Groups of units that merge step by step. A group goes by the number of one of its units.
///
/// A merge makes a cycle exactly where a path leaves one merged group and reaches another through a third. To look for
/// such a path without walking the whole graph, every group has a rank, larger than the ranks of all groups that it
/// reads (a dynamic topological order after Pearce and Kelly). A path between two groups only visits ranks between
/// theirs, and after a merge only groups with ranks in between are re-ranked. Cost of a merge: groups and edges with
/// ranks between those merged, a handful for neighbours in the file's order; a search stops, and the merge is refused,
/// at searchLimit groups, so that the whole stays linear on any order of nodes.
class GroupGraph {
public:
    explicit GroupGraph(const Units& units);

    enum class Merge { done, cycle, tooFar };
    /// Joins the groups of these units into one. Nothing changes unless the result is `done`.
    Merge merge(const std::vector<UnitId>& members);
    UnitId groupOf(UnitId unit) const { return m_group[unit]; }
    const std::vector<UnitId>& members(UnitId group) const { return m_members[group]; }
    std::size_t rank(UnitId group) const { return m_rank[group]; }
    int products(UnitId group) const { return m_products[group]; }

    static constexpr std::size_t searchLimit = 4000;

private:
    using Groups = std::set<UnitId>;
    template <class Visit> void eachReader(UnitId group, Visit visit) const;
    template <class Visit> void eachRead(UnitId group, Visit visit) const;
    bool search(const Groups& from, bool forward, std::size_t limit, std::vector<UnitId>& found) const;
    void rerank(const Groups& merged, std::vector<UnitId> before, std::vector<UnitId> after, UnitId kept);

    const Units& m_units;
    IndexVector<UnitId, UnitId> m_group;
    IndexVector<UnitId, std::vector<UnitId>> m_members;
    IndexVector<UnitId, std::size_t> m_rank;
    IndexVector<UnitId, int> m_products;
};

} // namespace triptych
