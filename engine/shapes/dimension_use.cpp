#include "shapes/dimension_use.h"

#include <algorithm>
#include <set>

namespace triptych {

namespace {

/// Sizes of the axes that softmaxes run over.
std::set<std::int64_t> softmaxSizes(const Model& model, const Graph& graph, const Shapes& shapes) {
    constexpr int lastByDefault = 13; // the opset
    std::set<std::int64_t> sizes;
    for (const Node& node : graph.nodes()) {
        if (!node.is("Softmax")) continue;
        const Dims& dims = shapes.of(node.input(0)).dims;
        const auto rank = static_cast<std::int64_t>(dims.size());
        std::int64_t axis = node.attributes.integer("axis", node.version(model.opsets, 1) < lastByDefault ? 1 : -1);
        if (axis < 0) axis += rank;
        if (axis >= 0 && axis < rank) sizes.insert(dims[static_cast<std::size_t>(axis)]);
    }
    return sizes;
}

/// "ids" of "ids[1]".
std::string_view inputOf(std::string_view place) { return place.substr(0, place.rfind('[')); }

bool standBeside(const SymbolicDim& one, const SymbolicDim& other) {
    return std::any_of(one.inputs.begin(), one.inputs.end(), [&](const std::string& a) {
        return std::any_of(other.inputs.begin(), other.inputs.end(), [&](const std::string& b) { return inputOf(a) == inputOf(b); });
    });
}

} // namespace

Result<Bindings> learnUses(const Model& model, const Graph& graph, const Shapes& shapes, const Bindings& wanted, std::vector<SymbolicDim>& dims, const Job& job) {
    Bindings learned;
    const std::set<std::int64_t> usual = softmaxSizes(model, graph, shapes);
    if (usual.empty()) return learned;
    constexpr std::size_t most = 4;
    constexpr std::int64_t tokens = 128;
    std::int64_t probe = 37; // a size that no softmax has by itself
    while (usual.contains(probe)) ++probe;
    const auto isOpen = [&](const SymbolicDim& dim) { return !wanted.contains(dim.name) && !nameTellsUse(dim); };
    const auto attendedTo = [&](const SymbolicDim& dim) -> Result<bool> {
        Bindings sizes = shapes.bindings();
        sizes[dim.name] = probe;
        deriveSizes(dims, sizes);
        const auto then = inferShapes(model, graph, sizes, job);
        if (!then) return tl::unexpected(then.error());
        return softmaxSizes(model, graph, **then).contains(probe);
    };
    std::size_t asked = 0;
    std::vector<SymbolicDim*> sequences;
    for (SymbolicDim& dim : dims) {
        if ((dim.use != "batch" && dim.use != "other") || !isOpen(dim) || asked++ >= most) continue;
        const auto found = attendedTo(dim);
        if (!found) return tl::unexpected(found.error());
        if (*found) sequences.push_back(&dim);
    }
    asked = 0;
    for (SymbolicDim& dim : dims) {
        const bool beside = dim.use == "sequence" && isOpen(dim) && std::any_of(sequences.begin(), sequences.end(), [&](const SymbolicDim* each) { return standBeside(dim, *each); });
        if (!beside || asked++ >= most) continue;
        const auto found = attendedTo(dim);
        if (!found) return tl::unexpected(found.error());
        if (!*found) dim.use = "batch", learned[dim.name] = dim.defaultSize = 1;
    }
    for (SymbolicDim* dim : sequences) dim->use = "sequence", learned[dim->name] = dim->defaultSize = tokens;
    return learned;
}

} // namespace triptych
