#include "shapes/enter.h"

namespace triptych {

namespace {

/// Builds the nested graph anew, with what is known of its surroundings written into its values.
class Entry {
public:
    Entry(const Model& model, const Graph& outer, const Shapes& shapes, NodeId node) : m_model(model), m_outer(outer), m_shapes(shapes), m_id(node), m_node(outer.node(node)) {}

    Result<GraphPtr> run(const std::vector<NestedGraph>& all, std::size_t which, std::span<const ValueShape> inputs, std::optional<std::int64_t> turn) {
        const Graph& body = *all[which].graph;
        const Function* function = m_model.function(m_node);
        m_builder.adoptValues(body);
        m_builder.clearInputs();
        if (function) arguments(body);
        else captures(body);
        for (std::size_t i = 0; i < body.inputs().size(); ++i) {
            const ValueId input = body.inputs()[i];
            if (!function && i < inputs.size()) declare(input, inputs[i]);
            if (turn && i == 0) m_builder.edit(input).initializer = makeTensor(m_builder.peek(input).name, {}, std::vector<std::int64_t>{*turn});
            if (!m_builder.peek(input).initializer) m_builder.addInput(input);
        }
        const auto sources = m_outer.sources(m_id);
        for (Node node : body.nodes()) {
            if (function) node.attributes = resolved(node.attributes, *function);
            m_builder.addNode(std::move(node), sources);
        }
        return m_builder.finish("nested graph");
    }

private:
    void declare(ValueId inner, const ValueShape& shape) {
        if (shape.sequence) {
            const ValueShape& each = shape.sequence->each;
            m_builder.edit(inner).declared = {each.type, each.ranked, each.dims, std::vector<std::string>(each.dims.size()), "sequence"};
        }
        if (!shape.ranked) return;
        m_builder.edit(inner).declared = {shape.type, true, shape.dims, std::vector<std::string>(shape.dims.size()), "tensor"};
    }

    /// What is known outside of a value holds inside too.
    void give(ValueId inner, ValueId outer) {
        if (!inner || !outer) return;
        Value& value = m_builder.edit(inner);
        if (value.initializer) return;
        declare(inner, m_shapes.of(outer));
        value.initializer = m_outer.value(outer).initializer;
        if (const HostTensor* folded = value.initializer ? nullptr : m_shapes.constant(outer); folded && bitsOf(folded->type) >= 8) value.initializer = tensorOf(*folded, value.name);
    }

    void arguments(const Graph& body) {
        for (std::size_t i = 0; i < body.inputs().size(); ++i) give(body.inputs()[i], m_node.input(i));
    }

    void captures(const Graph& body) {
        std::map<std::string_view, ValueId> outside;
        for (const ValueId id : m_node.captured)
            if (id) outside.emplace(m_outer.value(id).name, id);
        for (std::size_t i = 0; i < body.values().size(); ++i) {
            if (!body.isOuter(ValueId(i))) continue;
            if (const auto found = outside.find(body.value(ValueId(i)).name); found != outside.end()) give(ValueId(i), found->second);
        }
    }

    Attributes resolved(const Attributes& attributes, const Function& function) const {
        std::vector<Attribute> made;
        for (const Attribute& each : attributes.items())
            if (auto given = function.attributeIn(m_node, each)) made.push_back(std::move(*given));
        return Attributes(std::move(made));
    }

    const Model& m_model;
    const Graph& m_outer;
    const Shapes& m_shapes;
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

Result<GraphPtr> enteredGraph(const Model& model, const Graph& outer, const Shapes& shapes, NodeId node, std::size_t which, std::span<const ValueShape> inputs, std::optional<std::int64_t> turn) {
    const auto all = nestedGraphs(model, outer.node(node));
    if (which >= all.size()) return fail("nested graph", "there is no graph inside this node", "choose an If, a Loop, a Scan or a call of a function", describe(outer, node));
    return Entry(model, outer, shapes, node).run(all, which, inputs, turn);
}

} // namespace triptych
