#pragma once
// From traced roles to a specification. Private to engine/attention.

#include "attention/core.h"
#include "attention/mask.h"
#include "attention/trace.h"

#include <array>

namespace triptych {

/// The three roles of one attention, or of one of the sequences that it joins, traced; without an operand: it has none.
struct Roles {
    RoleTrace q, k, v;
};

/// What a role's projection reads; without one, where its walk ended.
ValueId sourceOf(const Graph& graph, const RoleTrace& trace);
/// Whether a role is put together of pieces, as of several scales or of positions beside contents.
bool joined(const Graph& graph, const RoleTrace& trace);
/// Q, K and V from the operands back to their projections: for each of the sequences that are joined on the way, the one with all
/// roles first. Mostly it is one.
std::vector<Roles> traceStreams(const Graph& graph, const Shapes& shapes, const std::array<ValueId, 3>& operands);

/// Fills projections, kind, heads, head sizes, evidence and nodes of a spec from the traced roles of its streams.
/// `headDim` and `vHeadDim` must be set where the operands tell them.
void assembleRoles(const Graph& graph, const Shapes& shapes, const std::vector<Roles>& streams, AttentionSpec& spec);

/// The output projection behind a context value: transposes, reshapes, then a product with a constant weight.
void findOutputProjection(const Graph& graph, const Shapes& shapes, ValueId context, AttentionSpec& spec);

/// Words for masks, and whether it is causal.
void describeMasks(const std::vector<ValueId>& masks, MaskReader& reader, AttentionSpec& spec, const std::vector<ValueId>& multiplied = {});

/// The specification of an opaque attention operator; empty where the node is none.
std::optional<AttentionSpec> opaqueAttention(const Graph& graph, const Shapes& shapes, NodeId node, MaskReader& masks);
/// "DOMAIN.OP" of an operator that calls itself an attention and that opaqueAttention() has no description of; else empty. PyTorch's exporter
/// leaves what it can't write as an operator of its own domain, or as ATen with the name in an attribute.
std::string unknownAttention(const Node& node);

} // namespace triptych
