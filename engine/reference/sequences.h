#pragma once
// Sequences of tensors, as exporters make them where they don't know how many parts a split has.

#include "reference/evaluate.h"

namespace triptych {

using TensorSequence = std::vector<HostTensor>;

/// Whether a node makes a sequence (SplitToSequence, SequenceConstruct).
bool makesSequence(const Node& node);
/// Whether its first input is one (SequenceAt, SequenceLength, ConcatFromSequence).
bool readsSequence(const Node& node);

/// The sequence that a node makes. Fails as evaluateNode does.
Result<TensorSequence> makeSequence(const Node& node, std::span<const HostTensor* const> inputs);
/// What a node takes from a sequence, its first input; `inputs` are all of them, the first one null.
Result<HostTensor> takeFromSequence(const Node& node, const TensorSequence& sequence, std::span<const HostTensor* const> inputs, std::int64_t maximumElements);

} // namespace triptych
