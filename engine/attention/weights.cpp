#include "attention/weights.h"

#include <algorithm>

namespace triptych {

std::optional<WeightSource> weightSource(const Graph& graph, ValueId value) {
    WeightSource source;
    for (int steps = 0; steps < 8 && value; ++steps) {
        if (graph.value(value).initializer) {
            source.tensor = graph.value(value).initializer;
            return source;
        }
        const NodeId id = graph.producer(value);
        if (!id) return std::nullopt;
        const Node& node = graph.node(id);
        if (node.is("Transpose")) {
            const auto* perm = node.attributes.integers("perm");
            if (perm && *perm != std::vector<std::int64_t>{1, 0}) return std::nullopt;
            source.transposed = !source.transposed;
        } else if (node.is("Constant") && node.attributes.tensor("value")) {
            source.tensor = node.attributes.tensor("value");
            return source;
        } else if (!node.is("Identity")) {
            return std::nullopt;
        }
        value = node.input(0);
    }
    return std::nullopt;
}

TensorPtr cutTensor(const WeightSource& source, const std::vector<std::pair<std::int64_t, std::int64_t>>& runs, std::size_t axis, std::string name) {
    auto cut = std::make_shared<Tensor>();
    cut->name = std::move(name);
    cut->type = source.tensor->type;
    cut->dims = source.tensor->dims;
    if (source.transposed && cut->dims.size() == 2) std::swap(cut->dims[0], cut->dims[1]);
    cut->dims[axis] = 0;
    for (const auto& [begin, length] : runs) {
        cut->payload.parts.push_back({source.tensor, source.transposed, begin, length});
        cut->dims[axis] += length;
    }
    cut->payload.axis = static_cast<int>(axis);
    cut->payload.length = cut->byteSize().value_or(0);
    const bool absent = source.tensor->payload.place == Payload::Place::absent;
    cut->payload.place = absent ? Payload::Place::absent : Payload::Place::derived;
    if (absent) cut->payload.missing = "cut from " + source.tensor->name + ", which is not in the file";
    return cut;
}

} // namespace triptych
