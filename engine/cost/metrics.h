#pragma once
// What a partition costs. Every definition is in docs/metrics.md under the same key.

#include "cost/profile.h"
#include "fusion/partition.h"

namespace triptych {

enum class Limit { compute, memory, launch };
std::string_view toString(Limit limit);
/// The research's classes by flop a byte: > 50 "compute", 10-50 "balanced", 1-10 "memory", < 1 "bandwidth".
std::string_view intensityClass(double intensity);

struct GroupMetrics {
    std::int64_t launches = 0;
    double flops = 0;
    std::int64_t inputBytes = 0, outputBytes = 0, weightBytes = 0, internalBytes = 0, dramBytes = 0; ///< copies counted in input and output
    double intensity = 0; ///< flop a byte
    Limit limitedBy = Limit::memory;
    double timeUs = 0;
    bool known = true; ///< false: a shape is unknown, and its share isn't counted
};

struct GraphMetrics {
    std::int64_t nodes = 0, computeNodes = 0, viewNodes = 0, groups = 0, launches = 0;
    double opsPerGroup = 0, flops = 0;
    std::int64_t bytes = 0, weightBytes = 0, readBytes = 0, writeBytes = 0, internalBytes = 0, dramBytes = 0, peakActivationBytes = 0;
    double intensity = 0, timeUs = 0, replayUs = 0, eagerUs = 0, launchOverheadUs = 0;
    std::int64_t attentionBytes = 0; ///< bytes of the groups that hold an attention's core or projections
    bool estimated = false;          ///< holds an opaque node whose expansion was counted instead
    std::map<PatternId, std::int64_t> groupsByPattern;
    std::vector<GroupMetrics> byGroup; ///< same order as Partition::groups
    std::vector<std::string> unknown;  ///< "MatMul_7: shape of x unknown"
};
using MetricsPtr = std::shared_ptr<const GraphMetrics>;

struct CostInput {
    const Graph& graph;
    const Shapes& shapes;
    const NodeClasses& classes;
    const Partition& partition;
    const PatternLibrary& library;
    const HardwareProfile& hardware;
    const RuntimeRules& runtime;
    Precision precision = Precision::file;
    std::vector<NodeId> attentionNodes; ///< for attentionBytes
    bool seedConstants = false;         ///< preset seed: the research's 7.5 us a launch
    std::map<NodeId, GroupMetrics> expansions; ///< opaque nodes: what their expansion costs, counted in their place
};

/// Cost: linear in nodes, apart from the cache simulation, which is linear in tensor uses.
GraphMetrics measure(const CostInput& input);

} // namespace triptych
