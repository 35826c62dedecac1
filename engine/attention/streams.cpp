// Sequences that are joined before the scores, each with projections of its own (text beside an image, keys of another
// sequence beside a sequence's own):
//
//   image -- Q, K, V --+
//                      Concat along the places, one for each role -- scores
//   text --- Q, K, V --+
//
// What reads the same value, in the same place of its Concat, is one stream.

#include "attention/assemble.h"

#include <algorithm>

namespace triptych {

ValueId sourceOf(const Graph& graph, const RoleTrace& trace) { return trace.linear ? graph.node(trace.linear).input(0) : trace.source; }

namespace {

/// The ways from an operand to its projections, through every input of joins; first the one that is followed by itself.
std::vector<RoleTrace> ways(const Graph& graph, const Shapes& shapes, ValueId operand) {
    constexpr std::size_t most = 8;
    std::vector<std::map<NodeId, std::size_t>> inputs{{}};
    std::vector<RoleTrace> found{traceRole(graph, shapes, operand)};
    for (std::size_t i = 0; i < found.size(); ++i) {
        auto fixed = inputs[i];
        for (const Join& join : std::vector<Join>(found[i].joins)) {
            if (!fixed.try_emplace(join.concat, join.input).second) continue;
            for (std::size_t input = 0; input < graph.node(join.concat).inputs.size() && found.size() < most; ++input) {
                if (input == join.input) continue;
                auto other = fixed;
                other[join.concat] = input;
                RoleTrace trace = traceRole(graph, shapes, operand, other);
                if (!trace.linear || std::any_of(found.begin(), found.end(), [&](const RoleTrace& each) { return each.linear == trace.linear; })) continue;
                found.push_back(std::move(trace));
                inputs.push_back(std::move(other));
            }
        }
    }
    return found;
}

/// Gives each stream its trace of one role: the one that reads what `other` reads, else the one in the same place.
void pair(const Graph& graph, const Shapes& shapes, std::vector<RoleTrace> traces, RoleTrace Roles::* role, RoleTrace Roles::* other, std::vector<Roles>& streams) {
    std::vector<bool> given(streams.size(), false), placed(traces.size(), false);
    const std::size_t count = streams.size();
    const auto readBy = [&](const RoleTrace& trace) { return bare(graph, shapes, sourceOf(graph, trace)); };
    for (const bool bySource : {true, false}) {
        for (std::size_t t = 0; t < traces.size(); ++t) {
            for (std::size_t s = 0; s < count && !placed[t]; ++s) {
                const bool fits = bySource ? readBy(traces[t]) == readBy(streams[s].*other) : traces.size() == count && s == t;
                if (given[s] || !fits) continue;
                streams[s].*role = std::move(traces[t]);
                given[s] = placed[t] = true;
            }
        }
    }
    for (std::size_t t = 0; t < traces.size(); ++t) {
        if (placed[t]) continue;
        // Of a sequence that has no projection of the other role: the first is all that a single stream can have.
        if (t == 0 && !given[0]) {
            streams[0].*role = std::move(traces[t]);
            given[0] = true;
        } else {
            streams.emplace_back().*role = std::move(traces[t]);
        }
    }
}

} // namespace

std::vector<Roles> traceStreams(const Graph& graph, const Shapes& shapes, const std::array<ValueId, 3>& operands) {
    std::vector<Roles> streams;
    for (RoleTrace& trace : ways(graph, shapes, operands[1])) streams.emplace_back().k = std::move(trace);
    pair(graph, shapes, ways(graph, shapes, operands[2]), &Roles::v, &Roles::k, streams);
    pair(graph, shapes, ways(graph, shapes, operands[0]), &Roles::q, &Roles::k, streams);
    // The attention is described by the stream that has queries, keys and values.
    const auto whole = std::find_if(streams.begin(), streams.end(), [](const Roles& each) { return each.q.operand && each.k.operand && each.v.operand; });
    if (whole != streams.end()) {
        std::rotate(streams.begin(), whole, whole + 1);
        return streams;
    }
    for (RoleTrace Roles::* role : {&Roles::q, &Roles::k, &Roles::v})
        for (Roles& each : streams)
            if (!(streams[0].*role).operand) std::swap(streams[0].*role, each.*role);
    std::erase_if(streams, [](const Roles& each) { return !each.q.operand && !each.k.operand && !each.v.operand; });
    return streams;
}

} // namespace triptych
