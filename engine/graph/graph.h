#pragma once
// The model as a graph that nobody edits: built once by GraphBuilder, then shared.

#include "graph/attribute.h"
#include "graph/types.h"
#include "support/index.h"
#include "support/name_table.h"
#include "support/result.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace triptych {

/// Position of a node in Graph::nodes. Not interchangeable with ValueId.
using NodeId = Index<struct NodeTag>;
/// Position of a value (a tensor that flows along edges) in Graph::values.
using ValueId = Index<struct ValueTag>;
/// Position of a node in the nodes of the file's own graph, where provenance points.
using SourceId = Index<struct SourceTag>;

/// Provenance keys that a file may carry in metadata_props of a node.
using Metadata = std::vector<std::pair<std::string, std::string>>;

struct Node {
    std::string name;   ///< unique in the graph; unnamed or repeated ones are called OPTYPE_INDEX
    std::string op;     ///< "MatMul"
    std::string domain; ///< "" for ai.onnx
    std::string overload; ///< which of several functions of that name is called
    std::string scope;  ///< module path where the exporter left one ("encoder.layer.0.attention"), else ""
    std::vector<ValueId> inputs;   ///< in order; an optional input that is left out is none
    std::vector<ValueId> outputs;  ///< likewise
    std::vector<ValueId> captured; ///< values of this graph that nested graphs (If, Loop, Scan) read
    Attributes attributes;
    Metadata metadata;
    /// Of its domain, for a node of a function that imports another version than the model does; else 0.
    std::int64_t ownVersion = 0;

    /// The version of its domain that gives it its meaning; `absent` where `imports` has none.
    std::int64_t version(const std::map<std::string, std::int64_t>& imports, std::int64_t absent) const {
        if (ownVersion > 0) return ownVersion;
        const auto found = imports.find(domain);
        return found == imports.end() ? absent : found->second;
    }
    bool is(std::string_view opType) const { return domain.empty() && op == opType; }
    bool is(std::string_view ofDomain, std::string_view opType) const { return op == opType && domain == ofDomain; }
    /// Input at `index`; none where there are fewer or it is left out.
    ValueId input(std::size_t index) const { return index < inputs.size() ? inputs[index] : ValueId(); }
    ValueId output(std::size_t index = 0) const { return index < outputs.size() ? outputs[index] : ValueId(); }
};

/// Whether a node is one of these operators of ai.onnx.
inline bool isOneOf(const Node& node, std::span<const char* const> operators) {
    return std::any_of(operators.begin(), operators.end(), [&](const char* each) { return node.is(each); });
}

/// Dimensions as the file declares them.
struct DeclaredType {
    DataType type = DataType::undefined;
    bool hasShape = false;
    Dims dims;                        ///< unknownDim where symbolic or absent
    std::vector<std::string> symbols; ///< same length as dims or empty; "" where the size is a number or has no name
    /// "tensor", "sequence", "optional", "map", "sparse_tensor"; "" where undeclared
    std::string kind;
    std::shared_ptr<const std::string> other = nullptr; ///< a type that is no tensor's, as the file writes it; null for tensors
};

struct Value {
    std::string name; ///< unique in the graph
    DeclaredType declared;
    TensorPtr initializer; ///< null unless the file gives this value as a constant
};

