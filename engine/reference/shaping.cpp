// Operators that change shapes, not elements; and those that make tensors of a shape.

#include "reference/kernels.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace triptych {

namespace {

Outputs shapeOf(const KernelCall& call) {
    const Dims& dims = need(call, 0).dims;
    const auto rank = static_cast<std::int64_t>(dims.size());
    const auto clamped = [&](std::int64_t at) { return std::clamp<std::int64_t>(at < 0 ? at + rank : at, 0, rank); };
    const std::int64_t start = clamped(call.node.attributes.integer("start", 0)), end = std::max(start, clamped(call.node.attributes.integer("end", rank)));
    const std::vector<std::int64_t> part(dims.begin() + start, dims.begin() + end);
    return {HostTensor::ofIntegers({end - start}, part)};
}

Outputs reshape(const KernelCall& call) {
    const HostTensor& from = need(call, 0);
    Dims dims = call.list(1, "shape");
    const bool zeroMeansZero = call.node.attributes.integer("allowzero", 0) != 0;
    std::int64_t known = 1;
    Dim* open = nullptr;
    for (std::size_t i = 0; i < dims.size(); ++i) {
        if (dims[i] == 0 && !zeroMeansZero) {
            if (i >= from.dims.size()) refuse("its shape copies an axis that isn't there");
            dims[i] = from.dims[i];
        }
        if (dims[i] == -1) {
            if (open) refuse("its shape leaves two sizes open");
            open = &dims[i];
        } else if (dims[i] < 0) {
            refuse("its shape has a negative size");
        } else {
            known = known == 0 ? 0 : elementCount({known, dims[i]}).value_or(0);
        }
    }
    if (open) *open = known > 0 ? from.count() / known : 0;
    return {reshaped(from, std::move(dims))};
}

Outputs squeeze(const KernelCall& call) {
    const HostTensor& from = need(call, 0);
    const auto axes = call.list(1, "axes");
    std::vector<bool> gone(from.dims.size(), false);
    for (const std::int64_t axis : axes) gone[axisOf(axis, from.dims.size())] = true;
    Dims dims;
    for (std::size_t i = 0; i < from.dims.size(); ++i) {
        const bool remove = axes.empty() ? from.dims[i] == 1 : gone[i];
        if (!remove) dims.push_back(from.dims[i]);
    }
    return {reshaped(from, std::move(dims))};
}

Outputs unsqueeze(const KernelCall& call) {
    const HostTensor& from = need(call, 0);
    const auto axes = call.list(1, "axes");
    const std::size_t rank = from.dims.size() + axes.size();
    std::vector<bool> fresh(rank, false);
    for (const std::int64_t axis : axes) fresh[axisOf(axis, rank)] = true;
    Dims dims;
    std::size_t next = 0;
    for (std::size_t i = 0; i < rank; ++i) {
        if (!fresh[i] && next >= from.dims.size()) refuse("its axes name one twice");
        dims.push_back(fresh[i] ? 1 : from.dims[next++]);
    }
    return {reshaped(from, std::move(dims))};
}

Outputs flatten(const KernelCall& call) {
    const HostTensor& from = need(call, 0);
    // A negative axis counts from the end; the rank itself is one more than the last.
    const std::int64_t given = call.node.attributes.integer("axis", 1);
    const std::size_t axis = given == static_cast<std::int64_t>(from.dims.size()) ? from.dims.size() : axisOf(given, from.dims.size());
    const Dims rows(from.dims.begin(), from.dims.begin() + static_cast<std::ptrdiff_t>(axis));
    const std::int64_t first = elementCount(rows).value_or(0);
    return {reshaped(from, {first, first == 0 ? 0 : from.count() / first})};
}

Outputs transpose(const KernelCall& call) {
    const HostTensor& from = need(call, 0);
    const auto* given = call.node.attributes.integers("perm");
    std::vector<std::int64_t> perm(from.dims.size());
    std::iota(perm.rbegin(), perm.rend(), 0);
    return {transposed(from, given ? *given : perm)};
}

HostTensor stretched(const KernelCall& call, const HostTensor& from, const Dims& dims) {
    HostTensor out = make(call, from.type, dims);
    const auto steps = stridesFor(from.dims, dims);
    walk(dims, steps, steps, [&](std::size_t i, std::size_t at, std::size_t) { copyElement(from, at, out, i); });
    return out;
}

Outputs tile(const KernelCall& call) {
    const HostTensor& from = need(call, 0);
    const auto repeats = call.list(1, "repeats");
    if (repeats.size() != from.dims.size()) refuse("its repeats have another rank");
    Dims dims = from.dims;
    for (std::size_t i = 0; i < dims.size(); ++i) {
        const auto size = repeats[i] < 0 ? std::nullopt : elementCount({dims[i], repeats[i]});
        if (!size) refuse("its repeats are out of range");
        dims[i] = *size;
    }
    HostTensor out = make(call, from.type, dims);
    const auto own = stridesFor(from.dims, from.dims), step = stridesFor(dims, dims);
    for (std::size_t i = 0; i < static_cast<std::size_t>(out.count()); ++i) {
        std::size_t rest = i, at = 0;
        for (std::size_t axis = 0; axis < dims.size(); ++axis) {
            const std::size_t stride = static_cast<std::size_t>(std::max<std::int64_t>(step[axis], 1));
            const std::size_t index = dims[axis] == 1 ? 0 : rest / stride;
            rest -= index * stride * (dims[axis] == 1 ? 0 : 1);
            at += index % static_cast<std::size_t>(from.dims[axis]) * static_cast<std::size_t>(own[axis]);
        }
        copyElement(from, at, out, i);
    }
    return {std::move(out)};
}

Outputs constant(const KernelCall& call) {
    const Attributes& attributes = call.node.attributes;
    if (const TensorPtr tensor = attributes.tensor("value")) {
        const auto size = tensor->byteSize();
        if (tensor->payload.place != Payload::Place::memory || !tensor->payload.bytes || !size || tensor->payload.bytes->size() != *size) refuse("its value is not at hand");
        return {decodeTensor(tensor->type, tensor->dims, *tensor->payload.bytes)};
    }
    if (const auto* list = attributes.integers("value_ints")) return {HostTensor::ofIntegers({static_cast<Dim>(list->size())}, *list)};
    if (const auto* list = attributes.reals("value_floats")) return {HostTensor::ofFloats({static_cast<Dim>(list->size())}, *list)};
    if (attributes.has("value_int")) return {HostTensor::ofIntegers({}, {attributes.integer("value_int", 0)})};
    if (attributes.has("value_float")) return {HostTensor::ofFloats({}, {attributes.real("value_float", 0)})};
    refuse("its value is of a kind that can't be evaluated");
}

Outputs constantOfShape(const KernelCall& call) {
    const Dims dims = need(call, 0).integers();
    const TensorPtr fill = call.node.attributes.tensor("value");
    HostTensor out = make(call, fill ? fill->type : DataType::float32, dims);
    if (!fill) return {std::move(out)};
    const auto size = fill->byteSize();
    if (!fill->payload.bytes || !size || *size == 0 || fill->payload.bytes->size() != *size) refuse("its value is not at hand");
    const HostTensor value = decodeTensor(fill->type, fill->dims, *fill->payload.bytes);
    for (std::size_t i = 0; i < static_cast<std::size_t>(out.count()); ++i) copyElement(value, 0, out, i);
    return {std::move(out)};
}

Outputs range(const KernelCall& call) {
    const HostTensor &start = need(call, 0), &limit = need(call, 1), &delta = need(call, 2);
    if (start.count() != 1 || limit.count() != 1 || delta.count() != 1 || delta.at(0) == 0) refuse("its bounds are no numbers");
    const double steps = std::ceil((limit.at(0) - start.at(0)) / delta.at(0));
    const auto count = steps > 0 && steps < 1e15 ? static_cast<std::int64_t>(steps) : 0;
    HostTensor out = make(call, start.type, {count});
    for (std::int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (out.isInteger()) out.integers()[at] = start.integers()[0] + i * delta.integers()[0];
        else if (out.isFloat()) out.floats()[at] = start.floats()[0] + static_cast<float>(i) * delta.floats()[0];
        else out.doubles()[at] = start.doubles()[0] + static_cast<double>(i) * delta.doubles()[0];
    }
    return {std::move(out)};
}

Outputs trilu(const KernelCall& call) {
    HostTensor out = need(call, 0);
    if (out.dims.size() < 2) refuse("it needs a matrix");
    const bool upper = call.node.attributes.integer("upper", 1) != 0;
    const std::int64_t k = call.input(1) ? call.input(1)->integers().at(0) : 0;
    const std::int64_t rows = out.dims[out.dims.size() - 2], columns = out.dims.back();
    const HostTensor zero = HostTensor::zeros(out.type, {1});
    for (std::int64_t i = 0; i < out.count(); ++i) {
        const std::int64_t column = i % columns, row = i / columns % rows;
        const bool keep = upper ? column - row >= k : column - row <= k;
        if (!keep) copyElement(zero, 0, out, static_cast<std::size_t>(i));
    }
    return {std::move(out)};
}

} // namespace

