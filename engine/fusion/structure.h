#pragma once
// Patterns that follow from the structure of attention: projections that share an input, and the core as one region.

#include "fusion/partition.h"
#include "fusion/units.h"

namespace triptych {

struct ParallelFinds {
    std::vector<ParallelGroup> groups;
    std::vector<NearMiss> misses; ///< projections of one value that are quantised differently, or whose weights don't join
};

/// Every parallel projection group that exists: for each attention Q, K, V (or the two of them) that read one value,
/// then gates with their up projections. Patterns that the library lacks are left out.
ParallelFinds parallelGroups(const FusionInput& input, const PatternLibrary& library, const Units& units);

/// The core of one attention or of one of its parts, or what keeps it from being one region.
struct Region {
    std::vector<UnitId>
        units; ///< scores to context with scale, mask, softmax, dropout and the views around; empty where it is none
    NodeId at;
    std::string reason, detail;
};

/// @param part       its own middle or one of its parts
/// @param withViews  whether views around the core belong to it
Region attentionRegion(const FusionInput& input, const Units& units, const DecomposedAttention& attention,
                       const AttentionPart& part, bool withViews);

} // namespace triptych
