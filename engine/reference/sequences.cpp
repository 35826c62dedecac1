// Lists of tensors. Source: the ONNX operator specification (opset 11 to 25).

#include "reference/kernels.h"

#include <algorithm>

namespace triptych {

namespace {

using Items = std::vector<HostTensor>;

/// Each insert copies the list: more items would cost their square in a Loop.
constexpr std::size_t mostItems = 4096;

Outputs listOf(const KernelCall& call, Items items) {
    std::int64_t held = 0;
    for (const HostTensor& each : items) held += each.count();
    if (items.size() > mostItems || held > call.maximumElements) refuse("its list would hold too much");
    HostTensor made = HostTensor::zeros(DataType::undefined, {0});
    made.list = std::make_shared<const Items>(std::move(items));
    return {std::move(made)};
}

const Items& items(const KernelCall& call) {
    const HostTensor& given = need(call, 0);
    if (!given.list) refuse("its input is no list");
    return *given.list;
}

/// The place that input `index` names; where it is left out, `absent`.
std::size_t place(const KernelCall& call, std::size_t index, std::size_t absent, std::size_t size) {
    const HostTensor* given = call.input(index);
    if (!given) return absent;
    if (!given->isInteger() || given->count() != 1) refuse("its place is no single integer");
    return indexIn(given->integers()[0], size);
}

const HostTensor& tensor(const KernelCall& call, std::size_t index) {
    const HostTensor& given = need(call, index);
    if (given.list) refuse("a list can't be an item");
    return given;
}

Outputs construct(const KernelCall& call) {
    Items made;
    for (std::size_t i = 0; i < call.inputs.size(); ++i) made.push_back(tensor(call, i));
    return listOf(call, std::move(made));
}

Outputs insert(const KernelCall& call) {
    Items made = items(call);
    const std::size_t at = place(call, 2, made.size(), made.size() + 1);
    made.insert(made.begin() + static_cast<std::ptrdiff_t>(at), tensor(call, 1));
    return listOf(call, std::move(made));
}

Outputs erase(const KernelCall& call) {
    Items made = items(call);
    if (made.empty()) refuse("its list is empty");
    made.erase(made.begin() + static_cast<std::ptrdiff_t>(place(call, 1, made.size() - 1, made.size())));
    return listOf(call, std::move(made));
}

Outputs pick(const KernelCall& call) {
    const Items& all = items(call);
    need(call, 1);
    return {all.at(place(call, 1, 0, all.size()))};
}

/// Joined along an axis, or (new_axis) along one of its own.
Outputs concatenate(const KernelCall& call) {
    Items all = items(call);
    const bool stacks = call.node.attributes.integer("new_axis", 0) != 0;
    std::vector<const HostTensor*> parts;
    for (HostTensor& each : all) {
        Dims dims = each.dims;
        if (stacks) dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axisOf(call.node.attributes.integer("axis", 0), dims.size(), true)), 1);
        each = reshaped(each, std::move(dims));
        parts.push_back(&each);
    }
    return concatenated({call.node, parts, call.opset, call.maximumElements});
}

Outputs split(const KernelCall& call) {
    const HostTensor& data = tensor(call, 0);
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", 0), data.dims.size());
    std::vector<std::int64_t> sizes;
    const HostTensor* given = call.input(1);
    if (given && given->dims.size() == 1) {
        sizes = call.list(1, "");
        std::int64_t left = data.dims[axis];
        for (const std::int64_t size : sizes) left -= std::max<std::int64_t>(size, 0);
        if (left != 0) refuse("its lengths don't make up the axis");
    } else {
        const std::int64_t each = given ? call.list(1, "").at(0) : 1;
        if (each < 1 || data.dims[axis] / each > static_cast<std::int64_t>(mostItems)) refuse("its list would hold too much");
        for (std::int64_t left = data.dims[axis]; left > 0; left -= each) sizes.push_back(std::min(each, left));
    }
    Outputs parts = parted(call, data, axis, sizes);
    if (!given && call.node.attributes.integer("keepdims", 1) == 0)
        for (HostTensor& each : parts) {
            Dims dims = each.dims;
            dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
            each = reshaped(each, std::move(dims));
        }
    return listOf(call, std::move(parts));
}

} // namespace

void addSequences(KernelTable& table) {
    table["SequenceEmpty"] = [](const KernelCall& call) { return listOf(call, {}); };
    table["SequenceConstruct"] = construct;
    table["SequenceInsert"] = insert;
    table["SequenceErase"] = erase;
    table["SequenceAt"] = pick;
    table["SequenceLength"] = [](const KernelCall& call) { return Outputs{HostTensor::ofIntegers({}, {static_cast<std::int64_t>(items(call).size())})}; };
    table["ConcatFromSequence"] = concatenate;
    table["SplitToSequence"] = split;
}

} // namespace triptych
