// com.microsoft SparseAttention: blocks of queries see the blocks of keys that a list names.
// Source: ONNX Runtime's ContribOperators.md and what its CPU implementation does.

#include "reference/attention_microsoft.h"

#include <limits>

namespace triptych {

namespace {

/// Which blocks of keys a block of queries sees, for each layout. Heads have the layouts in turns.
class Blocks {
public:
    Blocks(const KernelCall& call, std::int64_t heads) : m_begins(need(call, 5)), m_list(need(call, 6)), m_size(call.node.attributes.integer("sparse_block_size", 0)) {
        if (m_size < 1 || m_begins.dims.size() != 2 || m_list.dims.size() != 2 || !m_begins.isInteger() || !m_list.isInteger() || m_begins.dims[0] < 1 || m_begins.dims[1] < 2 ||
            m_list.dims[0] != m_begins.dims[0] || heads % m_begins.dims[0] != 0)
            refuse("its blocks don't fit its heads");
    }
    std::int64_t places() const { return (m_begins.dims[1] - 1) * m_size; }
    bool shows(std::int64_t head, std::int64_t query, std::int64_t key) const {
        const std::int64_t layout = head % m_begins.dims[0], row = layout * m_begins.dims[1] + query / m_size;
        for (std::int64_t i = m_begins.integers().at(static_cast<std::size_t>(row)); i < m_begins.integers().at(static_cast<std::size_t>(row + 1)); ++i) {
            if (i < 0 || i >= m_list.dims[1]) refuse("its lists of blocks don't fit together");
            if (m_list.integers()[static_cast<std::size_t>(layout * m_list.dims[1] + i)] == key / m_size) return true;
        }
        return false;
    }

private:
    const HostTensor &m_begins, &m_list;
    std::int64_t m_size;
};

/// A buffer of past keys or values with the new ones of each sequence written into it.
HostTensor written(HostTensor buffer, const HostTensor& now, const std::vector<std::int64_t>& before) {
    const std::int64_t size = now.dims[3], rows = now.dims[2], room = buffer.dims[2];
    if (buffer.dims[0] != now.dims[0] || buffer.dims[1] != now.dims[1] || buffer.dims[3] != size) refuse("its past doesn't fit its keys");
    for (std::int64_t i = 0; i < now.count(); ++i) {
        const std::int64_t line = i / size / rows, at = before[static_cast<std::size_t>(line / now.dims[1])] + i / size % rows;
        if (at < 0 || at >= room) refuse("its lengths don't fit its past");
        copyElement(now, static_cast<std::size_t>(i), buffer, static_cast<std::size_t>((line * room + at) * size + i % size));
    }
    return buffer;
}

Outputs sparse(const KernelCall& call) {
    needAxes(call, {0, 1, 2}, 3);
    needAxes(call, {3, 4}, 4);
    needOneType(call, {0, 1, 2, 3, 4, 9, 10});
    const Attributes& a = call.node.attributes;
    const std::int64_t heads = a.integer("num_heads", 0);
    auto [q, k, v] = groupedHeads(call, heads, a.integer("kv_num_heads", 0));
    const Blocks blocks(call, heads);
    const std::int64_t now = q.dims[2], total = static_cast<std::int64_t>(need(call, 7).at(0));
    const HostTensor& lengths = need(call, 8);
    if (!lengths.isInteger() || lengths.count() != q.dims[0] || total > blocks.places()) refuse("its lengths don't fit its batch or its blocks");
    std::vector<std::int64_t> before;
    for (const std::int64_t length : lengths.integers()) before.push_back(now == total ? 0 : length - now);
    if (a.integer("do_rotary", 0) != 0) {
        const HostTensor positions = countedFrom(before, now);
        for (HostTensor* each : {&q, &k}) *each = rotated(call, *each, positions, need(call, 9), need(call, 10), a.integer("rotary_interleaved", 0) != 0, 0);
    }
    HostTensor keys = written(need(call, 3), k, before), values = written(need(call, 4), v, before);
    CoreCall core{q, keys, values};
    core.scale = scaleOf(call, q);
    core.bias = [&](std::int64_t b, std::int64_t n, std::int64_t i, std::int64_t j) {
        const std::int64_t query = before[static_cast<std::size_t>(b)] + i;
        return j <= query && blocks.shows(n, query, j) ? 0 : -std::numeric_limits<double>::infinity();
    };
    HostTensor context = mergeHeads(attentionCore(call, core).context);
    return withPresent(call, std::move(context), std::move(keys), std::move(values));
}

} // namespace

void addSparseAttention(KernelTable& table) { table["com.microsoft::SparseAttention"] = sparse; }

} // namespace triptych
