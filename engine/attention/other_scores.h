#pragma once
// Softmaxes that weigh values as an attention does, by scores that are no product of queries and keys. Private to engine/attention.

#include "attention/attention.h"

namespace triptych {

/// What looks like attention with scores of another kind: a near miss that names the node, or empty.
///   Tanh(W q + U k) -- product with one column -- softmax over the keys -- product with values      additive (Bahdanau, Luong's concat)
///   LeakyRelu(a_i + b_j) -- softmax over the keys -- product with values                            additive (graph attention)
///   softmax over points -- Mul by what GridSample picks -- ReduceSum                                deformable
/// Sources: Bahdanau, Cho, Bengio (2015); Luong, Pham, Manning (2015); Velickovic et al., Graph attention networks (2018); Zhu et al., Deformable DETR (2021).
std::optional<Unrecognised> scoredOtherwise(const Graph& graph, const Shapes& shapes, NodeId softmax);
/// Attention over the edges of a graph, each of which has one score: exponents are summed by the place they lead to, and so are weighed values:
///   Exp -- ScatterElements add -- Gather -- Div -- Mul values -- ScatterElements add
std::optional<Unrecognised> attendsOverEdges(const Graph& graph, const Shapes& shapes, NodeId division);

} // namespace triptych
