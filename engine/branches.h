#pragma once
// The graph that attention is looked for in: calls of functions replaced by their bodies, each If that takes one branch by that branch,
// what is picked out of lists by the tensors themselves.

#include "shapes/shapes.h"

#include <map>

namespace triptych {

/// By the name of the If; true: then.
using TakenBranches = std::map<std::string, bool>;

struct FlatGraph {
    GraphPtr graph;
    ShapesPtr shapes;
    std::vector<TakenBranches> taken;  ///< one for each level of nesting
    bool listsUndone = false;          ///< it reads tensors where the file picks them out of lists
    double importMs = 0, shapesMs = 0; ///< what it took
};

/// @param forAllSizes  only branches that are taken whatever sizes and switches are
Result<FlatGraph> flatten(const Model& model, const Bindings& bindings, bool forAllSizes, const Job& job = {});

/// As flatten(), under the first sizes that fit: where those that are taken by default don't go together (a table of positions has
/// fewer rows than the usual sequence, a window wants one frame), other usual ones are tried in their place. `wanted` ones stay as they
/// are. The sizes are those of the shapes.
Result<FlatGraph> flattenFitting(const Model& model, const Bindings& bindings, const Bindings& wanted, bool forAllSizes, const Job& job = {});

/// The same branches, and all calls but those to keep, replaced in the file's own graph.
Result<GraphPtr> flattenAlike(const Model& model, const std::vector<TakenBranches>& taken, const std::function<bool(const Graph&, NodeId)>& keep, const Job& job = {});

} // namespace triptych
