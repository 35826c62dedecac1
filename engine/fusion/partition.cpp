// How a graph is divided into fused groups.
//
// At first every unit (a composite or a single node) is a group. Then groups merge, never the other way round:
//   1. cores of attention (region patterns): they are closed, nothing joins them later;
//   2. projections of one input (parallel patterns): they have no path between them, so this always succeeds;
//   3. sequential patterns, for every unit in topological order as the last node of a match, in library order.
// A merge that would make a cycle in the graph of groups, or put more products of matrices into a group than the
// pattern's kernel holds, is refused and leaves a near miss. As GroupGraph never has a cycle, every group is convex.
// Views and compute operators are in groups; constants and shape arithmetic are not, and what they read doesn't count
// as a path: they are known before the first launch.
//
// Cost: linear in nodes for a fixed library (each root tries the few patterns that end in its operator); merging as in
// group_graph.h.

#include "fusion/partition.h"

#include "fusion/group_graph.h"
#include "fusion/match.h"
#include "fusion/rule.h"
#include "fusion/structure.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>
#include <tuple>

namespace triptych {

namespace {

/// No kernel computes more operators at once; it also keeps the cost of merging into a growing group constant.
constexpr std::size_t maxGroupUnits = 256;
constexpr std::size_t maxNearMisses = 200;
constexpr std::size_t maxNearMissesOfPattern = 40;

/// A rule that joined units.
struct Contribution {
    PatternId pattern;
    std::size_t size, compute; ///< units that it joined, and compute operators among them: the largest names the group
    UnitId from, to;
};

class Partitioner {
public:
    Partitioner(const FusionInput& input, const PatternLibrary& library, const PatternSet& enabled)
        : m_input(input), m_library(library), m_enabled(library.patterns.size()), m_units(input.graph, input.classes),
          m_groups(m_units), m_contributions(m_units.size()), m_closed(m_units.size()),
          m_missesOf(library.patterns.size()) {
        for (const PatternId pattern : enabled) m_enabled[pattern.position()] = true;
        m_result.matches.assign(library.patterns.size(), 0);
    }

    Result<Partition> run(const Job& job) {
        ParallelFinds parallelFinds = parallelGroups(m_input, m_library, m_units);
        m_result.parallel = std::move(parallelFinds.groups);
        for (NearMiss& each : parallelFinds.misses) miss(each.pattern, each.at, std::move(each.reason), std::move(each.detail));
        regions();
        parallel();
        if (job.stopped()) return fail("fuse", "stopped");
        if (!sequential(job)) return fail("fuse", "stopped");
        collectGroups();
        collectNearMisses();
        return std::move(m_result);
    }

private:
    bool on(PatternId pattern) const { return m_enabled[pattern.position()]; }

    void miss(PatternId pattern, NodeId at, std::string reason, std::string detail) {
        std::vector<NearMiss>& misses = m_missesOf[pattern.position()];
        if (misses.size() == maxNearMissesOfPattern) return;
        // One operator may be looked at from several of its readers, with the same outcome.
        const bool repeated = std::any_of(misses.begin(), misses.end(), [&](const NearMiss& earlier) {
            return earlier.at == at && earlier.reason == reason && earlier.detail == detail;
        });
        if (!repeated) misses.push_back({pattern, at, std::move(reason), std::move(detail)});
    }
    /// @returns whether the units are one group now.
    bool join(PatternId pattern, const std::vector<UnitId>& units, NodeId at) {
        const auto refused = [&](const char* reason, const std::string& why) {
            miss(pattern, at, reason, fmt::format("at {}: {}", describe(m_input.graph, at), why));
            return false;
        };
        switch (m_groups.merge(units)) {
        case GroupGraph::Merge::cycle:
            return refused("would make a cycle", "a path leaves the group and comes back to it");
        case GroupGraph::Merge::tooFar:
            return refused("too far apart", "too many operators lie between to prove that the group is convex");
        case GroupGraph::Merge::done:
            break;
        }
        ++m_result.matches[pattern.position()];
        m_contributions[units.front()].push_back(
            {pattern, units.size(), computeUnits(units), units.front(), units.back()});
        return true;
    }

    std::size_t computeUnits(const std::vector<UnitId>& units) const {
        return static_cast<std::size_t>(std::count_if(
            units.begin(), units.end(), [&](UnitId unit) { return m_units[unit].nodeClass == NodeClass::compute; }));
    }

