#include "onnx_io/splice.h"

#include "support/excerpt.h"

#include <algorithm>

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

std::size_t bytesIn(const Attribute& attribute) {
    return attribute.name.size() + attribute.reference.size() + std::visit([](const auto& value) -> std::size_t {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::string>) {
            return value.size();
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
            std::size_t bytes = value.size() * sizeof(std::string);
            for (const std::string& each : value) bytes += each.size();
            return bytes;
        } else if constexpr (std::is_same_v<T, RawAttribute>) {
            return value.bytes.size();
        } else if constexpr (requires { value.size(); }) {
            return value.size() * sizeof(value[0]);
        } else {
            return 0; // tensors are shared, and the nodes of a graph count for themselves
        }
    }, attribute.value);
}

class Splicing {
public:
    Splicing(GraphBuilder& builder, const Body& body, std::unordered_map<ValueId, ValueId>& actual) : m_builder(builder), m_body(body), m_graph(body.graph), m_actual(actual) {}

    Result<void> run(const std::vector<ValueId>& outputs) {
        for (std::size_t i = 0; i < m_graph.outputs().size() && i < outputs.size(); ++i) bind(m_graph.outputs()[i], outputs[i]);
        for (const Node& inner : m_graph.nodes()) {
            if (m_builder.nodeCount() > mostInlinedNodes) return fail("import", "inlining gives more than " + std::to_string(mostInlinedNodes) + " nodes", "simplify the functions", m_body.prefix);
            Node node = moved(inner);
            if (!m_body.budget.take(node) || m_spent) return m_body.budget.spent(m_body.prefix);
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
        // A node's values are mapped before it is added: run() looks once for all of them.
        if (!outer) m_spent = m_spent || !m_body.budget.take(value, m_body.prefix);
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
    bool m_spent = false;
};

} // namespace

CopyBudget::CopyBudget(const Model& model) {
    constexpr std::size_t always = std::size_t(64) << 20, most = std::size_t(2) << 30, times = 16;
    const std::size_t written = model.file ? model.file->bytes().size() : 0;
    m_left = always + times * std::min(written, most / times);
}

bool CopyBudget::take(std::size_t bytes) {
    const bool enough = bytes <= m_left;
    m_left -= std::min(bytes, m_left);
    return enough;
}

bool CopyBudget::take(const Node& node) {
    std::size_t bytes = node.name.size() + node.op.size() + node.domain.size() + node.overload.size() + node.scope.size();
    for (const Attribute& each : node.attributes.items()) bytes += bytesIn(each);
    for (const auto& [key, value] : node.metadata) bytes += key.size() + value.size();
    return take(bytes);
}

bool CopyBudget::take(const Value& value, const std::string& name) {
    std::size_t bytes = name.size() + value.name.size() + value.declared.dims.size() * (sizeof(Dim) + sizeof(std::string));
    for (const std::string& symbol : value.declared.symbols) bytes += symbol.size();
    return take(bytes);
}

tl::unexpected<Failure> CopyBudget::spent(const std::string& call) const {
    return fail("import", "its functions and branches copy more names and attributes than its size lets expect", "shorten the names, or simplify the functions", excerpt(call));
}

Result<void> splice(GraphBuilder& builder, const Body& body, std::unordered_map<ValueId, ValueId>& actual, const std::vector<ValueId>& outputs) { return Splicing(builder, body, actual).run(outputs); }

} // namespace triptych
