#pragma once
// Finds where sequential patterns match. Read-only: what a match leads to is decided by the partitioner.

#include "fusion/conditions.h"

#include <functional>
#include <unordered_map>

namespace triptych {

/// A library made ready for one graph: operators are numbers, and patterns are found by the operator of their root.
class Matcher {
public:
    Matcher(const MatchContext& context, const PatternLibrary& library);

    /// Is told of a match; true ends the search at this root.
    using OnMatch = std::function<bool(PatternId, const Binding&)>;
    /// Is told of a pattern whose operators all fit while exactly one condition fails.
    using OnNearMiss = std::function<void(PatternId, const Objection&)>;
    /// Whether to look for near misses of a pattern at all: explaining one costs more than finding it.
    using WantsNearMiss = std::function<bool(PatternId)>;
    /// Patterns whose root may be this unit, in library order.
    void matchesAt(UnitId root, const OnMatch& onMatch, const WantsNearMiss& wantsNearMiss,
                   const OnNearMiss& onNearMiss) const;

private:
    struct Compiled {
        PatternId pattern;
        const MatchVariant* variant;
        std::vector<std::vector<int>> symbols; ///< of each node, sorted
    };
    struct Search; ///< of one pattern at one root
    int symbolOf(const std::string& op);
    bool fits(const Compiled& compiled, std::size_t node, UnitId unit) const;
    void step(Search& search, std::size_t at) const;
    void judge(Search& search) const;

    const MatchContext& m_context;
    std::unordered_map<std::string, int> m_symbols;
    std::vector<Compiled> m_compiled;
    std::vector<std::vector<std::size_t>> m_byRoot; ///< by symbol: positions in m_compiled
    IndexVector<UnitId, std::array<int, 2>> m_unitSymbols;
};

} // namespace triptych
