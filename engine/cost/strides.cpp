#include "cost/strides.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace triptych {

std::int64_t Storage::elements() const {
    std::int64_t count = 1;
    for (std::size_t i = 0; i < sizes.size(); ++i)
        if (strides[i] != 0 || sizes[i] == 0) count *= sizes[i];
    return count;
}

namespace {

Dims denseStrides(const Dims& sizes) {
    Dims strides(sizes.size());
    std::int64_t step = 1;
    for (std::size_t i = sizes.size(); i-- > 0;) {
        strides[i] = step;
        step *= sizes[i];
    }
    return strides;
}

/// NumPy's rule for a reshape without a copy; empty where one is needed.
std::optional<Dims> reshapedStrides(const Dims& sizes, const Dims& strides, const Dims& target) {
    Dims oldSizes, oldStrides;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (sizes[i] == 1) continue;
        oldSizes.push_back(sizes[i]);
        oldStrides.push_back(strides[i]);
    }
    Dims fresh(target.size(), 0);
    std::size_t from = 0, to = 0;
    while (from < oldSizes.size() || to < target.size()) {
        if (to < target.size() && target[to] == 1) {
            fresh[to++] = 0;
            continue;
        }
        if (from >= oldSizes.size() || to >= target.size()) return std::nullopt;
        std::size_t fromEnd = from + 1, toEnd = to + 1;
        std::int64_t a = oldSizes[from], b = target[to];
        while (a != b) {
            if (b < a) {
                if (toEnd == target.size()) return std::nullopt;
                b *= target[toEnd++];
            } else {
                if (fromEnd == oldSizes.size()) return std::nullopt;
                a *= oldSizes[fromEnd++];
            }
        }
        for (std::size_t i = from; i + 1 < fromEnd; ++i)
            if (oldStrides[i] != oldStrides[i + 1] * oldSizes[i + 1]) return std::nullopt;
        std::int64_t step = oldStrides[fromEnd - 1];
        for (std::size_t i = toEnd; i-- > to;) {
            fresh[i] = step;
            step *= target[i];
        }
        from = fromEnd;
        to = toEnd;
    }
    return fresh;
}

class Planner {
public:
    Planner(const Graph& graph, const Shapes& shapes, const NodeClasses& classes, const Partition& partition, const PatternLibrary& library, const RuntimeRules& runtime)
        : m_graph(graph), m_shapes(shapes), m_classes(classes), m_partition(partition), m_library(library), m_runtime(runtime) {
        m_plan.of.resize(graph.values().size());
        for (const ParallelGroup& parallel : partition.parallel)
            if (parallel.group) m_merged[parallel.group] = &parallel;
    }

    MemoryPlan run() {
        for (std::size_t i = 0; i < m_graph.values().size(); ++i)
            if (!m_graph.producer(ValueId(i))) dense(ValueId(i));
        for (std::size_t i = 0; i < m_graph.nodes().size(); ++i) visit(NodeId(i));
        return std::move(m_plan);
    }

private:
    void dense(ValueId value) {
        const ValueShape& shape = m_shapes.of(value);
        Storage& storage = m_plan.of[value];
        storage.root = value;
        storage.known = shape.known();
        if (!storage.known) return;
        storage.sizes = shape.dims;
        storage.strides = denseStrides(shape.dims);
    }

    const Group* groupOf(NodeId node) const {
        const GroupId group = m_partition.groupOf[node];
        return group ? &m_partition.groups[group.position()] : nullptr;
    }
    bool isRegion(NodeId node) const {
        const Group* group = groupOf(node);
        return group && group->pattern && m_library[group->pattern].kind == PatternKind::region;
    }
    bool fused(NodeId node) const {
        const Group* group = groupOf(node);
        return group && group->pattern && group->nodes.size() > 1;
    }
    bool sameGroup(NodeId a, NodeId b) const { return a && b && m_partition.groupOf[a] && m_partition.groupOf[a] == m_partition.groupOf[b]; }

    void visit(NodeId id) {
        const Node& node = m_graph.node(id);
        const NodeClass nodeClass = m_classes.of[id];
        if (nodeClass == NodeClass::constant || nodeClass == NodeClass::shape) {
            for (const ValueId value : node.outputs)
                if (value) dense(value);
            return;
        }
        if (nodeClass == NodeClass::view && view(id, node)) return;
        if (nodeClass == NodeClass::compute) operands(id, node);
        for (std::size_t i = 0; i < node.outputs.size(); ++i)
            if (node.outputs[i]) written(id, node, node.outputs[i]);
        mergedSlice(id);
    }

