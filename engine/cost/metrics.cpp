#include "cost/metrics.h"

#include "cost/flops.h"
#include "cost/strides.h"

#include <algorithm>
#include <list>
#include <unordered_map>
#include <unordered_set>

namespace triptych {

std::string_view toString(Limit limit) { return limit == Limit::compute ? "compute" : limit == Limit::memory ? "memory" : "launch"; }

std::string_view intensityClass(double intensity) { return intensity > 50 ? "compute" : intensity >= 10 ? "balanced" : intensity >= 1 ? "memory" : "bandwidth"; }

namespace {

/// Whole tensors in a least-recently-used cache, in launch order. Cost: linear in tensor uses.
class TensorCache {
public:
    explicit TensorCache(double capacity) : m_capacity(capacity) {}

    /// Bytes that reach memory.
    std::int64_t read(ValueId tensor, std::int64_t bytes) { return touch(tensor, bytes, false, bytes); }
    std::int64_t write(ValueId tensor, std::int64_t bytes) { return touch(tensor, bytes, true, 0); }

private:
    struct Entry {
        ValueId tensor;
        std::int64_t bytes;
        bool dirty;
    };
    std::int64_t touch(ValueId tensor, std::int64_t bytes, bool dirty, std::int64_t missCost) {
        std::int64_t moved = 0;
        if (const auto found = m_where.find(tensor); found != m_where.end()) {
            dirty = dirty || found->second->dirty;
            m_used -= found->second->bytes;
            m_entries.erase(found->second);
            m_where.erase(found);
        } else {
            moved += missCost;
        }
        if (static_cast<double>(bytes) > m_capacity) return moved + (dirty ? bytes : 0);
        m_entries.push_front({tensor, bytes, dirty});
        m_where[tensor] = m_entries.begin();
        m_used += bytes;
        while (static_cast<double>(m_used) > m_capacity) {
            const Entry& last = m_entries.back();
            if (last.dirty) moved += last.bytes;
            m_used -= last.bytes;
            m_where.erase(last.tensor);
            m_entries.pop_back();
        }
        return moved;
    }

    double m_capacity;
    std::int64_t m_used = 0;
    std::list<Entry> m_entries;
    std::unordered_map<ValueId, std::list<Entry>::iterator> m_where;
};

/// Tensors that one group moves.
struct Traffic {
    std::vector<std::pair<ValueId, std::int64_t>> reads, writes;
};

class Meter {
public:
    explicit Meter(const CostInput& input)
        : m_in(input), m_plan(planMemory(input.graph, input.shapes, input.classes, input.partition, input.library, input.runtime)), m_copiesOf(input.graph.nodes().size()) {
        for (const Copy& copy : m_plan.copies) m_copiesOf[copy.node].push_back(copy.value);
    }

    GraphMetrics run() {
        counts();
        const auto& groups = m_in.partition.groups;
        m_out.byGroup.resize(groups.size());
        std::vector<Traffic> traffic(groups.size());
        for (std::size_t i = 0; i < groups.size(); ++i) measureGroup(GroupId(i), m_out.byGroup[i], traffic[i]);
        caches(traffic);
        peak();
        totals();
        return std::move(m_out);
    }

private:
    /// Bytes of one element of a value under the chosen precision.
    double elementBytes(DataType type) const {
        if (m_in.precision != Precision::file && isFloating(type)) return m_in.precision == Precision::fp32 ? 4 : 2;
        return bitsOf(type) / 8.0;
    }
    /// Of 2^44 at most: sums over a graph of absurd sizes still fit.
    std::int64_t bytesOf(ValueId value, std::int64_t elements) const { return static_cast<std::int64_t>(std::min(static_cast<double>(elements) * elementBytes(m_in.shapes.of(value).type), 0x1p44)); }

    /// A Cast between float types that the chosen precision makes one.
    bool isVoidCast(const Node& node) const {
        if (m_in.precision == Precision::file || !node.is("Cast") || !node.input(0) || !node.output()) return false;
        return isFloating(m_in.shapes.of(node.input(0)).type) && isFloating(m_in.shapes.of(node.output()).type);
    }
    bool computes(NodeId id) const { return m_in.classes.of[id] == NodeClass::compute && !isVoidCast(m_in.graph.node(id)); }

