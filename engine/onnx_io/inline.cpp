// Calls of model-local functions replaced by their bodies, and If nodes by the branch that is taken.

#include "onnx_io/splice.h"

#include <algorithm>
#include <set>

namespace triptych {

namespace {

constexpr int mostLevels = 64;

/// An attribute as it holds where it stands; none where a call leaves it out and there is no default.
using Resolve = std::function<std::optional<Attribute>(const Attribute&)>;

class Inliner {
public:
    Inliner(const Model& model, const Graph& graph, const std::function<bool(const Graph&, NodeId)>& keep, const Job& job)
        : m_model(model), m_graph(graph), m_keep(keep), m_job(job), m_most(mostNodes(model)), m_budget(model) {}

    Result<GraphPtr> run() {
        GraphBuilder builder;
        builder.adoptValues(m_graph);
        const Resolve asItIs = [this](const Attribute& attribute) { return withBodies(attribute, {}, 0); };
        for (std::size_t i = 0; i < m_graph.nodes().size(); ++i) {
            const NodeId id(i);
            const Node& node = m_graph.nodes()[i];
            const Function* function = m_model.function(node);
            if ((!function && !node.attributes.holdGraphs()) || (function && m_keep && m_keep(m_graph, id))) {
                builder.adoptNode(m_graph, id);
                continue;
            }
            // Counted before anything is built: a function that calls another 2^30 times costs nothing.
            m_total += sizeOf(node, 0);
            if (!m_callsItself.empty()) return fail("import", "the function " + m_callsItself + " calls itself", "export the model again without recursion", describe(m_graph, id));
            if (m_total > m_most) return tooMuch(describe(m_graph, id), "more than " + std::to_string(m_most) + " nodes, or deeper than " + std::to_string(mostLevels) + " levels");
            const auto sources = m_graph.sources(id);
            if (auto done = add(builder, node, {sources.begin(), sources.end()}, asItIs, 0); !done) return tl::unexpected(done.error());
        }
        return builder.finish("import");
    }

private:
    /// What a small file may become is bounded by what is in it: functions share nodes between layers, not between millions of calls.
    static std::size_t mostNodes(const Model& model) {
        constexpr std::size_t always = 200'000, times = 50;
        std::size_t written = model.graph ? model.graph->nodes().size() : 0;
        for (const Function& function : model.functions) written += function.body->nodes().size();
        return std::min(std::max(always, written * times), mostInlinedNodes);
    }

    tl::unexpected<Failure> tooMuch(const std::string& call, const std::string& what) const {
        return fail("import", "its model-local functions expand to " + what, "simplify the functions", call);
    }

    /// Nodes that a node becomes, with those of its bodies; more than the limit where they nest too deep. Each function is counted once.
    std::size_t sizeOf(const Node& node, int level) {
        const Function* function = m_model.function(node);
        // A call of what does nothing still costs a step, and outputs that are inputs become copies.
        std::size_t size = 1 + (function ? sizeOf(*function, level + 1) + node.outputs.size() : 0);
        for (const Attribute& attribute : node.attributes.items())
            for (const GraphPtr& body : graphsOf(attribute)) size = std::min(size + sizeOf(*body, level + 1), mostInlinedNodes + 1);
        return size;
    }

    std::size_t sizeOf(const Graph& graph, int level) {
        std::size_t size = 0;
        for (const Node& node : graph.nodes()) size = std::min(size + sizeOf(node, level), mostInlinedNodes + 1);
        return size;
    }

    std::size_t sizeOf(const Function& function, int level) {
        if (level > mostLevels) return mostInlinedNodes + 1;
        const auto [known, fresh] = m_sizes.try_emplace(&function, mostInlinedNodes + 1);
        if (!fresh) {
            if (m_counting.contains(&function)) m_callsItself = function.name;
            return known->second;
        }
        m_counting.insert(&function);
        const std::size_t size = sizeOf(*function.body, level);
        m_counting.erase(&function);
        return m_sizes[&function] = size;
    }

    /// An attribute whose bodies have no calls. What fails is told by m_failure.
    std::optional<Attribute> withBodies(const Attribute& attribute, const Resolve& resolve, int level) {
        auto made = resolve ? resolve(attribute) : std::optional(attribute);
        if (!made || m_failure) return made;
        for (GraphPtr& body : graphsOf(*made)) {
            auto inlined = inlinedBody(*body, resolve, level + 1);
            if (!inlined) {
                m_failure = inlined.error();
                break;
            }
            body = *inlined;
        }
        return made;
    }

