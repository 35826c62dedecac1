#pragma once
// Runs a whole graph with the reference evaluator.

#include "reference/evaluate.h"

#include <set>

namespace triptych {

/// Values by the name that the graph gives them.
using NamedTensors = std::map<std::string, HostTensor>;
/// Little-endian bytes of an initializer, read when it is needed.
using WeightReader = std::function<Result<std::vector<std::byte>>(const Tensor&)>;

struct RunOptions {
    std::map<std::string, std::int64_t> opsets;
    WeightReader weights;
    std::set<std::string> keep; ///< values to give out beside the graph's outputs, where they exist
    /// Live elements at one time; a graph that needs more fails. 2^29 floats are 2 GiB, and as much again while one is made.
    std::int64_t maximumElements = std::int64_t(1) << 29;
};

/// Nodes in order; what nothing reads any more is let go. If, Loop and Scan run their bodies.
/// Fails, naming the node, on an operator that can't be evaluated; stage "weights" where an initializer's bytes are absent.
Result<NamedTensors> runGraph(const Graph& graph, const NamedTensors& inputs, const RunOptions& options, const Job& job = {});

} // namespace triptych
