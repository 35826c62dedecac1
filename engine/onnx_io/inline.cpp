// Calls of model-local functions replaced by their bodies.

#include "onnx_io/model.h"

#include <unordered_map>

namespace triptych {

namespace {

/// A function may call another 2^30 times; an honest model has nothing near these.
constexpr std::size_t mostNodes = 2'000'000;
constexpr int mostLevels = 64;

Attributes renamedIn(const Attributes& attributes, const std::unordered_map<std::string, std::string>& names);

/// A nested graph that reads outer values under other names.
GraphPtr renamed(const Graph& graph, const std::unordered_map<std::string, std::string>& names) {
    GraphBuilder builder(graph.name());
    builder.adoptValues(graph);
    std::vector<std::pair<ValueId, std::string>> changed;
    for (std::size_t i = 0; i < graph.values().size(); ++i) {
        const ValueId id(i);
        const auto found = names.find(graph.value(id).name);
        const bool outer = !graph.producer(id) && !graph.isInput(id) && !graph.value(id).initializer;
        if (outer && found != names.end()) changed.emplace_back(id, found->second);
    }
    builder.rename(changed);
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        Node node = graph.nodes()[i];
        if (!node.captured.empty()) node.attributes = renamedIn(node.attributes, names);
        builder.addNode(std::move(node));
    }
    auto made = builder.finish("import");
    return made ? *made : nullptr; // it was finished once: it can be again
}

Attributes renamedIn(const Attributes& attributes, const std::unordered_map<std::string, std::string>& names) {
    std::vector<Attribute> made = attributes.items();
    for (Attribute& each : made) {
        if (auto* graph = std::get_if<GraphPtr>(&each.value)) *graph = renamed(**graph, names);
        if (auto* graphs = std::get_if<std::vector<GraphPtr>>(&each.value))
            for (GraphPtr& graph : *graphs) graph = renamed(*graph, names);
    }
    return Attributes(std::move(made));
}

class Inliner {
public:
    Inliner(const Model& model, const Graph& graph, const std::function<bool(const Graph&, NodeId)>& keep, const Job& job)
        : m_model(model), m_graph(graph), m_keep(keep), m_job(job) {}

    Result<GraphPtr> run() {
        m_builder.adoptValues(m_graph);
        for (std::size_t i = 0; i < m_graph.nodes().size(); ++i) {
            const NodeId id(i);
            const Node& node = m_graph.nodes()[i];
            const Function* function = m_model.function(node);
            if (!function || (m_keep && m_keep(m_graph, id))) {
                m_builder.adoptNode(m_graph, id);
                continue;
            }
            const auto sources = m_graph.sources(id);
            // Counted before anything is built: a function that calls another 2^30 times costs nothing.
            if (sizeOf(*function, 0) > mostNodes) return tooMuch(node.name, "more than " + std::to_string(mostNodes) + " nodes, or deeper than " + std::to_string(mostLevels) + " levels");
            if (auto done = expand(node, node.name, *function, {sources.begin(), sources.end()}, 0); !done) return tl::unexpected(done.error());
        }
        return m_builder.finish("import");
    }

private:
    tl::unexpected<Failure> tooMuch(const std::string& call, const std::string& what) const {
        return fail("import", "its model-local functions expand to " + what, "simplify the functions", call);
    }

    /// Nodes that a call becomes; more than mostNodes where functions nest too deep. Each function is counted once.
    std::size_t sizeOf(const Function& function, int level) {
        if (level > mostLevels) return mostNodes + 1;
        const auto [known, fresh] = m_sizes.try_emplace(&function, mostNodes + 1); // one that calls itself finds this
        if (!fresh) return known->second;
        std::size_t size = 0;
        for (const Node& node : function.body->nodes()) {
            const Function* inner = m_model.function(node);
            size = std::min(size + (inner ? sizeOf(*inner, level + 1) : 1), mostNodes + 1);
        }
        return m_sizes[&function] = size;
    }

