#include "graph/graph.h"

namespace triptych {

const Value& Graph::nothing() {
    static const Value value;
    return value;
}

bool Graph::isOuter(ValueId value) const {
    const bool read = !readers(value).empty() || isOutput(value);
    return read && !producer(value) && !isInput(value) && !m_values[value].initializer;
}

std::span<const NodeId> Graph::readers(ValueId value) const {
    if (!value) return {};
    const std::size_t at = value.position();
    return std::span(m_readers).subspan(m_readersBegin[at], m_readersBegin[at + 1] - m_readersBegin[at]);
}

std::span<const SourceId> Graph::sources(NodeId node) const {
    const std::size_t at = node.position();
    return std::span(m_sources).subspan(m_sourcesBegin[at], m_sourcesBegin[at + 1] - m_sourcesBegin[at]);
}

NodeId Graph::findNode(std::string_view name) const {
    return m_nodeByName.find(name, [&](NodeId id) -> std::string_view { return m_nodes[id].name; });
}

ValueId Graph::findValue(std::string_view name) const {
    return m_valueByName.find(name, [&](ValueId id) -> std::string_view { return m_values[id].name; });
}

std::string describe(const Graph& graph, NodeId id) {
    const Node& node = graph.node(id);
    const std::string op = node.domain.empty() ? node.op : node.domain + "." + node.op;
    return node.name + " (" + op + ", node " + std::to_string(id.position()) + ")";
}

} // namespace triptych