/// An imported or rewritten model graph. Immutable; every stage returns a new one.
class Graph {
public:
    const std::string& name() const { return m_name; }
    /// In a topological order; the file's own order where that is one.
    const std::vector<Node>& nodes() const { return m_nodes.items(); }
    const std::vector<Value>& values() const { return m_values.items(); }
    const Node& node(NodeId id) const { return m_nodes[id]; }
    /// A nameless value without a type for none: what is left out.
    const Value& value(ValueId id) const { return id ? m_values[id] : nothing(); }
    const std::vector<ValueId>& inputs() const { return m_inputs; } ///< without those that are initializers too
    const std::vector<ValueId>& outputs() const { return m_outputs; }
    /// Each reading node once for each input (captured ones included) that is this value, in node order.
    std::span<const NodeId> readers(ValueId value) const;
    /// None for inputs, initializers and values of an outer graph.
    NodeId producer(ValueId value) const { return value ? m_producers[value] : NodeId(); }
    bool isOutput(ValueId value) const { return value && m_isOutput[value]; }
    bool isInput(ValueId value) const { return value && m_isInput[value]; }
    /// Whether something here reads a value that comes from the graph round this one.
    bool isOuter(ValueId value) const;
    /// Nodes of the file that this one stands for. In the file's own graph: itself.
    std::span<const SourceId> sources(NodeId node) const;
    /// None where there is no such name.
    NodeId findNode(std::string_view name) const;
    ValueId findValue(std::string_view name) const;

private:
    friend class GraphBuilder;
    Graph() = default;
    static const Value& nothing();
    std::string m_name;
    IndexVector<NodeId, Node> m_nodes;
    IndexVector<ValueId, Value> m_values;
    std::vector<ValueId> m_inputs, m_outputs;
    IndexVector<ValueId, NodeId> m_producers;
    IndexVector<ValueId, bool> m_isOutput, m_isInput;
    std::vector<NodeId> m_readers;               // of all values, one after another
    std::vector<std::uint32_t> m_readersBegin;   // values + 1
    std::vector<SourceId> m_sources;             // of all nodes, one after another
    std::vector<std::uint32_t> m_sourcesBegin;   // nodes + 1
    NameTable<NodeId> m_nodeByName;
    NameTable<ValueId> m_valueByName;
};

/// "/layer/0/MatMul (MatMul, node 17)": how messages name a node.
std::string describe(const Graph& graph, NodeId node);

/// Collects nodes and values in any order; finish() checks and sorts them.
class GraphBuilder {
public:
    explicit GraphBuilder(std::string name = {});

    /// Room for as many: growing step by step would move all of them again and again.
    void reserve(std::size_t nodes, std::size_t values);
    /// The value of that name; made where it is new. Never none, except for the empty name.
    ValueId value(std::string_view name);
    /// A new value with a name close to `wish` that nothing else has.
    ValueId newValue(std::string_view wish);
    ValueId findValue(std::string_view name) const;
    Value& edit(ValueId value) { return m_values[value]; }
    const Value& peek(ValueId value) const { return m_values[value]; }
    /// The name of edit() must stay as it is; this gives new ones.
    void rename(std::span<const std::pair<ValueId, std::string>> names);
    /// A value with a constant; its name is made unique where taken.
    ValueId addInitializer(TensorPtr tensor);
    void addInput(ValueId value) { m_inputs.push_back(value); }
    void clearInputs() { m_inputs.clear(); } ///< of adoptValues()
    void addOutput(ValueId value) { m_outputs.push_back(value); }

    /// Where `sources` is empty, the node is its own source by its position among the added nodes.
    NodeId addNode(Node node, std::span<const SourceId> sources = {});
    Node& editNode(NodeId node) { return m_nodes[node]; }
    std::size_t nodeCount() const { return m_nodes.size(); }

    /// Copies a graph's values (same ValueIds as there, so call it first), inputs and outputs, but no node.
    void adoptValues(const Graph& from);
    /// Copies one node of that graph with its sources.
    NodeId adoptNode(const Graph& from, NodeId node);

    /// Gives every node a unique name, makes the order topological (stable), drops nothing.
    /// Fails, naming the node, on a cycle, on a value with two producers, on a value that is its own input.
    Result<GraphPtr> finish(std::string stage = "import");

private:
    Result<std::vector<NodeId>> topologicalOrder(const std::vector<NodeId>& producers, const std::string& stage) const;
    void uniqueNames();
    void moveNodes(Graph& graph, const std::vector<NodeId>& order);
    std::string m_name;
    IndexVector<NodeId, Node> m_nodes;
    std::vector<SourceId> m_sources; // of all nodes, one after another
    std::vector<std::uint32_t> m_sourcesBegin{0};
    IndexVector<ValueId, Value> m_values;
    NameTable<ValueId> m_valueByName;
    NameTable<NodeId> m_nodeByName; ///< from uniqueNames() on
    std::unordered_map<std::string, std::size_t> m_copies; ///< of names that newValue() was asked for again
    std::vector<ValueId> m_inputs, m_outputs;
};

} // namespace triptych