    void counts() {
        std::unordered_set<std::int32_t> seen;
        for (std::size_t i = 0; i < m_in.graph.nodes().size(); ++i) {
            const NodeId id(i);
            const NodeClass nodeClass = m_in.classes.of[id];
            m_out.nodes += nodeClass == NodeClass::compute || nodeClass == NodeClass::view;
            m_out.viewNodes += nodeClass == NodeClass::view;
            if (nodeClass != NodeClass::compute) continue;
            // A spelled-out operator counts once.
            const std::int32_t composite = m_in.classes.compositeOf[id];
            if (composite < 0 || seen.insert(composite).second) ++m_out.computeNodes;
        }
    }

    ValueId rootOf(ValueId value) const { return value && m_plan.of[value].root ? m_plan.of[value].root : value; }

    void unknown(NodeId node, ValueId value, GroupMetrics& metrics) {
        metrics.known = false;
        constexpr std::size_t most = 50;
        if (m_out.unknown.size() < most) m_out.unknown.push_back(m_in.graph.node(node).name + ": the shape of " + m_in.graph.value(value).name + " is unknown");
    }

    /// A view is read at its real size: repeats once, of a slice only the slice.
    std::int64_t readBytes(NodeId reader, ValueId value, GroupMetrics& metrics) {
        const Node& node = m_in.graph.node(reader);
        const ValueShape& shape = m_in.shapes.of(value);
        if (node.is("Gather") && value == node.input(0) && m_in.shapes.of(node.output()).known()) return bytesOf(node.output(), m_in.shapes.of(node.output()).count());
        if (!shape.known()) {
            unknown(reader, value, metrics);
            return 0;
        }
        const Storage& storage = m_plan.of[value];
        return bytesOf(value, storage.known ? storage.elements() : shape.count());
    }

    void measureGroup(GroupId id, GroupMetrics& metrics, Traffic& traffic) {
        const Group& group = m_in.partition.groups[id.position()];
        bool any = false;
        std::unordered_map<ValueId, std::int64_t> reads, weights, writes;
        for (const NodeId node : group.nodes) {
            for (const ValueId value : m_copiesOf[node]) copied(node, value, metrics, traffic);
            if (const auto known = m_in.expansions.find(node); known != m_in.expansions.end()) {
                expanded(known->second, metrics);
                continue;
            }
            if (!computes(node)) continue;
            any = true;
            if (const auto flops = flopsOf(m_in.graph, m_in.shapes, node)) metrics.flops += *flops;
            else metrics.known = false;
            operands(id, node, metrics, reads, weights);
        }
        results(id, group, metrics, writes);
        if (any) ++metrics.launches;
        std::vector<std::pair<ValueId, std::int64_t>> ordered(reads.begin(), reads.end());
        std::sort(ordered.begin(), ordered.end());
        for (const auto& [root, bytes] : ordered) metrics.inputBytes += bytes;
        traffic.reads.insert(traffic.reads.end(), ordered.begin(), ordered.end());
        ordered.assign(weights.begin(), weights.end());
        std::sort(ordered.begin(), ordered.end());
        for (const auto& [root, bytes] : ordered) metrics.weightBytes += bytes;
        traffic.reads.insert(traffic.reads.end(), ordered.begin(), ordered.end());
        ordered.assign(writes.begin(), writes.end());
        std::sort(ordered.begin(), ordered.end());
        if (any)
            for (const auto& [root, bytes] : ordered) metrics.outputBytes += bytes;
        if (any) traffic.writes.insert(traffic.writes.end(), ordered.begin(), ordered.end());
    }

    /// An opaque node stands for its expansion, whatever else its group holds.
    void expanded(const GroupMetrics& cost, GroupMetrics& metrics) {
        m_out.estimated = true;
        metrics.launches += cost.launches;
        metrics.flops += cost.flops;
        metrics.inputBytes += cost.inputBytes;
        metrics.outputBytes += cost.outputBytes;
        metrics.weightBytes += cost.weightBytes;
        metrics.internalBytes += cost.internalBytes;
        metrics.dramBytes += cost.dramBytes;
        metrics.timeUs += cost.timeUs;
        metrics.known = metrics.known && cost.known;
    }

