#include "attention/weights.h"

#include <algorithm>

namespace triptych {

namespace {

/// Part of a matrix or vector that one Slice takes.
std::optional<WeightSource> sliced(const Graph& graph, const Node& slice, const Shapes& shapes) {
    auto source = weightSource(graph, slice.input(0), &shapes);
    const HostTensor *starts = shapes.constant(slice.input(1)), *axes = slice.input(3) ? shapes.constant(slice.input(3)) : nullptr, *steps = slice.input(4) ? shapes.constant(slice.input(4)) : nullptr;
    const ValueShape& shape = shapes.of(slice.output());
    if (!source || source->transposed || !starts || starts->count() != 1 || !starts->isInteger() || !shape.known() || shape.dims.size() != source->tensor->dims.size() || (steps && steps->at(0) != 1)) return std::nullopt;
    const auto rank = static_cast<std::int64_t>(shape.dims.size());
    std::int64_t axis = axes && axes->count() == 1 ? static_cast<std::int64_t>(axes->at(0)) : 0;
    if (axis < 0) axis += rank;
    if (rank > 2 || axis < 0 || axis >= rank) return std::nullopt;
    const Dim whole = source->tensor->dims[static_cast<std::size_t>(axis)], length = shape.dims[static_cast<std::size_t>(axis)];
    const std::int64_t begin = starts->integers()[0] < 0 ? starts->integers()[0] + whole : starts->integers()[0];
    if (begin < 0 || begin + length > whole) return std::nullopt;
    return WeightSource{cutTensor(*source, {{begin, length}}, static_cast<std::size_t>(axis), source->tensor->name + "." + std::to_string(begin)), false};
}

/// One part of a matrix or vector that a Split cuts, as nn.MultiheadAttention does for queries of another sequence.
std::optional<WeightSource> partOfSplit(const Graph& graph, const Node& split, ValueId value, const Shapes& shapes) {
    auto source = weightSource(graph, split.input(0), &shapes);
    const ValueShape& shape = shapes.of(value);
    if (!source || source->transposed || !shape.known() || shape.dims.size() > 2 || shape.dims.size() != source->tensor->dims.size()) return std::nullopt;
    const auto rank = static_cast<std::int64_t>(shape.dims.size());
    std::int64_t axis = split.attributes.integer("axis", 0), begin = 0;
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank) return std::nullopt;
    const auto at = static_cast<std::size_t>(axis);
    for (const ValueId output : split.outputs) {
        if (output == value) return WeightSource{cutTensor(*source, {{begin, shape.dims[at]}}, at, source->tensor->name + "." + std::to_string(begin)), false};
        if (!shapes.of(output).known() || shapes.of(output).dims.size() != shape.dims.size()) return std::nullopt;
        begin += shapes.of(output).dims[at];
    }
    return std::nullopt;
}

/// Biases (or weights) of several roles that are joined where the model runs: that of the queries, zeros for the keys, that of the values.
std::optional<WeightSource> joined(const Graph& graph, const Node& concat, const Shapes& shapes) {
    const ValueShape& shape = shapes.of(concat.output());
    if (!shape.known() || shape.dims.size() > 2 || bitsOf(shape.type) % 8 != 0) return std::nullopt;
    const auto rank = static_cast<std::int64_t>(shape.dims.size());
    std::int64_t axis = concat.attributes.integer("axis", 0);
    if (axis < 0) axis += rank;
    auto whole = std::make_shared<Tensor>();
    whole->name = graph.value(concat.output()).name;
    whole->type = shape.type;
    whole->dims = shape.dims;
    whole->payload.axis = static_cast<int>(axis);
    whole->payload.length = whole->byteSize().value_or(0);
    whole->payload.place = Payload::Place::derived;
    for (const ValueId input : concat.inputs) {
        auto part = weightSource(graph, input, &shapes);
        if (const HostTensor* value = shapes.constant(input); !part && value) part = WeightSource{tensorOf(*value, graph.value(input).name), false};
        if (!part) return std::nullopt;
        whole->payload.parts.push_back({part->tensor, part->transposed, 0, shapes.of(input).dims[static_cast<std::size_t>(axis)]});
        if (part->tensor->payload.place != Payload::Place::absent) continue;
        whole->payload.place = Payload::Place::absent;
        whole->payload.missing = "joined from " + part->tensor->name + ", which is not in the file";
    }
    return WeightSource{whole, false};
}

} // namespace

std::optional<WeightSource> weightSource(const Graph& graph, ValueId value, const Shapes* shapes) {
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
        } else if (node.is("Slice") && shapes) {
            const auto part = sliced(graph, node, *shapes);
            return part ? std::optional(WeightSource{part->tensor, source.transposed}) : std::nullopt;
        } else if (node.is("Split") && shapes) {
            const auto part = partOfSplit(graph, node, value, *shapes);
            return part ? std::optional(WeightSource{part->tensor, source.transposed}) : std::nullopt;
        } else if (node.is("Concat") && shapes) {
            const auto whole = joined(graph, node, *shapes);
            return whole ? std::optional(WeightSource{whole->tensor, source.transposed}) : std::nullopt;
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
