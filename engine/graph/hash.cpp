#include "graph/hash.h"

#include <xxhash.h>

namespace triptych {

namespace {

/// Feeds plain numbers and texts to xxHash; text with its length, so that pieces don't run together.
class Hasher {
public:
    void add(std::uint64_t number) { m_hash = XXH3_64bits_withSeed(&number, sizeof number, m_hash); }
    void add(std::string_view text) {
        add(text.size());
        m_hash = XXH3_64bits_withSeed(text.data(), text.size(), m_hash);
    }
    std::uint64_t value() const { return m_hash; }

private:
    std::uint64_t m_hash = 0;
};

} // namespace

std::uint64_t nodeHash(const Node& node) {
    Hasher hasher;
    hasher.add(node.op);
    hasher.add(node.domain);
    hasher.add(describe(node.attributes));
    return hasher.value();
}

std::uint64_t structuralHash(const Graph& graph, std::span<const NodeId> nodes) {
    Hasher hasher;
    std::unordered_map<ValueId, std::uint64_t> numbers;
    for (const NodeId id : nodes) {
        const Node& node = graph.node(id);
        hasher.add(nodeHash(node));
        for (const ValueId value : node.inputs) {
            if (!value) {
                hasher.add(~std::uint64_t(0));
                continue;
            }
            hasher.add(numbers.try_emplace(value, numbers.size()).first->second);
            if (const TensorPtr& tensor = graph.value(value).initializer)
                for (const Dim dim : tensor->dims) hasher.add(static_cast<std::uint64_t>(dim));
        }
        for (const ValueId value : node.outputs)
            if (value) hasher.add(numbers.try_emplace(value, numbers.size()).first->second);
    }
    return hasher.value();
}

} // namespace triptych
