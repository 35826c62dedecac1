// Which columns of its projection reach a role, view by view.

#include "attention/trace.h"

#include <algorithm>

namespace triptych {

namespace {

/// The projection's output, counted so that columns come first: those of a Conv stand second.
ColumnView wholeProjection(const Graph& graph, NodeId linear, const Dims& dims) {
    if (!convolves(graph.node(linear)) || dims.size() < 3) return ColumnView::whole(dims);
    Dims turned{dims[0]};
    turned.insert(turned.end(), dims.begin() + 2, dims.end());
    turned.push_back(dims[1]);
    ColumnView view = ColumnView::whole(turned);
    view.axes.insert(view.axes.begin() + 1, view.axes.back());
    view.axes.pop_back();
    return view;
}

/// A cache in front of new places: the axis of rows becomes longer, columns stay as they are.
bool lengthens(const Shapes& shapes, ColumnView& view, std::int64_t columns, const Node& node) {
    const ValueShape& shape = shapes.of(node.output());
    std::int64_t axis = node.attributes.integer("axis", 0);
    if (axis < 0) axis += static_cast<std::int64_t>(view.axes.size());
    if (!shape.known() || shape.dims.size() != view.axes.size() || axis < 0 || axis >= static_cast<std::int64_t>(view.axes.size())) return false;
    auto& factors = view.axes[static_cast<std::size_t>(axis)];
    const bool rows = factors.empty() || (factors.size() == 1 && factors[0].stride >= columns);
    if (!rows || columns <= 0) return false;
    const std::int64_t stride = factors.empty() ? columns : factors[0].stride;
    factors = {{shape.dims[static_cast<std::size_t>(axis)], stride}};
    return true;
}

/// A buffer that new places are written into: the same, whichever axis that is.
bool fillsBuffer(const Shapes& shapes, ColumnView& view, std::int64_t columns, const Node& node) {
    const ValueShape& shape = shapes.of(node.output());
    if (!shape.known() || shape.dims.size() != view.axes.size() || columns <= 0) return false;
    for (std::size_t axis = 0; axis < view.axes.size(); ++axis) {
        if (view.size(axis) == shape.dims[axis]) continue;
        auto& factors = view.axes[axis];
        if (factors.size() > 1 || (!factors.empty() && factors[0].stride < columns)) return false;
        factors = {{shape.dims[axis], factors.empty() ? columns : factors[0].stride}};
    }
    return true;
}

std::size_t axisOf(const ColumnView& view, const Node& node) {
    const std::int64_t axis = node.attributes.integer("axis", 0);
    return static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(view.axes.size()) : axis);
}

/// The place of a Concat among the joins of a trace.
const Join* joinAt(const RoleTrace& trace, NodeId concat) {
    const auto found = std::find_if(trace.joins.begin(), trace.joins.end(), [&](const Join& join) { return join.concat == concat; });
    return found == trace.joins.end() ? nullptr : &*found;
}

bool applyTranspose(ColumnView& view, const Node& node) {
    const auto* perm = node.attributes.integers("perm");
    std::vector<std::int64_t> reversed;
    for (std::size_t i = view.axes.size(); i-- > 0;) reversed.push_back(static_cast<std::int64_t>(i));
    const auto& order = perm ? *perm : reversed;
    if (order.size() != view.axes.size()) return false;
    for (const std::int64_t axis : order)
        if (axis < 0 || axis >= static_cast<std::int64_t>(order.size())) return false;
    view.transpose(order);
    return true;
}

bool applySplit(const Shapes& shapes, ColumnView& view, const Node& node, ValueId to) {
    const std::size_t axis = axisOf(view, node);
    std::int64_t begin = 0;
    for (const ValueId output : node.outputs) {
        const ValueShape& shape = shapes.of(output);
        if (axis >= view.axes.size() || !shape.known() || axis >= shape.dims.size()) return false;
        if (output == to) return view.slice(axis, begin, shape.dims[axis], 1);
        begin += shape.dims[axis];
    }
    return false;
}

bool applyGather(const Shapes& shapes, ColumnView& view, const Node& node, ValueId to) {
    const std::size_t axis = axisOf(view, node);
    const HostTensor* index = shapes.constant(node.input(1));
    if (axis >= view.axes.size() || !index || index->count() < 1 || !index->isInteger()) return false;
    std::vector<std::int64_t> all = index->integers();
    for (std::int64_t& each : all) each += each < 0 ? view.size(axis) : 0;
    const std::int64_t step = all.size() > 1 ? all[1] - all[0] : 1;
    for (std::size_t i = 1; i < all.size(); ++i)
        if (all[i] - all[i - 1] != step) return false;
    const ValueShape& shape = shapes.of(to);
    return view.slice(axis, all[0], static_cast<std::int64_t>(all.size()), step) && shape.known() && view.reshape(shape.dims);
}

bool applySlice(const Shapes& shapes, ColumnView& view, const Node& node, ValueId to) {
    const ValueShape& shape = shapes.of(to);
    if (!shape.known() || shape.dims.size() != view.axes.size()) return false;
    const auto integers = [&](std::size_t index) {
        const HostTensor* given = node.input(index) ? shapes.constant(node.input(index)) : nullptr;
        return given && given->isInteger() ? given : nullptr;
    };
    const HostTensor *starts = integers(1), *axes = integers(3), *steps = integers(4);
    std::vector<std::int64_t> first, along;
    if (starts) first = starts->integers();
    else if (const auto* given = node.attributes.integers("starts")) first = *given;
    if (axes) along = axes->integers();
    else if (const auto* given = node.attributes.integers("axes")) along = *given;
    if (along.empty())
        for (std::size_t i = 0; i < first.size(); ++i) along.push_back(static_cast<std::int64_t>(i));
    if (first.empty() || along.size() != first.size()) return false;
    for (std::size_t i = 0; i < first.size(); ++i) {
        const std::int64_t axis = along[i] < 0 ? along[i] + static_cast<std::int64_t>(view.axes.size()) : along[i];
        if (axis < 0 || axis >= static_cast<std::int64_t>(view.axes.size())) return false;
        const auto at = static_cast<std::size_t>(axis);
        const std::int64_t step = steps && i < steps->integers().size() ? steps->integers()[i] : 1;
        const std::int64_t begin = std::clamp<std::int64_t>(first[i] < 0 ? first[i] + view.size(at) : first[i], 0, view.size(at) - (step < 0 ? 1 : 0));
        if (!view.slice(at, begin, shape.dims[at], step)) return false;
    }
    return true;
}

/// What a Split and the Concat that stacks its pieces do together: the pieces become an axis of their own before the one that they are stacked along.
bool stackPieces(const Shapes& shapes, ColumnView& view, const Node& split, const Node& concat) {
    const std::size_t cut = axisOf(view, split), onto = axisOf(view, concat);
    Dims dims = shapes.of(split.input(0)).dims;
    const auto pieces = static_cast<Dim>(split.outputs.size());
    if (dims.size() != view.axes.size() || cut >= dims.size() || onto >= dims.size()) return false;
    dims[cut] /= pieces;
    dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(cut), pieces);
    if (!view.reshape(dims)) return false;
    std::vector<std::int64_t> order;
    for (std::size_t i = 0; i < dims.size(); ++i) {
        if (i == onto + (cut < onto ? 1 : 0)) order.push_back(static_cast<std::int64_t>(cut));
        if (i != cut) order.push_back(static_cast<std::int64_t>(i));
    }
    view.transpose(order);
    return view.reshape(shapes.of(concat.output()).dims);
}

} // namespace

