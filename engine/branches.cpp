#include "branches.h"

#include "attention/lists.h"
#include "shapes/dimension_use.h"
#include "support/stopwatch.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

/// An If in a branch needs a round of its own: bodies nest no deeper in honest files.
constexpr int mostRounds = 24;

/// What is tried, in turn, in place of a default that doesn't fit: shorter sequences (a table of 77 positions), half a minute of
/// speech in hundredths of a second, sides that halve more often than 224 does, and windows of sound.
struct OtherSizes {
    std::string_view use;
    std::array<std::int64_t, 3> sizes;
};
constexpr std::array<OtherSizes, 3> otherSizes{{{"sequence", {64, 16, 3000}}, {"image", {256, 512, 384}}, {"samples", {512, 1024, 160'000}}}};

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

Result<FlatGraph> undoLists(const Model& model, FlatGraph flat, const Bindings& bindings, bool forAllSizes, const Job& job) {
    auto graph = withoutLists(model, *flat.graph, *flat.shapes, forAllSizes);
    if (!graph) return tl::unexpected(graph.error());
    if (!*graph) return flat;
    flat.graph = *graph;
    flat.listsUndone = true;
    auto shapes = inferShapes(model, *flat.graph, bindings, job);
    if (!shapes) return tl::unexpected(shapes.error());
    flat.shapes = *shapes;
    return flat;
}

/// Under the sizes given, or under the first others that go together better.
Result<FlatGraph> firstThatFits(const Model& model, const Bindings& bindings, const Bindings& wanted, const Job& job) {
    auto first = flatten(model, bindings, false, job);
    if (!first) return first;
    std::vector<SymbolicDim> dims = symbolicDims(*model.graph);
    const auto learned = learnUses(model, *first->graph, *first->shapes, wanted, dims, job);
    if (!learned) return tl::unexpected(learned.error());
    if (!learned->empty()) {
        Bindings sizes = bindings;
        for (const auto& [name, size] : *learned) sizes[name] = size;
        deriveSizes(dims, sizes);
        for (const auto& [name, size] : wanted) sizes[name] = size;
        auto flat = flatten(model, sizes, false, job);
        if (!flat || flat->shapes->warnings().size() <= first->shapes->warnings().size()) first = std::move(flat);
        if (!first) return first;
    }
    if (first->shapes->warnings().empty()) return first;
    for (std::size_t trial = 0; trial < otherSizes.front().sizes.size(); ++trial) {
        Bindings other = wanted;
        for (const SymbolicDim& dim : dims) {
            const auto usual = std::find_if(otherSizes.begin(), otherSizes.end(), [&](const OtherSizes& each) { return dim.use == each.use; });
            if (usual != otherSizes.end()) other.try_emplace(dim.name, usual->sizes[trial]);
        }
        if (other == wanted) return first;
        other.insert(learned->begin(), learned->end());
        const auto sizes = resolveBindings(*model.graph, other);
        if (!sizes) return first;
        auto flat = flatten(model, *sizes, false, job);
        if (!flat || flat->shapes->warnings().size() < first->shapes->warnings().size()) return flat;
    }
    return first;
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
        if (taken.empty() || round == mostRounds) return undoLists(model, std::move(flat), bindings, forAllSizes, job);
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

Result<FlatGraph> flattenFitting(const Model& model, const Bindings& bindings, const Bindings& wanted, bool forAllSizes, const Job& job) {
    // What doesn't fit may stand in a branch that only these sizes take.
    auto flat = firstThatFits(model, bindings, wanted, job);
    if (!flat || !forAllSizes || flat->taken.empty()) return flat;
    return flatten(model, flat->shapes->bindings(), true, job);
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