void addShaping(KernelTable& table) {
    table["Shape"] = shapeOf;
    table["Size"] = [](const KernelCall& call) -> Outputs { return {HostTensor::ofIntegers({}, {need(call, 0).count()})}; };
    table["Reshape"] = reshape;
    table["Squeeze"] = squeeze;
    table["Unsqueeze"] = unsqueeze;
    table["Flatten"] = flatten;
    table["Transpose"] = transpose;
    table["Expand"] = [](const KernelCall& call) -> Outputs {
        const HostTensor& from = need(call, 0);
        return {stretched(call, from, broadcastDims(from.dims, need(call, 1).integers()))};
    };
    table["Tile"] = tile;
    table["Constant"] = constant;
    table["ConstantOfShape"] = constantOfShape;
    table["Range"] = range;
    table["Trilu"] = trilu;
    table["EyeLike"] = [](const KernelCall& call) -> Outputs {
        const HostTensor& like = need(call, 0);
        if (like.dims.size() != 2) refuse("it needs a matrix");
        HostTensor out = make(call, static_cast<DataType>(call.node.attributes.integer("dtype", static_cast<std::int64_t>(like.type))), like.dims);
        const HostTensor one = [&] {
            HostTensor made = HostTensor::zeros(out.type, {1});
            std::visit([](auto& all) { all[0] = 1; }, made.values);
            return made;
        }();
        const std::int64_t k = call.node.attributes.integer("k", 0);
        for (std::int64_t row = 0; row < like.dims[0]; ++row)
            if (row + k >= 0 && row + k < like.dims[1]) copyElement(one, 0, out, static_cast<std::size_t>(row * like.dims[1] + row + k));
        return {std::move(out)};
    };
}

} // namespace triptych
