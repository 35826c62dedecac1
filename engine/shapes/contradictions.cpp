// What a file declares against what its operators give.
//
// A file traced at one size declares that size everywhere: its declarations are void, and no contradiction, once inputs have
// other sizes. So a declaration is wrong only where no size of the inputs mends it, which is looked for by trial: the shapes are
// inferred again under much larger sizes, which strides and divisions can't swallow; under small ones, below what a table's
// rows or a Min cut off; and under the defaults, where sizes stand in the relations that they have in use (all keys are those
// that came before and new ones). A number that is declared is wrong where ours is another one and always the same; a symbol
// is wrong where it differs from ours each time, bound anew.

#include "shapes/shapes.h"
#include "support/excerpt.h"

#include <algorithm>
#include <tuple>

namespace triptych {

namespace {

enum class Trial { large, small, usual };

/// Every size another one; choices stay, so that the graph is the same. Large ones keep the factors that a size has.
Bindings trialSizes(const std::vector<SymbolicDim>& dims, const Graph& graph, const Bindings& bound, Trial trial) {
    Bindings sizes = bound, choices;
    constexpr std::int64_t large = 46'080, smallest = 7; // 2^10 · 45
    std::int64_t place = 0;
    for (const SymbolicDim& dim : dims) {
        const auto found = sizes.find(dim.name);
        if (found == sizes.end()) continue;
        if (dim.isChoice()) choices.insert(*found);
        else if (trial == Trial::large) found->second = found->second * 2 + large * ++place;
        else found->second = 1 + place++ % smallest;
    }
    if (trial == Trial::usual) {
        if (auto usual = resolveBindings(graph, choices)) sizes = std::move(*usual);
        return sizes;
    }
    deriveSizes(dims, sizes);
    return sizes;
}

/// One axis of a value, or the number of its axes, that is declared otherwise than it is.
struct Suspect {
    const DeclaredOtherwise* what;
    std::optional<std::size_t> axis; ///< none: the number of axes
};

/// Whether a trial leaves the suspicion as it is. `again`: what is declared otherwise under the trial's sizes.
bool holds(const Suspect& suspect, const Graph& graph, const Shapes& shapes, const Shapes& then, const std::map<ValueId, const Dims*>& again) {
    if (!suspect.axis) return true;
    const std::size_t axis = *suspect.axis;
    const ValueId value = suspect.what->value;
    const Dims& ours = then.of(value).dims;
    if (axis >= ours.size() || ours[axis] < 0) return false;
    if (graph.value(value).declared.dims[axis] >= 0) return ours[axis] == shapes.of(value).dims[axis];
    const auto found = again.find(value);
    return found != again.end() && axis < found->second->size() && (*found->second)[axis] >= 0 && (*found->second)[axis] != ours[axis];
}

/// What a function declares of its own values holds for the call that its exporter saw, and not for others.
bool ofFunction(const Model& model, const Graph& graph, const DeclaredOtherwise& each) {
    if (model.functions.empty() || model.graph->findValue(graph.value(each.value).name)) return false;
    const auto sources = graph.sources(each.producer);
    return sources.size() == 1 && sources[0].position() < model.graph->nodes().size() && model.function(model.graph->nodes()[sources[0].position()]);
}

/// What an If gives is declared for both of its branches: symbols and ranks may be those of the one that isn't taken
/// (`past_sequence_length + 1` of a merged decoder).
bool ofTakenBranch(const Model& model, const Graph& graph, const DeclaredOtherwise& each) {
    const ValueId before = model.graph->findValue(graph.value(each.value).name);
    const NodeId maker = before ? model.graph->producer(before) : NodeId();
    return maker && model.graph->node(maker).is("If") && !graph.node(each.producer).is("If");
}

std::vector<Suspect> suspects(const Model& model, const Graph& graph, const Shapes& shapes) {
    std::vector<Suspect> found;
    for (const DeclaredOtherwise& each : shapes.declaredOtherwise()) {
        if (ofFunction(model, graph, each)) continue;
        const Dims& ours = shapes.of(each.value).dims;
        const bool numbersAlone = ofTakenBranch(model, graph, each);
        if (ours.size() != each.declared.size()) {
            if (!numbersAlone) found.push_back({&each, std::nullopt});
            continue;
        }
        for (std::size_t axis = 0; axis < ours.size(); ++axis) {
            const bool symbolic = graph.value(each.value).declared.dims[axis] < 0;
            if (each.declared[axis] >= 0 && ours[axis] >= 0 && each.declared[axis] != ours[axis] && !(symbolic && numbersAlone)) found.push_back({&each, axis});
        }
    }
    return found;
}

/// The same inside of bodies, where a trial is of the whole graph: whether an axis is declared and found as it was before.
bool holdsInside(const DeclaredInside& before, const DeclaredInside& then) {
    if (before.declared.size() != before.ours.size()) return then.declared.size() != then.ours.size();
    if (then.declared.size() != before.declared.size() || then.ours.size() != before.ours.size()) return false;
    for (std::size_t axis = 0; axis < before.ours.size(); ++axis) {
        const Dim declared = before.declared[axis], ours = before.ours[axis];
        if (declared >= 0 && ours >= 0 && declared != ours && then.declared[axis] == declared && then.ours[axis] == ours) return true;
    }
    return false;
}

void dropMended(std::vector<const DeclaredInside*>& left, const Shapes& then) {
    const auto key = [](const DeclaredInside& each) { return std::tuple(each.holder, std::string_view(each.value), std::string_view(each.producer)); };
    std::map<std::tuple<NodeId, std::string_view, std::string_view>, const DeclaredInside*> again;
    for (const DeclaredInside& each : then.declaredInside()) again[key(each)] = &each;
    std::erase_if(left, [&](const DeclaredInside* each) {
        const auto found = again.find(key(*each));
        return found == again.end() || !holdsInside(*each, *found->second);
    });
}

/// What no size mends, of the graph and inside of its nodes.
struct Left {
    std::vector<Suspect> here;
    std::vector<const DeclaredInside*> inside;
};

std::vector<std::string> said(const Left& left, const Graph& graph, const Shapes& shapes) {
    constexpr std::size_t most = 10;
    std::vector<std::string> warnings;
    const auto say = [&](const Dims& declared, const std::string& value, const std::string& producer, const Dims& ours) {
        if (warnings.size() < most) warnings.push_back("the file declares " + dimsText(declared) + " for " + value + ", but " + producer + " gives " + dimsText(ours));
    };
    const DeclaredOtherwise* last = nullptr;
    for (const auto& [what, axis] : left.here) {
        if (what == last) continue; // by another axis of it
        last = what;
        say(what->declared, "'" + excerpt(graph.value(what->value).name) + "'", describe(graph, what->producer), shapes.of(what->value).dims);
    }
    for (const DeclaredInside* each : left.inside) say(each->declared, "'" + each->value + "' inside of " + describe(graph, each->holder), each->producer, each->ours);
    return warnings;
}

} // namespace

Result<std::vector<std::string>> contradictions(const Model& model, const Graph& graph, const Shapes& shapes, const Job& job) {
    Left left{suspects(model, graph, shapes), {}};
    for (const DeclaredInside& each : shapes.declaredInside()) left.inside.push_back(&each);
    const bool canDiffer = !shapes.bindings().empty();
    const std::vector<SymbolicDim> dims = canDiffer && !(left.here.empty() && left.inside.empty()) ? symbolicDims(graph) : std::vector<SymbolicDim>();
    for (const Trial trial : {Trial::large, Trial::small, Trial::usual}) {
        const bool open = !left.inside.empty() || std::any_of(left.here.begin(), left.here.end(), [](const Suspect& each) { return each.axis.has_value(); });
        const Bindings sizes = canDiffer && open ? trialSizes(dims, graph, shapes.bindings(), trial) : shapes.bindings();
        if (sizes == shapes.bindings()) continue;
        const auto then = inferShapes(model, graph, sizes, job);
        if (!then) return tl::unexpected(then.error());
        std::map<ValueId, const Dims*> again;
        for (const DeclaredOtherwise& each : (*then)->declaredOtherwise()) again[each.value] = &each.declared;
        std::erase_if(left.here, [&](const Suspect& each) { return !holds(each, graph, shapes, **then, again); });
        dropMended(left.inside, **then);
    }
    return said(left, graph, shapes);
}

} // namespace triptych
