#include "attention/other_scores.h"

#include "attention/product_axes.h"
#include "attention/products.h"
#include "attention/starts.h"
#include "attention/trace.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

constexpr std::array views{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout"};
constexpr std::array functions{"Tanh", "Relu", "LeakyRelu", "Elu", "Sigmoid", "Softplus", "Gelu"};

/// A weight that gives one number for each key: a product with one column, or a ReduceSum of a Mul by a row; the activation that it is of.
ValueId scoredByOne(const Graph& graph, const Shapes& shapes, const Node& node) {
    if (Products::multiplies(node) || convolves(node)) {
        const bool one = shapes.of(node.output()).known() && shapes.of(node.output()).count() * dimFromEnd(shapes, node.input(0), convolves(node) ? shapes.of(node.input(0)).dims.size() - 2 : 0) == shapes.of(node.input(0)).count();
        for (const std::size_t side : {0U, 1U})
            if (one && shapes.isConstant(factorOf(node, 1 - side)) && !shapes.isConstant(factorOf(node, side))) return factorOf(node, side);
        return {};
    }
    const NodeId inner = node.is("ReduceSum") ? graph.producer(node.input(0)) : NodeId();
    if (!inner || !graph.node(inner).is("Mul")) return {};
    for (const std::size_t side : {0U, 1U})
        if (shapes.isConstant(graph.node(inner).input(1 - side))) return graph.node(inner).input(side);
    return {};
}

/// The projection behind a value, through views, copies for each key, biases and what else is added, or one number for each head and place; none where a mean or a maximum of places stands there, as of a context for pooling.
NodeId projectionBehind(const Graph& graph, const Shapes& shapes, ValueId value) {
    constexpr int longest = 8;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id) return {};
        const Node& node = graph.node(id);
        if (linearWeight(graph, shapes, id) || scoredByOne(graph, shapes, node)) return id;
        if (!isOneOf(node, views) && !node.is("Expand") && !node.is("Tile") && !node.is("Add")) return {};
        value = node.input(node.is("Add") && shapes.isConstant(node.input(0)) ? 1 : 0);
    }
    return {};
}

/// Whether one of two values is stretched along an axis of the other: a query for each key.
bool stretched(const Shapes& shapes, ValueId a, ValueId b) {
    const Dims &one = shapes.of(a).dims, &two = shapes.of(b).dims;
    for (std::size_t i = 0; i < std::max(one.size(), two.size()); ++i) {
        const Dim first = i < one.size() ? one[one.size() - 1 - i] : 1, second = i < two.size() ? two[two.size() - 1 - i] : 1;
        if ((first == 1) != (second == 1)) return true;
    }
    return false;
}

/// What is made of a row that stands for several places, and not of their mean.
bool repeatsRow(const Graph& graph, const Shapes& shapes, ValueId value) {
    constexpr int longest = 6;
    bool copied = false;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id || linearWeight(graph, shapes, id)) return copied;
        const Node& node = graph.node(id);
        if (node.op.starts_with("Reduce") || node.op.ends_with("Pool") || node.is("Sqrt")) return false;
        copied = copied || ((node.is("Expand") || node.is("Tile")) && shapes.of(node.output()).count() > shapes.of(node.input(0)).count());
        if (!isOneOf(node, views) && !node.is("Expand") && !node.is("Tile")) return copied;
        value = node.input(0);
    }
    return copied;
}

/// Whether a sum, or a projection of a Concat, is of queries and of keys.
bool joinsBoth(const Graph& graph, const Shapes& shapes, const Node& node) {
    if (node.is("Add")) {
        const NodeId one = projectionBehind(graph, shapes, node.input(0)), two = projectionBehind(graph, shapes, node.input(1));
        return one && two && one != two && (stretched(shapes, node.input(0), node.input(1)) || repeatsRow(graph, shapes, node.input(0)) || repeatsRow(graph, shapes, node.input(1)));
    }
    const NodeId concat = graph.producer(behindViews(graph, node.input(0)));
    if (!concat || !graph.node(concat).is("Concat") || graph.node(concat).inputs.size() != 2) return false;
    return repeatsRow(graph, shapes, graph.node(concat).input(0)) != repeatsRow(graph, shapes, graph.node(concat).input(1));
}