    void regions() {
        if (!m_input.decomposition) return;
        for (std::size_t i = 0; i < m_library.patterns.size(); ++i) {
            if (m_library.patterns[i].kind != PatternKind::region) continue;
            const PatternId pattern(i);
            for (const DecomposedAttention& attention : m_input.decomposition->attentions) {
                region(pattern, attention, attention);
                for (const AttentionPart& part : attention.parts) region(pattern, attention, part);
            }
        }
    }
    void region(PatternId pattern, const DecomposedAttention& attention, const AttentionPart& part) {
        const Region region = attentionRegion(m_input, m_units, attention, part, !m_input.viewsStayApart);
        if (region.units.empty()) {
            if (region.at) miss(pattern, region.at, region.reason, region.detail);
        } else if (on(pattern) &&
                   std::none_of(region.units.begin(), region.units.end(),
                                [&](UnitId unit) { return m_closed[unit]; }) &&
                   join(pattern, region.units, region.at)) {
            for (const UnitId unit : region.units) m_closed[unit] = true;
        }
    }
    void parallel() {
        for (ParallelGroup& group : m_result.parallel) {
            if (!on(group.pattern)) continue;
            std::vector<UnitId> units;
            for (const std::vector<NodeId>& member : group.members)
                for (const NodeId node : member)
                    if (const UnitId unit = m_units.of(node);
                        m_units.grouped(unit) && std::find(units.begin(), units.end(), unit) == units.end())
                        units.push_back(unit);
            if (units.size() < 2 ||
                std::any_of(units.begin(), units.end(), [&](UnitId unit) { return m_closed[unit]; }))
                continue;
            if (m_input.viewsStayApart)
                std::erase_if(units, [&](UnitId unit) { return m_units[unit].nodeClass == NodeClass::view; });
            if (join(group.pattern, units, m_units[units.front()].root())) m_merged.emplace_back(&group, units.front());
        }
    }
    bool sequential(const Job& job) {
        MatchContext context{m_input.graph, m_input.shapes, m_units, nullptr};
        if (m_input.decomposition) {
            m_attentionsOf = IndexVector<NodeId, std::vector<AttentionId>>(m_input.graph.nodes().size());
            for (const DecomposedAttention& attention : m_input.decomposition->attentions)
                for (const NodeId node : attention.nodes) m_attentionsOf[node].push_back(attention.attention);
            context.attentionsOf = &m_attentionsOf;
        }
        const Matcher matcher(context, m_library);
        const auto onNearMiss = [&](PatternId pattern, const Objection& objection) {
            miss(pattern, m_units[objection.at].root(), objection.reason, objection.detail);
        };
        const auto wantsNearMiss = [&](PatternId pattern) {
            return m_missesOf[pattern.position()].size() < maxNearMissesOfPattern;
        };
        for (std::size_t i = 0; i < m_units.size(); ++i) {
            if (i % 1024 == 0 && job.stopped()) return false;
            const UnitId root(i);
            const auto onMatch = [&](PatternId pattern, const Binding& binding) {
                return !on(pattern) || apply(pattern, binding, root);
            };
            matcher.matchesAt(root, onMatch, wantsNearMiss, onNearMiss);
        }
        return true;
    }
    /// @returns whether the match was used; else another way to match at this root may be.
    bool apply(PatternId pattern, const Binding& binding, UnitId root) {
        std::vector<UnitId> units;
        for (const UnitId unit : binding.units)
            if (m_units.grouped(unit) && std::find(units.begin(), units.end(), unit) == units.end())
                units.push_back(unit);
        const NodeId at = m_units[root].root();
        for (const UnitId unit : units) {
            if (m_input.viewsStayApart && m_units[unit].nodeClass == NodeClass::view) return false;
            if (m_closed[unit]) return false;
        }
        if (!fitsKernel(pattern, units)) {
            const bool none = m_library[pattern].rule->products == 0;
            miss(pattern, at, none ? "product in the group" : "second product",
                 fmt::format("{} would come into one group with {}", describe(m_input.graph, at),
                             none ? "a matrix product, and the kernel holds none"
                                  : "more matrix products than the kernel holds"));
            return false;
        }
        std::size_t size = 0;
        for (const UnitId unit : units) size += m_groups.members(m_groups.groupOf(unit)).size();
        if (size > maxGroupUnits) {
            miss(pattern, at, "group is full",
                 fmt::format("the groups at {} would have more than {} operators together", describe(m_input.graph, at),
                             maxGroupUnits));
            return false;
        }
        return join(pattern, units, at);
    }
    /// Where several groups with products meet, the pattern's kernel must hold them all.
    bool fitsKernel(PatternId pattern, const std::vector<UnitId>& units) const {
        const int limit = m_library[pattern].rule->products;
        std::set<UnitId> groups;
        for (const UnitId unit : units) groups.insert(m_groups.groupOf(unit));
        int total = 0, withProducts = 0;
        for (const UnitId group : groups) {
            total += m_groups.products(group);
            withProducts += m_groups.products(group) > 0 ? 1 : 0;
        }
        if (groups.size() < 2 || total <= limit) return true;
        return limit > 0 && withProducts < 2;
    }