    /// The copy is a launch of its own: read once more, written once more.
    void copied(NodeId node, ValueId value, GroupMetrics& metrics, Traffic& traffic) {
        const ValueShape& shape = m_in.shapes.of(value);
        if (!shape.known()) return unknown(node, value, metrics);
        const std::int64_t from = readBytes(node, value, metrics), to = bytesOf(value, shape.count());
        ++metrics.launches;
        metrics.inputBytes += from;
        metrics.outputBytes += to;
        traffic.reads.emplace_back(rootOf(value), from);
        traffic.writes.emplace_back(value, to);
    }

    void operands(GroupId id, NodeId node, GroupMetrics& metrics, std::unordered_map<ValueId, std::int64_t>& reads, std::unordered_map<ValueId, std::int64_t>& weights) {
        for (const ValueId value : m_in.graph.node(node).inputs) {
            if (!value) continue;
            if (m_in.shapes.isConstant(value)) {
                auto& bytes = weights[value];
                bytes = std::max(bytes, readBytes(node, value, metrics));
                continue;
            }
            const ValueId root = rootOf(value);
            const NodeId producer = m_in.graph.producer(root);
            if (producer && m_in.partition.groupOf[producer] == id) continue;
            auto& bytes = reads[root];
            bytes = std::max(bytes, readBytes(node, value, metrics));
        }
    }

    /// Values that leave the group are written; those that don't are what fusing keeps inside.
    void results(GroupId id, const Group& group, GroupMetrics& metrics, std::unordered_map<ValueId, std::int64_t>& writes) {
        for (const NodeId node : group.nodes) {
            for (const ValueId value : m_in.graph.node(node).outputs) {
                if (!value) continue;
                bool leaves = m_in.graph.isOutput(value), inside = false;
                for (const NodeId reader : m_in.graph.readers(value)) {
                    const GroupId other = m_in.partition.groupOf[reader];
                    if (!other) continue;
                    (other == id ? inside : leaves) = true;
                }
                const ValueShape& shape = m_in.shapes.of(value);
                if (!shape.known()) {
                    if (leaves) unknown(node, value, metrics);
                    continue;
                }
                const ValueId root = rootOf(value);
                const NodeId maker = m_in.graph.producer(root);
                const bool own = maker && m_in.partition.groupOf[maker] == id && computes(maker);
                if (leaves && own) writes[root] = bytesOf(root, m_in.shapes.of(root).known() ? m_in.shapes.of(root).count() : shape.count());
                else if (inside && !leaves && computes(node)) metrics.internalBytes += 2 * bytesOf(value, shape.count());
            }
        }
    }

    void caches(const std::vector<Traffic>& traffic) {
        TensorCache cache(m_in.hardware.cacheCapacity);
        for (const bool counted : {false, true}) {
            for (std::size_t i = 0; i < traffic.size(); ++i) {
                std::int64_t moved = 0;
                for (const auto& [tensor, bytes] : traffic[i].reads) moved += cache.read(tensor, bytes);
                for (const auto& [tensor, bytes] : traffic[i].writes) moved += cache.write(tensor, bytes);
                if (counted && !traffic[i].reads.empty()) m_out.byGroup[i].dramBytes = moved;
            }
        }
    }

    /// Largest sum of live activations: a tensor lives from the node that writes it to the last that reads any view of it.
    void peak() {
        const std::size_t count = m_in.graph.nodes().size();
        std::vector<std::int64_t> change(count + 2, 0);
        std::unordered_map<ValueId, std::pair<std::size_t, std::size_t>> life;
        const auto extend = [&](ValueId value, std::size_t at) {
            if (!value || m_in.shapes.isConstant(value)) return;
            const auto [found, fresh] = life.try_emplace(rootOf(value), at, at);
            if (!fresh) found->second.second = std::max(found->second.second, at);
        };
        for (const ValueId input : m_in.graph.inputs()) extend(input, 0);
        for (std::size_t i = 0; i < count; ++i) {
            for (const ValueId value : m_in.graph.nodes()[i].inputs) extend(value, i + 1);
            for (const ValueId value : m_in.graph.nodes()[i].outputs) extend(value, i + 1);
        }
        for (const ValueId output : m_in.graph.outputs()) extend(output, count);
        for (const auto& [root, range] : life) {
            const ValueShape& shape = m_in.shapes.of(root);
            if (!shape.known()) continue;
            const std::int64_t bytes = bytesOf(root, shape.count());
            change[range.first] += bytes;
            change[range.second + 1] -= bytes;
        }
        std::int64_t live = 0;
        for (const std::int64_t each : change) m_out.peakActivationBytes = std::max(m_out.peakActivationBytes, live += each);
    }

