#include "shapes/dim_expression.h"
#include "shapes/shapes.h"

#include <algorithm>
#include <set>
#include <unordered_map>

namespace triptych {

namespace {

bool contains(std::string_view text, std::string_view part) {
    const auto found = std::search(text.begin(), text.end(), part.begin(), part.end(), [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; });
    return found != text.end();
}

/// The name tells most; the place tells the rest: axis 0 of an input is the batch, axis 1 of token ids the sequence.
std::string useOf(const std::string& symbol, const Value& input, std::size_t axis) {
    if (contains(symbol, "batch")) return "batch";
    if (contains(symbol, "past")) return "past";
    if (contains(symbol, "total")) return "sequence";
    if (contains(symbol, "seq") || contains(symbol, "len") || contains(symbol, "token") || contains(symbol, "ctx")) return "sequence";
    if (axis == 0) return "batch";
    if (contains(input.name, "past")) return axis == 2 ? "past" : "other";
    const bool integers = isInteger(input.declared.type) || input.declared.type == DataType::boolean;
    if (integers && axis >= 1 && input.declared.dims.size() <= 4) return "sequence";
    if (axis == 1 && input.declared.dims.size() == 3) return "sequence";
    return "other";
}

std::int64_t defaultOf(const std::string& use) { return use == "sequence" || use == "past" ? 128 : 1; }

/// One truth value that decides, perhaps behind views, which branch of an If is taken.
bool isSwitch(const Graph& graph, ValueId input) {
    const DeclaredType& declared = graph.value(input).declared;
    if (declared.type != DataType::boolean || !declared.hasShape || elementCount(declared.dims) != 1) return false;
    ValueId value = input;
    constexpr int longest = 4;
    for (int steps = 0; steps < longest && value; ++steps) {
        ValueId next;
        for (const NodeId reader : graph.readers(value)) {
            const Node& node = graph.node(reader);
            if (node.is("If")) return true;
            if (node.is("Squeeze") || node.is("Reshape") || node.is("Identity") || node.is("Not") || node.is("Cast")) next = node.output();
        }
        value = next;
    }
    return false;
}

} // namespace

std::vector<SymbolicDim> symbolicDims(const Graph& graph) {
    std::vector<SymbolicDim> found;
    std::unordered_map<std::string, std::size_t> places;
    for (const ValueId id : graph.inputs()) {
        const Value& input = graph.value(id);
        if (isSwitch(graph, id)) found.push_back({input.name, 0, "switch", {input.name}});
        for (std::size_t axis = 0; axis < input.declared.dims.size(); ++axis) {
            if (input.declared.dims[axis] >= 0) continue;
            std::string symbol = axis < input.declared.symbols.size() ? input.declared.symbols[axis] : "";
            const std::string use = useOf(symbol, input, axis);
            if (symbol.empty()) symbol = input.name + "_dim_" + std::to_string(axis);
            const auto [known, fresh] = places.try_emplace(symbol, found.size());
            if (fresh) found.push_back({symbol, defaultOf(use), use, {}});
            found[known->second].inputs.push_back(input.name + "[" + std::to_string(axis) + "]");
        }
    }
    // One that follows from others is no choice.
    const auto plain = [&](std::string_view name) -> std::optional<std::int64_t> {
        const bool known = !isDimExpression(name) && places.contains(std::string(name));
        return known ? std::optional<std::int64_t>(1) : std::nullopt;
    };
    for (SymbolicDim& dim : found)
        if (isDimExpression(dim.name) && evaluateDim(dim.name, plain)) dim.use = "derived";
    return found;
}

void deriveSizes(const std::vector<SymbolicDim>& dims, Bindings& bindings) {
    const auto sizeOf = [&](std::string_view name) -> std::optional<std::int64_t> {
        const auto found = bindings.find(std::string(name));
        return found == bindings.end() ? std::nullopt : std::optional(found->second);
    };
    for (const SymbolicDim& dim : dims)
        if (dim.use == "derived") bindings[dim.name] = evaluateDim(dim.name, sizeOf).value_or(dim.defaultSize);
}

Result<Bindings> resolveBindings(const Graph& graph, const Bindings& wanted) {
    Bindings all;
    std::set<std::string> switches;
    std::string known;
    const std::vector<SymbolicDim> dims = symbolicDims(graph);
    for (const SymbolicDim& dim : dims) {
        all[dim.name] = dim.defaultSize;
        if (dim.use == "switch") switches.insert(dim.name);
        known += (known.empty() ? "" : ", ") + dim.name;
    }
    for (const auto& [name, size] : wanted) {
        const auto found = all.find(name);
        if (found == all.end())
            return fail("bindings", "no input has a dimension called '" + name + "'", known.empty() ? "all its dimensions are fixed" : "the known ones are " + known);
        constexpr std::int64_t largest = std::int64_t(1) << 40;
        if (size < 0 || size > largest) return fail("bindings", "the dimension " + name + " can't be " + std::to_string(size), "give a size of 0 or more");
        if (size > 1 && switches.contains(name)) return fail("bindings", "the switch " + name + " can't be " + std::to_string(size), "give 0 or 1");
        found->second = size;
    }
    deriveSizes(dims, all);
    for (const auto& [name, size] : wanted) all[name] = size;
    return all;
}

} // namespace triptych
