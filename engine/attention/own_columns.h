#pragma once
// One role's part of what stands beside a packed projection: weights, however quantised, biases, scales, low-rank branches.
// Private to engine/attention.

#include "attention/rewrite.h"

namespace triptych {

class OwnColumns {
public:
    OwnColumns(const Graph& graph, const Shapes& shapes, ColumnRange range, std::int64_t columns) : m_graph(graph), m_shapes(shapes), m_range(std::move(range)), m_columns(columns) {}

    const ColumnRange& range() const { return m_range; }
    /// Whether of() knows how to cut a value whose axis holds the packed columns, `each` elements of it for a column.
    bool cuts(ValueId value, std::size_t axis, std::int64_t each = 1, int depth = 0) const;
    /// The role's part of it: initializers are cut without being read, what is computed is computed again of cut operands.
    ValueId of(Emitter& emit, ValueId value, std::size_t axis, const std::string& name, std::int64_t each = 1);
    /// The same where one number may serve all columns, along the last axis; where it does, the value itself.
    bool cutsLast(ValueId value) const;
    ValueId ofLast(Emitter& emit, ValueId value, const std::string& name);
    /// Nodes of the graph that were written again: the old ones may go.
    const std::vector<NodeId>& written() const { return m_written; }

private:
    std::optional<WeightSource> source(ValueId value, std::size_t axis, std::int64_t each) const;
    bool single(ValueId value) const;
    /// Which inputs of a node hold the columns, along which axis of theirs; empty where the node isn't known to keep columns apart.
    struct Operand {
        std::size_t input, axis;
        std::int64_t block = 1; ///< columns that share an element
    };
    std::vector<Operand> operands(const Node& node, std::size_t axis) const;
    bool quantised(const Node& node, std::size_t axis, std::vector<Operand>& found) const;
    /// What is there for each block of columns, where the role's begin and end with blocks.
    std::optional<OwnColumns> byBlocks(std::int64_t block) const;

    const Graph& m_graph;
    const Shapes& m_shapes;
    ColumnRange m_range;
    std::int64_t m_columns;
    std::vector<NodeId> m_written;
};

/// Whether a node scales or filters every column by itself, with numbers of its own for each: a BatchNormalization, a convolution that mixes no channels.
/// Columns stand second in what it reads.
bool worksByColumn(const Shapes& shapes, const Node& node, const OwnColumns& own);

/// Whether a packed product's weight and all beside it can be cut, so that a role has a product of its own.
bool hasOwnProjection(const Graph& graph, const Shapes& shapes, const RoleTrace& role, const OwnColumns& own);
/// One role's own product and bias out of a packed one; none where the weight can't be cut. Adds the names to `names`; weights are called PREFIX.ROLE_weight.
std::optional<ValueId> ownProjection(Emitter& emit, const Graph& graph, const Shapes& shapes, const RoleTrace& role, OwnColumns& own, const std::string& roleName, const std::string& weightPrefix,
                                     std::vector<std::string>& names, ValueId input = {});

} // namespace triptych
