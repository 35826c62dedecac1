#include "branches.h"

#include "support/stopwatch.h"

namespace triptych {

namespace {

/// An If in a branch needs a round of its own: bodies nest no deeper in honest files.
constexpr int mostRounds = 24;

/// Which branch each If takes under given shapes; those whose condition isn't constant are left out.
std::map<NodeId, bool> branchesUnder(const Graph& graph, const Shapes& shapes, bool forAllSizes) {
    std::map<NodeId, bool> taken;
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const Node& node = graph.nodes()[i];
        // One that asks a size takes the other branch for some size, whichever is bound.
        if (!node.is("If") || (forAllSizes && !shapes.isFixed(node.input(0)))) continue;
        const HostTensor* condition = node.input(0) ? shapes.constant(node.input(0)) : nullptr;
        if (condition && condition->count() == 1) taken[NodeId(i)] = condition->at(0) != 0;
    }
    return taken;
}

} // namespace

Result<FlatGraph> flatten(const Model& model, const Bindings& bindings, bool forAllSizes, const Job& job) {
    FlatGraph flat;
    flat.graph = model.graph;
    for (int round = 0;; ++round) {
        {
            const Stopwatch watch(flat.importMs);
            auto inlined = inlineFunctions(model, *flat.graph, {}, job);
            if (!inlined) return tl::unexpected(inlined.error());
            flat.graph = *inlined;
        }
        const Stopwatch watch(flat.shapesMs);
        auto shapes = inferShapes(model, *flat.graph, bindings, job);
        if (!shapes) return tl::unexpected(shapes.error());
        flat.shapes = *shapes;
        const auto taken = branchesUnder(*flat.graph, *flat.shapes, forAllSizes);
        if (taken.empty() || round == mostRounds) return flat;
        TakenBranches& named = flat.taken.emplace_back();
        for (const auto& [node, which] : taken) named[flat.graph->node(node).name] = which;
        auto graph = inlineBranches(model, *flat.graph, [&](NodeId node) -> std::optional<bool> {
            const auto found = taken.find(node);
            return found == taken.end() ? std::nullopt : std::optional(found->second);
        });
        if (!graph) return tl::unexpected(graph.error());
        flat.graph = *graph;
    }
}

Result<GraphPtr> flattenAlike(const Model& model, const std::vector<TakenBranches>& taken, const std::function<bool(const Graph&, NodeId)>& keep, const Job& job) {
    auto graph = inlineFunctions(model, *model.graph, keep, job);
    for (const TakenBranches& level : taken) {
        if (!graph) return graph;
        const auto branched = inlineBranches(model, **graph, [&](NodeId node) -> std::optional<bool> {
            const auto found = level.find((*graph)->node(node).name);
            return found == level.end() ? std::nullopt : std::optional(found->second);
        });
        if (!branched) return branched;
        graph = inlineFunctions(model, **branched, keep, job);
    }
    return graph;
}

} // namespace triptych
