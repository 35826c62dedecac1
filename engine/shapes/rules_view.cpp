// Operators that rearrange, pick, join and make tensors.

#include "shapes/rules.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace triptych {

namespace {

/// Sizes that a constant gives, or as many unknown ones as it has elements.
std::optional<Dims> sizes(const RuleCall& call, std::size_t index) {
    if (const HostTensor* known = call.constant(index); known && known->isInteger()) return known->integers();
    const ValueShape& shape = call.in(index);
    if (shape.ranked && shape.dims.size() == 1 && shape.dims[0] >= 0 && shape.dims[0] <= 16) return Dims(static_cast<std::size_t>(shape.dims[0]), unknownDim);
    return std::nullopt;
}

void reshape(RuleCall& call) {
    const ValueShape& in = call.in(0);
    std::optional<Dims> dims = call.has(1) ? sizes(call, 1) : std::nullopt;
    const bool known = call.has(1) ? call.constant(1) != nullptr : false;
    if (const auto* old = call.node.attributes.integers("shape"); !call.has(1) && old) dims = *old;
    if (!dims) return call.setType(0, in.type);
    if (call.has(1) && !known) return call.set(0, in.type, *dims);
    const bool zeroIsZero = call.node.attributes.integer("allowzero", 0) != 0;
    Dim rest = 1;
    std::optional<std::size_t> open;
    for (std::size_t i = 0; i < dims->size(); ++i) {
        Dim& dim = (*dims)[i];
        if (dim == 0 && !zeroIsZero) dim = in.ranked && i < in.dims.size() ? in.dims[i] : unknownDim;
        else if (dim == -1) {
            open = i;
            continue;
        }
        rest = times(rest, dim < 0 ? unknownDim : dim);
    }
    const Dim count = in.known() ? in.count() : unknownDim;
    if (count >= 0 && rest >= 0 && (open ? rest == 0 || count % rest != 0 : count != rest)) call.misfit = "it makes " + dimsText(*dims) + " of " + dimsText(in.dims) + ", which has another number of elements";
    if (open) {
        (*dims)[*open] = count >= 0 && rest > 0 && count % rest == 0 ? count / rest : unknownDim;
    }
    call.set(0, in.type, std::move(*dims));
}

void transpose(RuleCall& call) {
    const ValueShape& in = call.in(0);
    if (!in.ranked) return call.setType(0, in.type);
    const auto* perm = call.node.attributes.integers("perm");
    Dims dims(in.dims.rbegin(), in.dims.rend());
    if (perm && perm->size() == in.dims.size())
        for (std::size_t i = 0; i < dims.size(); ++i) {
            const auto at = axisIn((*perm)[i], in.dims.size());
            dims[i] = at ? in.dims[*at] : unknownDim;
        }
    call.set(0, in.type, std::move(dims));
}

void squeeze(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const auto axes = call.list(1, "axes");
    if (!in.ranked || !axes) return call.setType(0, in.type);
    std::vector<bool> gone(in.dims.size(), false);
    for (const std::int64_t axis : *axes)
        if (const auto at = axisIn(axis, in.dims.size())) gone[*at] = true;
    Dims dims;
    for (std::size_t i = 0; i < in.dims.size(); ++i) {
        if (axes->empty() && in.dims[i] < 0) return call.setType(0, in.type);
        if (axes->empty() ? in.dims[i] != 1 : !gone[i]) dims.push_back(in.dims[i]);
    }
    call.set(0, in.type, std::move(dims));
}

void unsqueeze(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const auto axes = call.list(1, "axes");
    if (!in.ranked || !axes) return call.setType(0, in.type);
    Dims dims(in.dims.size() + axes->size(), 0);
    for (const std::int64_t axis : *axes)
        if (const auto at = axisIn(axis, dims.size())) dims[*at] = 1;
    std::size_t next = 0;
    for (Dim& dim : dims)
        if (dim == 0) dim = next < in.dims.size() ? in.dims[next++] : unknownDim;
    call.set(0, in.type, std::move(dims));
}

void flatten(RuleCall& call) {
    const ValueShape& in = call.in(0);
    if (!in.ranked) return call.setType(0, in.type);
    const std::int64_t axis = call.node.attributes.integer("axis", 1), rank = static_cast<std::int64_t>(in.dims.size());
    Dims dims{1, 1};
    for (std::int64_t i = 0; i < rank; ++i) {
        Dim& side = dims[i < (axis < 0 ? axis + rank : axis) ? 0 : 1];
        side = times(side, in.dims[static_cast<std::size_t>(i)]);
    }
    call.set(0, in.type, std::move(dims));
}

void concat(RuleCall& call) {
    ValueShape out = call.in(0);
    const auto axis = out.ranked ? axisIn(call.node.attributes.integer("axis", 0), out.dims.size()) : std::nullopt;
    if (!axis) return call.setType(0, out.type);
    const std::size_t along = *axis;
    for (std::size_t i = 1; i < call.inputCount(); ++i) {
        const ValueShape& next = call.in(i);
        if (!next.ranked || next.dims.size() != out.dims.size()) {
            if (next.ranked) call.misfit = "it joins " + dimsText(out.dims) + " and " + dimsText(next.dims) + ", which have other numbers of axes";
            out.dims[along] = unknownDim;
            continue;
        }
        for (std::size_t d = 0; d < out.dims.size(); ++d) {
            if (d == along) out.dims[d] = plus(out.dims[d], next.dims[d]);
            else if (out.dims[d] < 0) out.dims[d] = next.dims[d];
            else if (next.dims[d] >= 0 && next.dims[d] != out.dims[d]) call.misfit = "it joins axis " + std::to_string(along) + " of " + dimsText(call.in(0).dims) + " and " + dimsText(next.dims) + ", whose other sizes differ";
        }
    }
    call.set(0, out);
}

void split(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const auto axis = in.ranked ? axisIn(call.node.attributes.integer("axis", 0), in.dims.size()) : std::nullopt;
    const std::size_t parts = call.node.outputs.size();
    const auto given = call.list(1, "split");
    const std::size_t along = axis.value_or(0);
    for (std::size_t i = 0; i < parts; ++i) {
        if (!axis) {
            call.setType(i, in.type);
            continue;
        }
        Dims dims = in.dims;
        const Dim whole = dims[along];
        const auto count = static_cast<Dim>(parts);
        const Dim each = whole < 0 ? unknownDim : whole / count + (whole % count != 0 ? 1 : 0), before = times(static_cast<Dim>(i), each);
        if (given && given->size() == parts) dims[along] = (*given)[i];
        else if (call.has(1)) dims[along] = unknownDim;
        else dims[along] = each < 0 ? unknownDim : before < 0 ? 0 : std::clamp<Dim>(whole - before, 0, each);
        call.set(i, in.type, std::move(dims));
    }
}

void slice(RuleCall& call) {
    const ValueShape& in = call.in(0);
    if (!in.ranked) return call.setType(0, in.type);
    const auto starts = call.list(1, "starts"), ends = call.list(2, "ends");
    auto axes = call.list(3, "axes"), steps = call.list(4, "steps");
    Dims dims = in.dims;
    if (axes && axes->empty()) {
        const Dim count = starts ? static_cast<Dim>(starts->size()) : sizeAt(call.in(1), 0);
        if (count < 0) axes.reset();
        else
            for (Dim i = 0; i < std::min(count, static_cast<Dim>(dims.size())); ++i) axes->push_back(i);
    }
    if (!axes) return call.set(0, in.type, Dims(dims.size(), unknownDim));
    for (std::size_t i = 0; i < axes->size(); ++i) {
        const auto at = axisIn((*axes)[i], dims.size());
        if (!at) continue;
        const Dim size = in.dims[*at];
        const bool known = starts && ends && steps && i < starts->size() && i < ends->size() && size >= 0;
        const std::int64_t step = steps && i < steps->size() ? (*steps)[i] : 1;
        if (!known || step == 0 || step == INT64_MIN) {
            dims[*at] = unknownDim;
            continue;
        }
        const auto from = [&](std::int64_t place, std::int64_t low, std::int64_t high) {
            const std::int64_t shifted = place < 0 ? (place < -size ? low : place + size) : place;
            return std::clamp(shifted, low, high);
        };
        const std::int64_t begin = step > 0 ? from((*starts)[i], 0, size) : from((*starts)[i], 0, std::max<Dim>(size - 1, 0));
        const std::int64_t end = step > 0 ? from((*ends)[i], 0, size) : from((*ends)[i], -1, size - 1);
        const std::int64_t length = step > 0 ? end - begin : begin - end, each = step > 0 ? step : -step;
        dims[*at] = length <= 0 || size == 0 ? 0 : 1 + (length - 1) / each;
    }
    call.set(0, in.type, std::move(dims));
}

void gather(RuleCall& call) {
    const ValueShape &data = call.in(0), &indices = call.in(1);
    const auto axis = data.ranked ? axisIn(call.node.attributes.integer("axis", 0), data.dims.size()) : std::nullopt;
    if (!axis || !indices.ranked) return call.setType(0, data.type);
    Dims dims(data.dims.begin(), data.dims.begin() + static_cast<std::ptrdiff_t>(*axis));
    dims.insert(dims.end(), indices.dims.begin(), indices.dims.end());
    dims.insert(dims.end(), data.dims.begin() + static_cast<std::ptrdiff_t>(*axis) + 1, data.dims.end());
    call.set(0, data.type, std::move(dims));
}

void gatherElements(RuleCall& call) {
    ValueShape out = call.in(1);
    out.type = call.in(0).type;
    call.set(0, out);
}

void gatherNd(RuleCall& call) {
    const ValueShape &data = call.in(0), &indices = call.in(1);
    const auto batch = static_cast<std::size_t>(std::max<std::int64_t>(call.node.attributes.integer("batch_dims", 0), 0));
    if (!data.ranked || !indices.ranked || indices.dims.empty() || indices.dims.back() < 0) return call.setType(0, data.type);
    const std::size_t used = batch + static_cast<std::size_t>(indices.dims.back());
    if (used > data.dims.size()) return call.setType(0, data.type);
    Dims dims(indices.dims.begin(), indices.dims.end() - 1);
    dims.insert(dims.end(), data.dims.begin() + static_cast<std::ptrdiff_t>(used), data.dims.end());
    call.set(0, data.type, std::move(dims));
}

void expand(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const auto dims = sizes(call, 1);
    if (!in.ranked || !dims) return call.setType(0, in.type);
    call.set(0, in.type, broadcast(in.dims, *dims));
}

void tile(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const HostTensor* repeats = call.constant(1);
    if (!in.ranked) return call.setType(0, in.type);
    Dims dims(in.dims.size(), unknownDim);
    if (repeats && repeats->isInteger() && repeats->integers().size() == dims.size())
        for (std::size_t i = 0; i < dims.size(); ++i) dims[i] = times(in.dims[i], std::max<Dim>(repeats->integers()[i], -1));
    call.set(0, in.type, std::move(dims));
}

void pad(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const auto pads = call.list(1, "pads");
    if (!in.ranked) return call.setType(0, in.type);
    Dims dims(in.dims.size(), unknownDim);
    std::vector<std::int64_t> axes;
    if (const auto given = call.has(3) ? call.list(3, "") : std::nullopt) axes = *given;
    else
        for (std::size_t i = 0; i < dims.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
    if (pads && pads->size() == 2 * axes.size()) {
        dims = in.dims;
        for (std::size_t i = 0; i < axes.size(); ++i)
            if (const auto at = axisIn(axes[i], dims.size())) dims[*at] = resized(dims[*at], modest(&*pads, i, 0) + modest(&*pads, i + axes.size(), 0));
    }
    call.set(0, in.type, std::move(dims));
}

void shapeOf(RuleCall& call) {
    const ValueShape& in = call.in(0);
    if (!in.ranked) return call.set(0, DataType::int64, {unknownDim});
    const auto rank = static_cast<std::int64_t>(in.dims.size());
    const auto clamped = [&](std::int64_t at) { return std::clamp<std::int64_t>(at < 0 ? at + rank : at, 0, rank); };
    const std::int64_t start = clamped(call.node.attributes.integer("start", 0)), end = clamped(call.node.attributes.integer("end", rank));
    call.set(0, DataType::int64, {std::max<Dim>(end - start, 0)});
}

void scalarInteger(RuleCall& call) { call.set(0, DataType::int64, {}); }

void constant(RuleCall& call) {
    const Attributes& attributes = call.node.attributes;
    if (const TensorPtr tensor = attributes.tensor("value")) return call.set(0, tensor->type, tensor->dims);
    if (const auto* list = attributes.integers("value_ints")) return call.set(0, DataType::int64, {static_cast<Dim>(list->size())});
    if (const auto* list = attributes.reals("value_floats")) return call.set(0, DataType::float32, {static_cast<Dim>(list->size())});
    if (attributes.has("value_int")) return call.set(0, DataType::int64, {});
    if (attributes.has("value_float")) return call.set(0, DataType::float32, {});
    if (const auto* list = attributes.texts("value_strings")) return call.set(0, DataType::string, {static_cast<Dim>(list->size())});
    if (attributes.has("value_string")) return call.set(0, DataType::string, {});
    call.setType(0, DataType::string);
}

void constantOfShape(RuleCall& call) {
    const TensorPtr fill = call.node.attributes.tensor("value");
    const DataType type = fill ? fill->type : DataType::float32;
    const auto dims = sizes(call, 0);
    if (dims) call.set(0, type, *dims);
    else call.setType(0, type);
}

void range(RuleCall& call) {
    const HostTensor *start = call.constant(0), *limit = call.constant(1), *delta = call.constant(2);
    Dim count = unknownDim;
    if (start && limit && delta && start->count() == 1 && limit->count() == 1 && delta->count() == 1 && delta->at(0) != 0) {
        const double steps = std::ceil((limit->at(0) - start->at(0)) / delta->at(0));
        if (steps < 9e15) count = steps > 0 ? static_cast<Dim>(steps) : 0;
    } else {
        call.dataDependent = "its bounds are computed from data";
    }
    call.set(0, call.in(0).type, {count});
}

void nonZero(RuleCall& call) {
    const ValueShape& in = call.in(0);
    call.dataDependent = "as many columns as there are values other than zero";
    call.set(0, DataType::int64, {in.ranked ? static_cast<Dim>(std::max<std::size_t>(in.dims.size(), 1)) : unknownDim, unknownDim});
}

/// Y, and where each came from, where each went, how often each is. Of a tensor laid flat, or of slices along an axis.
void unique(RuleCall& call) {
    call.dataDependent = "as many as there are distinct values";
    const ValueShape& in = call.in(0);
    const bool sliced = call.node.attributes.has("axis");
    const auto axis = sliced && in.ranked ? axisIn(call.node.attributes.integer("axis", 0), in.dims.size()) : std::nullopt;
    Dim count = in.ranked && !sliced ? Dim(1) : unknownDim;
    if (!sliced) {
        for (const Dim dim : in.dims) count = times(count, dim);
        call.set(0, in.type, {unknownDim});
    } else if (axis) {
        Dims dims = in.dims;
        count = std::exchange(dims[*axis], unknownDim);
        call.set(0, in.type, std::move(dims));
    } else call.setType(0, in.type);
    for (const std::size_t i : {1U, 3U}) call.set(i, DataType::int64, {unknownDim});
    call.set(2, DataType::int64, {count});
}

void compress(RuleCall& call) {
    call.dataDependent = "as many as its condition selects";
    ValueShape out = call.in(0);
    const auto axis = out.ranked ? axisIn(call.node.attributes.integer("axis", 0), out.dims.size()) : std::nullopt;
    if (!call.node.attributes.has("axis")) return call.set(0, out.type, {unknownDim});
    if (axis) out.dims[*axis] = unknownDim;
    call.set(0, out);
}

void oneHot(RuleCall& call) {
    const ValueShape& in = call.in(0);
    if (!in.ranked) return call.setType(0, call.in(2).type);
    Dims dims = in.dims;
    const std::int64_t axis = call.node.attributes.integer("axis", -1);
    const std::int64_t at = axis < 0 ? axis + static_cast<std::int64_t>(dims.size()) + 1 : axis;
    if (at < 0 || at > static_cast<std::int64_t>(dims.size())) return call.setType(0, call.in(2).type);
    dims.insert(dims.begin() + at, call.integer(1).value_or(unknownDim));
    call.set(0, call.in(2).type, std::move(dims));
}

void topK(RuleCall& call) {
    ValueShape out = call.in(0);
    const auto axis = out.ranked ? axisIn(call.node.attributes.integer("axis", -1), out.dims.size()) : std::nullopt;
    const auto k = call.list(1, "k");
    if (axis) out.dims[*axis] = k && k->size() == 1 ? (*k)[0] : call.has(1) ? unknownDim : call.node.attributes.integer("k", unknownDim);
    call.set(0, out);
    out.type = DataType::int64;
    call.set(1, out);
}

void eyeLike(RuleCall& call) {
    ValueShape out = call.in(0);
    if (call.node.attributes.has("dtype")) out.type = static_cast<DataType>(call.node.attributes.integer("dtype", 1));
    call.set(0, out);
}

void depthToSpace(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const std::int64_t size = call.node.attributes.integer("blocksize", 1);
    if (!in.ranked || in.dims.size() != 4 || size <= 0) return call.setType(0, in.type);
    const bool up = call.node.is("DepthToSpace");
    const auto scaled = [&](Dim dim, bool grow, Dim by) { return dim < 0 ? unknownDim : grow ? times(dim, by) : dim / by; };
    call.set(0, in.type, {in.dims[0], scaled(in.dims[1], !up, times(size, size)), scaled(in.dims[2], up, size), scaled(in.dims[3], up, size)});
}

} // namespace

void addViewRules(RuleTable& table) {
    table["Reshape"] = reshape;
    table["Transpose"] = transpose;
    table["Squeeze"] = squeeze;
    table["Unsqueeze"] = unsqueeze;
    table["Flatten"] = flatten;
    table["Concat"] = concat;
    table["Split"] = split;
    table["Slice"] = slice;
    table["Gather"] = gather;
    table["GatherElements"] = gatherElements;
    table["GatherND"] = table["com.microsoft::GatherND"] = gatherNd;
    table["Expand"] = expand;
    table["Tile"] = tile;
    table["Pad"] = table["com.microsoft::Pad"] = pad;
    table["Shape"] = shapeOf;
    table["Size"] = scalarInteger;
    table["Constant"] = constant;
    table["ConstantOfShape"] = constantOfShape;
    table["Range"] = table["com.microsoft::Range"] = range;
    table["NonZero"] = nonZero;
    table["Unique"] = unique;
    table["Compress"] = compress;
    table["OneHot"] = oneHot;
    table["TopK"] = topK;
    table["EyeLike"] = eyeLike;
    table["DepthToSpace"] = table["SpaceToDepth"] = depthToSpace;
}

} // namespace triptych
