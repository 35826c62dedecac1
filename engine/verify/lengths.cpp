// Inputs that say how long sequences are: they must fit the sizes of what they count.

#include "verify/lengths.h"

#include "attention/opaque_inputs.h"

#include <algorithm>
#include <limits>

namespace triptych {

namespace {

class Lengths {
public:
    Lengths(const Graph& graph, const Shapes& shapes, bool differ) : m_graph(graph), m_shapes(shapes), m_differ(differ) {}

    NamedTensors run() {
        for (const Node& node : m_graph.nodes()) {
            if (node.input(inputsOf(node).pages)) paged(node);
            else if (node.input(inputsOf(node).lengths)) grouped(node);
            else if (node.input(inputsOf(node).tokens)) packed(node);
            else if (node.input(inputsOf(node).mask)) ends(node);
            beams(node);
            if (node.is("TensorScatter")) written(node);
            if (node.is("Attention")) filled(node);
            if (sharesPast(node)) give(node.input(inputsOf(node).pastLength), {boundPast(node, m_shapes)});
        }
        return std::move(m_made);
    }

private:
    std::int64_t size(ValueId value, std::size_t axis) const {
        const ValueShape& shape = m_shapes.of(value);
        return shape.known() && axis < shape.dims.size() ? shape.dims[axis] : 0;
    }

    /// The graph's input that a value is a copy of; none where it is computed.
    ValueId inputBehind(ValueId value) const {
        constexpr int longest = 8;
        for (int steps = 0; steps < longest && value; ++steps) {
            const NodeId id = m_graph.producer(value);
            if (!id) return m_graph.isInput(value) ? value : ValueId();
            const Node& node = m_graph.node(id);
            if (!node.is("Cast") && !node.is("Identity") && !node.is("Reshape") && !node.is("Squeeze") && !node.is("Unsqueeze")) return {};
            value = node.input(0);
        }
        return {};
    }

    void give(ValueId value, std::vector<std::int64_t> numbers) {
        const ValueId input = inputBehind(value);
        const ValueShape& shape = m_shapes.of(input);
        if (!input || !isInteger(shape.type) || !shape.known() || shape.count() != static_cast<std::int64_t>(numbers.size())) return;
        m_made.emplace(m_graph.value(input).name, HostTensor::ofIntegers(shape.dims, std::move(numbers), shape.type));
    }

    /// As many keys as there are past and new ones; where lengths are to differ, every other sequence has one less.
    void grouped(const Node& node) {
        const std::int64_t batch = size(node.input(0), 0), now = size(node.input(0), 1);
        const OpaqueInputs inputs = inputsOf(node);
        const std::int64_t room = size(node.input(inputs.past), 2), biased = size(node.input(inputs.attentionBias), 3);
        std::int64_t past = room;
        // What is added to scores has a place for each key, where the buffer of past keys has room for more; blocks cover all keys.
        if (biased > 1) past = std::clamp<std::int64_t>(biased - now, 0, room);
        if (node.input(inputs.blocks)) past = std::clamp<std::int64_t>(blocks(node, inputs.blocks) - now, 0, std::max<std::int64_t>(room - now, 0));
        // No new keys: another layer put all of them into the cache.
        const bool keyless = node.input(1) && m_shapes.of(node.input(1)).known() && size(node.input(1), 1) == 0;
        const std::int64_t total = keyless && biased <= 1 ? room : past + now;
        // GroupQueryAttention is told the last key's position.
        std::vector<std::int64_t> counts(static_cast<std::size_t>(batch), node.op == "GroupQueryAttention" ? total - 1 : total);
        for (std::size_t b = 1; m_differ && past > 0 && b < counts.size(); b += 2) --counts[b];
        give(node.input(inputs.lengths), std::move(counts));
        give(node.input(inputs.total), {total});
    }

    /// Each row of blocks sees its own, and the first one where the list has room for it.
    /// @returns how many places the blocks cover
    std::int64_t blocks(const Node& node, std::size_t index) {
        const std::int64_t layouts = size(node.input(index), 0), rows = size(node.input(index), 1) - 1, room = size(node.input(index + 1), 1);
        std::vector<std::int64_t> begins, list;
        for (std::int64_t layout = 0; layout < layouts && rows > 0; ++layout) {
            std::int64_t listed = 0;
            begins.push_back(0);
            for (std::int64_t row = 0; row < rows; ++row) {
                if (row > 0 && room - listed > rows - row) list.push_back(0), ++listed;
                list.push_back(row);
                begins.push_back(++listed);
            }
            list.resize(static_cast<std::size_t>((layout + 1) * room), -1);
        }
        give(node.input(index), std::move(begins));
        give(node.input(index + 1), std::move(list));
        return rows * node.attributes.integer("sparse_block_size", 0);
    }

