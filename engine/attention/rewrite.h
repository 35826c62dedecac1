#pragma once
// A graph under rewriting: what decomposition adds to it. Private to engine/attention.

#include "attention/assemble.h"
#include "attention/decompose.h"
#include "attention/weights.h"

namespace triptych {

/// Adds nodes with names below a prefix, all with the same sources.
class Emitter {
public:
    Emitter(GraphBuilder& builder, std::string prefix, std::string scope, std::vector<SourceId> sources, std::int64_t opset)
        : m_builder(builder), m_prefix(std::move(prefix)), m_scope(std::move(scope)), m_sources(std::move(sources)), m_opset(opset) {}

    /// One node of ai.onnx with one output; `role` ends its name: PREFIX/ROLE/OP.
    ValueId op(const std::string& role, const char* type, std::vector<ValueId> inputs, std::vector<Attribute> attributes = {}, ValueId output = {});
    ValueId transpose(const std::string& role, ValueId value, std::vector<std::int64_t> perm, ValueId output = {});
    ValueId reshape(const std::string& role, ValueId value, Dims dims, ValueId output = {});
    ValueId integers(const std::string& name, std::vector<std::int64_t> values);
    ValueId scalar(const std::string& name, DataType type, double value);
    /// Pieces along the last of `rank` axes.
    std::vector<ValueId> split(const std::string& role, ValueId value, const std::vector<std::int64_t>& lengths, std::size_t rank);
    /// The last of `rank` axes: counted from the back where the opset can.
    std::int64_t lastAxis(std::size_t rank) const { return m_opset < 11 ? static_cast<std::int64_t>(rank) - 1 : -1; }
    /// A copy of a node with other inputs and outputs.
    ValueId copy(const std::string& role, const Node& node, std::vector<ValueId> inputs);

    GraphBuilder& builder() { return m_builder; }
    std::vector<NodeId>& nodes() { return m_nodes; }
    const std::string& prefix() const { return m_prefix; }
    std::int64_t opset() const { return m_opset; } ///< of ai.onnx
    /// Names of nodes added so far, in order: ids change when the graph is finished.
    const std::vector<std::string>& names() const { return m_names; }

private:
    GraphBuilder& m_builder;
    std::string m_prefix, m_scope;
    std::vector<SourceId> m_sources;
    std::int64_t m_opset;
    std::vector<NodeId> m_nodes;
    std::vector<std::string> m_names;
};

/// Names of nodes, until the graph is finished and has ids.
struct NamedStream {
    std::vector<std::string> q, k, v;
    ValueId inputQ, inputK, inputV;
    bool wasPacked = false;
};
struct NamedPart {
    std::string scores, softmax, context;
};

struct NamedAttention : NamedStream, NamedPart {
    std::vector<std::string> nodes;
    std::vector<NamedStream> joined; ///< as AttentionSpec::joined
    std::vector<NamedPart> parts; ///< as AttentionSpec::parts
    bool rewritten = false;
};

class Sizes;

/// A view of a packed projection as a view of one role's own: rows keep their order, columns close up.
///   own projection [rows, width] -- [Reshape] -- [Transpose] -- [Reshape] -- the value that the cut handed on
/// Columns that run backwards in the view do so in the own projection.
/// False where a size can't be told for all bindings.
bool viewOfOwn(Emitter& emit, const Sizes& sizes, const std::string& role, ValueId own, const Dims& ownDims, const ColumnView& view, const Dims& target);

/// The roles that one input of an operator packs, each as [B,S,columns] of a projection of its own; empty where they stay packed.
using InputApart = std::function<std::vector<ValueId>(std::size_t input)>;

/// Q, K, V of an opaque attention as it is documented; fails on an option that is not known, with the reason.
Result<NamedAttention> expandOpaque(Emitter& emit, const Graph& graph, const Shapes& shapes, const AttentionSpec& spec, Expansion expansion, const Sizes& sizes, const InputApart& apart);

} // namespace triptych
