// An independent look at a partition: shares no code with what makes it, and works on nodes alone.

#include "fusion/partition.h"

#include <fmt/format.h>

namespace triptych {

namespace {

std::string oneGroupEach(const Graph& graph, const NodeClasses& classes, const Partition& partition) {
    std::vector<std::size_t> times(graph.nodes().size(), 0);
    for (std::size_t g = 0; g < partition.groups.size(); ++g) {
        if (partition.groups[g].nodes.empty()) return fmt::format("group {} is empty", partition.groups[g].id);
        for (const NodeId node : partition.groups[g].nodes) {
            ++times[node.position()];
            if (partition.groupOf[node] != GroupId(g))
                return fmt::format("{} is in group {}, yet groupOf says another", describe(graph, node),
                                   partition.groups[g].id);
        }
    }
    for (std::size_t i = 0; i < times.size(); ++i) {
        const NodeClass is = classes.of[NodeId(i)];
        const std::size_t wanted = is == NodeClass::view || is == NodeClass::compute ? 1 : 0;
        if (times[i] != wanted) return fmt::format("{} is in {} groups", describe(graph, NodeId(i)), times[i]);
    }
    for (const Composite& composite : classes.composites)
        for (const NodeId node : composite.nodes)
            if (partition.groupOf[node] != partition.groupOf[composite.nodes.front()])
                return fmt::format("the {} at {} is torn apart", composite.kind, describe(graph, node));
    return {};
}

} // namespace

std::string illegal(const Graph& graph, const NodeClasses& classes, const Partition& partition) {
    if (std::string wrong = oneGroupEach(graph, classes, partition); !wrong.empty()) return wrong;
    // Groups stand in a topological order: then their graph has no cycle, and no path leaves a group and comes back.
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const NodeId reader(i);
        const GroupId to = partition.groupOf[reader];
        if (!to) continue;
        for (const auto* operands : {&graph.node(reader).inputs, &graph.node(reader).captured})
            for (const ValueId value : *operands) {
                const NodeId producer = value ? graph.producer(value) : NodeId();
                const GroupId from = producer ? partition.groupOf[producer] : GroupId();
                if (from && from > to)
                    return fmt::format("{} in group {} reads {} in the later group {}", describe(graph, reader),
                                       partition.groups[to.position()].id, describe(graph, producer),
                                       partition.groups[from.position()].id);
            }
    }
    return {};
}

} // namespace triptych
