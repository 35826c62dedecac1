#pragma once
// Sequences of tensors, as exporters make them where they don't know how many parts there are (torch.split, repeat_interleave).

#include "reference/evaluate.h"

#include <variant>

namespace triptych {

using TensorSequence = std::vector<HostTensor>;
/// What a value of a graph is while it runs.
using RunValue = std::variant<HostTensor, TensorSequence>;

/// Elements of a tensor, or of all in a sequence.
std::int64_t elementsOf(const RunValue& value);
/// Whether a node makes a sequence or takes something from one.
bool worksOnSequences(const Node& node);
/// The output of such a node. Where its first input is a sequence, that is `sequence` and the first of `inputs` is null. Fails as evaluateNode does.
Result<RunValue> evaluateSequence(const Node& node, const TensorSequence* sequence, std::span<const HostTensor* const> inputs, std::int64_t maximumElements);

} // namespace triptych
