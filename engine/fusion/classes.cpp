#include "fusion/classes.h"

#include "fusion/composites.h"

#include <algorithm>
#include <array>

namespace triptych {

std::string_view toString(NodeClass nodeClass) {
    switch (nodeClass) {
    case NodeClass::constant:
        return "constant";
    case NodeClass::shape:
        return "shape";
    case NodeClass::view:
        return "view";
    case NodeClass::compute:
        return "compute";
    }
    return "";
}

namespace {

bool random(const Node& node) {
    static constexpr std::array<std::string_view, 6> ops{"RandomNormal",      "RandomUniform", "RandomNormalLike",
                                                         "RandomUniformLike", "Bernoulli",     "Multinomial"};
    return std::find(ops.begin(), ops.end(), node.op) != ops.end();
}

bool takesOneIndex(const Shapes& shapes, const Node& gather) {
    const ValueId index = gather.input(1);
    if (!index || !shapes.isConstant(index)) return false;
    const ValueShape& shape = shapes.of(index);
    return shape.known() && shape.count() == 1;
}

/// Dropout drops nothing unless its training_mode operand (opset 12 on) may be true.
bool dropsNothing(const Shapes& shapes, const Node& dropout) {
    const ValueId training = dropout.input(2);
    if (!training) return true;
    const std::optional<double> on = shapes.scalar(training);
    return on && *on == 0.0;
}

bool isView(const Shapes& shapes, const Node& node) {
    static constexpr std::array<std::string_view, 9> ops{"Reshape", "Squeeze", "Unsqueeze", "Flatten",  "Identity",
                                                         "Expand",  "Slice",   "Split",     "Transpose"};
    if (!node.domain.empty()) return false;
    if (std::find(ops.begin(), ops.end(), node.op) != ops.end()) return true;
    if (node.op == "Gather") return takesOneIndex(shapes, node);
    if (node.op == "Dropout") return dropsNothing(shapes, node);
    // A cast to the type that it already has is what exporters leave behind.
    if (node.op == "Cast" && node.input(0) && node.output()) {
        const DataType from = shapes.of(node.input(0)).type;
        return from != DataType::undefined && static_cast<std::int64_t>(from) == node.attributes.integer("to", 0);
    }
    return false;
}

class Classifier {
public:
    Classifier(const Graph& graph, const Shapes& shapes) : m_graph(graph), m_shapes(shapes) {
        m_classes.of = IndexVector<NodeId, NodeClass>(graph.nodes().size(), NodeClass::compute);
        m_classes.compositeOf = IndexVector<NodeId, std::int32_t>(graph.nodes().size(), -1);
    }
    NodeClasses run() {
        for (std::size_t i = 0; i < m_graph.nodes().size(); ++i)
            m_classes.of[NodeId(i)] = classOf(m_graph.node(NodeId(i)));
        m_classes.composites = findComposites(m_graph, m_shapes, [this](ValueId value) { return folds(value); });
        for (std::size_t i = 0; i < m_classes.composites.size(); ++i)
            for (const NodeId node : m_classes.composites[i].nodes)
                m_classes.compositeOf[node] = static_cast<std::int32_t>(i);
        return std::move(m_classes);
    }

private:
    bool folds(ValueId value) const {
        if (!value) return false;
        const NodeId producer = m_graph.producer(value);
        if (!producer) return m_graph.value(value).initializer != nullptr;
        return m_classes.of[producer] <= NodeClass::shape;
    }
    NodeClass classOf(const Node& node) const {
        if (node.is("Constant")) return NodeClass::constant;
        if (node.is("Shape") || node.is("Size")) return NodeClass::shape;
        if (foldsFromOperands(node)) return fromShapes(node) ? NodeClass::shape : NodeClass::constant;
        return isView(m_shapes, node) ? NodeClass::view : NodeClass::compute;
    }
    bool foldsFromOperands(const Node& node) const {
        if (!node.domain.empty() || random(node)) return false;
        bool any = false;
        for (const auto* operands : {&node.inputs, &node.captured})
            for (const ValueId operand : *operands)
                if (operand) {
                    any = true;
                    if (!folds(operand)) return false;
                }
        return any;
    }
    bool fromShapes(const Node& node) const {
        return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId operand) {
            const NodeId producer = operand ? m_graph.producer(operand) : NodeId();
            return producer && m_classes.of[producer] == NodeClass::shape;
        });
    }
    const Graph& m_graph;
    const Shapes& m_shapes;
    NodeClasses m_classes;
};

} // namespace

NodeClasses classify(const Graph& graph, const Shapes& shapes) {
    return Classifier(graph, shapes).run();
}

} // namespace triptych
