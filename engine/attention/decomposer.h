#pragma once
// One decomposition under way. Private to engine/attention.

#include "attention/core.h"
#include "attention/own_columns.h"
#include "attention/same_value.h"
#include "attention/sizes.h"

#include <array>

namespace triptych {

/// What new nodes and parts of weights of each role are called by.
inline constexpr std::array roleNames{"q", "k", "v"};

class Decomposer {
public:
    Decomposer(const Model& model, const Graph& graph, const Shapes& shapes, const Attentions& attentions, Expansion expansion, const Shapes* varied, const Job& job);
    Result<Decomposition> run();

private:
    std::vector<SourceId> sourcesOf(const std::vector<NodeId>& nodes) const;
    Emitter emitter(const std::string& prefix, const std::string& scope, std::vector<SourceId> sources);
    NamedAttention one(const AttentionSpec& spec);
    NamedAttention asWritten(const AttentionSpec& spec) const;
    /// Names of a middle, whose softmax is one that a kernel computes.
    NamedPart partAsWritten(const AttentionPart& part, bool exponents) const;
    void writeSoftmax(NodeId softmax, NamedPart& part, NamedAttention& named);
    /// What to say where an attention's heads are 0.
    std::string whyNoHeads(const AttentionSpec& spec) const;
    /// Projections that stay as the file has them.
    void outerProjections(const AttentionSpec& spec, NamedAttention& named) const;

    /// Projections that read equal values read one of them.
    void shareInputs(NamedAttention& named);

    // take_apart.cpp
    struct Cut {
        const RoleStage* stage = nullptr;
        ColumnRange range;
        std::size_t role = 0;
        std::vector<NodeId> pointwise; ///< between the product (with its bias) and the cut, in order: each role gets its own
        std::int64_t columns = 0;      ///< of the product
        ColumnView view;               ///< of the value that the cut hands on, or of the projection's own places in it
        Dims dims;                     ///< of what is viewed
        std::vector<std::size_t> axes; ///< of the places, for each join of others to them
    };
    /// A packed projection of one sequence.
    struct PackedStream {
        std::array<RoleTrace, 3> traces;
        std::vector<Cut> cuts;
        std::size_t at = 0; ///< 0: of the attention itself; else of its joined ones
    };
    /// A sequence's own part of what a cut of several at once handed on.
    struct Piece {
        const Cut* cut = nullptr;
        ValueId value;
    };
    /// All of them, by the inputs of the joins that lead to each, the last join first.
    using Pieces = std::map<std::vector<std::size_t>, Piece>;
    /// A product that several roles share becomes one product a role; what cut it goes.
    void takeApart(const AttentionSpec& spec, NamedAttention& named, const std::array<ValueId, 3>& operands);
    std::optional<std::vector<PackedStream>> packedStreams(const AttentionSpec& spec, const std::array<ValueId, 3>& operands) const;
    std::optional<std::vector<Cut>> cutsOf(const std::array<RoleTrace, 3>& traces) const;
    bool joinsAreWhole(const std::vector<PackedStream>& streams) const;
    void writeStream(const PackedStream& stream, NamedAttention& named, NamedStream& own);
    std::optional<std::vector<ValueId>> splitInstead(const std::vector<Cut>& cuts, const std::array<RoleTrace, 3>& traces, NamedAttention& named);
    std::optional<std::vector<NodeId>> pointwiseBefore(const RoleTrace& trace, const RoleStage& stage, const OwnColumns& own) const;
    bool isNumber(ValueId value) const;
    bool weightIsAbsent(const RoleTrace& trace) const;
    std::optional<ValueId> pointwiseOfOwn(const Cut& cut, const RoleTrace& trace, Emitter& emit, ValueId own, Dims& dims, OwnColumns& part);
    void replaceCut(const Cut& cut, const RoleTrace& trace, Emitter& emit, ValueId own, OwnColumns& part, NamedAttention& named, NamedStream& stream);
    void joinPieces(NamedAttention& named);
    void takeOver(PackedStream& stream, NamedStream& named) const;

    std::optional<WeightSource> packedWeight(const Node& product) const;
    /// What parts of a product's weight are named after.
    std::string weightPrefix(const Node& product) const;

    // packed_input.cpp
    std::vector<ValueId> inputApart(const AttentionSpec& spec, std::size_t input, NamedAttention& named);
    std::vector<std::optional<ColumnRange>> rangesOf(const RoleTrace& trace, const std::vector<std::int64_t>& widths, std::int64_t columns) const;

    // canonical_call.cpp
    /// An attention that is all of a call, in canonical form.
    std::optional<NamedAttention> canonicalCall(const AttentionSpec& spec);
    bool isAlone(ValueId result, const Core& core, const std::array<RoleTrace, 3>& traces, const AttentionSpec& spec) const;
    const std::vector<NodeId>& nodesOf(SourceId call);
    std::vector<ValueId> handedOut(SourceId call);
    bool isOf(NodeId node, SourceId call) const;
    ValueId batchFirst(ValueId value, bool sequenceFirst, bool& turned) const;
    bool precededByTurn(ValueId value) const;
    NodeId fileNode(SourceId source);
    ValueId maskForHeads(Emitter& emit, ValueId mask, std::int64_t heads) const;
    void writeOut(Emitter& emit, const AttentionSpec& spec, ValueId context, bool sequenceFirst, ValueId result);

    /// Keeps every node that is not replaced, and of the candidates those that something still reads.
    void adoptWhatIsRead();
    DecomposedAttention resolved(std::size_t at) const;

    const Model& m_model;
    const Graph& m_graph;
    Sizes m_sizes, m_boundSizes;
    const Sizes* m_active; ///< those that take_apart.cpp works with
    const Shapes& m_shapes; ///< those that views are built by
    const Attentions& m_attentions;
    Expansion m_expansion;
    const Job& m_job;
    GraphBuilder m_builder;
    Decomposition m_result;
    std::vector<NamedAttention> m_named;
    std::string m_boundOnly; ///< attentions whose sizes are written as they are bound
    std::set<NodeId> m_removed;     ///< replaced for good
    std::vector<bool> m_candidate;  ///< go where nothing reads them any more
    std::set<ValueId> m_replaced;   ///< new nodes produce these
    SameValues m_same;
    std::map<std::pair<ValueId, NodeId>, std::vector<std::string>> m_ownProducts; ///< by what cuts handed on and the product that was cut: those that were written for it
    std::map<ValueId, Pieces> m_pieces; ///< of the attention at hand, by what cuts handed on
    std::map<std::pair<NodeId, std::size_t>, int> m_timesTakenApart; ///< by product and role: two attentions may cut queries of their own from one
    std::map<SourceId, NodeId> m_fileNodes;
    std::map<SourceId, std::vector<NodeId>> m_callNodes; ///< filled by the first call that asks
};

} // namespace triptych