struct Sum {
    NodeId function, join;
};

/// Behind scores, on the way to the sum that they are a function of.
struct Step {
    ValueId value;
    NodeId function; ///< of single sums, once met
    bool scored;     ///< a weight gave one number for each key
};

/// What an operator between scores and their sum is made of; the masks that are added to scores, and earlier alignments that are added to a query, lead nowhere.
std::vector<ValueId> madeOf(const Shapes& shapes, const Node& node) {
    if (isOneOf(node, views)) return {node.input(0)};
    if (node.is("Where")) return {node.input(1), node.input(2)};
    if (node.is("Add")) return node.inputs;
    const bool scales = node.is("Mul") || node.is("Div") || node.is("Sub");
    for (const std::size_t side : {0U, 1U})
        if (scales && shapes.isConstant(node.input(1 - side))) return {node.input(side)};
    return {};
}

/// The function of a sum of queries and keys behind scores.
std::optional<Sum> sumBehind(const Graph& graph, const Shapes& shapes, ValueId scores) {
    constexpr std::size_t most = 48;
    std::vector<Step> open{{scores, {}, false}};
    for (std::size_t i = 0; i < open.size() && i < most; ++i) {
        const Step step = open[i];
        const NodeId id = step.value && !shapes.isConstant(step.value) ? graph.producer(step.value) : NodeId();
        if (!id) continue;
        const Node& node = graph.node(id);
        if (step.function && (node.is("Add") || linearWeight(graph, shapes, id)) && joinsBoth(graph, shapes, node)) {
            // Without a column between, numbers of queries and of keys are summed, pair by pair.
            const bool pairs = node.is("Add") && dimFromEnd(shapes, node.output(), 0) > 1 && dimFromEnd(shapes, node.output(), 1) > 1;
            if (step.scored || pairs) return Sum{step.function, id};
        }
        const ValueId of = !step.scored && !step.function ? scoredByOne(graph, shapes, node) : ValueId();
        if (of) open.push_back({of, {}, true});
        else if (isOneOf(node, functions)) open.push_back({node.input(0), id, step.scored});
        else
            for (const ValueId each : madeOf(shapes, node)) open.push_back({each, step.function, step.scored});
    }
    return std::nullopt;
}

/// The GridSample that a value comes from.
NodeId sampleBehind(const Graph& graph, ValueId value) {
    constexpr int longest = 10;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id || graph.node(id).is("GridSample")) return id;
        if (!isOneOf(graph.node(id), views) && !graph.node(id).is("Concat")) return {};
        value = graph.node(id).input(0);
    }
    return {};
}

/// What weighs values by a softmax: the product, and the other factor.
struct Weighed {
    NodeId product;
    ValueId values;
};

std::optional<Weighed> weighedBy(const Graph& graph, const Shapes& shapes, ValueId weights) {
    constexpr std::size_t most = 24, mostReaders = 64;
    const auto summed = [&](const Node& mul) {
        const auto readers = graph.readers(mul.output());
        return std::any_of(readers.begin(), readers.begin() + static_cast<std::ptrdiff_t>(std::min(readers.size(), mostReaders)), [&](NodeId reader) { return graph.node(reader).is("ReduceSum"); });
    };
    std::vector<ValueId> open{weights};
    for (std::size_t i = 0; i < open.size() && i < most; ++i) {
        const auto readers = graph.readers(open[i]);
        for (std::size_t r = 0; r < std::min(readers.size(), mostReaders); ++r) {
            const Node& node = graph.node(readers[r]);
            if (Products::multiplies(node) || (node.is("Mul") && summed(node))) {
                const ValueId other = factorOf(node, factorOf(node, 0) == open[i] ? 1 : 0);
                if (other && other != open[i] && !shapes.isConstant(other)) return Weighed{readers[r], other};
            } else if (isOneOf(node, views)) {
                open.push_back(node.output());
            }
        }
    }
    return std::nullopt;
}

