// Which columns of a packed projection a chain of views selects.

#include "attention/trace.h"

#include <algorithm>
#include <cstdlib>

namespace triptych {

ColumnView ColumnView::whole(const Dims& dims) {
    ColumnView view;
    view.axes.resize(dims.size());
    std::int64_t step = 1;
    for (std::size_t i = dims.size(); i-- > 0;) {
        view.axes[i] = {{dims[i], step}};
        step *= dims[i];
    }
    return view;
}

std::int64_t ColumnView::size(std::size_t axis) const {
    std::int64_t product = 1;
    for (const Factor& factor : axes[axis]) product *= factor.size;
    return product;
}

bool ColumnView::reshape(const Dims& dims) {
    std::vector<Factor> left;
    for (const auto& axis : axes)
        for (const Factor& factor : axis) {
            if (factor.size < 1) return false; // nothing is left of it
            if (factor.size != 1) left.push_back(factor);
        }
    std::reverse(left.begin(), left.end()); // the outermost factor last, to pop it
    std::vector<std::vector<Factor>> fresh(dims.size());
    for (std::size_t i = 0; i < dims.size(); ++i) {
        std::int64_t open = dims[i];
        while (open > 1) {
            if (left.empty()) return false;
            Factor factor = left.back();
            left.pop_back();
            if (factor.size > open) {
                if (factor.size % open != 0) return false;
                left.push_back({factor.size / open, factor.stride});
                factor = {open, factor.stride * (factor.size / open)};
            }
            if (open % factor.size != 0) return false;
            open /= factor.size;
            fresh[i].push_back(factor);
        }
    }
    if (!left.empty()) return false;
    axes = std::move(fresh);
    return true;
}

void ColumnView::transpose(const std::vector<std::int64_t>& perm) {
    std::vector<std::vector<Factor>> fresh;
    for (const std::int64_t axis : perm) fresh.push_back(axes[static_cast<std::size_t>(axis)]);
    axes = std::move(fresh);
}

bool ColumnView::slice(std::size_t axis, std::int64_t begin, std::int64_t length, std::int64_t step) {
    auto& factors = axes[axis];
    if (begin == 0 && step == 1 && length == size(axis)) return true;
    if (factors.size() > 1 || length < 1) return false;
    if (factors.empty()) return length == 1;
    offset += begin * factors[0].stride;
    factors[0] = {length, factors[0].stride * step};
    return true;
}

std::optional<ColumnRange> columnRange(const ColumnView& view, std::int64_t columns) {
    if (columns <= 0) return std::nullopt;
    // Axes whose stride stays inside a row run over columns, perhaps backwards; those beyond run over rows. Columns that repeat are no range.
    std::vector<std::pair<std::int64_t, std::int64_t>> axes; // stride, size
    for (const auto& axis : view.axes) {
        for (const ColumnView::Factor& factor : axis) {
            if (factor.size > 1 && factor.stride == 0) return std::nullopt;
            if (factor.size > 1 && std::abs(factor.stride) < columns) axes.emplace_back(factor.stride, factor.size);
        }
    }
    std::stable_sort(axes.begin(), axes.end(), [](const auto& a, const auto& b) { return std::abs(a.first) < std::abs(b.first); });
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

bool hasAllRows(const ColumnView& view, std::int64_t columns, std::int64_t rows) {
    std::int64_t held = 1;
    for (const auto& axis : view.axes) {
        for (const ColumnView::Factor& factor : axis) {
            if (factor.size > 1 && factor.stride <= -columns) return false;
            if (factor.stride >= columns) held *= factor.size;
        }
    }
    return held == rows && view.offset < columns;
}

namespace {

bool overlap(const ColumnRange& a, const ColumnRange& b) {
    for (const auto& [beginA, lengthA] : a.runs)
        for (const auto& [beginB, lengthB] : b.runs)
            if (beginA < beginB + lengthB && beginB < beginA + lengthA) return true;
    return false;
}

} // namespace

const RoleStage* ownStage(const RoleTrace& role, const std::vector<const RoleTrace*>& others, std::int64_t columns) {
    std::vector<ColumnRange> taken;
    for (const RoleTrace* other : others) {
        if (other->stages.empty()) return nullptr;
        auto range = columnRange(other->stages.back().view, columns);
        if (!range) return nullptr;
        taken.push_back(std::move(*range));
    }
    for (const RoleStage& stage : role.stages) {
        const auto range = columnRange(stage.view, columns);
        if (range && std::none_of(taken.begin(), taken.end(), [&](const ColumnRange& each) { return overlap(*range, each); })) return &stage;
    }
    return nullptr;
}

ValueId pickedInput(const Graph& graph, const Shapes& shapes, const Node& pick, ValueId to) {
    const NodeId before = graph.producer(bare(graph, shapes, pick.input(0)));
    if (!before || !graph.node(before).is("Concat")) return {};
    const Node& concat = graph.node(before);
    const ValueShape& shape = shapes.of(concat.output());
    if (!shape.known()) return {};
    const auto rank = static_cast<std::int64_t>(shape.dims.size());
    const auto axisOf = [&](std::int64_t axis) { return axis < 0 ? axis + rank : axis; };
    const std::int64_t axis = axisOf(concat.attributes.integer("axis", 0));
    if (axis < 0 || axis >= rank) return {};
    ColumnView cut = ColumnView::whole(shape.dims);
    const std::int64_t step = cut.axes[static_cast<std::size_t>(axis)][0].stride, whole = cut.size(static_cast<std::size_t>(axis));
    const std::int64_t own = pick.is("Slice") ? axis : axisOf(pick.attributes.integer("axis", 0));
    if (own != axis || !applyView(shapes, cut, pick, concat.output(), to)) return {};
    std::int64_t length = cut.size(static_cast<std::size_t>(axis));
    if (pick.is("Gather")) length = shapes.of(to).count() / std::max<std::int64_t>(shape.count() / std::max<std::int64_t>(whole, 1), 1);
    if (step <= 0 || cut.offset % step != 0 || length == whole) return {};
    std::int64_t at = 0;
    for (const ValueId input : concat.inputs) {
        const ValueShape& part = shapes.of(input);
        if (!part.known() || static_cast<std::int64_t>(part.dims.size()) != rank) return {};
        if (at == cut.offset / step && part.dims[static_cast<std::size_t>(axis)] == length) return input;
        at += part.dims[static_cast<std::size_t>(axis)];
    }
    return {};
}

} // namespace triptych