NodeId joinedSplit(const Graph& graph, const Shapes& shapes, const Node& concat) {
    const NodeId id = !concat.is("Concat") || concat.inputs.size() < 2 ? NodeId() : graph.producer(bare(graph, shapes, concat.input(0)));
    if (!id || !graph.node(id).is("Split")) return {};
    const std::vector<ValueId>& pieces = graph.node(id).outputs;
    const auto same = [&](ValueId piece, ValueId input) { return bare(graph, shapes, input) == piece; };
    return std::equal(pieces.begin(), pieces.end(), concat.inputs.begin(), concat.inputs.end(), same) ? id : NodeId();
}

NodeId stackedSplit(const Graph& graph, const Shapes& shapes, const Node& concat) {
    const NodeId id = joinedSplit(graph, shapes, concat);
    if (!id) return {};
    const Node& split = graph.node(id);
    const ValueShape &whole = shapes.of(split.input(0)), &stacked = shapes.of(concat.output());
    const bool even = std::all_of(split.outputs.begin(), split.outputs.end(), [&](ValueId piece) { return shapes.of(piece).dims == shapes.of(split.output()).dims; });
    return even && whole.known() && stacked.known() && whole.dims != stacked.dims ? id : NodeId(); // the same again: both along one axis
}

bool applyView(const Shapes& shapes, ColumnView& view, const Node& node, ValueId from, ValueId to) {
    if (node.is("Reshape") || node.is("Squeeze") || node.is("Unsqueeze") || node.is("Flatten")) {
        const ValueShape& shape = shapes.of(to);
        return shape.known() && view.reshape(shape.dims);
    }
    if (node.is("Transpose")) return applyTranspose(view, node);
    if (node.is("Split")) return applySplit(shapes, view, node, to);
    if (node.is("Gather")) return applyGather(shapes, view, node, to);
    if (node.is("Slice")) return applySlice(shapes, view, node, to);
    if (from == to) return true;
    const ValueShape &before = shapes.of(from), &after = shapes.of(to);
    if (!before.known() || !after.known()) return true;
    if (before.dims.size() != after.dims.size()) return false;
    // A table of several rows makes copies.
    for (std::size_t i = 0; i < after.dims.size() && i < view.axes.size(); ++i)
        if (before.dims[i] == 1 && after.dims[i] > 1 && view.size(i) == 1) view.axes[i] = {{after.dims[i], 0}};
    return true;
}

