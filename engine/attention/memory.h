#pragma once
// Softmaxes over keys that are weights of the file. Private to engine/attention.

#include "attention/attention.h"

namespace triptych {

/// Queries that look weights of the file up, by weights of the file:
///   x -- MatMul keys -- [scale] -- Softmax -- [division by a sum] -- MatMul values
/// Looks like attention, but neither keys nor values are places of a sequence: {reason, detail}. Empty for anything else: a bias at either product,
/// or a single column of values, is a classifier, a router or an expectation.
/// Sources: Guo et al., Beyond self-attention: external attention (2021); Ramsauer et al., Hopfield networks is all you need (2021).
std::optional<std::pair<std::string, std::string>> looksMemoryUp(const Graph& graph, const Shapes& shapes, NodeId softmax);

} // namespace triptych
