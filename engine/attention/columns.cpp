// Which columns of a packed projection a chain of views selects.

#include "attention/trace.h"

#include <algorithm>

namespace triptych {

ColumnView ColumnView::whole(const Dims& dims) {
    ColumnView view;
    view.sizes = dims;
    view.strides.resize(dims.size());
    std::int64_t step = 1;
    for (std::size_t i = dims.size(); i-- > 0;) {
        view.strides[i] = step;
        step *= dims[i];
    }
    return view;
}

// The rule by which NumPy reshapes without a copy: runs of axes whose strides nest are cut anew.
bool ColumnView::reshape(const Dims& dims) {
    Dims oldSizes, oldStrides;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (sizes[i] == 1) continue;
        oldSizes.push_back(sizes[i]);
        oldStrides.push_back(strides[i]);
    }
    Dims newStrides(dims.size(), 0);
    std::size_t oldBegin = 0, newBegin = 0;
    while (oldBegin < oldSizes.size() || newBegin < dims.size()) {
        std::int64_t oldCount = oldBegin < oldSizes.size() ? oldSizes[oldBegin] : 1, newCount = newBegin < dims.size() ? dims[newBegin] : 1;
        std::size_t oldEnd = std::min(oldBegin + 1, oldSizes.size()), newEnd = std::min(newBegin + 1, dims.size());
        while (oldCount != newCount) {
            if (newCount < oldCount) {
                if (newEnd == dims.size()) return false;
                newCount *= dims[newEnd++];
            } else {
                if (oldEnd == oldSizes.size()) return false;
                oldCount *= oldSizes[oldEnd++];
            }
        }
        for (std::size_t i = oldBegin; i + 1 < oldEnd; ++i)
            if (oldStrides[i] != oldStrides[i + 1] * oldSizes[i + 1]) return false;
        std::int64_t step = oldEnd > oldBegin ? oldStrides[oldEnd - 1] : 0;
        for (std::size_t i = newEnd; i-- > newBegin;) {
            newStrides[i] = dims[i] == 1 ? 0 : step;
            if (dims[i] != 1) step *= dims[i];
        }
        oldBegin = oldEnd;
        newBegin = newEnd;
    }
    sizes = dims;
    strides = std::move(newStrides);
    return true;
}

void ColumnView::transpose(const std::vector<std::int64_t>& perm) {
    Dims newSizes, newStrides;
    for (const std::int64_t axis : perm) {
        newSizes.push_back(sizes[static_cast<std::size_t>(axis)]);
        newStrides.push_back(strides[static_cast<std::size_t>(axis)]);
    }
    sizes = std::move(newSizes);
    strides = std::move(newStrides);
}

void ColumnView::slice(std::size_t axis, std::int64_t begin, std::int64_t length, std::int64_t step) {
    offset += begin * strides[axis];
    sizes[axis] = length;
    strides[axis] *= step;
}

std::optional<ColumnRange> columnRange(const ColumnView& view, std::int64_t columns) {
    if (columns <= 0) return std::nullopt;
    // Axes whose stride stays inside a row run over columns; those beyond run over rows.
    std::vector<std::pair<std::int64_t, std::int64_t>> axes; // stride, size
    for (std::size_t i = 0; i < view.sizes.size(); ++i)
        if (view.sizes[i] > 1 && view.strides[i] > 0 && view.strides[i] < columns) axes.emplace_back(view.strides[i], view.sizes[i]);
    std::sort(axes.begin(), axes.end());
    ColumnRange range;
    range.offset = view.offset % columns;
    range.width = 1;
    for (const auto& [stride, size] : axes) range.width *= size;
    // Innermost axes that nest are one run; what is left outside repeats it.
    std::int64_t run = 1;
    std::size_t outer = 0;
    while (outer < axes.size() && axes[outer].first == run) run *= axes[outer++].second;
    range.contiguous = outer == axes.size();
    std::vector<std::int64_t> starts{range.offset};
    for (std::size_t i = axes.size(); i-- > outer;) {
        std::vector<std::int64_t> more;
        for (const std::int64_t start : starts)
            for (std::int64_t n = 0; n < axes[i].second; ++n) more.push_back(start + n * axes[i].first);
        starts = std::move(more);
        if (starts.size() > 65536) return std::nullopt;
    }
    for (const std::int64_t start : starts) {
        if (start < 0 || start + run > columns) return std::nullopt;
        range.runs.emplace_back(start, run);
    }
    return range;
}

} // namespace triptych