    void collectGroups() {
        std::vector<UnitId> heads;
        for (std::size_t i = 0; i < m_units.size(); ++i)
            if (const UnitId unit(i); m_units.grouped(unit) && m_groups.groupOf(unit) == unit) heads.push_back(unit);
        std::sort(heads.begin(), heads.end(), [&](UnitId a, UnitId b) { return m_groups.rank(a) < m_groups.rank(b); });
        m_result.groupOf.resize(m_input.graph.nodes().size());
        std::vector<GroupId> placeOf(m_units.size());
        for (const UnitId head : heads) {
            const GroupId id(m_result.groups.size());
            placeOf[head.position()] = id;
            m_result.groups.push_back(groupOf(head, id));
            for (const NodeId node : m_result.groups.back().nodes) m_result.groupOf[node] = id;
        }
        for (const auto& [group, unit] : m_merged) group->group = placeOf[m_groups.groupOf(unit).position()];
    }
    Group groupOf(UnitId head, GroupId id) const {
        Group group;
        group.id = "g" + std::to_string(id.position());
        const std::vector<UnitId>& members = m_groups.members(head);
        std::vector<Contribution> contributions;
        for (const UnitId member : members) {
            group.nodes.insert(group.nodes.end(), m_units[member].nodes.begin(), m_units[member].nodes.end());
            contributions.insert(contributions.end(), m_contributions[member].begin(), m_contributions[member].end());
        }
        std::sort(group.nodes.begin(), group.nodes.end());
        for (const Contribution& contribution : contributions) group.patterns.push_back(contribution.pattern);
        std::sort(group.patterns.begin(), group.patterns.end());
        group.patterns.erase(std::unique(group.patterns.begin(), group.patterns.end()), group.patterns.end());
        if (members.size() == 1) {
            const std::int32_t composite = m_input.classes.compositeOf[group.nodes.front()];
            if (composite >= 0) group.composite = m_input.classes.composites[static_cast<std::size_t>(composite)].kind;
            group.why = group.composite.empty() ? "" : "spells one operator of the framework";
            return group;
        }
        group.pattern = nameOf(contributions);
        group.why = why(group.pattern, contributions);
        return group;
    }
    /// Regions and merged projections name their group; else the rule that joined most, the first of the library among
    /// equals.
    PatternId nameOf(const std::vector<Contribution>& contributions) const {
        const auto weight = [&](const Contribution& contribution) {
            const bool sequential = m_library[contribution.pattern].kind == PatternKind::sequential;
            return std::tuple(!sequential, contribution.compute, contribution.size);
        };
        const Contribution* best = &contributions.front();
        for (const Contribution& next : contributions)
            if (weight(next) > weight(*best) || (weight(next) == weight(*best) && next.pattern < best->pattern))
                best = &next;
        return best->pattern;
    }
    std::string why(PatternId name, std::vector<Contribution> contributions) const {
        std::string text = m_library[name].why;
        std::sort(contributions.begin(), contributions.end(), [](const Contribution& a, const Contribution& b) {
            return std::pair(a.to, a.pattern) < std::pair(b.to, b.pattern);
        });
        constexpr std::size_t most = 8;
        for (std::size_t i = 0; i < std::min(contributions.size(), most); ++i) {
            const Contribution& next = contributions[i];
            text += '\n';
            text += m_library[next.pattern].id;
            if (next.from != next.to) {
                text += " joins ";
                text += m_input.graph.node(m_units[next.from].root()).name;
                text += " with ";
            } else
                text += " at ";
            text += m_input.graph.node(m_units[next.to].root()).name;
        }
        if (contributions.size() > most) text += "\nand " + std::to_string(contributions.size() - most) + " more";
        return text;
    }
    /// Every pattern gets its turn before one gets a second line, so that none fills the list.
    void collectNearMisses() {
        std::vector<NearMiss>& all = m_result.nearMisses;
        for (std::size_t turn = 0; turn < maxNearMissesOfPattern; ++turn)
            for (const std::vector<NearMiss>& misses : m_missesOf)
                if (turn < misses.size() && all.size() < maxNearMisses) all.push_back(misses[turn]);
        std::stable_sort(all.begin(), all.end(), [](const NearMiss& a, const NearMiss& b) {
            return std::pair(a.pattern, a.at) < std::pair(b.pattern, b.at);
        });
    }

    const FusionInput& m_input;
    const PatternLibrary& m_library;
    std::vector<bool> m_enabled;
    const Units m_units;
    GroupGraph m_groups;
    IndexVector<UnitId, std::vector<Contribution>> m_contributions; ///< at the first unit that was joined
    IndexVector<UnitId, bool> m_closed;
    std::vector<std::vector<NearMiss>> m_missesOf;
    IndexVector<NodeId, std::vector<AttentionId>> m_attentionsOf;
    std::vector<std::pair<ParallelGroup*, UnitId>> m_merged;
    Partition m_result;
};

} // namespace

Result<Partition> fuse(const FusionInput& input, const PatternLibrary& library, const PatternSet& enabled,
                       const Job& job) {
    return Partitioner(input, library, enabled).run(job);
}

} // namespace triptych
