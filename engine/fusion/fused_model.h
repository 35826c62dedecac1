#pragma once
// A partition as a runnable model: every fused group becomes a call of a model-local function.

#include "fusion/partition.h"
#include "onnx_io/export.h"

namespace triptych {

struct FusedModel {
    GraphPtr graph;
    std::vector<Function> functions; ///< PATTERN_N of fusedDomain, in execution order
    std::vector<std::string> warnings;
};

/// Groups that a pattern formed become functions; single nodes and composites stay. A merged projection multiplies by its
/// members' weights joined along the columns, with the scales and zero points of quantised ones, and cuts the result by a
/// Split; where that can't be written (weights that are no initializers, biases on some members only, scales for blocks
/// of columns) the members stay apart inside the function, with a warning.
/// @param opsets  those of the model, for the functions
Result<FusedModel> fusedModel(const Graph& graph, const Shapes& shapes, const Partition& partition, const PatternLibrary& library,
                              const std::map<std::string, std::int64_t>& opsets);

} // namespace triptych
