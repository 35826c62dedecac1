// Values that are equal whatever is fed in: quantisers give each projection a pair of QuantizeLinear and DequantizeLinear of its own,
// though all of them read one value by one scale.

#include "attention/same_value.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

constexpr std::array quantising{"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Identity"};
constexpr std::array forming{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Shape", "Gather", "Concat"};

/// Cheap enough that a file may hold it once for each reader.
bool isRepeatable(const Node& node) { return isOneOf(node, quantising) || isOneOf(node, forming); }

bool sameAttributes(const Attributes& a, const Attributes& b) {
    return a.items().size() == b.items().size() && std::all_of(a.items().begin(), a.items().end(), [&](const Attribute& each) {
               const Attribute* other = b.find(each.name);
               return other && each.value == other->value;
           });
}

class Comparison {
public:
    Comparison(const Graph& graph, const Shapes& shapes) : m_graph(graph), m_shapes(shapes) {}

    bool same(ValueId a, ValueId b) {
        if (a == b) return true;
        if (!a || !b || --m_left < 0) return false;
        if (m_shapes.isFixed(a) && m_shapes.isFixed(b)) {
            const HostTensor *one = m_shapes.constant(a), *two = m_shapes.constant(b);
            return one && two && one->type == two->type && one->dims == two->dims && one->values == two->values;
        }
        const NodeId first = m_graph.producer(a), second = m_graph.producer(b);
        if (!first || !second) return false;
        const Node &one = m_graph.node(first), &two = m_graph.node(second);
        if (!isRepeatable(one) || one.op != two.op || one.domain != two.domain) return false;
        if (one.inputs.size() != two.inputs.size() || !sameAttributes(one.attributes, two.attributes)) return false;
        const auto place = [](const Node& node, ValueId value) { return std::find(node.outputs.begin(), node.outputs.end(), value) - node.outputs.begin(); };
        if (place(one, a) != place(two, b)) return false;
        for (std::size_t i = 0; i < one.inputs.size(); ++i)
            if (!same(one.inputs[i], two.inputs[i])) return false;
        return true;
    }

private:
    const Graph& m_graph;
    const Shapes& m_shapes;
    int m_left = 64; ///< values that are looked at
};

} // namespace

bool sameValue(const Graph& graph, const Shapes& shapes, ValueId a, ValueId b) { return Comparison(graph, shapes).same(a, b); }

ValueId unquantised(const Graph& graph, ValueId value) {
    constexpr int longest = 6;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id) break;
        const Node& node = graph.node(id);
        if (!isOneOf(node, quantising)) break;
        value = node.input(0);
    }
    return value;
}

void SameValues::add(const Graph& graph, const Shapes& shapes, ValueId value, ValueId as) {
    value = of(value);
    as = of(as);
    if (value == as) return;
    m_same[value] = as;
    if (shapes.isFixed(value)) return; // constants of equal content, whatever made them
    const NodeId one = graph.producer(value), two = graph.producer(as);
    const auto &own = graph.node(one).outputs, &others = graph.node(two).outputs;
    for (std::size_t i = 0; i < own.size() && i < others.size(); ++i)
        if (own[i] && others[i]) m_same[own[i]] = others[i];
    constexpr std::size_t most = 64;
    std::vector<NodeId> made{one};
    for (std::size_t i = 0; i < made.size() && made.size() < most; ++i)
        for (const ValueId input : graph.node(made[i]).inputs)
            if (const NodeId before = input ? graph.producer(input) : NodeId(); before && isRepeatable(graph.node(before))) made.push_back(before);
    m_made.insert(m_made.end(), made.begin(), made.end());
}

ValueId SameValues::of(ValueId value) const {
    for (auto known = m_same.find(value); known != m_same.end(); known = m_same.find(value)) value = known->second;
    return value;
}

} // namespace triptych
