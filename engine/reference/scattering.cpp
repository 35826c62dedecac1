// Operators that write to places, sort, or read beyond the edge.

#include "reference/kernels.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace triptych {

namespace {

using Combine = double (*)(double, double);

/// What becomes of an element that is written to; null: it is replaced.
Combine reductionOf(const KernelCall& call) {
    const std::string name = call.node.attributes.text("reduction", "none");
    if (name == "none") return nullptr;
    if (name == "add") return [](double a, double b) { return a + b; };
    if (name == "mul") return [](double a, double b) { return a * b; };
    if (name == "max") return [](double a, double b) { return std::max(a, b); };
    if (name == "min") return [](double a, double b) { return std::min(a, b); };
    refuse("its reduction isn't known");
}

void write(const HostTensor& from, std::size_t i, HostTensor& to, std::size_t j, Combine combine) {
    if (combine) setElement(to, j, combine(to.at(j), from.at(i)));
    else copyElement(from, i, to, j);
}

Outputs scatterNd(const KernelCall& call) {
    HostTensor out = need(call, 0);
    const HostTensor &indices = need(call, 1), &updates = need(call, 2);
    const Combine combine = reductionOf(call);
    if (indices.dims.empty() || updates.values.index() != out.values.index()) refuse("its inputs don't fit");
    const auto length = static_cast<std::size_t>(indices.dims.back());
    if (length == 0 || length > out.dims.size()) refuse("its index tuples don't fit the data");
    const std::size_t inner = Split(out.dims, length - 1).inner, tuples = indices.integers().size() / length;
    if (static_cast<std::size_t>(updates.count()) != tuples * inner) refuse("its updates don't fit the indices");
    for (std::size_t t = 0; t < tuples; ++t) {
        const std::size_t to = tupleOffset(out.dims, 0, indices.integers().data() + t * length, length, inner);
        for (std::size_t i = 0; i < inner; ++i) write(updates, t * inner + i, out, to + i, combine);
    }
    return {std::move(out)};
}

Outputs scatterElements(const KernelCall& call) {
    HostTensor out = need(call, 0);
    const HostTensor &indices = need(call, 1), &updates = need(call, 2);
    const Combine combine = reductionOf(call);
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", 0), out.dims.size());
    if (indices.dims.size() != out.dims.size() || updates.dims != indices.dims || updates.values.index() != out.values.index()) refuse("its inputs don't fit");
    for (std::size_t i = 0; i < out.dims.size(); ++i)
        if (i != axis && indices.dims[i] > out.dims[i]) refuse("its indices reach beyond the data");
    auto strides = stridesFor(out.dims, out.dims);
    const std::int64_t step = out.dims[axis] == 1 ? 0 : strides[axis];
    strides[axis] = 0;
    walk(indices.dims, strides, strides, [&](std::size_t i, std::size_t at, std::size_t) {
        const std::size_t index = indexIn(indices.integers()[i], static_cast<std::size_t>(out.dims[axis]));
        write(updates, i, out, at + index * static_cast<std::size_t>(step), combine);
    });
    return {std::move(out)};
}

Outputs topK(const KernelCall& call) {
    const HostTensor& x = need(call, 0);
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", -1), x.dims.size());
    const std::int64_t k = call.input(1) ? static_cast<std::int64_t>(call.input(1)->at(0)) : call.node.attributes.integer("k", 0);
    if (k < 0 || k > x.dims[axis]) refuse("it asks for more elements than its axis has");
    const bool largest = call.node.attributes.integer("largest", 1) != 0;
    Dims dims = x.dims;
    dims[axis] = k;
    HostTensor values = make(call, x.type, dims), indices = make(call, DataType::int64, dims);
    const Split split(x.dims, axis);
    std::vector<std::size_t> order(split.size);
    const auto wanted = static_cast<std::size_t>(k);
    for (std::size_t o = 0; o < split.outer; ++o) {
        for (std::size_t i = 0; i < split.inner; ++i) {
            const auto place = [&](std::size_t n) { return (o * split.size + n) * split.inner + i; };
            std::iota(order.begin(), order.end(), 0);
            // Of equal elements the first comes first.
            std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return largest ? x.at(place(a)) > x.at(place(b)) : x.at(place(a)) < x.at(place(b)); });
            for (std::size_t n = 0; n < wanted; ++n) {
                const std::size_t to = (o * wanted + n) * split.inner + i;
                copyElement(x, place(order[n]), values, to);
                indices.integers()[to] = static_cast<std::int64_t>(order[n]);
            }
        }
    }
    return {std::move(values), std::move(indices)};
}

