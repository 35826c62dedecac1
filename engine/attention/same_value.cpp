// Values that are equal whatever is fed in: quantisers give each projection a pair of QuantizeLinear and DequantizeLinear of its own,
// though all of them read one value by one scale.

#include "attention/same_value.h"
#include "attention/trace.h"

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

/// Whether a type has every number of another one.
bool holds(DataType wide, DataType narrow) {
    if (wide == narrow) return true;
    const bool half = narrow == DataType::float16 || narrow == DataType::bfloat16;
    return (wide == DataType::float32 && half) || (wide == DataType::float64 && (half || narrow == DataType::float32));
}

class Comparison {
public:
    Comparison(const Graph& graph, const Shapes& shapes) : m_graph(graph), m_shapes(shapes) {}

    bool same(ValueId a, ValueId b) {
        if (a == b) return true;
        if (!a || !b || --m_left < 0) return false;
        a = restored(m_graph, m_shapes, a);
        b = restored(m_graph, m_shapes, b);
        if (a == b) return true;
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

ValueId restored(const Graph& graph, const Shapes& shapes, ValueId value) {
    const ValueId before = bare(graph, shapes, value);
    const DataType type = shapes.of(before).type;
    if (type != shapes.of(value).type) return value;
    for (ValueId at = value; at != before; at = graph.node(graph.producer(at)).input(0))
        if (!holds(shapes.of(at).type, type)) return value;
    return before;
}

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
    if (shapes.isFixed(value)) { // constants of equal content, whatever made them
        m_same[value] = as;
        return;
    }
    std::vector<NodeId> made;
    if (const ValueId root = restored(graph, shapes, value); root == restored(graph, shapes, as)) {
        // One may be made of the other: both are read as what both are made of.
        for (const ValueId each : {value, as}) {
            if (each == root) continue;
            m_same[each] = root;
            made.push_back(graph.producer(each));
        }
    } else {
        m_same[value] = as;
        made.push_back(graph.producer(value));
        const Node &own = graph.node(made[0]), &other = graph.node(graph.producer(as));
        for (std::size_t i = 0; own.op == other.op && i < own.outputs.size() && i < other.outputs.size(); ++i)
            if (own.outputs[i] && other.outputs[i]) m_same[own.outputs[i]] = other.outputs[i];
    }
    constexpr std::size_t most = 64;
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
