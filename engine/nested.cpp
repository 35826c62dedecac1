#include "nested.h"

namespace triptych {

namespace {

/// Builds the nested graph anew, with what is known of its surroundings written into its values.
class Entry {
public:
    Entry(const Analysis& analysis, const Projected& outer, NodeId node) : m_model(*analysis.model), m_outer(outer), m_id(node), m_node(outer.graph->node(node)) {}

    Result<GraphPtr> run(const std::vector<NestedGraph>& all, std::size_t which) {
        const Graph& body = *all[which].graph;
        const Function* function = m_model.function(m_node);
        std::vector<ValueId> inner;
        for (const Value& value : body.values()) {
            const ValueId made = m_builder.value(value.name);
            if (!made) {
                inner.push_back(made);
                continue;
            }
            m_builder.edit(made).declared = value.declared;
            m_builder.edit(made).initializer = value.initializer;
            inner.push_back(made);
        }
        const auto here = [&](ValueId id) { return id ? inner[id.position()] : ValueId(); };
        if (function) arguments(body, here);
        else captures(all, body);
        for (const ValueId input : body.inputs())
            if (!m_builder.peek(here(input)).initializer) m_builder.addInput(here(input));
        for (const ValueId output : body.outputs()) m_builder.addOutput(here(output));
        const auto sources = m_outer.graph->sources(m_id);
        for (Node node : body.nodes()) {
            for (auto* values : {&node.inputs, &node.outputs, &node.captured})
                for (ValueId& value : *values) value = here(value);
            if (function) node.attributes = resolved(node.attributes, *function);
            m_builder.addNode(std::move(node), sources);
        }
        return m_builder.finish("nested graph");
    }

private:
    /// What is known outside of a value holds inside too.
    void give(ValueId inner, ValueId outer) {
        if (!inner || !outer) return;
        Value& value = m_builder.edit(inner);
        if (value.initializer) return;
        value.initializer = m_outer.graph->value(outer).initializer;
        const ValueShape& shape = m_outer.shapes->of(outer);
        if (!shape.ranked) return;
        value.declared = {shape.type, true, shape.dims, std::vector<std::string>(shape.dims.size()), "tensor"};
    }

    template <class Here>
    void arguments(const Graph& body, const Here& here) {
        for (std::size_t i = 0; i < body.inputs().size(); ++i) give(here(body.inputs()[i]), m_node.input(i));
    }

    /// Node::captured lists what the nested graphs read from outside, each name once, in the order of their values.
    void captures(const std::vector<NestedGraph>& all, const Graph& body) {
        std::set<std::string> taken;
        std::size_t next = 0;
        for (const NestedGraph& nested : all) {
            const Graph& graph = *nested.graph;
            for (std::size_t i = 0; i < graph.values().size() && next < m_node.captured.size(); ++i) {
                const ValueId id(i);
                const bool read = !graph.readers(id).empty() || graph.isOutput(id);
                if (!read || graph.producer(id) || graph.isInput(id) || graph.value(id).initializer || !taken.insert(graph.value(id).name).second) continue;
                const ValueId mine = body.findValue(graph.value(id).name);
                if (mine && !body.producer(mine) && !body.isInput(mine)) give(m_builder.value(graph.value(id).name), m_node.captured[next]);
                ++next;
            }
        }
    }

    Attributes resolved(const Attributes& attributes, const Function& function) const {
        std::vector<Attribute> made;
        for (const Attribute& each : attributes.items()) {
            if (each.reference.empty()) {
                made.push_back(each);
                continue;
            }
            if (const Attribute* given = m_node.attributes.find(each.reference)) made.push_back({each.name, given->value, given->reference});
            for (const FunctionParameter& parameter : function.parameters)
                if (parameter.name == each.reference && parameter.hasDefault && !m_node.attributes.has(each.reference)) made.push_back({each.name, parameter.defaultValue.value, {}});
        }
        return Attributes(std::move(made));
    }

    const Model& m_model;
    const Projected& m_outer;
    NodeId m_id;
    const Node& m_node;
    GraphBuilder m_builder;
};

} // namespace

std::vector<NestedGraph> nestedGraphs(const Model& model, const Node& node) {
    std::vector<NestedGraph> found;
    for (const Attribute& attribute : node.attributes.items()) {
        if (const auto* one = std::get_if<GraphPtr>(&attribute.value); one && *one) found.push_back({attribute.name, *one});
        if (const auto* many = std::get_if<std::vector<GraphPtr>>(&attribute.value))
            for (std::size_t i = 0; i < many->size(); ++i) found.push_back({attribute.name + " " + std::to_string(i), (*many)[i]});
    }
    if (const Function* function = model.function(node); function && function->body) found.push_back({function->name, function->body});
    return found;
}

Result<Projected> enterNested(const Analysis& analysis, const Projected& outer, NodeId node, std::size_t which, const Job& job) {
    const auto all = nestedGraphs(*analysis.model, outer.graph->node(node));
    if (which >= all.size()) return fail("nested graph", "there is no graph inside this node", "choose an If, a Loop, a Scan or a call of a function", describe(*outer.graph, node));
    auto graph = Entry(analysis, outer, node).run(all, which);
    if (!graph) return tl::unexpected(graph.error());
    Projected made;
    made.key = "nested";
    made.graph = *graph;
    auto shapes = inferShapes(*analysis.model, *made.graph, analysis.bindings, job);
    if (!shapes) return tl::unexpected(shapes.error());
    made.shapes = *shapes;
    made.classes = std::make_shared<const NodeClasses>(classify(*made.graph, *made.shapes));
    auto partition = fuse({*made.graph, *made.shapes, *made.classes, nullptr, false}, *analysis.library, {}, job);
    if (!partition) return tl::unexpected(partition.error());
    partition->nearMisses.clear(); // with every pattern off they say nothing
    made.partition = std::make_shared<const Partition>(std::move(*partition));
    return made;
}

} // namespace triptych
