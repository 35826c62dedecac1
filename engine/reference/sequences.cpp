#include "reference/sequences.h"

#include "reference/kernels.h"

#include <algorithm>
#include <array>
#include <exception>
#include <new>

namespace triptych {

namespace {

/// Sizes of the parts: given one by one, or one size for all but a smaller last one; single places where nothing is given.
std::vector<std::int64_t> sizesOf(const HostTensor* given, std::int64_t whole) {
    if (given && !given->isInteger()) refuse("its sizes are no integers");
    if (given && given->dims.size() == 1) return given->integers();
    const std::int64_t size = given && given->count() == 1 ? given->integers()[0] : given ? 0 : 1;
    if (size < 1) refuse("its parts have no size");
    std::vector<std::int64_t> sizes;
    for (std::int64_t left = whole; left > 0; left -= size) sizes.push_back(std::min(size, left));
    return sizes;
}

TensorSequence split(const Node& node, std::span<const HostTensor* const> inputs) {
    if (inputs.empty() || !inputs[0]) refuse("its input is missing");
    const HostTensor& from = *inputs[0];
    const HostTensor* given = inputs.size() > 1 ? inputs[1] : nullptr;
    const std::size_t axis = axisOf(node.attributes.integer("axis", 0), from.dims.size());
    const bool drops = !given && node.attributes.integer("keepdims", 1) == 0;
    const Split whole(from.dims, axis);
    TensorSequence parts;
    std::size_t begin = 0;
    for (const std::int64_t size : sizesOf(given, from.dims[axis])) {
        if (size < 0 || begin + static_cast<std::size_t>(size) > whole.size) refuse("its sizes reach beyond the axis");
        Dims dims = from.dims;
        dims[axis] = size;
        HostTensor part = HostTensor::zeros(from.type, dims);
        const std::size_t run = static_cast<std::size_t>(size) * whole.inner;
        for (std::size_t i = 0; i < whole.outer; ++i)
            for (std::size_t j = 0; j < run; ++j) copyElement(from, (i * whole.size + begin) * whole.inner + j, part, i * run + j);
        begin += static_cast<std::size_t>(size);
        if (drops) part.dims.erase(part.dims.begin() + static_cast<std::ptrdiff_t>(axis));
        parts.push_back(std::move(part));
    }
    if (begin != whole.size) refuse("its sizes leave a part of the axis over");
    return parts;
}

/// All tensors of a sequence as one, along an axis of theirs or a fresh one.
HostTensor joined(const Node& node, TensorSequence parts, std::int64_t maximumElements) {
    if (parts.empty()) refuse("its sequence is empty");
    const bool fresh = node.attributes.integer("new_axis", 0) != 0;
    const std::size_t axis = axisOf(node.attributes.integer("axis", 0), parts[0].dims.size(), fresh);
    std::vector<const HostTensor*> all;
    for (HostTensor& part : parts) {
        if (fresh && part.dims.size() < axis) refuse("its parts differ in rank");
        if (fresh) part.dims.insert(part.dims.begin() + static_cast<std::ptrdiff_t>(axis), 1);
        all.push_back(&part);
    }
    Node concat;
    concat.op = "Concat";
    concat.attributes.set("axis", static_cast<std::int64_t>(axis));
    auto made = evaluateNode(concat, all, 13, maximumElements);
    if (!made) refuse(made.error().cause);
    return std::move(made->at(0));
}

/// A place among `size` that an input gives; the last one where it is left out.
std::size_t placeOf(std::span<const HostTensor* const> inputs, std::size_t index, std::size_t size) {
    if (inputs.size() <= index || !inputs[index]) return indexIn(-1, size);
    if (!inputs[index]->isInteger() || inputs[index]->count() != 1) refuse("its position is no single integer");
    return indexIn(inputs[index]->integers()[0], size);
}

RunValue worked(const Node& node, const TensorSequence* given, std::span<const HostTensor* const> inputs, std::int64_t maximumElements) {
    if (node.is("SplitToSequence")) return split(node, inputs);
    if (node.is("SequenceEmpty")) return TensorSequence();
    if (node.is("SequenceConstruct")) {
        TensorSequence parts;
        for (const HostTensor* input : inputs) {
            if (!input) refuse("a part is missing");
            parts.push_back(*input);
        }
        return parts;
    }
    if (!given) refuse("its first input is no sequence");
    if (node.is("SequenceLength")) return HostTensor::ofIntegers({}, {static_cast<std::int64_t>(given->size())});
    if (node.is("SequenceAt")) return (*given)[placeOf(inputs, 1, given->size())];
    if (node.is("ConcatFromSequence")) return joined(node, *given, maximumElements);
    TensorSequence changed = *given;
    if (node.is("SequenceErase")) {
        changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(placeOf(inputs, 1, changed.size())));
        return changed;
    }
    if (inputs.size() < 2 || !inputs[1]) refuse("what it inserts is missing");
    changed.insert(changed.begin() + static_cast<std::ptrdiff_t>(placeOf(inputs, 2, changed.size() + 1)), *inputs[1]);
    return changed;
}

} // namespace

std::int64_t elementsOf(const RunValue& value) {
    if (const auto* tensor = std::get_if<HostTensor>(&value)) return tensor->count();
    std::int64_t count = 0;
    for (const HostTensor& part : std::get<TensorSequence>(value)) count += part.count();
    return count;
}

bool worksOnSequences(const Node& node) {
    static constexpr std::array operators{"SplitToSequence", "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceAt", "SequenceLength", "ConcatFromSequence"};
    return isOneOf(node, operators);
}

Result<RunValue> evaluateSequence(const Node& node, const TensorSequence* sequence, std::span<const HostTensor* const> inputs, std::int64_t maximumElements) {
    const std::string who = node.name + " (" + node.op + ")";
    try {
        return worked(node, sequence, inputs, maximumElements);
    } catch (const KernelError& error) {
        return fail("evaluate", error.what, {}, who);
    } catch (const std::bad_alloc&) {
        return fail("evaluate", "there is not enough memory for it", "verify a smaller model, or bind smaller sizes", who);
    } catch (const std::exception&) { // a variant of another type, an element that isn't there
        return fail("evaluate", "its inputs don't fit it in type or size", "export the model again", who);
    }
}

} // namespace triptych
