#include "attention/memory.h"

#include "attention/product_axes.h"
#include "attention/products.h"
#include "attention/starts.h"
#include "attention/trace.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

constexpr std::array copies{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout"};

/// A product of an activation with a table of several rows and columns, without a bias.
bool looksUp(const Graph& graph, const Shapes& shapes, NodeId id) {
    const Node& node = graph.node(id);
    const bool product = Products::multiplies(node) || convolves(node);
    const ValueId table = product ? factorOf(node, 1) : ValueId();
    if (!table || !shapes.isConstant(table) || shapes.isConstant(node.input(0)) || linearBias(node) || shapes.of(node.input(0)).dims.size() < 3) return false;
    const Dims& dims = shapes.of(table).dims;
    if (std::count_if(dims.begin(), dims.end(), [](Dim size) { return size > 1; }) < 2) return false;
    const auto readers = graph.readers(node.output());
    return std::none_of(readers.begin(), readers.begin() + static_cast<std::ptrdiff_t>(std::min(readers.size(), Products::asked)), [&](NodeId reader) {
        const Node& add = graph.node(reader);
        return add.is("Add") && shapes.isConstant(add.input(add.input(0) == node.output() ? 1 : 0));
    });
}

/// The look-up behind scores.
NodeId keysBehind(const Graph& graph, const Shapes& shapes, ValueId value) {
    constexpr int longest = 12;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id) return {};
        if (looksUp(graph, shapes, id)) return id;
        const Node& node = graph.node(id);
        const bool scales = node.is("Mul") || node.is("Div");
        const std::size_t side = scales && shapes.isConstant(node.input(0)) ? 1 : 0;
        if (!isOneOf(node, copies) && !(scales && shapes.scalar(node.input(1 - side)))) return {};
        value = node.input(side);
    }
    return {};
}

/// The look-up by weights, behind a second normalisation too.
NodeId valuesAhead(const Graph& graph, const Shapes& shapes, ValueId weights) {
    const Spelled spelled(graph, shapes);
    std::vector<ValueId> open{weights};
    constexpr std::size_t most = 12;
    for (std::size_t i = 0; i < open.size() && i < most; ++i) {
        for (const NodeId reader : graph.readers(open[i])) {
            if (looksUp(graph, shapes, reader)) return reader;
            const Node& node = graph.node(reader);
            if (isOneOf(node, copies) || (node.is("Div") && spelled.sumOf(node.input(1), open[i]))) open.push_back(node.output());
        }
    }
    return {};
}

} // namespace

std::optional<std::pair<std::string, std::string>> looksMemoryUp(const Graph& graph, const Shapes& shapes, NodeId softmax) {
    const Node& node = graph.node(softmax);
    const NodeId keys = isSoftmax(node) ? keysBehind(graph, shapes, node.input(0)) : NodeId();
    const NodeId values = keys ? valuesAhead(graph, shapes, node.output()) : NodeId();
    if (!values) return std::nullopt;
    return std::pair<std::string, std::string>("its keys and values are weights of the file", describe(graph, keys) + " multiplies by " + graph.value(factorOf(graph.node(keys), 1)).name + " in place of keys, " + describe(graph, values) + " by " +
                                                   graph.value(factorOf(graph.node(values), 1)).name + " in place of values");
}

} // namespace triptych
