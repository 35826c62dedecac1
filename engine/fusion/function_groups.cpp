#include "fusion/function_groups.h"

#include <algorithm>

namespace triptych {

namespace {

/// Strongly connected components of a graph of numbers, without recursion. Source: Tarjan, Depth-first search and linear graph algorithms (1972).
std::vector<std::size_t> componentsOf(const std::vector<std::vector<std::size_t>>& next) {
    constexpr std::size_t none = SIZE_MAX;
    const std::size_t count = next.size();
    std::vector<std::size_t> order(count, none), low(count, 0), component(count, none), stack, path, edge(count, 0);
    std::size_t visited = 0, components = 0;
    for (std::size_t root = 0; root < count; ++root) {
        if (order[root] != none) continue;
        path.push_back(root);
        while (!path.empty()) {
            const std::size_t at = path.back();
            if (order[at] == none) {
                order[at] = low[at] = visited++;
                stack.push_back(at);
            }
            if (edge[at] < next[at].size()) {
                const std::size_t to = next[at][edge[at]++];
                if (order[to] == none) path.push_back(to);
                else if (component[to] == none) low[at] = std::min(low[at], order[to]);
                continue;
            }
            path.pop_back();
            if (!path.empty()) low[path.back()] = std::min(low[path.back()], low[at]);
            if (low[at] != order[at]) continue;
            for (std::size_t member = none; member != at;) {
                member = stack.back();
                stack.pop_back();
                component[member] = components;
            }
            ++components;
        }
    }
    return component;
}

class FunctionGroups {
public:
    FunctionGroups(const Graph& graph, const Partition& partition) : m_graph(graph), m_nodes(partition.groups.size()), m_unit(graph.nodes().size()) {
        for (std::size_t i = 0; i < m_unit.size(); ++i) m_unit[i] = m_nodes.size() + i;
        for (std::size_t g = 0; g < partition.groups.size(); ++g) {
            const Group& group = partition.groups[g];
            const bool captures = std::any_of(group.nodes.begin(), group.nodes.end(), [&](NodeId id) { return !graph.node(id).captured.empty(); });
            if (!group.pattern || group.nodes.size() < 2 || captures) continue;
            m_nodes[g] = group.nodes;
            for (const NodeId id : group.nodes) m_unit[id.position()] = g;
        }
        for (std::size_t i = 0; i < m_unit.size(); ++i) m_grouped.push_back(partition.groupOf[NodeId(i)].valid());
    }

    std::vector<std::vector<NodeId>> run(std::vector<GroupId>& plain) {
        while (untie(plain)) {}
        return std::move(m_nodes);
    }

private:
    /// One round; false where nothing was tied.
    bool untie(std::vector<GroupId>& plain) {
        std::vector<std::vector<std::size_t>> next(m_nodes.size() + m_unit.size());
        for (std::size_t i = 0; i < m_unit.size(); ++i) {
            for (const auto* list : {&m_graph.nodes()[i].inputs, &m_graph.nodes()[i].captured}) {
                for (const ValueId value : *list) {
                    const NodeId from = m_graph.producer(value);
                    if (from && m_unit[from.position()] != m_unit[i]) next[m_unit[from.position()]].push_back(m_unit[i]);
                }
            }
        }
        const auto component = componentsOf(next);
        std::map<std::size_t, std::set<std::size_t>> functions; // of components with more than one unit
        std::map<std::size_t, std::vector<NodeId>> others;
        std::map<std::size_t, std::size_t> sizes;
        for (const std::size_t each : component) ++sizes[each];
        for (std::size_t g = 0; g < m_nodes.size(); ++g)
            if (!m_nodes[g].empty() && sizes[component[g]] > 1) functions[component[g]].insert(g);
        for (std::size_t i = 0; i < m_unit.size(); ++i)
            if (m_unit[i] >= m_nodes.size() && sizes[component[m_unit[i]]] > 1) others[component[m_unit[i]]].push_back(NodeId(i));
        for (const auto& [at, groups] : functions) settle(groups, others[at], plain);
        return !functions.empty();
    }

    void settle(const std::set<std::size_t>& groups, const std::vector<NodeId>& others, std::vector<GroupId>& plain) {
        const bool shapesOnly = std::none_of(others.begin(), others.end(), [&](NodeId id) { return m_grouped[id.position()] || !m_graph.node(id).captured.empty(); });
        const std::size_t smallest = *std::min_element(groups.begin(), groups.end(), [&](std::size_t a, std::size_t b) { return m_nodes[a].size() < m_nodes[b].size(); });
        if (groups.size() == 1 && shapesOnly) {
            auto& nodes = m_nodes[smallest];
            nodes.insert(nodes.end(), others.begin(), others.end());
            std::sort(nodes.begin(), nodes.end());
            for (const NodeId id : others) m_unit[id.position()] = smallest;
            return;
        }
        for (const NodeId id : m_nodes[smallest]) m_unit[id.position()] = m_nodes.size() + id.position();
        m_nodes[smallest].clear();
        plain.push_back(GroupId(smallest));
    }

    const Graph& m_graph;
    std::vector<std::vector<NodeId>> m_nodes;
    std::vector<std::size_t> m_unit; ///< of each node: its function, or behind those a number of its own
    std::vector<bool> m_grouped;
};

} // namespace

std::vector<std::vector<NodeId>> functionGroups(const Graph& graph, const Partition& partition, std::vector<GroupId>& plain) { return FunctionGroups(graph, partition).run(plain); }

} // namespace triptych
