#pragma once
// Attention inside of bodies that stay nested: of loops, and of an If that asks what only running tells.

#include "attention/decompose.h"
#include "shapes/enter.h"

namespace triptych {

/// One body in which attention was found, as enteredGraph() gives it.
struct NestedAttention {
    NodeId node;       ///< of the graph that was searched
    std::string place; ///< "NODE/body", outer first
    GraphPtr graph;
    ShapesPtr shapes;
    Attentions attentions;
};

/// Every body below the nodes of `graph`, outer first, in node order. Cost: linear in the nodes of all bodies, bounded by NestingBudget.
std::vector<NestedAttention> findNestedAttention(const Model& model, const Graph& graph, const Shapes& shapes, const Job& job = {});

/// A graph whose bodies are decomposed for a file, calls of functions in them replaced by what they do.
/// @param graph  with its shapes under its bindings and under those of variedShapes()
Result<GraphPtr> decomposeNested(const Model& model, GraphPtr graph, const Shapes& shapes, const Shapes& varied, std::vector<std::string>& warnings, const Job& job = {});

/// Whether a graph has bodies at all.
bool hasBodies(const Graph& graph);

} // namespace triptych
