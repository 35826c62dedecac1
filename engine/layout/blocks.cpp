// Cutting a graph into blocks: where a single tensor carries all that flows on, one block ends and the next begins.
//
// In topological order, values that are still to be read are "open". A node after which one value alone is open is a cut.
// Tensors that many parts of the graph read (masks, rotary tables) would keep every cut from being one: values whose
// readers lie far apart don't count.

#include "graph/hash.h"
#include "layout/layout.h"

#include <algorithm>
#include <map>

namespace triptych {

namespace {

bool drawn(NodeClass nodeClass) { return nodeClass == NodeClass::compute || nodeClass == NodeClass::view; }

/// "encoder.layer.3" of "encoder.layer.3.attention.self": up to the first whole number.
std::string layerOf(const std::string& scope) {
    std::size_t at = 0;
    while (at < scope.size()) {
        const std::size_t end = std::min(scope.find('.', at), scope.size());
        const std::string_view part(scope.data() + at, end - at);
        const bool number = !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
        // "block_3" numbers a layer too.
        const std::size_t tail = part.rfind('_');
        const bool tailed = tail != std::string_view::npos && tail + 1 < part.size() && std::all_of(part.begin() + static_cast<std::ptrdiff_t>(tail) + 1, part.end(), [](char c) { return c >= '0' && c <= '9'; });
        if (number || tailed) return scope.substr(0, end);
        at = end + 1;
    }
    return {};
}

class BlockFinder {
public:
    BlockFinder(const Graph& graph, const NodeClasses& classes) : m_graph(graph), m_classes(classes) {}

    std::vector<Block> run() {
        for (std::size_t i = 0; i < m_graph.nodes().size(); ++i)
            if (drawn(m_classes.of[NodeId(i)])) m_order.emplace_back(i);
        const bool scoped = byScope();
        if (!scoped) byCuts();
        finish();
        return std::move(m_blocks);
    }

private:
    void add(std::vector<NodeId> nodes, std::string key) {
        Block block;
        block.nodes = std::move(nodes);
        block.key = std::move(key);
        m_blocks.push_back(std::move(block));
    }

    /// Scopes name the layers where the exporter kept them. Nodes between two layers make blocks of their own.
    bool byScope() {
        std::map<std::string, std::size_t> first;
        std::vector<std::string> layers(m_order.size());
        for (std::size_t i = 0; i < m_order.size(); ++i) {
            layers[i] = layerOf(m_graph.node(m_order[i]).scope);
            if (!layers[i].empty()) first.try_emplace(layers[i], i);
        }
        if (first.size() < 2) return false;
        // Nodes without a layer join the layer that they stand in.
        std::vector<NodeId> run;
        std::string current;
        std::map<std::string, std::size_t> block;
        for (std::size_t i = 0; i < m_order.size(); ++i) {
            const std::string& layer = layers[i];
            if (!layer.empty() && block.contains(layer)) {
                m_blocks[block[layer]].nodes.push_back(m_order[i]);
                continue;
            }
            if (!layer.empty()) {
                if (!run.empty()) add(std::move(run), current.empty() ? "input" : "after " + current);
                run = {};
                block[layer] = m_blocks.size();
                add({m_order[i]}, layer);
                current = layer;
                continue;
            }
            run.push_back(m_order[i]);
        }
        if (!run.empty()) add(std::move(run), current.empty() ? "input" : "after " + current);
        return true;
    }

    void byCuts() {
        std::map<ValueId, std::size_t> lastRead;
        std::map<ValueId, std::size_t> reads;
        for (std::size_t i = 0; i < m_order.size(); ++i)
            for (const ValueId value : m_graph.node(m_order[i]).inputs)
                if (value && m_graph.producer(value) && drawn(m_classes.of[m_graph.producer(value)])) lastRead[value] = i, ++reads[value];
        constexpr std::size_t sharedReads = 4, shortest = 8, longest = 400;
        std::size_t open = 0, sinceCut = 0;
        std::vector<std::size_t> closing(m_order.size() + 1, 0);
        std::vector<NodeId> run;
        for (std::size_t i = 0; i < m_order.size(); ++i) {
            run.push_back(m_order[i]);
            ++sinceCut;
            for (const ValueId value : m_graph.node(m_order[i]).outputs) {
                const auto last = value ? lastRead.find(value) : lastRead.end();
                if (last == lastRead.end() || (reads[value] >= sharedReads && last->second > i + longest)) continue;
                ++open;
                ++closing[last->second];
            }
            open -= closing[i];
            // The residual stream forks right behind a cut: one value, read by the branch and by the add.
            if (open == 1 && sinceCut >= shortest && forks(m_order[i])) {
                add(std::move(run), "block " + std::to_string(m_blocks.size()));
                run = {};
                sinceCut = 0;
            }
        }
        if (!run.empty()) add(std::move(run), "block " + std::to_string(m_blocks.size()));
    }

    /// "block 3" of "model.stages.block_3"; a bare number keeps the name before it.
    static std::string shortTitle(const std::string& key) {
        const std::size_t prefix = key.starts_with("after ") ? 6 : 0;
        std::size_t dot = key.rfind('.');
        if (dot == std::string::npos || dot < prefix) return key;
        const bool bare = key.find_first_not_of("0123456789", dot + 1) == std::string::npos;
        if (bare && dot > prefix) dot = key.rfind('.', dot - 1);
        return key.substr(0, prefix) + key.substr(dot == std::string::npos || dot < prefix ? prefix : dot + 1);
    }

    bool forks(NodeId node) const { return m_graph.readers(m_graph.node(node).output()).size() != 1 || m_graph.node(node).is("Add"); }

    void finish() {
        std::map<std::uint64_t, std::size_t> repeats;
        for (Block& block : m_blocks) {
            std::sort(block.nodes.begin(), block.nodes.end());
            block.hash = structuralHash(m_graph, block.nodes);
            ++repeats[block.hash];
            block.title = shortTitle(block.key);
            std::replace(block.title.begin(), block.title.end(), '.', ' ');
            std::replace(block.title.begin(), block.title.end(), '_', ' ');
        }
        for (Block& block : m_blocks) block.repeat = repeats[block.hash];
    }

    const Graph& m_graph;
    const NodeClasses& m_classes;
    std::vector<NodeId> m_order;
    std::vector<Block> m_blocks;
};

} // namespace

std::vector<Block> findBlocks(const Graph& graph, const NodeClasses& classes, const Attentions&, const Decomposition*) { return BlockFinder(graph, classes).run(); }

} // namespace triptych