void viewColumns(const Graph& graph, const Shapes& shapes, const std::set<NodeId>& undone, RoleTrace& trace) {
    const ValueId out = graph.node(trace.linear).output();
    const ValueShape& shape = shapes.of(out);
    if (!shape.known() || shape.dims.empty() || shape.count() == 0) return;
    ColumnView view = wholeProjection(graph, trace.linear, shape.dims);
    const std::int64_t columns = linearColumns(graph, shapes, trace.linear);
    std::vector<JoinedRows> joined;
    ValueId from = out;
    for (std::size_t i = trace.path.size(); i-- > 0;) {
        const NodeId id = trace.path[i];
        const Node& node = graph.node(id);
        if (trace.heads > 0 && headsMultiplied(graph, shapes, id) > 0) break; // other columns from there on
        const ValueId to = i == 0 ? trace.operand : trace.reads[i - 1];
        if (undone.contains(id)) {
            if (node.is("Gather") && !(shapes.of(to).known() && view.reshape(shapes.of(to).dims))) return;
            from = to;
            continue;
        }
        if (const NodeId after = i > 0 ? trace.path[i - 1] : NodeId(); after && node.is("Split") && stackedSplit(graph, shapes, graph.node(after)) == id) {
            if (!stackPieces(shapes, view, node, graph.node(after))) return;
            from = graph.node(after).output();
            --i;
            continue;
        }
        const std::size_t axis = node.is("Concat") ? axisOf(view, node) : 0;
        const std::int64_t rows = axis < view.axes.size() ? view.size(axis) : 0;
        if (node.is("Concat") && lengthens(shapes, view, columns, node)) {
            if (const Join* join = joinAt(trace, id)) joined.push_back({*join, rows, view.size(axis), view.axes[axis][0].stride});
            from = to;
            continue;
        }
        const bool fills = writtenToBuffer(graph, shapes, node).valid();
        if (fills ? !fillsBuffer(shapes, view, columns, node) : !applyView(shapes, view, node, from, to)) return;
        from = to;
        if (node.is("Split") || node.is("Slice") || node.is("Gather")) trace.stages.push_back({id, to, view, joined});
        if (node.is("Expand") || node.is("Tile") || node.is("Concat") || node.op == "RotaryEmbedding" || node.is("Pad")) break;
    }
    trace.columns = std::move(view);
}

} // namespace triptych
