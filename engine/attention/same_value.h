#pragma once
// Values that are computed more than once. Private to engine/attention and engine/fusion.

#include "shapes/shapes.h"

#include <map>

namespace triptych {

/// Whether two values are equal for all inputs and bindings: one value, constants of equal content, or made of equal values by
/// operators that change form, type or quantisation only; views and casts that cancel out aside. Looks at a bounded number of values.
bool sameValue(const Graph& graph, const Shapes& shapes, ValueId a, ValueId b);
/// What copies, and views and casts that cancel out, gave again with every element as it was; the value itself where they didn't.
ValueId restored(const Graph& graph, const Shapes& shapes, ValueId value);
/// What a value was before it was quantised and restored; the value itself where it wasn't.
ValueId unquantised(const Graph& graph, ValueId value);

/// Which values are read instead of their equals.
class SameValues {
public:
    /// `value` and what stands beside it as an output of its node, as those of `as`.
    void add(const Graph& graph, const Shapes& shapes, ValueId value, ValueId as);
    ValueId of(ValueId value) const;
    /// Nodes that made what isn't read any more, for others perhaps still.
    const std::vector<NodeId>& made() const { return m_made; }

private:
    std::map<ValueId, ValueId> m_same;
    std::vector<NodeId> m_made;
};

} // namespace triptych
