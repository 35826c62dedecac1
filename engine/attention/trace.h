#pragma once
// Walking back from an operand of a product to the projection it comes from. Private to engine/attention.

#include "attention/attention.h"

#include <map>

namespace triptych {

/// Which elements of a linear projection's output a chain of views selects, and in which order. An axis may hold several
/// factors, from outer to inner: so a merge of transposed axes can still be told.
struct ColumnView {
    struct Factor {
        std::int64_t size = 1, stride = 0; ///< stride in elements of the projection's output
    };
    std::vector<std::vector<Factor>> axes;
    std::int64_t offset = 0; ///< of the first element

    static ColumnView whole(const Dims& dims);
    std::int64_t size(std::size_t axis) const;
    /// False where the sizes can't be cut that way.
    bool reshape(const Dims& dims);
    void transpose(const std::vector<std::int64_t>& perm);
    /// False where the axis is a merge of several.
    bool slice(std::size_t axis, std::int64_t begin, std::int64_t length, std::int64_t step);
};

/// A Concat on the way whose inputs come from projections of their own, as text beside an image; one input is followed.
struct Join {
    NodeId concat;
    std::size_t input = 0;
};

/// What a join does to the rows of the projection that is followed.
struct JoinedRows {
    Join join;
    Dim own = 0, whole = 0;    ///< places of the projection's own, and of all
    std::int64_t stride = 0;   ///< of the axis of places
};

/// A cut of a packed projection on the way to an operand.
struct RoleStage {
    NodeId selector; ///< Split, Slice or Gather
    ValueId value;   ///< what it hands on
    ColumnView view; ///< of that value
    std::vector<JoinedRows> joined; ///< joins between the projection and the cut
};

/// What was met on the way from a product's operand back to its source.
struct RoleTrace {
    ValueId operand;                     ///< where the walk began
    NodeId linear;                       ///< the first product with a constant weight; none: there is no projection
    std::vector<NodeId> path;            ///< nodes from the operand back, the projection's product not included
    std::vector<ValueId> reads;          ///< for each of them the value that the walk went on from: what a rotary embedding or a norm is made of is skipped
    ValueId source;                      ///< where the walk ended: the projection's output before its bias, or what has none
    std::int64_t heads = 0;              ///< of a product on the way that has a matrix for each; 0: there is none
    std::int64_t repeats = 1;            ///< how often each head was copied on the way, behind the batch axis
    double scale = 1;                    ///< product of constant scales met
    bool scaled = false;
    std::set<std::string> extras;        ///< "rope", "qk_norm", "kv_cache", "kv_repeat", "cast", "cosine", "linformer"
    std::optional<ColumnView> columns;   ///< which columns of the projection reach the operand; empty: can't be told
    std::vector<RoleStage> stages;       ///< Split, Slice and Gather nodes that cut it, from the projection on
    std::vector<Join> joins;             ///< from the operand back
    NodeId bias;                         ///< the Add of a 1-D bias right behind the product
    bool ambiguous = false;              ///< more than one projection feeds it
};

/// For a MatMul or Gemm with a constant matrix, quantised in whatever way, and for an Einsum or a Conv that is a projection: the weight operand's index.
std::optional<std::size_t> linearWeight(const Graph& graph, const Shapes& shapes, NodeId node);
/// Whether a projection has its columns second, as channels.
bool convolves(const Node& node);
/// The bias that a projection adds itself; none where it has none.
ValueId linearBias(const Node& node);
/// What a view undoes another one of, perhaps with copies and casts between; none where it undoes nothing.
ValueId undone(const Graph& graph, const Shapes& shapes, const Node& view);
/// The views on a role's way that cancel out; copies and casts between them are none.
std::set<NodeId> cancelledViews(const Graph& graph, const Shapes& shapes, const RoleTrace& trace);
/// The earliest value with the same elements in the same order: back through copies, casts, and views that cancel out.
ValueId bare(const Graph& graph, const Shapes& shapes, ValueId value);
/// Whether a value is fed in: an input of the graph or, in a body, of what is round it. `cut`: or what views leave of one.
bool isFed(const Graph& graph, ValueId value, bool cut = false);
/// Whether a node joins two values that are fed in, each perhaps cut from a buffer: past keys and, last, new ones.
bool joinsFed(const Graph& graph, const Node& node);
/// Whether a value is rows of a table that the file holds, picked by their positions, as the angles of a rotary embedding are.
bool isOfTable(const Graph& graph, const Shapes& shapes, ValueId value);
/// What a node writes into a buffer that is fed in (a cache of fixed length); none where it does no such thing.
ValueId writtenToBuffer(const Graph& graph, const Shapes& shapes, const Node& node);
/// Whether a value is a sum of products of integers, perhaps times a constant: what it is multiplied by is a scale of quantisation.
bool sumsIntegers(const Graph& graph, const Shapes& shapes, ValueId value);
/// What integers were divided by when they were made of an activation, perhaps times the scale of a weight: with it their product is what it was.
bool restoresIntegers(const Graph& graph, const Shapes& shapes, ValueId factor, int depth = 0);
/// What a value is before it gets an axis for copies or pairs.
ValueId withoutAxis(const Graph& graph, const Shapes& shapes, ValueId value);
/// Whether two values are the same heads, perhaps with an axis for copies.
bool sameHeads(const Graph& graph, const Shapes& shapes, ValueId a, ValueId b);
/// How often each head is copied: by as much as the axes between the batch and the elements of a head grow.
std::int64_t copiesMade(const Dims& from, const Dims& to);
/// x - mean(x), perhaps cast between.
bool lessItsMean(const Graph& graph, const Shapes& shapes, const Node& node);
/// What a Slice or Split cuts a piece from; else the value itself.
ValueId wholeOf(const Graph& graph, ValueId piece);
/// Whether a value comes from a projection through views, cuts and biases alone.
bool closeBehindLinear(const Graph& graph, const Shapes& shapes, ValueId value);
/// Heads of which each is multiplied by a constant matrix of its own, as where keys' projection from a latent is absorbed by queries; 0: none.
std::int64_t headsMultiplied(const Graph& graph, const Shapes& shapes, NodeId product);
/// An initializer or a Constant node's value.
bool isGiven(const Graph& graph, const Shapes& shapes, ValueId value);
/// Columns of a projection: sizes that come from its weight; 0 where unknown.
std::int64_t linearColumns(const Graph& graph, const Shapes& shapes, NodeId linear);
/// The node itself where its constant mixes places of the sequence and not columns (Linformer; an Einsum does so too); `next`: what it projects.
NodeId sequenceProjection(const Graph& graph, const Shapes& shapes, NodeId product, ValueId& next);

/// What a view (Split, Slice, Gather, Reshape ...) leaves of the columns; `to` is its output that is read. False where it can't be told.
bool applyView(const Shapes& shapes, ColumnView& view, const Node& node, ValueId from, ValueId to);
/// The input of a Concat that a Split, Slice or Gather along the same axis picks as `to` (stacked roles); none where it picks another part.
ValueId pickedInput(const Graph& graph, const Shapes& shapes, const Node& pick, ValueId to);
/// The Split of which a Concat joins all pieces in their order, along whatever axis; none where it does no such thing.
NodeId joinedSplit(const Graph& graph, const Shapes& shapes, const Node& concat);
/// The same where the pieces are of one size and are stacked along another axis than they were cut along (heads along the batch).
NodeId stackedSplit(const Graph& graph, const Shapes& shapes, const Node& concat);
/// Fills columns and stages of a trace whose way is known. `undone`: a Concat and what picks one of its inputs again.
void viewColumns(const Graph& graph, const Shapes& shapes, const std::set<NodeId>& undone, RoleTrace& trace);
/// Walks back from an operand through casts, views, scales, biases, norms, rotary embeddings, caches and repeats. `inputs`: of joins
/// those to follow; the last one of others.
RoleTrace traceRole(const Graph& graph, const Shapes& shapes, ValueId operand, const std::map<NodeId, std::size_t>& inputs = {});

/// Column range of a role in its projection: offset and width where they are one run; empty where interleaved.
struct ColumnRange {
    std::int64_t offset = 0, width = 0;
    bool contiguous = false;
    /// Runs of columns in the role's order; one where contiguous.
    std::vector<std::pair<std::int64_t, std::int64_t>> runs;
};
std::optional<ColumnRange> columnRange(const ColumnView& view, std::int64_t columns);
/// Whether all of the projection's rows are in the view, none turned round: then a role's own columns are all that it takes.
bool hasAllRows(const ColumnView& view, std::int64_t columns, std::int64_t rows);

/// The first cut behind which `role` shares no column with `others` (roles of the same projection); null where there is none.
const RoleStage* ownStage(const RoleTrace& role, const std::vector<const RoleTrace*>& others, std::int64_t columns);

} // namespace triptych
