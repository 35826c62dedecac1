#include "attention/sizes.h"

#include <algorithm>
#include <set>

namespace triptych {

namespace {

bool isPrime(std::int64_t number) {
    for (std::int64_t i = 2; i * i <= number; ++i)
        if (number % i == 0) return false;
    return true;
}

} // namespace

Bindings variedBindings(const Graph& graph, const Shapes& shapes) {
    std::set<Dim> sizes;
    for (std::size_t i = 0; i < graph.values().size(); ++i)
        for (const Dim dim : shapes.of(ValueId(i)).dims)
            if (dim > 1) sizes.insert(dim);
    const std::vector<SymbolicDim> dims = symbolicDims(graph);
    std::set<std::string> switches;
    for (const SymbolicDim& dim : dims)
        if (dim.use == "switch") switches.insert(dim.name);
    Bindings varied = shapes.bindings();
    std::int64_t prime = 3;
    for (auto& [name, size] : varied) {
        if (switches.contains(name)) {
            size = size == 0;
            continue;
        }
        const auto fits = [&] { return isPrime(prime) && std::none_of(sizes.begin(), sizes.end(), [&](Dim dim) { return dim % prime == 0; }); };
        while (!fits()) prime += 2;
        size = prime;
        prime += 2;
    }
    deriveSizes(dims, varied);
    return varied;
}

Sizes::Sizes(const Graph& graph, const Shapes& bound, const Shapes* varied) : m_graph(graph), m_bound(bound), m_varied(varied) {
    if (!varied) return;
    for (const auto& [name, size] : varied->bindings()) {
        const auto was = bound.bindings().find(name);
        // A switch is no size.
        if (size > 1 && (was == bound.bindings().end() || was->second != size)) m_primes.push_back(size);
    }
}

bool Sizes::follows(Dim size) const {
    return std::any_of(m_primes.begin(), m_primes.end(), [&](std::int64_t prime) { return size > 0 && size % prime == 0; });
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
