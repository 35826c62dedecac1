#pragma once
// From traced roles to a specification. Private to engine/attention.

#include "attention/core.h"
#include "attention/mask.h"
#include "attention/trace.h"

namespace triptych {

/// The three roles of one attention, traced.
struct Roles {
    RoleTrace q, k, v;
};

/// Fills projections, kind, heads, head sizes, evidence and nodes of a spec from its traced roles.
/// `headDim` and `vHeadDim` must be set where the operands tell them.
void assembleRoles(const Graph& graph, const Shapes& shapes, const Roles& roles, AttentionSpec& spec);

/// The output projection behind a context value: transposes, reshapes, then a product with a constant weight.
void findOutputProjection(const Graph& graph, const Shapes& shapes, ValueId context, AttentionSpec& spec);

/// Words for masks, and whether it is causal.
void describeMasks(const std::vector<ValueId>& masks, MaskReader& reader, AttentionSpec& spec, const std::vector<ValueId>& multiplied = {});

/// The specification of an opaque attention operator; empty where the node is none.
std::optional<AttentionSpec> opaqueAttention(const Graph& graph, const Shapes& shapes, NodeId node, MaskReader& masks);
/// An attention operator of com.microsoft that opaqueAttention() has no description of.
bool isUnknownAttention(const Node& node);

} // namespace triptych
