#include "attention/trace_steps.h"

#include "attention/product_axes.h"
#include "attention/trace.h"

#include <array>

namespace triptych {

bool isView(const Node& node) {
    static constexpr std::array views{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Cast", "CastLike", "Contiguous", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"};
    return isOneOf(node, views);
}

bool isNorm(const Node& node) {
    static constexpr std::array norms{"LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization"};
    return isOneOf(node, norms) || node.op == "SimplifiedLayerNormalization" || node.op == "SkipLayerNormalization";
}

bool poolsPlaces(const Graph& graph, const Shapes& shapes, NodeId id) {
    const Node& node = graph.node(id);
    const ValueShape& weight = shapes.of(node.input(1));
    const std::int64_t groups = node.attributes.integer("group", 1);
    if (!node.is("Conv") || !weight.known() || weight.dims.size() < 3 || groups < 2 || weight.dims[0] % groups != 0 || weight.dims[0] / groups != weight.dims[1] || (weight.dims[1] != 1 && weight.dims[2] == 1)) return false; // the last: a projection in parts
    return closeBehindLinear(graph, shapes, node.input(0));
}

ValueId ofEveryHead(const Graph& graph, const Shapes& shapes, const Node& concat) {
    ValueId found;
    for (const ValueId input : concat.inputs) {
        ValueId value = input;
        bool shared = false;
        for (int steps = 0; steps < 4 && value && !shared; ++steps) {
            const NodeId id = graph.producer(value);
            if (!id || !(isView(graph.node(id)) || graph.node(id).is("Expand"))) break;
            shared = graph.node(id).is("Expand");
            value = graph.node(id).input(0);
        }
        if (!shared && (!found || dimFromEnd(shapes, input, 0) > dimFromEnd(shapes, found, 0))) found = input;
    }
    return found;
}

} // namespace triptych
