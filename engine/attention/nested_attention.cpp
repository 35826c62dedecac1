#include "attention/nested_attention.h"
#include "shapes/infer.h"

#include <algorithm>

namespace triptych {

namespace {

/// A body with what is known round it, and its shapes.
struct Entered {
    GraphPtr graph;
    ShapesPtr shapes;
};

Result<Entered> enter(const Model& model, const Graph& outer, const Shapes& shapes, NodeId node, std::size_t which, const NestingBudget& budget, const Job& job) {
    const auto told = shapesThroughBodies(model, outer, shapes, node, budget, job);
    auto graph = enteredGraph(model, outer, shapes, node, which, told ? std::span<const ValueShape>(told->inputs) : std::span<const ValueShape>());
    if (!graph) return tl::unexpected(graph.error());
    auto flat = inlineFunctions(model, **graph, {}, job);
    if (!flat) return tl::unexpected(flat.error());
    Bindings bindings = shapes.bindings();
    // A body that an operator of another domain runs has inputs, and names for their sizes, of its own.
    if (!told)
        for (const SymbolicDim& dim : symbolicDims(**flat)) bindings.try_emplace(dim.name, dim.defaultSize);
    auto inner = inferNestedShapes(model, **flat, bindings, {}, budget, job);
    if (!inner) return tl::unexpected(inner.error());
    return Entered{*flat, *inner};
}

class NestedSearch {
public:
    NestedSearch(const Model& model, const Job& job) : m_model(model), m_job(job) {}

    void run(const Graph& graph, const Shapes& shapes, const std::string& place, int level) {
        for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
            const Node& node = graph.nodes()[i];
            if (m_job.stopped()) return;
            if (!node.attributes.holdGraphs()) continue;
            if (level == 0) m_node = NodeId(i);
            // Calls of functions are replaced already: what is left are bodies in attributes.
            const auto bodies = nestedGraphs(m_model, node);
            for (std::size_t which = 0; which < bodies.size(); ++which) body(graph, shapes, NodeId(i), which, place + node.name + "/" + bodies[which].name, level + 1);
        }
    }

    std::vector<NestedAttention> found;

private:
    void body(const Graph& outer, const Shapes& shapes, NodeId node, std::size_t which, const std::string& place, int level) {
        const std::size_t size = nestedGraphs(m_model, outer.node(node))[which].graph->nodes().size();
        if (level > NestingBudget::deepest || size > *m_budget) return;
        *m_budget -= size;
        auto entered = enter(m_model, outer, shapes, node, which, {level, m_budget}, m_job);
        if (!entered) return;
        const std::size_t at = found.size();
        found.push_back({m_node, place, entered->graph, entered->shapes, findAttention(m_model, *entered->graph, *entered->shapes, m_job)});
        if (found[at].attentions.found.empty() && found[at].attentions.unrecognised.empty()) found.pop_back();
        run(*entered->graph, *entered->shapes, place + "/", level);
    }

    const Model& m_model;
    const Job& m_job;
    NodeId m_node;
    /// Of all bodies together: each is looked at anew on the way to those inside of it.
    std::shared_ptr<std::size_t> m_budget = NestingBudget().nodes;
};

class NestedDecomposer {
public:
    NestedDecomposer(const Model& model, std::vector<std::string>& warnings, const Job& job) : m_model(model), m_warnings(warnings), m_job(job) {}

    /// `names` are those of values round the graph: what is added inside must not hide them.
    Result<GraphPtr> run(GraphPtr graph, const Shapes& shapes, const Shapes& varied, std::set<std::string> names, int level) {
        if (!hasBodies(*graph) || level > NestingBudget::deepest) return graph;
        for (const Value& value : graph->values()) names.insert(value.name);
        GraphBuilder builder;
        builder.adoptValues(*graph);
        for (std::size_t i = 0; i < graph->nodes().size(); ++i) {
            if (m_job.stopped()) return fail("decompose", "stopped");
            const NodeId added = builder.adoptNode(*graph, NodeId(i));
            if (!graph->nodes()[i].attributes.holdGraphs()) continue;
            auto attributes = rewritten(*graph, shapes, varied, NodeId(i), names, level);
            if (!attributes) return tl::unexpected(attributes.error());
            Node& node = builder.editNode(added);
            node.attributes = std::move(*attributes);
            node.captured = capturedBy(node, builder);
        }
        return builder.finish("decompose");
    }

private:
    Result<Attributes> rewritten(const Graph& outer, const Shapes& shapes, const Shapes& varied, NodeId node, const std::set<std::string>& names, int level) {
        std::vector<Attribute> made = outer.node(node).attributes.items();
        std::size_t which = 0;
        for (Attribute& each : made)
            for (GraphPtr& body : graphsOf(each)) {
                auto decomposed = one(outer, shapes, varied, node, which++, *body, names, level);
                if (!decomposed) return tl::unexpected(decomposed.error());
                body = *decomposed;
            }
        return Attributes(std::move(made));
    }