    double peakFlops() const {
        const char* precision = m_in.precision == Precision::fp16 ? "fp16" : m_in.precision == Precision::bf16 ? "bf16" : filePrecision();
        const auto found = m_in.hardware.peakFlops.find(precision);
        return found == m_in.hardware.peakFlops.end() ? 0 : found->second;
    }
    const char* filePrecision() const {
        if (m_in.precision == Precision::fp32) return "fp32";
        for (const ValueId output : m_in.graph.outputs()) {
            if (m_in.shapes.of(output).type == DataType::float16) return "fp16";
            if (m_in.shapes.of(output).type == DataType::bfloat16) return "bf16";
        }
        return "fp32";
    }

    /// Roofline: docs/metrics.md, "time_us".
    void time(double peak, GroupMetrics& metrics) const {
        const std::int64_t bytes = metrics.inputBytes + metrics.weightBytes + metrics.outputBytes;
        metrics.intensity = bytes > 0 ? metrics.flops / static_cast<double>(bytes) : 0;
        if (metrics.launches == 0) return;
        const double launch = m_in.hardware.floor * static_cast<double>(metrics.launches);
        const double compute = peak > 0 ? metrics.flops / peak * 1e6 : 0;
        const double memory = m_in.hardware.memoryBandwidth > 0 ? static_cast<double>(bytes) / m_in.hardware.memoryBandwidth * 1e6 : 0;
        metrics.limitedBy = compute >= memory && compute >= launch ? Limit::compute : memory >= launch ? Limit::memory : Limit::launch;
        metrics.timeUs = launch + std::max(compute, memory);
    }

    void totals() {
        const std::unordered_set<NodeId> attention(m_in.attentionNodes.begin(), m_in.attentionNodes.end());
        const double peak = peakFlops(); // once: it asks all outputs of the graph
        for (std::size_t i = 0; i < m_out.byGroup.size(); ++i) {
            GroupMetrics& m = m_out.byGroup[i];
            const Group& group = m_in.partition.groups[i];
            if (m.timeUs == 0) time(peak, m);
            const bool computing = std::any_of(group.nodes.begin(), group.nodes.end(), [&](NodeId node) { return m_in.classes.of[node] == NodeClass::compute; });
            m_out.groups += computing;
            m_out.launches += m.launches;
            m_out.flops += m.flops;
            m_out.readBytes += m.inputBytes + m.weightBytes;
            m_out.writeBytes += m.outputBytes;
            m_out.weightBytes += m.weightBytes;
            m_out.internalBytes += m.internalBytes;
            m_out.dramBytes += m.dramBytes;
            m_out.timeUs += m.timeUs;
            if (group.pattern) ++m_out.groupsByPattern[group.pattern];
            if (std::any_of(group.nodes.begin(), group.nodes.end(), [&](NodeId node) { return attention.contains(node); })) m_out.attentionBytes += m.inputBytes + m.weightBytes + m.outputBytes;
        }
        m_out.bytes = m_out.readBytes + m_out.writeBytes;
        m_out.opsPerGroup = m_out.groups > 0 ? static_cast<double>(m_out.computeNodes) / static_cast<double>(m_out.groups) : 0;
        m_out.intensity = m_out.bytes > 0 ? m_out.flops / static_cast<double>(m_out.bytes) : 0;
        const auto launches = static_cast<double>(m_out.launches);
        constexpr double seedLaunch = 7.5; // microseconds; the research's constant
        m_out.launchOverheadUs = launches * (m_in.seedConstants ? seedLaunch : m_in.hardware.hostCost);
        m_out.replayUs = m_out.timeUs + launches * m_in.hardware.launchGap;
        m_out.eagerUs = std::max(m_out.timeUs, launches * m_in.hardware.hostCost);
    }

    const CostInput& m_in;
    MemoryPlan m_plan;
    IndexVector<NodeId, std::vector<ValueId>> m_copiesOf;
    GraphMetrics m_out;
};

} // namespace

GraphMetrics measure(const CostInput& input) { return Meter(input).run(); }

} // namespace triptych
