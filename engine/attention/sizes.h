#pragma once
// Which sizes of a graph are fixed, and which follow from its inputs. Private to engine/attention.

#include "attention/rewrite.h"

namespace triptych {

/// Sizes under two bindings: what differs must be computed in a written graph. With one: everything is fixed.
class Sizes {
public:
    Sizes(const Graph& graph, const Shapes& bound, const Shapes* varied);

    /// The graph will be written for other sizes than the bound ones too.
    bool forFile() const { return m_varied != nullptr; }
    /// Shapes to build views by: every symbolic dimension is above 1 and has a prime of its own in the varied ones.
    const Shapes& shapes() const { return m_varied ? *m_varied : m_bound; }
    /// Whether a size under shapes() follows from symbolic dimensions.
    bool follows(Dim size) const;
    /// Reshapes `value` of `from` to `to` (both under shapes()) for all bindings. Empty where a size can't be told.
    std::optional<ValueId> reshape(Emitter& emit, const std::string& role, ValueId value, const Dims& from, const Dims& to) const;

private:
    void addBases(std::int64_t size, const std::set<Dim>& bound);

    const Graph& m_graph;
    const Shapes& m_bound;
    const Shapes* m_varied;
    std::vector<std::int64_t> m_bases; ///< a size that is a multiple of one follows
    std::set<Dim> m_free;              ///< sizes that stand where bound ones differ
};

} // namespace triptych
