#include "fusion/match.h"

#include <algorithm>

namespace triptych {

struct Matcher::Search {
    const Compiled& compiled;
    const OnMatch& onMatch;
    Binding binding;
    int trials = 0;
    bool wantsNearMiss = false;
    bool matched = false, done = false;
    std::optional<Objection> nearMiss;
    static constexpr int maxTrials = 64; ///< operands of Add and Mul can be swapped: a few ways each
};

Matcher::Matcher(const MatchContext& context, const PatternLibrary& library) : m_context(context) {
    for (std::size_t i = 0; i < library.patterns.size(); ++i)
        for (const MatchVariant& variant : library.patterns[i].rule->variants) {
            Compiled compiled{PatternId(i), &variant, {}};
            for (const MatchNode& node : variant.nodes) {
                std::vector<int> symbols;
                for (const std::string& op : node.ops) symbols.push_back(symbolOf(op));
                std::sort(symbols.begin(), symbols.end());
                compiled.symbols.push_back(std::move(symbols));
            }
            m_byRoot.resize(m_symbols.size());
            for (const int symbol : compiled.symbols.back())
                m_byRoot[static_cast<std::size_t>(symbol)].push_back(m_compiled.size());
            m_compiled.push_back(std::move(compiled));
        }
    m_unitSymbols.resize(context.units.size());
    for (std::size_t i = 0; i < context.units.size(); ++i)
        for (std::size_t name = 0; name < 2; ++name) {
            const auto found = m_symbols.find(context.units[UnitId(i)].names[name]);
            m_unitSymbols[UnitId(i)][name] = found == m_symbols.end() ? -1 : found->second;
        }
}

int Matcher::symbolOf(const std::string& op) {
    return m_symbols.emplace(op, static_cast<int>(m_symbols.size())).first->second;
}

bool Matcher::fits(const Compiled& compiled, std::size_t node, UnitId unit) const {
    const std::optional<NodeClass>& wanted = compiled.variant->nodes[node].nodeClass;
    const NodeClass is = m_context.units[unit].nodeClass;
    if (wanted ? is != *wanted : is <= NodeClass::shape) return false;
    for (const int symbol : m_unitSymbols[unit])
        if (symbol >= 0 && std::binary_search(compiled.symbols[node].begin(), compiled.symbols[node].end(), symbol))
            return true;
    return false;
}

void Matcher::matchesAt(UnitId root, const OnMatch& onMatch, const WantsNearMiss& wantsNearMiss,
                        const OnNearMiss& onNearMiss) const {
    std::vector<std::size_t> candidates;
    for (const int symbol : m_unitSymbols[root])
        if (symbol >= 0)
            candidates.insert(candidates.end(), m_byRoot[static_cast<std::size_t>(symbol)].begin(),
                              m_byRoot[static_cast<std::size_t>(symbol)].end());
    std::sort(candidates.begin(), candidates.end());
    candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
    for (const std::size_t position : candidates) {
        const Compiled& compiled = m_compiled[position];
        const std::size_t last = compiled.variant->nodes.size() - 1;
        if (!fits(compiled, last, root)) continue;
        Search search{compiled, onMatch, {}, 0, wantsNearMiss(compiled.pattern), false, false, {}};
        search.binding.units.resize(last + 1);
        search.binding.operands.assign(compiled.variant->steps.size(), -1);
        search.binding.units[last] = root;
        step(search, 0);
        if (!search.matched && search.nearMiss) onNearMiss(compiled.pattern, *search.nearMiss);
    }
}

namespace {

/// Words that say which operator is meant rather than what is asked of it: where one fails, nothing was missed.
bool tellsOperatorsApart(Word word) {
    return word == Word::copies || word == Word::dense || word == Word::otherRandom || word == Word::swapsLast ||
           word == Word::shapeFromArithmetic;
}

} // namespace

/// Tries every operand for the edge of this step, then goes on to the next.
void Matcher::step(Search& search, std::size_t at) const {
    const MatchVariant& variant = *search.compiled.variant;
    if (at == variant.steps.size()) return judge(search);
    const MatchVariant::Step& edge = variant.steps[at];
    const MatchNode::Edge& wanted = variant.nodes[edge.node].in[edge.edge];
    const Unit& reader = m_context.units[search.binding.units[edge.node]];
    for (std::size_t i = 0; i < reader.inputs.size() && !search.done; ++i) {
        if (wanted.operand >= 0 && wanted.operand != static_cast<int>(i)) continue;
        const UnitId producer = m_context.units.producer(reader.inputs[i]);
        if (!producer || !fits(search.compiled, wanted.from, producer)) continue;
        const auto taken = [&](std::size_t earlier) {
            return variant.steps[earlier].node == edge.node && search.binding.operands[earlier] == static_cast<int>(i);
        };
        bool used = false;
        for (std::size_t earlier = 0; earlier < at; ++earlier) used = used || taken(earlier);
        if (used) continue;
        UnitId& bound = search.binding.units[wanted.from];
        if (bound && bound != producer) continue;
        const UnitId before = bound;
        bound = producer;
        search.binding.operands[at] = static_cast<int>(i);
        step(search, at + 1);
        search.binding.units[wanted.from] = before;
        search.binding.operands[at] = -1;
    }
}

void Matcher::judge(Search& search) const {
    if (++search.trials > Search::maxTrials) {
        search.done = true;
        return;
    }
    const Condition* failed = nullptr;
    for (const Condition& condition : search.compiled.variant->conditions) {
        if (holds(m_context, *search.compiled.variant, condition, search.binding, nullptr)) continue;
        if (failed || !search.wantsNearMiss || tellsOperatorsApart(condition.word)) return; // two failed: not near
        failed = &condition;
    }
    if (!failed) {
        search.matched = true;
        search.done = search.onMatch(search.compiled.pattern, search.binding);
    } else if (!search.nearMiss) {
        search.nearMiss.emplace();
        holds(m_context, *search.compiled.variant, *failed, search.binding, &*search.nearMiss);
    }
}

} // namespace triptych