    /// An attribute of the body as this call gives it; none where the call leaves it out and there is no default.
    static std::optional<Attribute> resolved(const Attribute& inner, const Node& call, const Function& function) {
        if (inner.reference.empty()) return inner;
        Attribute made{inner.name, {}, {}};
        if (const Attribute* given = call.attributes.find(inner.reference)) {
            made.value = given->value;
            made.reference = given->reference;
            return made;
        }
        for (const FunctionParameter& parameter : function.parameters) {
            if (parameter.name != inner.reference || !parameter.hasDefault) continue;
            made.value = parameter.defaultValue.value;
            return made;
        }
        return std::nullopt;
    }

    Result<void> expand(const Node& call, const std::string& path, const Function& function, const std::vector<SourceId>& sources, int level) {
        if (level > mostLevels) return tooMuch(path, "more than " + std::to_string(mostLevels) + " levels");
        if (m_job.stopped()) return fail("import", "stopped");
        const Graph& body = *function.body;
        std::unordered_map<ValueId, ValueId> actual;
        for (std::size_t i = 0; i < body.inputs().size(); ++i)
            if (body.inputs()[i]) actual[body.inputs()[i]] = call.input(i);
        for (std::size_t i = 0; i < body.outputs().size(); ++i) {
            // An output that is an input of the body, or is given twice, needs a copy of its own.
            const ValueId inner = body.outputs()[i], outer = call.output(i);
            if (!outer || !inner) continue;
            if (!actual.contains(inner)) actual[inner] = outer;
            else m_builder.addNode(copyOf(path, actual[inner], outer), sources);
        }
        const auto mapped = [&](ValueId inner) {
            if (!inner) return ValueId();
            const auto found = actual.find(inner);
            if (found != actual.end()) return found->second;
            const ValueId made = m_builder.newValue(path + "/" + body.value(inner).name);
            return actual[inner] = made;
        };
        for (const Node& inner : body.nodes()) {
            if (m_builder.nodeCount() > mostNodes) return tooMuch(path, "more than " + std::to_string(mostNodes) + " nodes");
            Node node = inner;
            node.name = path + "/" + inner.name;
            if (node.scope.empty()) node.scope = call.scope;
            for (ValueId& value : node.inputs) value = mapped(value);
            for (ValueId& value : node.outputs) value = mapped(value);
            for (ValueId& value : node.captured) value = mapped(value);
            std::vector<Attribute> attributes;
            for (const Attribute& attribute : inner.attributes.items())
                if (auto given = resolved(attribute, call, function)) attributes.push_back(std::move(*given));
            node.attributes = Attributes(std::move(attributes));
            if (!inner.captured.empty()) {
                std::unordered_map<std::string, std::string> names;
                for (std::size_t i = 0; i < inner.captured.size(); ++i)
                    if (inner.captured[i] && node.captured[i]) names[body.value(inner.captured[i]).name] = m_builder.peek(node.captured[i]).name;
                node.attributes = renamedIn(node.attributes, names);
            }
            if (const Function* nested = m_model.function(node)) {
                if (auto done = expand(node, node.name, *nested, sources, level + 1); !done) return done;
                continue;
            }
            m_builder.addNode(std::move(node), sources);
        }
        return {};
    }

    static Node copyOf(const std::string& path, ValueId from, ValueId to) {
        Node node;
        node.name = path + "/Identity";
        node.op = "Identity";
        node.inputs = {from};
        node.outputs = {to};
        return node;
    }

    const Model& m_model;
    const Graph& m_graph;
    const std::function<bool(const Graph&, NodeId)>& m_keep;
    const Job& m_job;
    std::unordered_map<const Function*, std::size_t> m_sizes;
    GraphBuilder m_builder;
};

} // namespace

Result<GraphPtr> inlineFunctions(const Model& model, const Graph& graph, const std::function<bool(const Graph&, NodeId)>& keep, const Job& job) {
    // Most files have no functions: then nothing is copied.
    if (model.functions.empty() && &graph == model.graph.get()) return model.graph;
    return Inliner(model, graph, keep, job).run();
}

} // namespace triptych
