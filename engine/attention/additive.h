#pragma once
// Softmaxes whose scores are sums of queries and keys. Private to engine/attention.

#include "attention/attention.h"

namespace triptych {

/// Additive attention: every query meets every key in a sum, not in a product.
///   queries --+
///             Add -- Tanh | LeakyRelu | Relu -- [a row of weights] -- Softmax -- product with values
///   keys -----+
/// No kernel of dot-product attention computes it: {reason, detail}. Empty for anything else, as where no operand is stretched over the places of the other.
/// Sources: Bahdanau et al., Neural machine translation by jointly learning to align and translate (2014); Veličković et al., Graph attention networks (2017).
std::optional<std::pair<std::string, std::string>> addsQueriesToKeys(const Graph& graph, const Shapes& shapes, NodeId softmax);

} // namespace triptych