bool addsUp(const Node& node) { return (node.is("ScatterElements") || node.is("ScatterND")) && node.attributes.text("reduction", "none") == "add"; }

/// Where a divisor sums exponents by what they belong to: a scatter that adds them up, picked again for each of them.
NodeId sumByGroups(const Graph& graph, const Shapes& shapes, ValueId divisor, ValueId exponents) {
    static constexpr std::array picks{"Gather", "GatherElements", "GatherND", "Clip", "Max", "Expand"};
    constexpr int longest = 8;
    for (int steps = 0; steps < longest && divisor; ++steps) {
        const NodeId id = graph.producer(behindViews(graph, divisor));
        if (!id) return {};
        const Node& node = graph.node(id);
        if (addsUp(node)) return behindViews(graph, node.input(2)) == exponents ? id : NodeId();
        const bool apart = node.is("Add") && (shapes.scalar(node.input(0)) || shapes.scalar(node.input(1))); // from 0
        if (!apart && !isOneOf(node, picks)) return {};
        divisor = node.input(apart && shapes.scalar(node.input(0)) ? 1 : 0);
    }
    return {};
}

/// The Mul by weights whose products a scatter adds up.
NodeId weighedByGroups(const Graph& graph, ValueId weights) {
    constexpr std::size_t most = 24, mostReaders = 64;
    std::vector<std::pair<ValueId, NodeId>> open{{weights, {}}}; // and the Mul before it
    for (std::size_t i = 0; i < open.size() && i < most; ++i) {
        const auto [value, product] = open[i];
        const auto readers = graph.readers(value);
        for (std::size_t r = 0; r < std::min(readers.size(), mostReaders); ++r) {
            const Node& node = graph.node(readers[r]);
            if (product && addsUp(node) && node.input(2) == value) return product;
            if (isOneOf(node, views) || node.is("Expand")) open.emplace_back(node.output(), product);
            if (!product && node.is("Mul")) open.emplace_back(node.output(), readers[r]);
        }
    }
    return {};
}

} // namespace

std::optional<Unrecognised> attendsOverEdges(const Graph& graph, const Shapes& shapes, NodeId division) {
    const Node& node = graph.node(division);
    const ValueId exponents = node.is("Div") ? behindViews(graph, node.input(0)) : ValueId();
    const NodeId exponent = exponents ? graph.producer(exponents) : NodeId();
    if (!exponent || !graph.node(exponent).is("Exp")) return std::nullopt;
    const NodeId sum = sumByGroups(graph, shapes, node.input(1), exponents), product = sum ? weighedByGroups(graph, node.output()) : NodeId();
    if (!product) return std::nullopt;
    return Unrecognised{node.name, "attention over edges", "its softmax sums exponents by a scatter", describe(graph, sum) + " adds up those of each place, and " + describe(graph, product) + " weighs a value for each edge: no product sums over keys"};
}

std::optional<Unrecognised> scoredOtherwise(const Graph& graph, const Shapes& shapes, NodeId softmax) {
    const Node& node = graph.node(softmax);
    const auto weighed = isSoftmax(node) ? weighedBy(graph, shapes, node.output()) : std::nullopt;
    if (!weighed) return std::nullopt;
    if (const NodeId sample = sampleBehind(graph, weighed->values))
        return Unrecognised{node.name, "deformable attention", "its values are picked by GridSample", describe(graph, weighed->product) + " weighs what " + describe(graph, sample) + " picks at points that data give: there are no keys to multiply queries by"};
    const auto sum = sumBehind(graph, shapes, node.input(0));
    if (!sum) return std::nullopt;
    const std::string op = graph.node(sum->function).op;
    return Unrecognised{node.name, "additive attention", "its scores come from " + op + " of a sum", describe(graph, sum->join) + " adds queries and keys before " + describe(graph, sum->function) + ": no product of both"};
}

} // namespace triptych
