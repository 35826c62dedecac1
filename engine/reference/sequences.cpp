#include "reference/sequences.h"

#include "reference/kernels.h"

#include <exception>

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

HostTensor take(const Node& node, const TensorSequence& sequence, std::span<const HostTensor* const> inputs, std::int64_t maximumElements) {
    const auto length = static_cast<std::int64_t>(sequence.size());
    if (node.is("SequenceLength")) return HostTensor::ofIntegers({}, {length});
    if (node.is("SequenceAt")) {
        if (inputs.size() < 2 || !inputs[1] || !inputs[1]->isInteger() || inputs[1]->count() != 1) refuse("its position is no single integer");
        return sequence[indexIn(inputs[1]->integers()[0], sequence.size())];
    }
    if (sequence.empty()) refuse("its sequence is empty");
    // As Concat of parts that got an axis of their own first.
    Node concat;
    concat.op = "Concat";
    const bool fresh = node.attributes.integer("new_axis", 0) != 0;
    const std::size_t axis = axisOf(node.attributes.integer("axis", 0), sequence[0].dims.size(), fresh);
    concat.attributes.set("axis", static_cast<std::int64_t>(axis));
    TensorSequence parts = sequence;
    std::vector<const HostTensor*> all;
    for (HostTensor& part : parts) {
        if (fresh && part.dims.size() < axis) refuse("its parts differ in rank");
        if (fresh) part.dims.insert(part.dims.begin() + static_cast<std::ptrdiff_t>(axis), 1);
        all.push_back(&part);
    }
    auto made = evaluateNode(concat, all, 13, maximumElements);
    if (!made) refuse(made.error().cause);
    return std::move(made->at(0));
}

/// What a function gives, or why the node refuses.
template <class Function>
auto orRefusal(const Node& node, const Function& function) -> Result<decltype(function())> {
    try {
        return function();
    } catch (const KernelError& error) {
        return fail("evaluate", error.what, {}, node.name + " (" + node.op + ")");
    } catch (const std::exception&) { // a variant of another type, an element that isn't there
        return fail("evaluate", "its inputs don't fit it in type or size", "export the model again", node.name + " (" + node.op + ")");
    }
}

} // namespace

bool makesSequence(const Node& node) { return node.is("SplitToSequence") || node.is("SequenceConstruct"); }
bool readsSequence(const Node& node) { return node.is("SequenceAt") || node.is("SequenceLength") || node.is("ConcatFromSequence"); }

Result<TensorSequence> makeSequence(const Node& node, std::span<const HostTensor* const> inputs) {
    return orRefusal(node, [&] {
        if (node.is("SplitToSequence")) return split(node, inputs);
        TensorSequence parts;
        for (const HostTensor* input : inputs) parts.push_back(input ? *input : (refuse("a part is missing"), HostTensor()));
        return parts;
    });
}

Result<HostTensor> takeFromSequence(const Node& node, const TensorSequence& sequence, std::span<const HostTensor* const> inputs, std::int64_t maximumElements) {
    return orRefusal(node, [&] { return take(node, sequence, inputs, maximumElements); });
}

} // namespace triptych
