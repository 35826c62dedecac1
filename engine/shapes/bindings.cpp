#include "shapes/shapes.h"

#include <algorithm>

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

} // namespace

std::vector<SymbolicDim> symbolicDims(const Graph& graph) {
    std::vector<SymbolicDim> found;
    for (const ValueId id : graph.inputs()) {
        const Value& input = graph.value(id);
        for (std::size_t axis = 0; axis < input.declared.dims.size(); ++axis) {
            if (input.declared.dims[axis] >= 0) continue;
            std::string symbol = axis < input.declared.symbols.size() ? input.declared.symbols[axis] : "";
            const std::string use = useOf(symbol, input, axis);
            if (symbol.empty()) symbol = input.name + "_dim_" + std::to_string(axis);
            const std::string where = input.name + "[" + std::to_string(axis) + "]";
            const auto known = std::find_if(found.begin(), found.end(), [&](const SymbolicDim& each) { return each.name == symbol; });
            if (known != found.end()) known->inputs.push_back(where);
            else found.push_back({symbol, defaultOf(use), use, {where}});
        }
    }
    return found;
}

Result<Bindings> resolveBindings(const Graph& graph, const Bindings& wanted) {
    Bindings all;
    std::string known;
    for (const SymbolicDim& dim : symbolicDims(graph)) {
        all[dim.name] = dim.defaultSize;
        known += (known.empty() ? "" : ", ") + dim.name;
    }
    for (const auto& [name, size] : wanted) {
        const auto found = all.find(name);
        if (found == all.end())
            return fail("bindings", "no input has a dimension called '" + name + "'", known.empty() ? "all its dimensions are fixed" : "the known ones are " + known);
        constexpr std::int64_t largest = std::int64_t(1) << 40;
        if (size < 0 || size > largest) return fail("bindings", "the dimension " + name + " can't be " + std::to_string(size), "give a size of 0 or more");
        found->second = size;
    }
    return all;
}

} // namespace triptych
