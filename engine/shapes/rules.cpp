#include "shapes/rules.h"

#include <algorithm>
#include <cmath>

namespace triptych {

std::optional<std::size_t> axisIn(std::int64_t axis, std::size_t rank) {
    const auto size = static_cast<std::int64_t>(rank);
    if (axis < -size || axis >= size) return std::nullopt;
    return static_cast<std::size_t>(axis < 0 ? axis + size : axis);
}

Dims broadcast(const Dims& a, const Dims& b) {
    Dims out(std::max(a.size(), b.size()), 1);
    for (std::size_t i = 0; i < out.size(); ++i) {
        const Dim x = i < a.size() ? a[a.size() - 1 - i] : 1, y = i < b.size() ? b[b.size() - 1 - i] : 1;
        Dim& to = out[out.size() - 1 - i];
        if (x == 1) to = y;
        else if (y == 1) to = x;
        else if (x < 0 || y < 0) to = std::max(x, y); // a known size above 1 decides
        else to = x == y ? x : unknownDim;
    }
    return out;
}

bool goTogether(const Dims& a, const Dims& b) {
    for (std::size_t i = 1; i <= std::min(a.size(), b.size()); ++i) {
        const Dim x = a[a.size() - i], y = b[b.size() - i];
        if (x >= 0 && y >= 0 && x != 1 && y != 1 && x != y) return false;
    }
    return true;
}

Dim plus(Dim a, Dim b) { return a < 0 || b < 0 || a > INT64_MAX - b ? unknownDim : a + b; }

Dim times(Dim a, Dim b) {
    if (a < 0 || b < 0) return unknownDim;
    return elementCount({a, b}).value_or(unknownDim);
}

const ValueShape& RuleCall::in(std::size_t index) const {
    static const ValueShape nothing;
    return has(index) ? m_known.shape(node.input(index)) : nothing;
}

const HostTensor* RuleCall::constant(std::size_t index) const {
    const HostTensor* content = has(index) ? m_known.constant(node.input(index)) : nullptr;
    if (!content && has(index) && !m_wanting) m_wanting = node.input(index);
    return content;
}

std::optional<std::vector<std::int64_t>> RuleCall::list(std::size_t index, std::string_view attribute) const {
    if (has(index)) {
        const HostTensor* given = constant(index);
        return given && given->isInteger() ? std::optional(given->integers()) : std::nullopt;
    }
    const auto* found = attribute.empty() ? nullptr : node.attributes.integers(attribute);
    return found ? *found : std::vector<std::int64_t>();
}

void RuleCall::set(std::size_t index, DataType type, Dims dims) { set(index, ValueShape{type, true, std::move(dims)}); }

void RuleCall::setType(std::size_t index, DataType type) {
    if (index < m_outputs.size()) m_outputs[index].type = type;
}

void RuleCall::set(std::size_t index, ValueShape shape) {
    if (index >= m_outputs.size()) return;
    if (shape.dims.size() > highestRank) {
        misfit = "it gives more than " + std::to_string(highestRank) + " axes";
        return setType(index, shape.type);
    }
    m_outputs[index] = std::move(shape);
    for (Dim& dim : m_outputs[index].dims) dim = std::max(dim, unknownDim);
}

std::optional<std::int64_t> RuleCall::integer(std::size_t index) const {
    const HostTensor* given = constant(index);
    if (!given || given->count() != 1) return std::nullopt;
    if (given->isInteger()) return given->integers()[0];
    const double value = given->at(0);
    return std::abs(value) < 9e15 ? std::optional(static_cast<std::int64_t>(value)) : std::nullopt;
}

void RuleCall::setSequence(std::size_t index, SequenceShape sequence) {
    dataDependent = "it is a sequence";
    set(index, sequenceOf(std::move(sequence)));
}

Dim resized(Dim size, std::int64_t by) {
    if (size < 0 || by > INT64_MAX - size) return unknownDim;
    return std::max<Dim>(size + by, 0);
}

Dim sizeAt(const ValueShape& shape, std::size_t axis) { return shape.ranked && axis < shape.dims.size() ? shape.dims[axis] : unknownDim; }

std::int64_t entry(const std::vector<std::int64_t>* list, std::size_t index, std::int64_t absent) { return list && index < list->size() ? (*list)[index] : absent; }

std::int64_t modest(const std::vector<std::int64_t>* list, std::size_t index, std::int64_t absent) {
    constexpr std::int64_t most = 1LL << 31;
    return std::clamp(entry(list, index, absent), -most, most);
}

ValueShape common(const ValueShape& a, const ValueShape& b) {
    ValueShape made;
    made.type = a.type == b.type || b.type == DataType::undefined ? a.type : a.type == DataType::undefined ? b.type : DataType::undefined;
    if (a.sequence && b.sequence) made.sequence = std::make_shared<const SequenceShape>(common(*a.sequence, *b.sequence));
    made.ranked = a.ranked && b.ranked && a.dims.size() == b.dims.size();
    if (!made.ranked) return made;
    for (std::size_t i = 0; i < a.dims.size(); ++i) made.dims.push_back(a.dims[i] == b.dims[i] ? a.dims[i] : unknownDim);
    return made;
}

ValueShape commonOf(const std::vector<ValueShape>& items) {
    ValueShape all = items.empty() ? ValueShape() : items.front();
    for (const ValueShape& item : items) all = common(all, item);
    return all;
}

SequenceShape common(const SequenceShape& a, const SequenceShape& b) {
    // What an empty sequence declares of its tensors is their type alone.
    const auto isEmpty = [](const SequenceShape& each) { return each.items && each.items->empty(); };
    SequenceShape made{isEmpty(a) ? b.each : isEmpty(b) ? a.each : common(a.each, b.each), std::nullopt};
    if (!a.items || !b.items || a.items->size() != b.items->size()) return made;
    made.items.emplace();
    for (std::size_t i = 0; i < a.items->size(); ++i) made.items->push_back(common((*a.items)[i], (*b.items)[i]));
    return made;
}

ValueShape sequenceOf(SequenceShape known) {
    ValueShape made;
    made.sequence = std::make_shared<const SequenceShape>(std::move(known));
    return made;
}

} // namespace triptych