Outputs compress(const KernelCall& call) {
    HostTensor x = need(call, 0);
    const auto& condition = need(call, 1).integers();
    const bool flat = !call.node.attributes.has("axis");
    if (flat) x = reshaped(x, {x.count()});
    const std::size_t axis = flat ? 0 : axisOf(call.node.attributes.integer("axis", 0), x.dims.size());
    std::vector<std::size_t> kept;
    for (std::size_t i = 0; i < condition.size() && i < static_cast<std::size_t>(x.dims[axis]); ++i)
        if (condition[i] != 0) kept.push_back(i);
    Dims dims = x.dims;
    dims[axis] = static_cast<Dim>(kept.size());
    HostTensor out = make(call, x.type, dims);
    const Split split(x.dims, axis);
    std::size_t to = 0;
    for (std::size_t o = 0; o < split.outer; ++o)
        for (const std::size_t each : kept)
            for (std::size_t i = 0; i < split.inner; ++i) copyElement(x, (o * split.size + each) * split.inner + i, out, to++);
    return {std::move(out)};
}

/// Slices along an axis (or single elements): one of each, sorted or in order of their first appearance.
Outputs unique(const KernelCall& call) {
    HostTensor x = need(call, 0);
    const bool flat = !call.node.attributes.has("axis");
    if (flat) x = reshaped(x, {x.count()});
    const std::size_t axis = flat ? 0 : axisOf(call.node.attributes.integer("axis", 0), x.dims.size());
    const Split split(x.dims, axis);
    const auto element = [&](std::size_t slice, std::size_t i) { return x.at((i / split.inner * split.size + slice) * split.inner + i % split.inner); };
    const auto order = [&](std::size_t a, std::size_t b) {
        for (std::size_t i = 0; i < split.outer * split.inner; ++i)
            if (element(a, i) != element(b, i)) return element(a, i) < element(b, i) ? -1 : 1;
        return 0;
    };
    std::vector<std::size_t> sorted(split.size), group(split.size, 0), firsts;
    std::iota(sorted.begin(), sorted.end(), 0);
    std::stable_sort(sorted.begin(), sorted.end(), [&](std::size_t a, std::size_t b) { return order(a, b) < 0; });
    for (std::size_t i = 0; i < sorted.size(); ++i) {
        if (i == 0 || order(sorted[i - 1], sorted[i]) != 0) firsts.push_back(sorted[i]);
        group[sorted[i]] = firsts.size() - 1;
    }
    std::vector<std::size_t> rank(firsts.size()), shown(firsts.size());
    std::iota(shown.begin(), shown.end(), 0);
    if (call.node.attributes.integer("sorted", 1) == 0) std::sort(shown.begin(), shown.end(), [&](std::size_t a, std::size_t b) { return firsts[a] < firsts[b]; });
    for (std::size_t i = 0; i < shown.size(); ++i) rank[shown[i]] = i;
    Dims dims = x.dims;
    dims[axis] = static_cast<Dim>(firsts.size());
    HostTensor out = make(call, x.type, dims);
    const auto count = static_cast<Dim>(firsts.size());
    std::vector<std::int64_t> indices, inverse, counts(firsts.size(), 0);
    for (std::size_t n = 0; n < shown.size(); ++n) {
        indices.push_back(static_cast<std::int64_t>(firsts[shown[n]]));
        for (std::size_t i = 0; i < split.outer * split.inner; ++i)
            copyElement(x, (i / split.inner * split.size + firsts[shown[n]]) * split.inner + i % split.inner, out, (i / split.inner * firsts.size() + n) * split.inner + i % split.inner);
    }
    for (const std::size_t each : group) {
        inverse.push_back(static_cast<std::int64_t>(rank[each]));
        ++counts[rank[each]];
    }
    return {std::move(out), HostTensor::ofIntegers({count}, indices), HostTensor::ofIntegers({static_cast<Dim>(group.size())}, inverse), HostTensor::ofIntegers({count}, counts)};
}

Outputs reverseSequence(const KernelCall& call) {
    const HostTensor &x = need(call, 0), &lengths = need(call, 1);
    const std::int64_t batchAxis = call.node.attributes.integer("batch_axis", 1), timeAxis = call.node.attributes.integer("time_axis", 0);
    if (x.dims.size() < 2 || batchAxis + timeAxis != 1 || batchAxis < 0 || timeAxis < 0) refuse("its axes must be the first two");
    const std::int64_t batches = x.dims[static_cast<std::size_t>(batchAxis)], times = x.dims[static_cast<std::size_t>(timeAxis)];
    if (lengths.count() != batches) refuse("its lengths don't fit the batch");
    HostTensor out = make(call, x.type, x.dims);
    const std::int64_t inner = batches * times == 0 ? 0 : x.count() / (batches * times);
    for (std::int64_t b = 0; b < batches; ++b) {
        const std::int64_t length = std::clamp<std::int64_t>(lengths.integers()[static_cast<std::size_t>(b)], 0, times);
        for (std::int64_t t = 0; t < times; ++t) {
            const std::int64_t from = t < length ? length - 1 - t : t;
            const auto at = [&](std::int64_t time) { return (batchAxis == 0 ? b * times + time : time * batches + b) * inner; };
            for (std::int64_t i = 0; i < inner; ++i) copyElement(x, static_cast<std::size_t>(at(from) + i), out, static_cast<std::size_t>(at(t) + i));
        }
    }
    return {std::move(out)};
}

