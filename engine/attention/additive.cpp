#include "attention/additive.h"

#include "attention/product_axes.h"
#include "attention/products.h"
#include "attention/starts.h"
#include "attention/trace.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

constexpr std::array copies{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout"};

/// Whether a value has a single place along an axis where the other has several: it is stretched over them.
bool stretches(const Shapes& shapes, ValueId a, ValueId b) {
    const ValueShape &one = shapes.of(a), &two = shapes.of(b);
    if (!one.known() || !two.known()) return false;
    for (std::size_t back = 0; back < std::max(one.dims.size(), two.dims.size()); ++back)
        if ((dimFromEnd(shapes, a, back) > 1) != (dimFromEnd(shapes, b, back) > 1)) return true;
    return false;
}

/// The Add of two activations behind scores, of which one is stretched over places of the other.
NodeId sumBehind(const Graph& graph, const Shapes& shapes, ValueId scores) {
    struct Place {
        ValueId value;
        bool bent; ///< a function of single sums was met
    };
    std::vector<Place> open{{scores, false}};
    constexpr std::size_t most = 32;
    for (std::size_t i = 0; i < open.size() && i < most; ++i) {
        const auto [value, bent] = open[i];
        const NodeId id = value && !shapes.isConstant(value) ? graph.producer(value) : NodeId();
        if (!id) continue;
        const Node& node = graph.node(id);
        if (node.is("Tanh") || node.is("LeakyRelu") || node.is("Relu")) {
            open.push_back({node.input(0), true});
        } else if (node.is("Add")) {
            const bool activations = !shapes.isConstant(node.input(0)) && !shapes.isConstant(node.input(1));
            if (bent && activations && stretches(shapes, node.input(0), node.input(1))) return id;
            for (const ValueId input : node.inputs) open.push_back({input, bent});
        } else if (node.is("Where")) {
            for (const std::size_t branch : {1U, 2U}) open.push_back({node.input(branch), bent});
        } else if (node.is("Mul") || node.is("Div")) {
            for (const std::size_t side : {0U, 1U})
                if (shapes.isConstant(node.input(1 - side))) open.push_back({node.input(side), bent});
        } else if (isOneOf(node, copies) || node.is("ReduceSum") || (!bent && linearWeight(graph, shapes, id) && linearColumns(graph, shapes, id) == 1)) {
            open.push_back({node.input(0), bent});
        }
    }
    return {};
}

/// The product of two activations that reads weights.
NodeId valuesAhead(const Graph& graph, const Shapes& shapes, NodeId softmax) {
    const Products products(graph, shapes, softmax);
    std::vector<ValueId> open{graph.node(softmax).output()};
    constexpr std::size_t most = 12, mostReaders = 64;
    std::size_t looked = 0;
    for (std::size_t i = 0; i < open.size() && i < most; ++i) {
        for (const NodeId reader : graph.readers(open[i])) {
            if (++looked > mostReaders) return {};
            const Node& node = graph.node(reader);
            if (products.of(node)) return reader;
            if (isOneOf(node, copies) || node.is("Mul") || node.is("Where")) open.push_back(node.output());
        }
    }
    return {};
}

} // namespace

std::optional<std::pair<std::string, std::string>> addsQueriesToKeys(const Graph& graph, const Shapes& shapes, NodeId softmax) {
    const Node& node = graph.node(softmax);
    const NodeId sum = isSoftmax(node) ? sumBehind(graph, shapes, node.input(0)) : NodeId();
    const NodeId values = sum ? valuesAhead(graph, shapes, softmax) : NodeId();
    if (!values) return std::nullopt;
    return std::pair<std::string, std::string>("its scores are sums of queries and keys, not products", describe(graph, sum) + " adds them, " + describe(graph, values) + " weighs values by their softmax");
}

} // namespace triptych
