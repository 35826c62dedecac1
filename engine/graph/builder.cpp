#include "graph/graph.h"

#include <algorithm>
#include <functional>
#include <queue>

namespace triptych {

/// How a table of names asks which name an index has.
template <class Items>
static auto namesOf(const Items& items) {
    return [&items](auto id) -> std::string_view { return items[id].name; };
}

GraphBuilder::GraphBuilder(std::string name) : m_name(std::move(name)) {}

void GraphBuilder::reserve(std::size_t nodes, std::size_t values) {
    m_nodes.reserve(nodes);
    m_values.reserve(values);
    m_valueByName.reserve(values);
    m_sources.reserve(nodes);
    m_sourcesBegin.reserve(nodes + 1);
}

ValueId GraphBuilder::value(std::string_view name) {
    if (name.empty()) return {};
    const ValueId next(m_values.size());
    if (const ValueId found = m_valueByName.findOrInsert(name, next, namesOf(m_values))) return found;
    return m_values.push_back(Value{std::string(name), {}, nullptr});
}

ValueId GraphBuilder::newValue(std::string_view wish) {
    const std::string_view base = wish.empty() ? "value" : wish;
    const ValueId next(m_values.size());
    if (const ValueId made = value(base); made == next) return made;
    // The next number for this wish is remembered: a thousand constants of one name cost a thousand steps.
    std::size_t& copy = m_copies[std::string(base)];
    while (true)
        if (const ValueId made = value(std::string(base) + "_" + std::to_string(++copy)); made == next) return made;
}

ValueId GraphBuilder::findValue(std::string_view name) const {
    return m_valueByName.find(name, namesOf(m_values));
}

ValueId GraphBuilder::addInitializer(TensorPtr tensor) {
    const ValueId id = newValue(tensor->name);
    Value& made = m_values[id];
    made.declared.type = tensor->type;
    made.declared.hasShape = true;
    made.declared.dims = tensor->dims;
    made.declared.kind = "tensor";
    made.initializer = std::move(tensor);
    return id;
}

void GraphBuilder::rename(std::span<const std::pair<ValueId, std::string>> names) {
    for (const auto& [id, name] : names) m_values[id].name = name;
    m_valueByName.clear();
    m_valueByName.reserve(m_values.size());
    // The first of two with one name has it.
    for (std::size_t i = 0; i < m_values.size(); ++i)
        m_valueByName.findOrInsert(m_values[ValueId(i)].name, ValueId(i), namesOf(m_values));
}

NodeId GraphBuilder::addNode(Node node, std::span<const SourceId> sources) {
    if (sources.empty()) m_sources.emplace_back(m_nodes.size());
    else m_sources.insert(m_sources.end(), sources.begin(), sources.end());
    m_sourcesBegin.push_back(static_cast<std::uint32_t>(m_sources.size()));
    return m_nodes.push_back(std::move(node));
}

void GraphBuilder::adoptValues(const Graph& from) {
    m_values = from.m_values;
    m_valueByName = from.m_valueByName;
    m_name = from.name();
    m_inputs = from.inputs();
    m_outputs = from.outputs();
}

NodeId GraphBuilder::adoptNode(const Graph& from, NodeId node) {
    return addNode(from.node(node), from.sources(node));
}

void GraphBuilder::uniqueNames() {
    m_nodeByName.clear();
    m_nodeByName.reserve(m_nodes.size());
    const auto take = [&](const std::string& name, NodeId id) {
        return !m_nodeByName.findOrInsert(name, id, namesOf(m_nodes));
    };
    std::vector<NodeId> nameless;
    for (std::size_t i = 0; i < m_nodes.size(); ++i)
        if (m_nodes[NodeId(i)].name.empty() || !take(m_nodes[NodeId(i)].name, NodeId(i))) nameless.emplace_back(i);
    for (const NodeId id : nameless) {
        Node& node = m_nodes[id];
        const std::string base = node.op + "_" + std::to_string(id.position());
        std::string name = base;
        for (std::size_t copy = 1; !take(name, id); ++copy) name = base + "_" + std::to_string(copy);
        node.name = std::move(name);
    }
}

namespace {

std::string nodeText(const Node& node, NodeId id) {
    return node.name + " (" + (node.domain.empty() ? "" : node.domain + ".") + node.op + ", node " + std::to_string(id.position()) + ")";
}

template <class Visit>
void forEachRead(const Node& node, const Visit& visit) {
    for (const ValueId value : node.inputs)
        if (value) visit(value);
    for (const ValueId value : node.captured)
        if (value) visit(value);
}

} // namespace

// Kahn's algorithm that always takes the ready node which comes first in the file, so that a file in order stays as it is.
// Cost: n log n for the queue of ready nodes; the queue is short in practice.
Result<std::vector<NodeId>> GraphBuilder::topologicalOrder(const std::vector<NodeId>& producers, const std::string& stage) const {
    std::vector<NodeId> order;
    order.reserve(m_nodes.size());
    bool sorted = true;
    for (std::size_t i = 0; i < m_nodes.size() && sorted; ++i) {
        forEachRead(m_nodes[NodeId(i)], [&](ValueId value) { sorted = sorted && (!producers[value.position()] || producers[value.position()].position() < i); });
        order.emplace_back(i);
    }
    if (sorted) return order;
    order.clear();
    std::vector<std::uint32_t> waiting(m_nodes.size(), 0);
    std::vector<std::vector<NodeId>> followers(m_nodes.size());
    for (std::size_t i = 0; i < m_nodes.size(); ++i) {
        forEachRead(m_nodes[NodeId(i)], [&](ValueId value) {
            const NodeId producer = producers[value.position()];
            if (!producer) return;
            ++waiting[i];
            followers[producer.position()].emplace_back(i);
        });
    }
    std::priority_queue<NodeId, std::vector<NodeId>, std::greater<>> ready;
    for (std::size_t i = 0; i < m_nodes.size(); ++i)
        if (waiting[i] == 0) ready.emplace(i);
    while (!ready.empty()) {
        const NodeId next = ready.top();
        ready.pop();
        order.push_back(next);
        for (const NodeId follower : followers[next.position()])
            if (--waiting[follower.position()] == 0) ready.push(follower);
    }
    if (order.size() == m_nodes.size()) return order;
    // What waits may only be downstream of a cycle: walk back along waiting producers until a node comes again.
    NodeId at(static_cast<std::size_t>(std::find_if(waiting.begin(), waiting.end(), [](auto n) { return n > 0; }) - waiting.begin()));
    std::vector<bool> seen(m_nodes.size(), false);
    while (!seen[at.position()]) {
        seen[at.position()] = true;
        NodeId back;
        forEachRead(m_nodes[at], [&](ValueId value) {
            const NodeId producer = producers[value.position()];
            if (producer && waiting[producer.position()] > 0) back = producer;
        });
        if (!back) break;
        at = back;
    }
    return fail(stage, "the node depends on its own output: the graph has a cycle", "export the model again", nodeText(m_nodes[at], at));
}

void GraphBuilder::moveNodes(Graph& graph, const std::vector<NodeId>& order) {
    const auto inOrder = [&] {
        for (std::size_t i = 0; i < order.size(); ++i)
            if (order[i] != NodeId(i)) return false;
        return true;
    };
    graph.m_nodeByName = std::move(m_nodeByName);
    if (inOrder()) {
        graph.m_nodes = std::move(m_nodes);
        graph.m_sources = std::move(m_sources);
        graph.m_sourcesBegin = std::move(m_sourcesBegin);
        return;
    }
    std::vector<NodeId> place(order.size());
    graph.m_sources.reserve(m_sources.size());
    graph.m_sourcesBegin.assign(1, 0);
    for (const NodeId id : order) {
        place[id.position()] = graph.m_nodes.push_back(std::move(m_nodes[id]));
        const auto begin = m_sources.begin();
        graph.m_sources.insert(graph.m_sources.end(), begin + m_sourcesBegin[id.position()], begin + m_sourcesBegin[id.position() + 1]);
        graph.m_sourcesBegin.push_back(static_cast<std::uint32_t>(graph.m_sources.size()));
    }
    graph.m_nodeByName.renumber([&](NodeId id) { return place[id.position()]; });
}

Result<GraphPtr> GraphBuilder::finish(std::string stage) {
    uniqueNames();
    std::vector<NodeId> producers(m_values.size());
    for (std::size_t i = 0; i < m_nodes.size(); ++i) {
        const Node& node = m_nodes[NodeId(i)];
        for (const ValueId value : node.outputs) {
            if (!value) continue;
            if (producers[value.position()])
                return fail(stage, "the value '" + m_values[value].name + "' has two producers, the other is " + m_nodes[producers[value.position()]].name,
                            "give each output its own name", nodeText(node, NodeId(i)));
            producers[value.position()] = NodeId(i);
        }
    }
    const auto order = topologicalOrder(producers, stage);
    if (!order) return tl::unexpected(order.error());

    std::shared_ptr<Graph> graph(new Graph());
    graph->m_name = std::move(m_name);
    moveNodes(*graph, *order);
    graph->m_valueByName = std::move(m_valueByName);
    graph->m_values = std::move(m_values);
    graph->m_inputs = std::move(m_inputs);
    graph->m_outputs = std::move(m_outputs);

    const std::size_t values = graph->m_values.size();
    graph->m_producers.resize(values);
    graph->m_isOutput = IndexVector<ValueId, bool>(values, false);
    graph->m_isInput = IndexVector<ValueId, bool>(values, false);
    // A function may leave the name of a parameter empty.
    for (const ValueId value : graph->m_outputs)
        if (value) graph->m_isOutput[value] = true;
    for (const ValueId value : graph->m_inputs)
        if (value) graph->m_isInput[value] = true;

    graph->m_readersBegin.assign(values + 1, 0);
    for (const Node& node : graph->m_nodes) forEachRead(node, [&](ValueId value) { ++graph->m_readersBegin[value.position() + 1]; });
    for (std::size_t i = 0; i < values; ++i) graph->m_readersBegin[i + 1] += graph->m_readersBegin[i];
    graph->m_readers.resize(graph->m_readersBegin[values]);
    std::vector<std::uint32_t> next(graph->m_readersBegin.begin(), graph->m_readersBegin.end() - 1);
    for (std::size_t i = 0; i < graph->m_nodes.size(); ++i) {
        const NodeId id(i);
        const Node& node = graph->m_nodes[id];
        for (const ValueId value : node.outputs)
            if (value) graph->m_producers[value] = id;
        forEachRead(node, [&](ValueId value) { graph->m_readers[next[value.position()]++] = id; });
    }
    return graph;
}

} // namespace triptych
