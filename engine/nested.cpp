#include "nested.h"

namespace triptych {

Result<Projected> enterNested(const Analysis& analysis, const Projected& outer, NodeId node, std::size_t which, const Job& job) {
    const auto inside = shapesThroughBodies(*analysis.model, *outer.graph, *outer.shapes, node, {}, job);
    auto graph = enteredGraph(*analysis.model, *outer.graph, *outer.shapes, node, which, inside ? std::span<const ValueShape>(inside->inputs) : std::span<const ValueShape>());
    if (!graph) return tl::unexpected(graph.error());
    Projected made;
    made.key = "nested";
    made.graph = *graph;
    auto shapes = inferShapes(*analysis.model, *made.graph, analysis.bindings, job);
    if (!shapes) return tl::unexpected(shapes.error());
    made.shapes = *shapes;
    made.classes = std::make_shared<const NodeClasses>(classify(*made.graph, *made.shapes));
    auto partition = fuse({*made.graph, *made.shapes, *made.classes, nullptr, false}, *analysis.library, {}, job);
    if (!partition) return tl::unexpected(partition.error());
    partition->nearMisses.clear(); // with every pattern off they say nothing
    made.partition = std::make_shared<const Partition>(std::move(*partition));
    return made;
}

} // namespace triptych
