#pragma once
// Softmaxes that are spelled out. Private to engine/attention.

#include "attention/attention.h"

namespace triptych {

/// What makes a softmax round one node. Views that cancel out and copies are looked through.
class Spelled {
public:
    Spelled(const Graph& graph, const Shapes& shapes) : m_graph(graph), m_shapes(shapes) {}

    NodeId maker(ValueId value) const;
    bool madeBy(ValueId value, const char* op) const;
    /// A mask that multiplies or selects weights, and what it hides.
    struct Hidden {
        ValueId weights, mask;
    };
    std::optional<Hidden> hiding(const Node& node) const;
    bool squares(const Node& node) const;
    /// What scores are the exponent of: e for Exp, the number of a Pow; empty for anything else.
    std::optional<double> base(const Node& node) const;
    /// Whether a value is no score but a weight that is yet to be divided by the sum of all: Exp, Relu or its square, perhaps masked.
    bool positive(ValueId value, int depth = 0) const;
    /// Whether a value is weights of another softmax, perhaps times a factor.
    bool weighs(ValueId value, int depth = 0) const;
    /// The sum of these exponents along the last axis; none where `sum` is something else.
    NodeId sumOf(ValueId sum, ValueId exponent) const;
    /// Whether more than a small number is added to that sum: a key of nothing takes attention away.
    bool addsKey(ValueId sum) const;
    /// Whether a node ends a spelled-out softmax.
    bool ends(const Node& node) const;
    /// The division of a product with V by the sum of these exponents; none where there is none.
    NodeId lateDivision(ValueId exponent, ValueId product, int depth = 0) const;
    /// The division that ends a softmax in blocks of keys, each with its own or a running maximum: by a sum that these exponents are a part of, products and sums
    /// multiplied by what maxima differ by. Source: Milakov, Gimelshein, Online normalizer calculation for softmax (2018).
    NodeId onlineDivision(ValueId exponent, ValueId product) const;
    /// Whether a sum and a product both read exponents, as where the division comes last.
    bool sumsLate(const Node& node) const;

private:
    /// What a sum was before it was stretched, its axis put back, kept above 0, or another exponent added to it; none where a node does none of that.
    ValueId sumBefore(const Node& node) const;
    /// Whether a sum of exponents of several blocks holds these.
    bool addsUp(ValueId sum, ValueId exponent) const;
    /// Exp(x - ReduceLogSumExp(x)), or the same with Log, ReduceSum and Exp.
    bool lessLogarithm(const Node& exponent) const;

    const Graph& m_graph;
    const Shapes& m_shapes;
};

} // namespace triptych
