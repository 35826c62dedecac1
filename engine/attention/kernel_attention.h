#pragma once
// Attention without a softmax over the keys: feature maps of Q and K, and K^T V computed first. Private to engine/attention.

#include "attention/assemble.h"

namespace triptych {

/// Every such attention of a graph:
///   f(K)^T V -- MatMul by f(Q) -- Div by f(Q) (sum of f(K))
/// Sources: Katharopoulos et al., Transformers are RNNs (2020); Choromanski et al., Rethinking attention with Performers (2021).
std::vector<AttentionSpec> kernelAttentions(const Graph& graph, const Shapes& shapes);

/// The same, scores first: a scores product that weighs values as it is, of mapped queries and keys. Its masks are left to the caller.
///   f(Q) f(K)^T -- [Mul mask] -- Div by its sum -- MatMul by V
std::optional<AttentionSpec> kernelAttention(const Graph& graph, const Shapes& shapes, const Core& core);

/// Why a core whose weights are made by no softmax is none of an attention: {reason, detail}; empty where it is one. An empty reason
/// means "nothing like attention": a thing that is multiplied by itself (a Gram matrix), masks that are summed by their classes.
std::optional<std::pair<std::string, std::string>> whyNotWeighed(const Graph& graph, const Shapes& shapes, const Core& core);

/// Joins the three softmaxes of an attention through landmarks into one: drops those whose V comes from a softmax itself.
/// Source: Xiong et al., Nyströmformer (2021).
void joinLandmarks(const Graph& graph, const Shapes& shapes, std::vector<AttentionSpec>& found);

} // namespace triptych
