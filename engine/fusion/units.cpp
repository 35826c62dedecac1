#include "fusion/units.h"

#include <algorithm>

namespace triptych {

namespace {

constexpr std::array<std::string_view, 16> productOps{"MatMul",      "Gemm",          "Conv",          "ConvTranspose",
                                                      "Einsum",      "MatMulInteger", "QLinearMatMul", "ConvInteger",
                                                      "QLinearConv", "MatMulNBits",   "FusedMatMul",   "FusedConv",
                                                      "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulBnb4", "QGemm"};

bool attentionOperator(std::string_view op) {
    return op.ends_with("Attention");
}

} // namespace

Units::Units(const Graph& graph, const NodeClasses& classes) : m_graph(graph), m_classes(classes) {
    m_of.resize(graph.nodes().size());
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const NodeId node(i);
        const std::int32_t composite = classes.compositeOf[node];
        // A composite takes its place at its last node: all that it reads stands before that.
        if (composite >= 0 && classes.composites[static_cast<std::size_t>(composite)].nodes.back() != node) continue;
        const UnitId id = m_units.push_back(
            composite < 0 ? single(node) : ofComposite(classes.composites[static_cast<std::size_t>(composite)]));
        for (const NodeId member : m_units[id].nodes) m_of[member] = id;
        m_products.push_back(hasProduct(m_units[id]));
    }
}

UnitId Units::producer(ValueId value) const {
    const NodeId node = value ? m_graph.producer(value) : NodeId();
    return node ? m_of[node] : UnitId();
}

bool Units::isConstant(ValueId value) const {
    if (!value) return false;
    const NodeId node = m_graph.producer(value);
    return node ? m_classes.of[node] <= NodeClass::shape : m_graph.value(value).initializer != nullptr;
}

Unit Units::single(NodeId id) const {
    const Node& node = m_graph.node(id);
    Unit unit;
    unit.nodes = {id};
    for (const auto* operands : {&node.inputs, &node.captured})
        for (const ValueId operand : *operands)
            if (operand) unit.inputs.push_back(operand);
    unit.nodeClass = m_classes.of[id];
    unit.names[0] = node.domain.empty() ? node.op : node.domain + "." + node.op;
    const ValueId weight = node.input(1);
    if ((node.is("MatMul") || node.is("Gemm")) && weight && isConstant(weight)) unit.names[1] = "Linear";
    if (attentionOperator(node.op)) unit.names[1] = "Attention";
    return unit;
}

Unit Units::ofComposite(const Composite& composite) const {
    Unit unit;
    unit.nodes = composite.nodes;
    unit.names[0] = composite.kind;
    for (const NodeId member : composite.nodes)
        for (const ValueId operand : m_graph.node(member).inputs) {
            if (!operand) continue;
            const NodeId producer = m_graph.producer(operand);
            if (!producer || !std::binary_search(composite.nodes.begin(), composite.nodes.end(), producer))
                unit.inputs.push_back(operand);
        }
    return unit;
}

bool Units::hasProduct(const Unit& unit) const {
    return std::any_of(unit.nodes.begin(), unit.nodes.end(), [&](NodeId id) {
        const std::string& op = m_graph.node(id).op;
        return attentionOperator(op) || std::find(productOps.begin(), productOps.end(), op) != productOps.end();
    });
}

} // namespace triptych
