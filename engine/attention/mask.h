#pragma once
// What a mask does, told from how it is made. Private to engine/attention.

#include "attention/trace.h"

#include <unordered_map>

namespace triptych {

struct MaskFacts {
    bool causal = false;     ///< the keys after a query are cut off
    bool unknown = false;    ///< a constant whose values are not in the file
    bool fromInput = false;  ///< depends on an input of the graph: padding
    bool window = false;     ///< keys far from a query are cut off
    bool later = false;      ///< blocks of queries see keys after them, up to a distance
    bool blockSparse = false; ///< blocks or strides of keys are
    bool alibi = false;      ///< slopes of heads times positions
    bool learned = false;    ///< gathered from a table: a relative bias
    bool boolean = false;
    std::vector<NodeId> products; ///< of an activation and what the file holds: positions, if the activation is the queries
};

/// Looks at masks of one graph; what was learned of a value is kept, since all layers share their masks.
class MaskReader {
public:
    MaskReader(const Model& model, const Graph& graph, const Shapes& shapes) : m_model(model), m_graph(graph), m_shapes(shapes) {}
    /// Cost: linear in the nodes that make the mask, once.
    MaskFacts facts(ValueId mask);

private:
    struct Area {
        Dim rows = 1, columns = 1; ///< of the mask in question
    };
    static Area areaOf(Dims dims);
    bool slopes(const Node& node);
    void visit(ValueId value, int depth, Area area, std::set<ValueId>& seen, MaskFacts& facts);
    void visitNode(const Node& node, int depth, Area area, std::set<ValueId>& seen, MaskFacts& facts);
    void visitGiven(ValueId value, int depth, Area area, MaskFacts& facts);
    bool isPicked(const Node& gather, int depth, Area area, MaskFacts& facts);
    /// Content of a constant value of any size up to a million elements; null where a payload is absent.
    const HostTensor* content(ValueId value, int depth);
    /// What the file holds of a value: an initializer or a Constant; null where it is computed.
    TensorPtr givenTensor(ValueId value) const;
    // mask_slice.cpp
    std::shared_ptr<const HostTensor> sliceOf(const Node& slice, const Tensor& tensor) const;
    std::shared_ptr<const HostTensor> cornerOf(const Tensor& tensor) const;
    std::shared_ptr<const HostTensor> partOf(const Tensor& tensor, const ColumnView& view, const Dims& dims) const;
    void visitConstant(ValueId value, Area area, MaskFacts& facts);
    static void judge(const HostTensor& mask, MaskFacts& facts);
    static void grade(const HostTensor& mask, MaskFacts& facts);

    // mask_positions.cpp
    /// A position of queries or keys behind views, and what the file adds to it.
    struct Position {
        ValueId value;
        double given = 0;
    };
    Position positionOf(ValueId value) const;
    bool alongKeys(ValueId value) const;
    bool alongQueries(ValueId value, int depth = 0) const;
    int orderOf(ValueId a, ValueId b) const;
    /// Whether two positions are cut from the same row of places: then what is added to one is a distance, and no part of a past.
    bool ofOneRow(ValueId a, ValueId b) const;
    NodeId maker(ValueId value, const char* op) const;
    /// Keys behind a distance from their query are told from those before it: hidden or shown.
    struct Bound {
        double at = 0; ///< half a place beside the last key on one side; keys behind the query are positive
        enum class Form : char { sides, difference, absolute } form = Form::sides;
        bool ofBlocks = false; ///< of places that were cut from one row and stand beside those of other blocks
        bool isCausal() const { return at == 0.5; }
    };
    std::optional<Bound> boundOf(const Node& node) const;
    /// Whether a mask is one comparison, or one triangle, and nothing else: how it is made tells what its values may not. With more keys than
    /// queries, and some of them past, causality looks like a window, and a window that reaches one key further looks like causality.
    bool isOneComparison(ValueId value, MaskFacts& facts) const;
    /// Whether a node picks, by positions that are counted in blocks, what a table of them shows.
    bool picksBlocks(const Node& node) const;
    /// A comparison of queries' positions with keys'.
    void compared(const Node& node, MaskFacts& facts) const;
    bool givenNumber(ValueId value, double& number) const;
    /// The comparisons that a value is made of.
    void comparisons(ValueId value, int depth, MaskFacts& facts);

    const Model& m_model;
    const Graph& m_graph;
    const Shapes& m_shapes;
    std::set<ValueId> m_compared; ///< of one mask, looked at by comparisons()
    std::unordered_map<ValueId, MaskFacts> m_known;
    std::unordered_map<ValueId, std::shared_ptr<const HostTensor>> m_content;
};

} // namespace triptych
