#pragma once
// The condition words of patterns, and why one fails.

#include "attention/attention.h"
#include "fusion/rule.h"
#include "fusion/units.h"

namespace triptych {

/// What patterns are matched against.
struct MatchContext {
    const Graph& graph;
    const Shapes& shapes;
    const Units& units;
    /// Attentions that a node takes part in; null where attention structure is not known.
    const IndexVector<NodeId, std::vector<AttentionId>>* attentionsOf = nullptr;
};

/// Units that the nodes of one spelling stand for.
struct Binding {
    std::vector<UnitId> units; ///< for each MatchVariant::nodes
    std::vector<int> operands; ///< for each MatchVariant::steps: position in Unit::inputs
};

/// Why a condition doesn't hold.
struct Objection {
    UnitId at;
    std::string reason; ///< docs/patterns.md, "Reasons"
    std::string detail;
};

/// Cost: constant for the words of one node, readers of its outputs for "single_use". Details are only written where
/// `explain`.
bool holds(const MatchContext& context, const MatchVariant& variant, const Condition& condition, const Binding& binding,
           Objection* explain);

/// A Reshape must move data: what it reads is strided, through views that are no Reshape, by a Transpose or an Expand.
bool needsCopy(const MatchContext& context, NodeId reshape);

} // namespace triptych
