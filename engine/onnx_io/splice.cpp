#include "onnx_io/splice.h"

namespace triptych {

namespace {

using Names = std::unordered_map<std::string, std::string>;

Attributes renamedIn(const Attributes& attributes, const Names& names);

/// A nested graph that reads outer values under other names.
GraphPtr renamed(const Graph& graph, const Names& names) {
    GraphBuilder builder(graph.name());
    builder.adoptValues(graph);
    std::vector<std::pair<ValueId, std::string>> changed;
    for (std::size_t i = 0; i < graph.values().size(); ++i) {
        const ValueId id(i);
        const auto found = names.find(graph.value(id).name);
        if (graph.isOuter(id) && found != names.end()) changed.emplace_back(id, found->second);
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

Attributes renamedIn(const Attributes& attributes, const Names& names) {
    std::vector<Attribute> made = attributes.items();
    for (Attribute& each : made)
        for (GraphPtr& graph : graphsOf(each)) graph = renamed(*graph, names);
    return Attributes(std::move(made));
}

class Splicing {
public:
    Splicing(GraphBuilder& builder, const Body& body, std::unordered_map<ValueId, ValueId>& actual) : m_builder(builder), m_body(body), m_graph(body.graph), m_actual(actual) {}

    Result<void> run(const std::vector<ValueId>& outputs) {
        for (std::size_t i = 0; i < m_graph.outputs().size() && i < outputs.size(); ++i) bind(m_graph.outputs()[i], outputs[i]);
        for (const Node& inner : m_graph.nodes()) {
            if (m_builder.nodeCount() > mostInlinedNodes) return fail("import", "inlining gives more than " + std::to_string(mostInlinedNodes) + " nodes", "simplify the functions", m_body.prefix);
            Node node = moved(inner);
            auto taken = m_body.take ? m_body.take(node) : Result<bool>(false);
            if (!taken) return tl::unexpected(taken.error());
            if (!*taken) m_builder.addNode(std::move(node), m_body.sources);
        }
        return {};
    }

private:
    std::string named(const std::string& own) const { return m_body.prefix.empty() ? own : m_body.prefix + "/" + own; }

    /// An output that is an input of the body, or is given twice, or comes from outside, needs a copy of its own.
    void bind(ValueId inner, ValueId outer) {
        if (!outer || !inner) return;
        const bool own = m_graph.producer(inner).valid();
        if (own && !m_actual.contains(inner)) {
            m_actual[inner] = outer;
            // A function's declarations hold for every call; a branch's may name sizes of its own.
            if (!m_body.seesOuter && !m_builder.peek(outer).declared.hasShape) m_builder.edit(outer).declared = m_graph.value(inner).declared;
            return;
        }
        Node copy;
        copy.name = named("Identity");
        copy.op = "Identity";
        copy.inputs = {mapped(inner)};
        copy.outputs = {outer};
        m_builder.addNode(std::move(copy), m_body.sources);
    }

    ValueId mapped(ValueId inner) {
        if (!inner) return {};
        if (const auto found = m_actual.find(inner); found != m_actual.end()) return found->second;
        const Value& value = m_graph.value(inner);
        const bool outer = m_body.seesOuter && !value.initializer && !m_graph.producer(inner);
        const ValueId made = outer ? m_builder.value(value.name) : m_builder.newValue(named(value.name));
        if (!outer) {
            Value& copy = m_builder.edit(made);
            copy.initializer = value.initializer;
            copy.declared = value.declared;
        }
        return m_actual[inner] = made;
    }

    Node moved(const Node& inner) {
        Node node = inner;
        node.name = named(inner.name);
        if (node.scope.empty()) node.scope = m_body.scope;
        for (auto* values : {&node.inputs, &node.outputs, &node.captured})
            for (ValueId& value : *values) value = mapped(value);
        if (m_body.attribute) {
            std::vector<Attribute> attributes;
            for (const Attribute& attribute : inner.attributes.items())
                if (auto given = m_body.attribute(attribute)) attributes.push_back(std::move(*given));
            node.attributes = Attributes(std::move(attributes));
        }
        Names names;
        for (std::size_t i = 0; i < inner.captured.size(); ++i)
            if (inner.captured[i] && node.captured[i]) names[m_graph.value(inner.captured[i]).name] = m_builder.peek(node.captured[i]).name;
        if (!names.empty()) node.attributes = renamedIn(node.attributes, names);
        return node;
    }

    GraphBuilder& m_builder;
    const Body& m_body;
    const Graph& m_graph;
    std::unordered_map<ValueId, ValueId>& m_actual;
};

} // namespace

Result<void> splice(GraphBuilder& builder, const Body& body, std::unordered_map<ValueId, ValueId>& actual, const std::vector<ValueId>& outputs) { return Splicing(builder, body, actual).run(outputs); }

} // namespace triptych