/// Where a place along a padded axis comes from; -1: from nowhere.
std::int64_t paddedFrom(const std::string& mode, std::int64_t place, std::int64_t size) {
    if (place >= 0 && place < size) return place;
    if (mode == "constant" || size == 0) return -1;
    if (mode == "edge") return std::clamp<std::int64_t>(place, 0, size - 1);
    if (mode == "wrap") return (place % size + size) % size;
    if (mode != "reflect") refuse("its mode isn't known");
    if (size == 1) return 0;
    const std::int64_t period = 2 * (size - 1), within = (place % period + period) % period;
    return within < size ? within : period - within;
}

Outputs pad(const KernelCall& call) {
    const HostTensor& data = need(call, 0);
    const std::string mode = call.node.attributes.text("mode", "constant");
    const auto given = call.list(1, "pads");
    std::vector<std::int64_t> axes = call.list(3, "");
    const std::size_t rank = data.dims.size();
    if (axes.empty())
        for (std::size_t i = 0; i < rank; ++i) axes.push_back(static_cast<std::int64_t>(i));
    if (given.size() != 2 * axes.size()) refuse("its pads don't fit the rank");
    Dims dims = data.dims;
    std::vector<std::int64_t> before(rank, 0);
    for (std::size_t i = 0; i < axes.size(); ++i) {
        const std::size_t axis = axisOf(axes[i], rank);
        before[axis] = given[i];
        dims[axis] += given[i] + given[i + axes.size()];
        if (dims[axis] < 0) refuse("its pads cut more than there is");
    }
    HostTensor out = make(call, data.type, dims);
    const auto strides = stridesFor(data.dims, data.dims);
    std::vector<std::vector<std::int64_t>> from(rank); // offset for each place along each axis
    for (std::size_t axis = 0; axis < rank; ++axis)
        for (std::int64_t place = 0; place < dims[axis]; ++place) {
            const std::int64_t source = paddedFrom(mode, place - before[axis], data.dims[axis]);
            from[axis].push_back(source < 0 ? -1 : source * strides[axis]);
        }
    HostTensor fill = make(call, data.type, {1});
    if (const HostTensor* value = call.input(2); value && value->count() == 1) copyElement(*value, 0, fill, 0);
    else setElement(fill, 0, static_cast<double>(call.node.attributes.real("value", 0)));
    std::vector<std::int64_t> index(rank, 0);
    for (std::size_t i = 0; i < static_cast<std::size_t>(out.count()); ++i) {
        std::int64_t at = 0;
        bool inside = true;
        for (std::size_t axis = 0; axis < rank; ++axis) {
            const std::int64_t offset = from[axis][static_cast<std::size_t>(index[axis])];
            inside = inside && offset >= 0;
            at += offset;
        }
        copyElement(inside ? data : fill, inside ? static_cast<std::size_t>(at) : 0, out, i);
        for (std::size_t axis = rank; axis-- > 0;) {
            if (++index[axis] < dims[axis]) break;
            index[axis] = 0;
        }
    }
    return {std::move(out)};
}

/// A cache of fixed length that new places are written into, for each batch from an index on; circular: behind its end at its beginning. Source: Operators.md.
Outputs tensorScatter(const KernelCall& call) {
    HostTensor out = need(call, 0);
    const HostTensor &update = need(call, 1), *first = call.input(2);
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", -2), out.dims.size());
    Dims expected = out.dims;
    if (axis > 0 && update.dims.size() == out.dims.size()) expected[axis] = update.dims[axis];
    if (axis == 0 || update.dims != expected || update.values.index() != out.values.index() || (first && (!first->isInteger() || first->count() != out.dims[0]))) refuse("its inputs don't fit");
    const std::string mode = call.node.attributes.text("mode", "linear");
    if (mode != "linear" && mode != "circular") refuse("its mode isn't known");
    const Split to(out.dims, axis), from(update.dims, axis);
    const std::size_t eachBatch = out.dims[0] > 0 ? to.outer / static_cast<std::size_t>(out.dims[0]) : 1;
    for (std::size_t outer = 0; outer < to.outer; ++outer) {
        const std::int64_t begin = first ? first->integers()[outer / eachBatch] : 0;
        for (std::size_t place = 0; place < from.size; ++place) {
            std::int64_t at = begin + static_cast<std::int64_t>(place);
            if (mode == "circular" && to.size > 0 && at >= 0) at %= static_cast<std::int64_t>(to.size);
            if (at < 0 || at >= static_cast<std::int64_t>(to.size)) refuse("it writes behind the cache's end");
            for (std::size_t i = 0; i < to.inner; ++i) copyElement(update, (outer * from.size + place) * to.inner + i, out, (outer * to.size + static_cast<std::size_t>(at)) * to.inner + i);
        }
    }
    return {std::move(out)};
}

} // namespace

void addScattering(KernelTable& table) {
    table["ScatterND"] = scatterNd;
    for (const char* name : {"ScatterElements", "Scatter"}) table[name] = scatterElements;
    table["TensorScatter"] = tensorScatter;
    table["TopK"] = topK;
    table["Compress"] = compress;
    table["Unique"] = unique;
    table["ReverseSequence"] = reverseSequence;
    table["Pad"] = pad;
}

} // namespace triptych