    Result<GraphPtr> one(const Graph& outer, const Shapes& shapes, const Shapes& varied, NodeId node, std::size_t which, const Graph& body, const std::set<std::string>& names, int level) {
        auto entered = enter(m_model, outer, shapes, node, which, {level, m_budget}, m_job);
        if (!entered) return tl::unexpected(entered.error());
        auto other = enter(m_model, outer, varied, node, which, {level, m_budget}, m_job);
        if (!other) return tl::unexpected(other.error());
        const Attentions attentions = findAttention(m_model, *entered->graph, *entered->shapes, m_job);
        auto made = decompose(m_model, *entered->graph, *entered->shapes, attentions, Expansion::canonical, other->shapes.get(), m_job);
        if (!made) return tl::unexpected(made.error());
        m_warnings.insert(m_warnings.end(), made->warnings.begin(), made->warnings.end());
        GraphPtr graph = made->graph;
        if (hasBodies(*graph)) {
            auto inner = inferNestedShapes(m_model, *graph, entered->shapes->bindings(), {}, {level, m_budget}, m_job);
            if (!inner) return tl::unexpected(inner.error());
            const auto elsewhere = inSurroundings(*graph, *other->graph, body);
            if (!elsewhere) return elsewhere;
            auto innerVaried = inferNestedShapes(m_model, **elsewhere, other->shapes->bindings(), {}, {level, m_budget}, m_job);
            if (!innerVaried) return tl::unexpected(innerVaried.error());
            auto deeper = run(graph, **inner, **innerVaried, names, level + 1);
            if (!deeper) return deeper;
            graph = *deeper;
        }
        return asBody(*graph, body, names);
    }

    /// A rewritten body with what another entering wrote into its outer values: the same graph where other sizes are bound.
    static Result<GraphPtr> inSurroundings(const Graph& graph, const Graph& entered, const Graph& body) {
        GraphBuilder builder;
        builder.adoptValues(graph);
        for (std::size_t i = 0; i < body.values().size(); ++i) {
            builder.edit(ValueId(i)).declared = entered.value(ValueId(i)).declared;
            builder.edit(ValueId(i)).initializer = entered.value(ValueId(i)).initializer;
        }
        for (std::size_t i = 0; i < graph.nodes().size(); ++i) builder.adoptNode(graph, NodeId(i));
        return builder.finish("decompose");
    }

    /// Without what entering wrote into it: outer values are outer again. Values of the body have the same places in both.
    static Result<GraphPtr> asBody(const Graph& graph, const Graph& body, const std::set<std::string>& names) {
        GraphBuilder builder;
        builder.adoptValues(graph);
        builder.clearInputs();
        for (const ValueId input : body.inputs()) builder.addInput(input);
        for (std::size_t i = 0; i < body.values().size(); ++i) {
            const ValueId id(i);
            builder.edit(id).declared = body.value(id).declared;
            builder.edit(id).initializer = body.value(id).initializer;
        }
        std::vector<std::pair<ValueId, std::string>> renamed;
        for (std::size_t i = body.values().size(); i < graph.values().size(); ++i) {
            std::string name = graph.value(ValueId(i)).name;
            if (!names.contains(name)) continue;
            while (names.contains(name) || builder.findValue(name)) name += "_inner";
            renamed.emplace_back(ValueId(i), name);
        }
        if (!renamed.empty()) builder.rename(renamed);
        for (std::size_t i = 0; i < graph.nodes().size(); ++i) builder.adoptNode(graph, NodeId(i));
        return builder.finish("decompose");
    }

    static std::vector<ValueId> capturedBy(const Node& node, GraphBuilder& builder) {
        std::set<ValueId> all;
        for (const Attribute& each : node.attributes.items())
            for (const GraphPtr& body : graphsOf(each))
                for (std::size_t i = 0; i < body->values().size(); ++i)
                    if (const ValueId outer = body->isOuter(ValueId(i)) ? builder.findValue(body->values()[i].name) : ValueId()) all.insert(outer);
        return {all.begin(), all.end()};
    }

    const Model& m_model;
    std::vector<std::string>& m_warnings;
    const Job& m_job;
    std::shared_ptr<std::size_t> m_budget = NestingBudget().nodes;
};

} // namespace

bool hasBodies(const Graph& graph) { return std::any_of(graph.nodes().begin(), graph.nodes().end(), [](const Node& node) { return node.attributes.holdGraphs(); }); }

std::vector<NestedAttention> findNestedAttention(const Model& model, const Graph& graph, const Shapes& shapes, const Job& job) {
    if (!hasBodies(graph)) return {};
    NestedSearch search(model, job);
    search.run(graph, shapes, "", 0);
    return std::move(search.found);
}

Result<GraphPtr> decomposeNested(const Model& model, GraphPtr graph, const Shapes& shapes, const Shapes& varied, std::vector<std::string>& warnings, const Job& job) {
    return NestedDecomposer(model, warnings, job).run(std::move(graph), shapes, varied, {}, 0);
}

} // namespace triptych
