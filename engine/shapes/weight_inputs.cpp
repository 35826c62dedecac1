#include "shapes/weight_inputs.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

/// Readers of a value, behind what leaves a weight a weight; empty where there are too many or none.
std::vector<std::pair<const Node*, std::size_t>> usesOf(const Graph& graph, ValueId value) {
    static constexpr std::array copies{"Transpose", "Cast", "Identity"};
    constexpr std::size_t most = 64; // a weight that layers share
    std::vector<ValueId> open{value};
    std::vector<std::pair<const Node*, std::size_t>> uses;
    for (std::size_t i = 0; i < open.size(); ++i)
        for (const NodeId reader : graph.readers(open[i])) {
            const Node& node = graph.node(reader);
            if (uses.size() + open.size() > most) return {};
            if (isOneOf(node, copies)) open.push_back(node.output());
            else
                for (std::size_t at = 0; at < node.inputs.size(); ++at)
                    if (node.inputs[at] == open[i]) uses.emplace_back(&node, at);
        }
    return uses;
}

bool isFactor(const Node& node, std::size_t at, std::size_t rank) {
    if (at == 1 && rank == 2 && (node.is("MatMul") || node.is("Gemm"))) return true;
    return at == 1 && rank >= 3 && (node.is("Conv") || node.is("ConvTranspose"));
}

bool isVector(const Node& node, std::size_t at) {
    static constexpr std::array sums{"Add", "Mul", "Sub"};
    static constexpr std::array norms{"LayerNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization", "PRelu"};
    if (isOneOf(node, sums)) return true;
    return (at >= 1 && isOneOf(node, norms)) || (at == 2 && (node.is("Gemm") || node.is("Conv") || node.is("ConvTranspose")));
}

} // namespace

std::set<ValueId> weightInputs(const Graph& graph) {
    std::set<ValueId> weights;
    std::set<Dim> sizes;
    std::vector<ValueId> vectors;
    bool activation = false, multiplies = false;
    for (const ValueId input : graph.inputs()) {
        const Value& value = graph.value(input);
        const DeclaredType& declared = value.declared;
        const std::size_t rank = declared.dims.size();
        const bool fixed = declared.hasShape && std::all_of(declared.dims.begin(), declared.dims.end(), [](Dim size) { return size > 0; });
        if (value.initializer || declared.kind != "tensor") continue;
        if (fixed && isFloating(declared.type) && rank == 1) {
            vectors.push_back(input);
            continue;
        }
        const auto uses = fixed && isFloating(declared.type) && rank >= 2 ? usesOf(graph, input) : std::vector<std::pair<const Node*, std::size_t>>();
        const bool weight = !uses.empty() && std::all_of(uses.begin(), uses.end(), [&](const auto& use) { return isFactor(*use.first, use.second, rank) || (rank == 2 && use.second == 0 && use.first->is("Gather")); });
        if (weight) {
            weights.insert(input);
            sizes.insert(declared.dims.begin(), declared.dims.end());
            multiplies = multiplies || std::any_of(uses.begin(), uses.end(), [&](const auto& use) { return isFactor(*use.first, use.second, rank); });
        } else {
            activation = activation || rank >= (isInteger(declared.type) ? 2U : 3U);
        }
    }
    if (!activation || !multiplies) return {};
    for (std::size_t i = 0; i < graph.values().size(); ++i) {
        const TensorPtr& held = graph.values()[i].initializer;
        if (!held || !isFloating(held->type) || held->dims.size() < 2) continue;
        const auto uses = usesOf(graph, ValueId(i));
        if (std::any_of(uses.begin(), uses.end(), [&](const auto& use) { return isFactor(*use.first, use.second, held->dims.size()); })) return {};
    }
    for (const ValueId vector : vectors) {
        const auto uses = usesOf(graph, vector);
        const bool fits = !uses.empty() && sizes.contains(graph.value(vector).declared.dims[0]);
        if (fits && std::all_of(uses.begin(), uses.end(), [](const auto& use) { return isVector(*use.first, use.second); })) weights.insert(vector);
    }
    return weights;
}

} // namespace triptych
