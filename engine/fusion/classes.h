#pragma once
// What each node costs in kind: constant, shape arithmetic, view or compute; and the composites that spell one operator.

#include "shapes/shapes.h"

namespace triptych {

enum class NodeClass : std::uint8_t { constant, shape, view, compute };
std::string_view toString(NodeClass nodeClass);

/// The spelled-out form of one framework operator: one compute operator for counting, one group under every preset.
struct Composite {
    std::string kind; ///< "LayerNorm", "RMSNorm", "GELU", "SiLU", "Softmax", "Linear"
    std::vector<NodeId> nodes; ///< in order
};

/// Definitions: docs/metrics.md, "Classes of nodes".
struct NodeClasses {
    IndexVector<NodeId, NodeClass> of;
    std::vector<Composite> composites;
    /// Position in `composites`, or -1.
    IndexVector<NodeId, std::int32_t> compositeOf;
};

/// Cost: linear in nodes.
NodeClasses classify(const Graph& graph, const Shapes& shapes);

} // namespace triptych
