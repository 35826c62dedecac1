#pragma once
// Where the middle of an attention is looked for: what makes weights of scores. Private to engine/attention.

#include "attention/attention.h"

namespace triptych {

/// Of floats, or of what integers stand for.
bool isSoftmax(const Node& node);
/// ONNX Runtime joins what is added to scores with the softmax.
bool addsBias(const Node& node);
/// A BiasSoftmax that takes more than the last axis together.
bool isOverSeveralAxes(const Shapes& shapes, const Node& node);

/// Softmax nodes and where spelled-out ones end:
///   Exp -- ReduceSum -- Div | Reciprocal, Mul;   LogSoftmax -- Exp;   Exp whose product with V is divided by its sum
/// and what is made to sum to 1 otherwise: Relu or its square, exponents that a mask multiplies.
std::vector<NodeId> softmaxes(const Graph& graph, const Shapes& shapes);

/// A function of each score by itself, in a softmax's place:
///   Sigmoid (or 1 / (1 + exp(-x)));   Relu;   Relu -- Mul by itself | Pow 2;   Sigmoid -- Mul by what it was taken of;   Erf -- Add 1 -- Mul 0.5
/// Sources: Ramapuram et al., Theory, analysis, and best practices for sigmoid self-attention (2024); Wortsman et al., Replacing softmax
/// with ReLU in vision transformers (2023); Hua et al., Transformer quality in linear time (2022); Zhai et al., Actions speak louder than words (2024);
/// Ma et al., Mega (2022). A Relu of what a threshold of each row is taken from is sparsemax, its square entmax (Peters et al., 2019).
struct Weighing {
    std::string word;          ///< of `extras`: "sigmoid", "relu", "squared_relu", "silu", "laplace", ...
    ValueId scores;            ///< what it is a function of
    std::vector<NodeId> inner; ///< nodes that it is spelled out with, but for the last one
    bool negated = false;      ///< it is a function of the scores less than nothing
};
/// The one that ends at a node; none where it is no such function.
std::optional<Weighing> weighing(const Graph& graph, const Shapes& shapes, NodeId node);
/// Where such functions end, those that are spelled out with others first.
std::vector<NodeId> weighings(const Graph& graph, const Shapes& shapes);

} // namespace triptych
