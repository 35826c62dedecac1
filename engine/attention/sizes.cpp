#include "attention/sizes.h"

#include <algorithm>
#include <map>
#include <numeric>
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

/// What other sizes are made of: primes times `step`; united, those of one use that are bound alike stay alike.
struct Variation {
    std::int64_t step = 1;
    bool united = false;
};

/// Each symbolic dimension a prime that divides no size of the graph, so that what follows from it can be told. Small ones fit
/// tables of positions, which have an end; multiples of many powers of two survive the strides of a picture's or a sound's convolutions.
/// Exporters name one size for each input, hence the united ones.
Bindings variedBindings(const std::vector<SymbolicDim>& dims, const Shapes& shapes, const std::set<Dim>& sizes, Variation variation) {
    std::set<std::string> choices, places;
    for (const SymbolicDim& dim : dims) {
        if (dim.isChoice()) choices.insert(dim.name);
        if (dim.use == "other" || dim.use == "image" || dim.use == "samples") places.insert(dim.name);
    }
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
        if (variation.united && !fresh) {
            size = known->second;
            continue;
        }
        const auto fits = [&] { return isPrime(prime) && std::none_of(sizes.begin(), sizes.end(), [&](Dim dim) { return dim % prime == 0; }); };
        while (!fits()) prime += 2;
        size = prime * (places.contains(name) ? std::lcm(variation.step, strides) : variation.step);
        known->second = size;
        prime += 2;
    }
    deriveSizes(dims, varied);
    return varied;
}

/// Whether a value can't be told from, or under, other sizes: an unknown one, or one whose free axis vanished.
bool isLost(const ValueShape& was, const ValueShape& is) {
    if (!was.known()) return false;
    if (!is.known() || is.dims.size() != was.dims.size()) return true;
    for (std::size_t axis = 0; axis < was.dims.size(); ++axis)
        if (was.dims[axis] > 1 && is.dims[axis] <= 1) return true;
    return false;
}

std::size_t lost(const Graph& graph, const Shapes& bound, const Shapes& varied) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < graph.values().size(); ++i) count += isLost(bound.of(ValueId(i)), varied.of(ValueId(i)));
    return count;
}

/// The step with what is missing in it for Reshapes that cut an axis into pieces of a given size, as windows of seven places are: they
/// lose their result where the sizes don't divide.
std::int64_t widened(std::int64_t step, const Graph& graph, const Shapes& bound, const Shapes& varied) {
    constexpr std::int64_t largest = std::int64_t(1) << 15; // shapes of a picture are products of two sizes, which must not overflow
    for (const Node& node : graph.nodes()) {
        if (!node.is("Reshape") || !node.input(1) || !varied.of(node.input(0)).known() || !isLost(bound.of(node.output()), varied.of(node.output()))) continue;
        const HostTensor *one = bound.constant(node.input(1)), *two = varied.constant(node.input(1));
        if (!one || !two || !one->isInteger() || one->count() != two->count()) continue;
        std::int64_t pieces = 1;
        for (std::size_t i = 0; i < one->integers().size() && pieces <= largest * largest; ++i)
            if (one->integers()[i] == two->integers()[i] && one->integers()[i] > 1) pieces *= std::min(one->integers()[i], largest);
        const std::int64_t wider = std::lcm(step, pieces / std::gcd(pieces, varied.of(node.input(0)).count()));
        if (wider <= largest) step = wider;
    }
    return step;
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
    const auto attempt = [&](Variation variation) -> Result<void> {
        if (least == 0) return {};
        auto varied = inferShapes(model, graph, variedBindings(dims, shapes, sizes, variation), job);
        if (!varied) return tl::unexpected(varied.error());
        const std::size_t lostNow = lost(graph, shapes, **varied);
        if (lostNow >= least) return {};
        best = std::move(varied);
        least = lostNow;
        return {};
    };
    std::int64_t step = strides;
    for (const Variation& variation : {Variation{1, false}, {step, false}, {1, true}, {step, true}})
        if (const auto done = attempt(variation); !done) return tl::unexpected(done.error());
    // One window may stand in another one's way: behind the first lost view all are.
    constexpr int rounds = 4;
    for (int round = 0; round < rounds && least > 0; ++round) {
        const std::int64_t wider = widened(step, graph, shapes, **best);
        if (wider == step) break;
        step = wider;
        for (const bool united : {false, true})
            if (const auto done = attempt({step, united}); !done) return tl::unexpected(done.error());
    }
    return best;
}

Sizes::Sizes(const Graph& graph, const Shapes& bound, const Shapes* varied) : m_graph(graph), m_bound(bound), m_varied(varied) {
    if (!varied) return;
    std::set<Dim> fixed;
    for (std::size_t i = 0; i < graph.values().size(); ++i) {
        const Dims &one = bound.of(ValueId(i)).dims, &two = varied->of(ValueId(i)).dims;
        for (std::size_t axis = 0; axis < one.size() && one.size() == two.size(); ++axis)
            if (one[axis] != two[axis] && two[axis] > 1) m_free.insert(two[axis]);
        fixed.insert(one.begin(), one.end());
    }
    for (const auto& [name, size] : varied->bindings()) {
        const auto was = bound.bindings().find(name);
        // A choice is no size: it is 0 or 1 here.
        if (size > 1 && (was == bound.bindings().end() || was->second != size)) addBases(size, fixed);
    }
}

/// The primes of a varied size that divide no bound one. A size that is made of others may have none: then it stands for itself.
void Sizes::addBases(std::int64_t size, const std::set<Dim>& bound) {
    const std::size_t before = m_bases.size();
    std::int64_t left = size;
    for (std::int64_t prime = 2; left > 1; ++prime) {
        if (prime * prime > left) prime = left;
        if (left % prime != 0) continue;
        while (left % prime == 0) left /= prime;
        if (std::none_of(bound.begin(), bound.end(), [&](Dim dim) { return dim > 0 && dim % prime == 0; })) m_bases.push_back(prime);
    }
    if (m_bases.size() == before) m_bases.push_back(size);
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
