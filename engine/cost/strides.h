#pragma once
// How values lie in memory while a graph runs: which views are free, and where a kernel needs a dense copy first.
// Rules: docs/metrics.md, "Runtime rules".

#include "cost/profile.h"
#include "fusion/partition.h"

namespace triptych {

/// A value as a strided view of the storage that a kernel wrote.
struct Storage {
    ValueId root;        ///< the value that owns the memory; itself where dense
    Dims sizes, strides; ///< in elements
    bool known = false;
    /// Elements that are really there: axes with stride 0 count once.
    std::int64_t elements() const;
};

/// A copy into dense memory that a node needs of one of its inputs.
struct Copy {
    NodeId node;
    ValueId value;
};

struct MemoryPlan {
    IndexVector<ValueId, Storage> of;
    std::vector<Copy> copies; ///< in node order
};

/// Walks the graph in execution order. Copies inside a fused group vanish; a merged projection hands on slices of one
/// product; a flash region reads strided operands and writes batch, sequence, heads, size.
MemoryPlan planMemory(const Graph& graph, const Shapes& shapes, const NodeClasses& classes, const Partition& partition, const PatternLibrary& library, const RuntimeRules& runtime);

} // namespace triptych
