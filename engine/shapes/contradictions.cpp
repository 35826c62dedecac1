#include "shapes/shapes.h"

namespace triptych {

namespace {

/// Every size another one; choices stay, so that the graph is the same.
Bindings otherSizes(const Graph& graph, const Bindings& bound) {
    const std::vector<SymbolicDim> dims = symbolicDims(graph);
    Bindings others = bound;
    std::int64_t more = 1;
    for (const SymbolicDim& dim : dims)
        if (const auto found = others.find(dim.name); found != others.end() && !dim.isChoice()) found->second += more++;
    deriveSizes(dims, others);
    return others;
}

} // namespace

Result<std::vector<std::string>> contradictions(const Model& model, const Graph& graph, const Shapes& shapes, const Job& job) {
    constexpr std::size_t most = 10;
    std::vector<std::string> warnings;
    if (shapes.declaredOtherwise().empty()) return warnings;
    ShapesPtr others;
    if (!shapes.bindings().empty()) {
        auto inferred = inferShapes(model, graph, otherSizes(graph, shapes.bindings()), job);
        if (!inferred) return tl::unexpected(inferred.error());
        others = *inferred;
    }
    for (const auto& [value, producer, declared] : shapes.declaredOtherwise()) {
        const Dims& ours = shapes.of(value).dims;
        bool wrong = ours.size() != declared.size() || !others;
        for (std::size_t axis = 0; !wrong && axis < ours.size(); ++axis) {
            const Dims& then = others->of(value).dims;
            wrong = declared[axis] >= 0 && ours[axis] >= 0 && ours[axis] != declared[axis] && axis < then.size() && then[axis] == ours[axis];
        }
        if (!wrong) continue;
        warnings.push_back("the file declares " + dimsText(declared) + " for '" + graph.value(value).name + "', but " + graph.node(producer).name + " (" + graph.node(producer).op + ") gives " + dimsText(ours));
        if (warnings.size() == most) break;
    }
    return warnings;
}

} // namespace triptych
