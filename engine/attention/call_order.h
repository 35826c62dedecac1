#pragma once
// Whether the views of a call keep the order that the canonical form of an attention has. Private to engine/attention.

#include "attention/core.h"
#include "attention/trace.h"

#include <array>

namespace triptych {

/// The canonical form of a call: [batch, heads, places, size] from projections of three axes, and back.
struct CallForm {
    bool sequenceFirst = false;       ///< the projections' outputs are [places, batch, columns]
    bool resultSequenceFirst = false; ///< and so is the result
    ValueId result;
};

/// True where every element of queries, keys, values and of the result stands where the canonical form puts it, by the strides of
/// what lies between (`traces`: of the core's operands under `shapes`): windows, heads interleaved channel by channel, places that are left out or turned round have others.
bool keepsCanonicalOrder(const Graph& graph, const Shapes& shapes, const AttentionSpec& spec, const Core& core, const std::array<RoleTrace, 3>& traces, const CallForm& form);

} // namespace triptych
