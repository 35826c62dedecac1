#include "attention/sizes.h"

#include <algorithm>
#include <map>
#include <set>

namespace triptych {

namespace {

bool isPrime(std::int64_t number) {
    for (std::int64_t i = 2; i * i <= number; ++i)
        if (number % i == 0) return false;
    return true;
}

} // namespace

namespace {

constexpr std::int64_t strides = 320;

/// What other sizes are made of.
enum class Variation { small, divisible, smallUnited, divisibleUnited };

/// Each symbolic dimension a prime that divides no size of the graph, so that what follows from it can be told. Small ones fit
/// tables of positions, which have an end; multiples of many powers of two survive the strides of a picture's or a sound's convolutions.
/// Exporters name one size for each input: united, those of one use that are bound alike stay alike.
Bindings variedBindings(const std::vector<SymbolicDim>& dims, const Shapes& shapes, const std::set<Dim>& sizes, Variation variation) {
    std::set<std::string> choices, places;
    for (const SymbolicDim& dim : dims) {
        if (dim.isChoice()) choices.insert(dim.name);
        if (dim.use == "other" || dim.use == "image" || dim.use == "samples") places.insert(dim.name);
    }
    const bool divisible = variation == Variation::divisible || variation == Variation::divisibleUnited;
    const bool united = variation == Variation::smallUnited || variation == Variation::divisibleUnited;
    std::map<std::string, std::string> uses;
    for (const SymbolicDim& dim : dims) uses[dim.name] = dim.use;
    std::map<std::pair<std::string, std::int64_t>, std::int64_t> alike;
    Bindings varied = shapes.bindings();
    std::int64_t prime = 3;
    for (auto& [name, size] : varied) {
        if (choices.contains(name)) {
            size = size == 0;
            continue;
        }
        const auto [known, fresh] = alike.try_emplace({uses[name], size}, 0);
        if (united && !fresh) {
            size = known->second;
            continue;
        }
        const auto fits = [&] { return isPrime(prime) && std::none_of(sizes.begin(), sizes.end(), [&](Dim dim) { return dim % prime == 0; }); };
        while (!fits()) prime += 2;
        size = prime * (divisible || places.contains(name) ? strides : 1);
        known->second = size;
        prime += 2;
    }
    deriveSizes(dims, varied);
    return varied;
}

/// How many values can't be told from, or under, other sizes: unknown ones, and ones whose free axis vanished.
std::size_t lost(const Graph& graph, const Shapes& bound, const Shapes& varied) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < graph.values().size(); ++i) {
        const ValueShape &was = bound.of(ValueId(i)), &is = varied.of(ValueId(i));
        bool gone = was.known() && (!is.known() || is.dims.size() != was.dims.size());
        for (std::size_t axis = 0; axis < was.dims.size() && was.known() && !gone; ++axis) gone = was.dims[axis] > 1 && is.dims[axis] <= 1;
        count += gone;
    }
    return count;
}

} // namespace

Result<ShapesPtr> variedShapes(const Model& model, const Graph& graph, const Shapes& shapes, const Job& job) {
    std::set<Dim> sizes;
    for (std::size_t i = 0; i < graph.values().size(); ++i)
        for (const Dim dim : shapes.of(ValueId(i)).dims)
            if (dim > 1) sizes.insert(dim);
    const std::vector<SymbolicDim> dims = symbolicDims(graph);
    Result<ShapesPtr> best = fail("shapes", "stopped");
    std::size_t least = SIZE_MAX;
    for (const Variation variation : {Variation::small, Variation::divisible, Variation::smallUnited, Variation::divisibleUnited}) {
        auto varied = inferShapes(model, graph, variedBindings(dims, shapes, sizes, variation), job);
        if (!varied) return varied;
        const std::size_t lostNow = lost(graph, shapes, **varied);
        if (lostNow >= least) continue;
        best = std::move(varied);
        least = lostNow;
        if (least == 0) break;
    }
    return best;
}

Sizes::Sizes(const Graph& graph, const Shapes& bound, const Shapes* varied) : m_graph(graph), m_bound(bound), m_varied(varied) {
    if (!varied) return;
    for (const auto& [name, size] : varied->bindings()) {
        const auto was = bound.bindings().find(name);
        // A choice is no size: it is 0 or 1 here.
        if (size > 1 && (was == bound.bindings().end() || was->second != size)) m_bases.push_back(size % strides == 0 ? size / strides : size);
    }
    for (std::size_t i = 0; i < graph.values().size(); ++i) {
        const Dims &one = bound.of(ValueId(i)).dims, &two = varied->of(ValueId(i)).dims;
        for (std::size_t axis = 0; axis < one.size() && one.size() == two.size(); ++axis)
            if (one[axis] != two[axis] && two[axis] > 1) m_free.insert(two[axis]);
    }
}

bool Sizes::follows(Dim size) const {
    return m_free.contains(size) || std::any_of(m_bases.begin(), m_bases.end(), [&](std::int64_t base) { return size > 0 && size % base == 0; });
}

std::optional<ValueId> Sizes::reshape(Emitter& emit, const std::string& role, ValueId value, const Dims& from, const Dims& to) const {
    Dims wanted = to;
    std::vector<std::size_t> open;
    for (std::size_t i = 0; i < to.size(); ++i) {
        if (!follows(to[i])) continue;
        // 0 copies the size at the same place.
        if (i < from.size() && from[i] == to[i]) wanted[i] = 0;
        else open.push_back(i);
    }
    if (open.size() <= 1) {
        if (!open.empty()) wanted[open[0]] = -1;
        return emit.reshape(role, value, wanted);
    }
    // All but the first of the open sizes are read from shapes.
    wanted[open[0]] = -1;
    std::vector<ValueId> pieces;
    const std::string name = emit.prefix() + "/" + role;
    for (std::size_t i = 0; i < to.size(); ++i) {
        if (i == open[0] || std::find(open.begin(), open.end(), i) == open.end()) {
            pieces.push_back(emit.integers(name + "/size_" + std::to_string(i), {wanted[i]}));
            continue;
        }
        ValueId source;
        auto axis = static_cast<std::size_t>(std::find(from.begin(), from.end(), to[i]) - from.begin());
        if (axis < from.size()) source = value;
        for (const ValueId input : m_graph.inputs()) {
            if (source) break;
            const Dims& dims = shapes().of(input).dims;
            axis = static_cast<std::size_t>(std::find(dims.begin(), dims.end(), to[i]) - dims.begin());
            if (axis < dims.size()) source = input;
        }
        if (!source) return std::nullopt;
        const ValueId shape = emit.op(role, "Shape", {source});
        pieces.push_back(emit.op(role, "Gather", {shape, emit.integers(name + "/axis_" + std::to_string(i), {static_cast<std::int64_t>(axis)})}));
    }
    return emit.op(role, "Reshape", {value, emit.op(role, "Concat", pieces, {{"axis", std::int64_t(0), {}}})});
}

} // namespace triptych