    /// Where the keys of each sequence end, then perhaps where they begin, or how many queries and keys there are before each sequence.
    void ends(const Node& node) {
        const OpaqueInputs inputs = inputsOf(node);
        const ValueShape& list = m_shapes.of(node.input(inputs.mask));
        const bool apart = hasProjectedInputs(node) && node.input(1) && m_shapes.of(node.input(1)).dims.size() == 3;
        const std::int64_t batch = size(node.input(0), 0), rows = size(node.input(0), 1), past = node.input(inputs.past) ? size(node.input(inputs.past), hasPackedWeight(node) ? 3 : 2) : 0;
        if (!list.known() || list.dims.size() != 1 || batch < 1) return;
        const std::int64_t total = past + (apart ? size(node.input(1), 1) : rows), length = list.dims[0];
        std::vector<std::int64_t> numbers(static_cast<std::size_t>(batch), total);
        for (std::size_t b = 1; m_differ && b < numbers.size(); b += 2) numbers[b] -= total / 3;
        if (length == 2 * batch) numbers.resize(static_cast<std::size_t>(2 * batch), 0);
        for (const std::int64_t each : {rows, total})
            for (std::int64_t b = 0; length == 3 * batch + 2 && b <= batch; ++b) numbers.push_back(b * each);
        give(node.input(inputs.mask), std::move(numbers));
    }

    /// How far the keys of each sequence are none of padding.
    void filled(const Node& node) {
        const std::size_t rank = m_shapes.of(node.input(1)).dims.size();
        const std::int64_t keys = size(node.input(1), rank == 4 ? 2 : 1);
        std::vector<std::int64_t> numbers(static_cast<std::size_t>(size(node.input(0), 0)), keys);
        for (std::size_t b = 1; m_differ && b < numbers.size(); b += 2) numbers[b] -= keys / 3;
        give(node.input(6), std::move(numbers));
    }

    /// Where new keys go in a cache: as far behind as they have room, where lengths are to differ one place before it for every other sequence.
    void written(const Node& node) {
        const std::size_t rank = m_shapes.of(node.input(0)).dims.size();
        const std::int64_t axis = node.attributes.integer("axis", -2), along = axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis;
        if (along < 0) return;
        const std::int64_t room = size(node.input(0), static_cast<std::size_t>(along)) - size(node.input(1), static_cast<std::size_t>(along));
        if (room < 0) return;
        std::vector<std::int64_t> places(static_cast<std::size_t>(size(node.input(0), 0)), room);
        for (std::size_t b = 1; m_differ && room > 0 && b < places.size(); b += 2) --places[b];
        give(node.input(2), std::move(places));
    }

    /// Each past key came from one beam or the next.
    void beams(const Node& node) {
        const ValueShape& choice = m_shapes.of(node.input(inputsOf(node).beams));
        if (!choice.known() || choice.dims.size() != 3 || choice.dims[1] < 1) return;
        std::vector<std::int64_t> numbers;
        for (std::int64_t i = 0; i < choice.count(); ++i) numbers.push_back((i + i / choice.dims[2]) % choice.dims[1]);
        give(node.input(inputsOf(node).beams), std::move(numbers));
    }

    /// Tokens are shared out among sequences, whose pages are the last ones first and filled; the last token goes nowhere where slots are told.
    void paged(const Node& node) {
        const OpaqueInputs inputs = inputsOf(node);
        const std::int64_t tokens = size(node.input(0), 0), batch = size(node.input(inputs.lengths), 0), columns = size(node.input(inputs.pages), 1);
        const std::int64_t pages = size(node.input(inputs.past), 0), places = size(node.input(inputs.past), 1), each = batch > 0 ? std::min(columns, pages / batch) : 0;
        std::vector<std::int64_t> sums{0}, before, table, slots;
        for (std::int64_t b = 0; b < batch; ++b) {
            const std::int64_t own = tokens / batch + (b < tokens % batch ? 1 : 0), past = each * places - own - (m_differ && b % 2 == 1 ? 1 : 0);
            if (past < 0) return;
            sums.push_back(sums.back() + own);
            before.push_back(past);
            for (std::int64_t i = 0; i < columns; ++i) table.push_back(i < each ? pages - 1 - b * each - i : -1);
            for (std::int64_t i = past; i < past + own; ++i) slots.push_back((pages - 1 - b * each - i / places) * places + i % places);
        }
        if (!slots.empty()) slots.back() = -1;
        give(node.input(inputs.sums), std::move(sums));
        give(node.input(inputs.lengths), std::move(before));
        give(node.input(inputs.pages), std::move(table));
        give(node.input(inputs.slots), std::move(slots));
    }

    /// Tokens fill one sequence after another; behind their places come those of padding.
    void packed(const Node& node) {
        const std::size_t index = inputsOf(node).tokens;
        const std::int64_t tokens = size(node.input(0), 0), batch = size(node.input(index), 0), longest = size(node.input(index), 1);
        if (longest <= 0 || batch > std::numeric_limits<std::int32_t>::max() / longest || tokens > batch * longest) return;
        std::vector<std::int64_t> sums{0}, places, padding;
        for (std::int64_t b = 0; b < batch; ++b) {
            const std::int64_t own = std::min(longest, tokens - sums.back());
            sums.push_back(sums.back() + own);
            for (std::int64_t i = 0; i < longest; ++i) (i < own ? places : padding).push_back(b * longest + i);
        }
        places.insert(places.end(), padding.begin(), padding.end());
        give(node.input(index), std::move(places));
        give(node.input(index + 1), std::move(sums));
    }

    const Graph& m_graph;
    const Shapes& m_shapes;
    bool m_differ;
    NamedTensors m_made;
};

} // namespace

NamedTensors lengthInputs(const Graph& graph, const Shapes& shapes, bool differ) { return Lengths(graph, shapes, differ).run(); }

} // namespace triptych
