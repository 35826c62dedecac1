#pragma once
// What patterns see of a graph: units, each a composite or a single node, with the names they go by.

#include "fusion/classes.h"

#include <array>

namespace triptych {

/// Position in Units, in a topological order.
using UnitId = Index<struct UnitTag>;

struct Unit {
    std::vector<NodeId> nodes;   ///< in topological order
    std::vector<ValueId> inputs; ///< from outside, in the order of their first use; a value read twice is there twice
    NodeClass nodeClass = NodeClass::compute;
    /// Names that "op" of a pattern compares with: the operator ("MatMul", "com.microsoft.Gelu") or the composite's
    /// kind
    /// ("GELU"), and "Linear" for products with a constant weight.
    std::array<std::string, 2> names;
    NodeId root() const { return nodes.back(); }
};

class Units {
public:
    Units(const Graph& graph, const NodeClasses& classes);
    const Unit& operator[](UnitId id) const { return m_units[id]; }
    std::size_t size() const { return m_units.size(); }
    /// Of every node, constants and shape arithmetic included.
    UnitId of(NodeId node) const { return m_of[node]; }
    /// None for inputs and initializers.
    UnitId producer(ValueId value) const;
    /// Initializers, constants and what folds from shapes.
    bool isConstant(ValueId value) const;
    bool grouped(UnitId id) const { return m_units[id].nodeClass >= NodeClass::view; }
    /// A matrix product or a convolution, alone or in a composite.
    bool isProduct(UnitId id) const { return m_products[id]; }
    const Graph& graph() const { return m_graph; }

private:
    Unit single(NodeId id) const;
    Unit ofComposite(const Composite& composite) const;
    bool hasProduct(const Unit& unit) const;
    const Graph& m_graph;
    const NodeClasses& m_classes;
    IndexVector<UnitId, Unit> m_units;
    IndexVector<NodeId, UnitId> m_of;
    IndexVector<UnitId, bool> m_products;
};

} // namespace triptych
