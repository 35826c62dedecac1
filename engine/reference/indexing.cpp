// Operators that pick, place and join elements.

#include "reference/kernels.h"

#include <algorithm>

namespace triptych {

namespace {

Outputs gather(const KernelCall& call) {
    const HostTensor &data = need(call, 0), &indices = need(call, 1);
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", 0), data.dims.size());
    Dims dims(data.dims.begin(), data.dims.begin() + static_cast<std::ptrdiff_t>(axis));
    dims.insert(dims.end(), indices.dims.begin(), indices.dims.end());
    dims.insert(dims.end(), data.dims.begin() + static_cast<std::ptrdiff_t>(axis) + 1, data.dims.end());
    HostTensor out = make(call, data.type, dims);
    const Split split(data.dims, axis);
    const auto& wanted = indices.integers();
    std::size_t to = 0;
    for (std::size_t o = 0; o < split.outer; ++o)
        for (const std::int64_t index : wanted) {
            const std::size_t from = (o * split.size + indexIn(index, split.size)) * split.inner;
            for (std::size_t i = 0; i < split.inner; ++i) copyElement(data, from + i, out, to++);
        }
    return {std::move(out)};
}

Outputs gatherElements(const KernelCall& call) {
    const HostTensor &data = need(call, 0), &indices = need(call, 1);
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", 0), data.dims.size());
    if (indices.dims.size() != data.dims.size()) refuse("its indices have another rank");
    HostTensor out = make(call, data.type, indices.dims);
    auto strides = stridesFor(data.dims, data.dims);
    const std::int64_t step = data.dims[axis] == 1 ? 0 : strides[axis];
    strides[axis] = 0;
    for (std::size_t i = 0; i < data.dims.size(); ++i)
        if (i != axis && indices.dims[i] > data.dims[i]) refuse("its indices reach beyond the data");
    walk(indices.dims, strides, strides, [&](std::size_t i, std::size_t at, std::size_t) {
        const std::size_t index = indexIn(indices.integers()[i], static_cast<std::size_t>(data.dims[axis]));
        copyElement(data, at + index * static_cast<std::size_t>(step), out, i);
    });
    return {std::move(out)};
}

Outputs gatherNd(const KernelCall& call) {
    const HostTensor &data = need(call, 0), &indices = need(call, 1);
    const auto batch = static_cast<std::size_t>(std::max<std::int64_t>(call.node.attributes.integer("batch_dims", 0), 0));
    if (indices.dims.empty() || batch >= indices.dims.size() || batch > data.dims.size()) refuse("its batch dimensions don't fit");
    const auto length = static_cast<std::size_t>(indices.dims.back());
    if (batch + length > data.dims.size()) refuse("its index tuples are longer than the data's rank");
    Dims dims(indices.dims.begin(), indices.dims.end() - 1);
    dims.insert(dims.end(), data.dims.begin() + static_cast<std::ptrdiff_t>(batch + length), data.dims.end());
    HostTensor out = make(call, data.type, dims);
    const std::size_t inner = Split(data.dims, batch + length - 1 < data.dims.size() ? batch + length - 1 : 0).inner;
    std::size_t batches = 1, perBatch = 1;
    for (std::size_t i = 0; i < batch; ++i) batches *= static_cast<std::size_t>(data.dims[i]);
    for (std::size_t i = batch; i < data.dims.size(); ++i) perBatch *= static_cast<std::size_t>(data.dims[i]);
    const std::size_t tuples = length == 0 ? 0 : indices.integers().size() / length;
    for (std::size_t t = 0; t < tuples; ++t) {
        const std::size_t own = batches == 0 ? 0 : t / std::max<std::size_t>(tuples / batches, 1);
        const std::size_t from = own * perBatch + tupleOffset(data.dims, batch, indices.integers().data() + t * length, length, inner);
        for (std::size_t i = 0; i < inner; ++i) copyElement(data, from + i, out, t * inner + i);
    }
    return {std::move(out)};
}

Outputs slice(const KernelCall& call) {
    const HostTensor& data = need(call, 0);
    const auto starts = call.list(1, "starts"), ends = call.list(2, "ends");
    auto axes = call.list(3, "axes");
    auto steps = call.list(4, "steps");
    if (axes.empty())
        for (std::size_t i = 0; i < starts.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
    if (steps.empty()) steps.assign(starts.size(), 1);
    if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size()) refuse("its starts, ends, axes and steps differ in length");
    Dims dims = data.dims;
    std::vector<std::int64_t> strides = stridesFor(data.dims, data.dims), begin(dims.size(), 0);
    for (std::size_t i = 0; i < starts.size(); ++i) {
        const std::size_t axis = axisOf(axes[i], dims.size());
        const std::int64_t size = data.dims[axis], step = steps[i];
        if (step == 0 || step == INT64_MIN) refuse("it steps by nothing");
        const auto from = [&](std::int64_t at) { return at < 0 ? std::max<std::int64_t>(at, -size - 1) + size : at; };
        const std::int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
        const std::int64_t start = std::clamp(from(starts[i]), std::max<std::int64_t>(low, 0), std::max<std::int64_t>(high, 0));
        const std::int64_t end = std::clamp(ends[i] < -size ? low : from(ends[i]), low, high + (step > 0 ? 0 : 1));
        const std::int64_t length = step > 0 ? end - start : start - end, each = step > 0 ? step : -step;
        dims[axis] = size == 0 || length <= 0 ? 0 : 1 + (length - 1) / each;
        begin[axis] = start * strides[axis];
        strides[axis] *= dims[axis] > 1 ? step : 0;
    }
    HostTensor out = make(call, data.type, dims);
    std::int64_t first = 0;
    for (const std::int64_t each : begin) first += each;
    walk(dims, strides, strides, [&](std::size_t i, std::size_t at, std::size_t) { copyElement(data, at + static_cast<std::size_t>(first), out, i); });
    return {std::move(out)};
}

} // namespace

Outputs concatenated(const KernelCall& call) {
    const HostTensor& first = need(call, 0);
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", 0), first.dims.size());
    Dims dims = first.dims;
    dims[axis] = 0;
    for (std::size_t n = 0; n < call.inputs.size(); ++n) {
        const HostTensor& each = need(call, n);
        Dims other = each.dims;
        if (other.size() != dims.size() || each.values.index() != first.values.index()) refuse("its inputs differ in rank or type");
        other[axis] = dims[axis];
        if (other != dims) refuse("its inputs differ in a size beside the axis");
        dims[axis] += each.dims[axis];
    }
    HostTensor out = make(call, first.type, dims);
    const Split whole(dims, axis);
    std::size_t at = 0;
    for (std::size_t n = 0; n < call.inputs.size(); ++n) {
        const HostTensor& each = need(call, n);
        const std::size_t rows = static_cast<std::size_t>(each.dims[axis]) * whole.inner;
        for (std::size_t o = 0; o < whole.outer; ++o)
            for (std::size_t i = 0; i < rows; ++i) copyElement(each, o * rows + i, out, o * whole.size * whole.inner + at + i);
        at += rows;
    }
    return {std::move(out)};
}

Outputs parted(const KernelCall& call, const HostTensor& data, std::size_t axis, const std::vector<std::int64_t>& sizes) {
    const Split whole(data.dims, axis);
    Outputs outputs;
    std::size_t at = 0;
    for (const std::int64_t size : sizes) {
        if (size < 0 || at + static_cast<std::size_t>(size) > whole.size) refuse("its sizes reach beyond the axis");
        Dims dims = data.dims;
        dims[axis] = size;
        HostTensor out = make(call, data.type, dims);
        const std::size_t rows = static_cast<std::size_t>(size) * whole.inner;
        for (std::size_t o = 0; o < whole.outer; ++o)
            for (std::size_t i = 0; i < rows; ++i) copyElement(data, (o * whole.size + at) * whole.inner + i, out, o * rows + i);
        at += static_cast<std::size_t>(size);
        outputs.push_back(std::move(out));
    }
    return outputs;
}

namespace {

Outputs split(const KernelCall& call) {
    const HostTensor& data = need(call, 0);
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", 0), data.dims.size());
    auto sizes = call.list(1, "split");
    const std::int64_t parts = call.node.attributes.integer("num_outputs", static_cast<std::int64_t>(call.node.outputs.size()));
    if (sizes.empty()) {
        if (parts <= 0) refuse("it has no outputs");
        const std::int64_t each = (data.dims[axis] + parts - 1) / parts;
        for (std::int64_t i = 0; i < parts; ++i) sizes.push_back(std::clamp<std::int64_t>(data.dims[axis] - i * each, 0, each));
    }
    return parted(call, data, axis, sizes);
}

Outputs nonZero(const KernelCall& call) {
    const HostTensor& data = need(call, 0);
    const std::size_t rank = std::max<std::size_t>(data.dims.size(), 1);
    std::vector<std::vector<std::int64_t>> found(rank);
    for (std::int64_t i = 0; i < data.count(); ++i) {
        if (data.at(static_cast<std::size_t>(i)) == 0) continue;
        std::int64_t rest = i;
        for (std::size_t axis = data.dims.size(); axis-- > 0;) {
            found[axis].push_back(rest % data.dims[axis]);
            rest /= data.dims[axis];
        }
        if (data.dims.empty()) found[0].push_back(0);
    }
    std::vector<std::int64_t> all;
    for (const auto& each : found) all.insert(all.end(), each.begin(), each.end());
    return {HostTensor::ofIntegers({static_cast<Dim>(rank), static_cast<Dim>(found[0].size())}, all)};
}

Outputs oneHot(const KernelCall& call) {
    const HostTensor &indices = need(call, 0), &depth = need(call, 1), &values = need(call, 2);
    const std::int64_t size = static_cast<std::int64_t>(depth.at(0));
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", -1), indices.dims.size(), true);
    Dims dims = indices.dims;
    if (size < 0 || values.count() != 2) refuse("its depth or values don't fit");
    dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), size);
    HostTensor out = make(call, values.type, dims);
    const Split whole(dims, axis);
    for (std::size_t i = 0; i < static_cast<std::size_t>(out.count()); ++i) {
        const std::size_t inner = i % whole.inner, at = i / whole.inner % whole.size, outer = i / whole.inner / whole.size;
        std::int64_t wanted = static_cast<std::int64_t>(indices.at(outer * whole.inner + inner));
        if (wanted < 0) wanted += size;
        copyElement(values, wanted == static_cast<std::int64_t>(at) ? 1 : 0, out, i);
    }
    return {std::move(out)};
}

} // namespace

void addIndexing(KernelTable& table) {
    table["Gather"] = gather;
    table["GatherElements"] = gatherElements;
    table["GatherND"] = gatherNd;
    table["Slice"] = slice;
    table["Concat"] = concatenated;
    table["Split"] = split;
    table["NonZero"] = nonZero;
    table["OneHot"] = oneHot;
}

} // namespace triptych
