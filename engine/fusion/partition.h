#pragma once
// Fused groups: every compute and view node in exactly one, convex, their graph without a cycle.

#include "attention/decompose.h"
#include "fusion/classes.h"
#include "fusion/pattern.h"

namespace triptych {

/// Position in Partition::groups.
using GroupId = Index<struct GroupTag>;

struct Group {
    std::string id;                  ///< "g17", in execution order
    PatternId pattern;               ///< the rule that names it; none: a single node or composite
    std::string composite;           ///< kind of the composite where it is just one ("LayerNorm"), else ""
    std::vector<PatternId> patterns; ///< all that contributed
    std::vector<NodeId> nodes;       ///< in topological order
    std::string why;                 ///< why these fuse, for the inspector
};

/// A parallel projection group that exists, whether its pattern is on or not.
struct ParallelGroup {
    std::string id;                     ///< "parallel_0"
    PatternId pattern;                  ///< parallel.qkv, parallel.kv, parallel.qk, parallel.gate_up
    std::vector<std::string> roles;     ///< "q", "k", "v"; "gate", "up"
    std::vector<std::size_t> attention; ///< positions in Attentions::found
    std::vector<std::vector<NodeId>> members; ///< product and bias of each role, in the graph
    ValueId sharedInput;
    std::int64_t sharedInputBytes = 0;  ///< unknown: -1
    std::int64_t bytesSaved = 0;        ///< (members - 1) x sharedInputBytes
    std::int64_t launchesSaved = 0;     ///< members - 1 (or what the partition shows)
    bool alreadyMerged = false;         ///< the file packs them
    GroupId group;                      ///< in the partition, where enabled and legal
};

/// A pattern that nearly matched, with the condition that failed.
struct NearMiss {
    PatternId pattern;
    NodeId at;
    std::string reason; ///< one of docs/patterns.md, "Reasons": "multiple readers", "not last axis", ...
    std::string detail; ///< names the node and the value that are in the way
};

struct Partition {
    std::vector<Group> groups; ///< in a topological order of the group graph
    IndexVector<NodeId, GroupId> groupOf; ///< none for constant and shape nodes
    std::vector<ParallelGroup> parallel;  ///< empty for graphs without a decomposition
    std::vector<NearMiss> nearMisses;
    std::vector<std::int64_t> matches;    ///< for each pattern of the library: places where it contributed
};
using PartitionPtr = std::shared_ptr<const Partition>;

struct FusionInput {
    const Graph& graph;
    const Shapes& shapes;
    const NodeClasses& classes;
    const Decomposition* decomposition; ///< null where attention structure is not known (baseline)
    /// Preset "seed": views take no part, they are groups of their own.
    bool viewsStayApart = false;
    std::int64_t opset = 0; ///< of ai.onnx; 0: not known
};

/// Cost: linear in nodes for a fixed library.
Result<Partition> fuse(const FusionInput& input, const PatternLibrary& library, const PatternSet& enabled, const Job& job = {});

/// The rule that a legal partition keeps, broken: an explanation; empty where legal. Independent of fuse().
std::string illegal(const Graph& graph, const NodeClasses& classes, const Partition& partition);

} // namespace triptych