    void copy(NodeId id, ValueId value) {
        if (m_runtime.stridedCopies) m_plan.copies.push_back({id, value});
    }

    /// A product whose members are merged writes one matrix; each member's columns are a slice of it.
    void mergedSlice(NodeId id) {
        const auto found = m_merged.find(m_partition.groupOf[id]);
        if (found == m_merged.end()) return;
        std::int64_t whole = 0;
        bool member = false;
        for (const auto& nodes : found->second->members) {
            const ValueShape& shape = m_shapes.of(m_graph.node(nodes.back()).output());
            if (!shape.known() || shape.dims.empty()) return;
            whole += shape.dims.back();
            member = member || std::find(nodes.begin(), nodes.end(), id) != nodes.end();
        }
        if (!m_graph.node(id).output()) return;
        Storage& storage = m_plan.of[m_graph.node(id).output()];
        if (!member || !storage.known || storage.sizes.empty()) return;
        std::int64_t step = whole;
        storage.strides.back() = 1;
        for (std::size_t i = storage.sizes.size() - 1; i-- > 0;) {
            storage.strides[i] = step;
            step *= storage.sizes[i];
        }
    }

    /// What a kernel writes: dense, in the stride order of its first full-size operand where it is pointwise.
    void written(NodeId id, const Node& node, ValueId value) {
        dense(value);
        Storage& storage = m_plan.of[value];
        if (!storage.known || storage.sizes.empty()) return;
        if (isRegion(id) && node.output() == value && storage.sizes.size() == 4) {
            const Dims& s = storage.sizes;
            storage.strides = {s[1] * s[2] * s[3], s[3], s[1] * s[3], 1};
            return;
        }
        static const std::set<std::string> keepsNoOrder{"MatMul", "Gemm", "Conv", "Einsum", "Softmax", "LayerNormalization", "RMSNormalization", "Gather", "Concat", "FusedMatMul"};
        if (keepsNoOrder.contains(node.op) || m_classes.of[id] != NodeClass::compute) return;
        for (const ValueId input : node.inputs) {
            if (!input || m_shapes.isConstant(input)) continue;
            const Storage& operand = m_plan.of[input];
            if (!operand.known || operand.sizes != storage.sizes) continue;
            std::vector<std::size_t> order(storage.sizes.size());
            std::iota(order.begin(), order.end(), 0);
            std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
                // Axes of one element or of repeats have no place of their own.
                const auto key = [&](std::size_t axis) { return operand.sizes[axis] == 1 || operand.strides[axis] == 0 ? std::int64_t(-1) : operand.strides[axis]; };
                if (key(a) < 0 || key(b) < 0) return false;
                return key(a) > key(b);
            });
            std::int64_t step = 1;
            for (std::size_t i = order.size(); i-- > 0;) {
                storage.strides[order[i]] = step;
                step *= storage.sizes[order[i]];
            }
            return;
        }
    }

    /// Operands of products: the batch axes must collapse into one stride, one of the last two axes must be dense.
    void operands(NodeId id, const Node& node) {
        if (isRegion(id)) return;
        const bool batched = node.op == "MatMul" || node.op == "FusedMatMul";
        if (!batched) return;
        for (std::size_t i = 0; i < 2; ++i) {
            const ValueId value = node.input(i);
            if (!value || m_shapes.isConstant(value)) continue;
            const Storage& storage = m_plan.of[value];
            if (!storage.known || sameGroup(m_graph.producer(value), id)) continue;
            const bool linear = node.input(1) && m_shapes.isConstant(node.input(1));
            if (!productReady(storage, linear)) copy(id, value);
        }
    }

    static bool productReady(const Storage& storage, bool linear) {
        const std::size_t rank = storage.sizes.size();
        if (rank < 2) return true;
        const auto dense = [&](std::size_t axis) { return storage.strides[axis] == 1 || storage.sizes[axis] == 1; };
        if (!dense(rank - 1) && (linear || !dense(rank - 2))) return false;
        // All leading axes of a linear layer are rows; of a batched product those before the matrix are batches.
        const std::size_t last = linear ? rank - 1 : rank - 2;
        std::int64_t size = 1, stride = 0;
        bool any = false;
        for (std::size_t i = last; i-- > 0;) {
            if (storage.sizes[i] == 1) continue;
            if (any && storage.strides[i] != stride * size) return false;
            if (!any) {
                stride = storage.strides[i];
                size = storage.sizes[i];
                any = true;
            } else {
                size *= storage.sizes[i];
            }
        }
        return true;
    }

    /// True where the node is a view of its input; false where it has to copy, or where views are kernels.
    bool view(NodeId id, const Node& node) {
        const ValueId input = node.input(0), output = node.output();
        if (!input || !output) return false;
        const Storage& from = m_plan.of[input];
        const ValueShape& shape = m_shapes.of(output);
        if (!from.known || !shape.known() || shape.count() == 0) return false;
        if (!m_runtime.viewsAreFree && node.is("Transpose")) {
            copy(id, input);
            return false;
        }
        if (node.is("Split")) return split(node, from);
        Storage to{from.root, shape.dims, {}, true};
        if (node.is("Transpose")) {
            const auto* perm = node.attributes.integers("perm");
            for (std::size_t i = 0; i < shape.dims.size(); ++i) {
                const std::size_t axis = perm ? (i < perm->size() ? static_cast<std::size_t>((*perm)[i]) : shape.dims.size()) : shape.dims.size() - 1 - i;
                if (axis >= from.strides.size() || (perm && i >= perm->size())) return false;
                to.strides.push_back(from.strides[axis]);
            }
        } else if (node.is("Expand")) {
            if (shape.dims.size() < from.sizes.size()) return false;
            const std::size_t extra = shape.dims.size() - from.sizes.size();
            for (std::size_t i = 0; i < shape.dims.size(); ++i) {
                const bool stretched = i < extra || (from.sizes[i - extra] == 1 && shape.dims[i] != 1);
                to.strides.push_back(stretched ? 0 : from.strides[i - extra]);
            }
        } else if (node.is("Slice") || node.is("Gather")) {
            if (!cut(node, from, to)) return false;
        } else {
            auto strides = reshapedStrides(from.sizes, from.strides, shape.dims);
            if (!strides) {
                // Inside a fused group the kernel reads and writes in whatever order it needs.
                if (!fused(id)) copy(id, input);
                return false;
            }
            to.strides = std::move(*strides);
        }
        m_plan.of[output] = std::move(to);
        return true;
    }

    bool split(const Node& node, const Storage& from) {
        for (const ValueId output : node.outputs) {
            if (!output || !m_shapes.of(output).known()) continue;
            if (m_shapes.of(output).dims.size() != from.strides.size()) return false;
            m_plan.of[output] = {from.root, m_shapes.of(output).dims, from.strides, true};
        }
        return true;
    }

    /// Slices keep strides (times their steps); a Gather of one index drops an axis.
    bool cut(const Node& node, const Storage& from, Storage& to) {
        if (to.sizes.size() == from.sizes.size()) {
            to.strides = from.strides;
            const auto integers = [&](std::size_t index) {
                const HostTensor* given = node.input(index) ? m_shapes.constant(node.input(index)) : nullptr;
                return given && given->isInteger() ? given : nullptr;
            };
            if (const HostTensor* steps = node.is("Slice") ? integers(4) : nullptr) {
                const HostTensor* axes = integers(3);
                for (std::size_t i = 0; i < steps->integers().size(); ++i) {
                    const std::int64_t axis = axes && i < axes->integers().size() ? axes->integers()[i] : static_cast<std::int64_t>(i);
                    const auto at = static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(to.strides.size()) : axis);
                    if (at < to.strides.size()) to.strides[at] *= std::max<std::int64_t>(1, std::abs(steps->integers()[i]));
                }
            }
            return true;
        }
        const std::int64_t given = node.attributes.integer("axis", 0);
        const auto axis = static_cast<std::size_t>(given < 0 ? given + static_cast<std::int64_t>(from.sizes.size()) : given);
        if (to.sizes.size() + 1 != from.sizes.size() || axis >= from.strides.size()) return false;
        to.strides = from.strides;
        to.strides.erase(to.strides.begin() + static_cast<std::ptrdiff_t>(axis));
        return true;
    }

    const Graph& m_graph;
    const Shapes& m_shapes;
    const NodeClasses& m_classes;
    const Partition& m_partition;
    const PatternLibrary& m_library;
    const RuntimeRules& m_runtime;
    std::map<GroupId, const ParallelGroup*> m_merged;
    MemoryPlan m_plan;
};

} // namespace

MemoryPlan planMemory(const Graph& graph, const Shapes& shapes, const NodeClasses& classes, const Partition& partition, const PatternLibrary& library, const RuntimeRules& runtime) {
    return Planner(graph, shapes, classes, partition, library, runtime).run();
}

} // namespace triptych