    Result<GraphPtr> inlinedBody(const Graph& body, const Resolve& resolve, int level) {
        if (level > mostLevels) return tooMuch(body.name(), "more than " + std::to_string(mostLevels) + " levels");
        GraphBuilder builder;
        for (const Value& value : body.values())
            if (!m_budget.take(value, value.name)) return m_budget.spent(body.name());
        builder.adoptValues(body);
        const Resolve inside = [&](const Attribute& attribute) { return withBodies(attribute, resolve, level); };
        for (std::size_t i = 0; i < body.nodes().size(); ++i) {
            const auto sources = body.sources(NodeId(i));
            if (auto done = add(builder, body.nodes()[i], {sources.begin(), sources.end()}, inside, level); !done) return tl::unexpected(done.error());
        }
        return builder.finish("import");
    }

    /// Adds a node with its attributes resolved, or what it calls.
    Result<void> add(GraphBuilder& builder, Node node, const std::vector<SourceId>& sources, const Resolve& resolve, int level) {
        std::vector<Attribute> attributes;
        for (const Attribute& attribute : node.attributes.items())
            if (auto given = resolve(attribute)) attributes.push_back(std::move(*given));
        if (m_failure) return tl::unexpected(*m_failure);
        node.attributes = Attributes(std::move(attributes));
        if (const Function* function = m_model.function(node)) return expand(builder, node, *function, sources, level);
        if (!m_budget.take(node)) return m_budget.spent(node.name);
        builder.addNode(std::move(node), sources);
        return {};
    }

    Result<void> expand(GraphBuilder& builder, const Node& call, const Function& function, const std::vector<SourceId>& sources, int level) {
        if (level > mostLevels) return tooMuch(call.name, "more than " + std::to_string(mostLevels) + " levels");
        if (m_job.stopped()) return fail("import", "stopped");
        std::unordered_map<ValueId, ValueId> actual;
        const Graph& body = *function.body;
        for (std::size_t i = 0; i < body.inputs().size(); ++i)
            if (body.inputs()[i]) actual[body.inputs()[i]] = call.input(i);
        const Resolve given = [&](const Attribute& inner) { return function.attributeIn(call, inner); };
        const Resolve attribute = [&](const Attribute& inner) { return withBodies(inner, given, level); };
        const auto nested = [&](const Node& node) -> Result<bool> {
            if (m_failure) return tl::unexpected(*m_failure);
            const Function* called = m_model.function(node);
            if (!called) return false;
            if (auto done = expand(builder, node, *called, sources, level + 1); !done) return tl::unexpected(done.error());
            return true;
        };
        return splice(builder, {body, call.name, call.scope, sources, false, attribute, nested, m_budget}, actual, call.outputs);
    }

    const Model& m_model;
    const Graph& m_graph;
    const std::function<bool(const Graph&, NodeId)>& m_keep;
    const Job& m_job;
    std::size_t m_most, m_total = 0;
    CopyBudget m_budget;
    std::unordered_map<const Function*, std::size_t> m_sizes;
    std::set<const Function*> m_counting; ///< those that are being counted: one that is met again calls itself
    std::string m_callsItself;
    std::optional<Failure> m_failure;
};

} // namespace

std::optional<Attribute> Function::attributeIn(const Node& call, const Attribute& inner) const {
    if (inner.reference.empty()) return inner;
    if (const Attribute* given = call.attributes.find(inner.reference)) return Attribute{inner.name, given->value, given->reference};
    for (const FunctionParameter& parameter : parameters)
        if (parameter.name == inner.reference && parameter.hasDefault) return Attribute{inner.name, parameter.defaultValue.value, {}};
    return std::nullopt;
}

Result<GraphPtr> inlineFunctions(const Model& model, const Graph& graph, const std::function<bool(const Graph&, NodeId)>& keep, const Job& job) {
    // Most files have no functions: then nothing is copied.
    if (model.functions.empty() && &graph == model.graph.get()) return model.graph;
    return Inliner(model, graph, keep, job).run();
}

Result<GraphPtr> inlineBranches(const Model& model, const Graph& graph, const std::function<std::optional<bool>(NodeId)>& taken) {
    CopyBudget budget(model);
    GraphBuilder builder(graph.name());
    builder.adoptValues(graph);
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const NodeId id(i);
        const Node& node = graph.node(id);
        const auto which = node.is("If") ? taken(id) : std::nullopt;
        const GraphPtr branch = which ? node.attributes.graph(*which ? "then_branch" : "else_branch") : nullptr;
        if (!branch) {
            builder.adoptNode(graph, id);
            continue;
        }
        const auto sources = graph.sources(id);
        std::unordered_map<ValueId, ValueId> actual;
        if (auto done = splice(builder, {*branch, {}, node.scope, {sources.begin(), sources.end()}, true, {}, {}, budget}, actual, node.outputs); !done) return tl::unexpected(done.error());
    }
    return builder.finish("import");
}

} // namespace triptych
