#pragma once
// Graphs inside nodes (bodies of If, Loop and Scan, and of calls of model-local functions) with what is known round them.

#include "shapes/shapes.h"

namespace triptych {

struct NestedGraph {
    std::string name; ///< the attribute ("then_branch"), or the function's name
    GraphPtr graph;   ///< as the file has it
};

/// In the order of the attributes; empty for most nodes.
std::vector<NestedGraph> nestedGraphs(const Model& model, const Node& node);

/// One of a node's nested graphs as it stands in `outer`: what it captures, or a call's arguments, have the shapes and constants
/// that they have outside, references to the call's attributes are resolved, and every node has the sources of `node`.
/// `inputs` are shapes of the body's own inputs, in its order, where they are known (bodyInputs() tells). `turn`: the number of a Loop's turn, its first input.
/// Cost: linear in the nested graph. Fails where there is no such nested graph.
Result<GraphPtr> enteredGraph(const Model& model, const Graph& outer, const Shapes& shapes, NodeId node, std::size_t which, std::span<const ValueShape> inputs = {}, std::optional<std::int64_t> turn = {});

/// How deep bodies may nest, and how many of their nodes are looked at for one graph: bodies of loops are looked at more than
/// once, so that a hostile file could double the work with each level.
struct NestingBudget {
    static constexpr int deepest = 24;
    int level = 0;
    std::shared_ptr<std::size_t> nodes = std::make_shared<std::size_t>(2'000'000);
};

/// What bodies tell of a node's outputs.
struct BodyShapes {
    std::vector<ValueShape> outputs;
    std::vector<ValueShape> inputs;                         ///< of the body: carried values that stay as they are, slices of what is scanned
    std::vector<std::shared_ptr<const HostTensor>> content; ///< outputs that are constants, of a branch that is always taken
    std::vector<DeclaredInside> declaredInside;             ///< what the bodies' declarations differ in
    std::string reason;                                     ///< why a shape stays unknown
};

/// If: the branch that is taken, or what both agree on. Loop and Scan: what stays as it is from turn to turn. Empty for other nodes.
std::optional<BodyShapes> shapesThroughBodies(const Model& model, const Graph& outer, const Shapes& shapes, NodeId node, const NestingBudget& budget = {}, const Job& job = {});

} // namespace triptych
