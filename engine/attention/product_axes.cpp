#include "attention/product_axes.h"

#include <algorithm>

namespace triptych {

namespace {

struct Equation {
    std::vector<std::string> operands;
    std::string result;
};

/// Of an Einsum; empty for anything else.
std::optional<Equation> equationOf(const Node& node) {
    if (!node.is("Einsum")) return std::nullopt;
    std::string text = node.attributes.text("equation");
    std::erase(text, ' ');
    const std::size_t arrow = text.find("->");
    if (arrow == std::string::npos) return std::nullopt;
    Equation made;
    made.result = text.substr(arrow + 2);
    std::string left = text.substr(0, arrow) + ",";
    for (std::size_t at = left.find(','); at != std::string::npos; at = left.find(',')) {
        made.operands.push_back(left.substr(0, at));
        left.erase(0, at + 1);
    }
    return made.operands.size() >= 2 ? std::optional(made) : std::nullopt;
}

bool has(const std::string& letters, char letter) { return letters.find(letter) != std::string::npos; }

/// Product of the sizes of an operand's letters that `wanted` names; 0 where there is none.
template <class Wanted>
Dim sizeOf(const Shapes& shapes, ValueId value, const std::string& letters, const Wanted& wanted) {
    const ValueShape& shape = shapes.of(value);
    // An ellipsis stands for any number of axes.
    if (!shape.known() || shape.dims.size() != letters.size() || has(letters, '.')) return 0;
    Dim size = 1;
    bool any = false;
    for (std::size_t i = 0; i < letters.size(); ++i)
        if (wanted(letters[i])) size *= shape.dims[i], any = true;
    return any ? size : 0;
}

} // namespace

Dim dimFromEnd(const Shapes& shapes, ValueId value, std::size_t back) {
    const ValueShape& shape = shapes.of(value);
    return shape.ranked && shape.dims.size() > back && shape.dims[shape.dims.size() - 1 - back] > 0 ? shape.dims[shape.dims.size() - 1 - back] : 0;
}

ValueId factorOf(const Node& product, std::size_t side) {
    const bool apart = product.is("QLinearMatMul") || product.is("QLinearConv") || product.is("com.microsoft", "QGemm") || product.is("com.microsoft", "QLinearAdd") || product.is("com.microsoft", "QLinearMul");
    return product.input(side == 1 && apart ? 3 : side);
}

std::optional<double> scalarFactor(const Shapes& shapes, const Node& node, std::size_t side) {
    const auto number = shapes.scalar(factorOf(node, side));
    if (!number || !node.is("com.microsoft", "QLinearMul")) return number;
    const std::size_t at = side == 0 ? 0 : 3;
    const auto scale = shapes.scalar(node.input(at + 1)), zero = node.input(at + 2) ? shapes.scalar(node.input(at + 2)) : 0.0;
    return scale && zero ? std::optional((*number - *zero) * *scale) : std::nullopt;
}

std::size_t sharedAtEnd(const Node& product) {
    const auto equation = equationOf(product);
    std::size_t count = 0;
    while (equation && count < equation->result.size()) {
        const char letter = equation->result[equation->result.size() - 1 - count];
        if (!has(equation->operands[0], letter) || !has(equation->operands[1], letter)) break;
        ++count;
    }
    return count;
}

bool endsInFirst(const Node& product) {
    const auto equation = equationOf(product);
    const std::size_t shared = sharedAtEnd(product);
    return equation && shared < equation->result.size() && has(equation->operands[0], equation->result[equation->result.size() - 1 - shared]);
}

Dim summedSize(const Graph& graph, const Shapes& shapes, NodeId product) {
    const Node& node = graph.node(product);
    if (const auto equation = equationOf(node))
        return sizeOf(shapes, node.input(0), equation->operands[0], [&](char letter) { return has(equation->operands[1], letter) && !has(equation->result, letter); });
    const bool turned = node.attributes.integer("transA", 0) != 0;
    return dimFromEnd(shapes, node.input(0), turned ? 1 : 0);
}

Dim sharedSize(const Graph& graph, const Shapes& shapes, NodeId product) {
    const Node& node = graph.node(product);
    const auto equation = equationOf(node);
    return equation ? sizeOf(shapes, node.input(1), equation->operands[1], [&](char letter) { return has(equation->operands[0], letter) && has(equation->result, letter); }) : 0;
}

std::optional<std::size_t> lastAxisIn(const Node& product, std::size_t operand) {
    const auto equation = equationOf(product);
    if (!equation || equation->result.empty() || has(equation->operands[operand], '.') || has(equation->operands[1 - operand], equation->result.back())) return std::nullopt;
    const std::size_t axis = equation->operands[operand].find(equation->result.back());
    return axis == std::string::npos ? std::nullopt : std::optional(axis);
}

std::size_t columnAxes(const Node& product) {
    const auto equation = equationOf(product);
    if (!equation || equation->operands.size() != 2 || equation->operands[0].empty() || equation->operands[1].size() < 2) return 1;
    const std::string &input = equation->operands[0], &weight = equation->operands[1];
    const bool plain = input.back() == weight.front() && weight.find('.') == std::string::npos && equation->result == input.substr(0, input.size() - 1) + weight.substr(1);
    return plain ? weight.size() - 1 : 1;
}

bool turnsLastAxes(const Node& node) {
    const auto* perm = node.is("Transpose") ? node.attributes.integers("perm") : nullptr;
    if (!perm || perm->size() < 2) return false;
    const auto rank = static_cast<std::int64_t>(perm->size());
    return (*perm)[perm->size() - 1] == rank - 2 && (*perm)[perm->size() - 2] == rank - 1;
}

bool sumsNothing(const Node& product) {
    const auto equation = equationOf(product);
    if (!equation) return false;
    const std::string& letters = equation->operands[0];
    return std::none_of(letters.begin(), letters.end(), [&](char letter) { return letter != '.' && has(equation->operands[1], letter) && !has(equation->result, letter); });
}

bool sumsLastAxis(const Node& product, std::size_t operand) {
    if (const auto equation = equationOf(product)) {
        std::string letters = equation->operands[operand];
        while (!letters.empty() && has(equation->operands[1 - operand], letters.back()) && has(equation->result, letters.back())) letters.pop_back();
        return !letters.empty() && has(equation->operands[1 - operand], letters.back()) && !has(equation->result, letters.back());
    }
    const bool turned = product.attributes.integer(operand == 0 ? "transA" : "transB", 0) != 0;
    return (operand == 0) != turned;
}

bool sumsAxis(const Shapes& shapes, const Node& product, std::size_t operand, std::size_t axis) {
    if (const auto equation = equationOf(product)) {
        std::string letters = equation->operands[operand];
        const std::size_t rank = shapes.of(product.input(operand)).dims.size();
        // An ellipsis stands for the axes that have no letter.
        if (const std::size_t dots = letters.find("..."); dots != std::string::npos && rank + 3 >= letters.size()) letters.replace(dots, 3, rank + 3 - letters.size(), '.');
        return axis < letters.size() && letters[axis] != '.' && has(equation->operands[1 - operand], letters[axis]) && !has(equation->result, letters[axis]);
    }
    const std::size_t rank = shapes.of(factorOf(product, operand)).dims.size();
    return axis + (sumsLastAxis(product, operand) ? 1 : 2) == rank;
}

std::optional<std::size_t> axisBehind(const Shapes& shapes, const Node& node, ValueId from, std::size_t axis) {
    const Dims &before = shapes.of(from).dims, &after = shapes.of(node.output()).dims;
    if (axis >= before.size()) return std::nullopt;
    if (node.is("Transpose")) {
        const auto* perm = node.attributes.integers("perm");
        if (!perm) return before.size() - 1 - axis;
        const auto at = std::find(perm->begin(), perm->end(), static_cast<std::int64_t>(axis));
        return at == perm->end() ? std::nullopt : std::optional(static_cast<std::size_t>(at - perm->begin()));
    }
    const auto behind = [](const Dims& dims, std::size_t at) {
        Dim size = 1;
        for (std::size_t i = at + 1; i < dims.size(); ++i) size *= dims[i];
        return size;
    };
    // Views keep an axis that is as long and has as many elements behind it.
    for (std::size_t i = 0; i < after.size(); ++i)
        if (after[i] == before[axis] && behind(after, i) == behind(before, axis)) return i;
    return std::nullopt;
}

bool hasOwnAxis(const Node& product, std::size_t operand) {
    const auto equation = equationOf(product);
    if (!equation || has(equation->result, '.')) return true;
    const std::string& letters = equation->operands[operand];
    return std::any_of(letters.begin(), letters.end(), [&](char letter) { return !has(equation->operands[1 - operand], letter) && has(equation->result, letter); });
}

Dim ownSize(const Graph& graph, const Shapes& shapes, NodeId product, std::size_t operand) {
    const Node& node = graph.node(product);
    if (const auto equation = equationOf(node))
        return sizeOf(shapes, node.input(operand), equation->operands[operand], [&](char letter) { return !has(equation->operands[1 - operand], letter) && has(equation->result, letter); });
    const bool turned = node.attributes.integer(operand == 0 ? "transA" : "transB", 0) != 0;
    return dimFromEnd(shapes, factorOf(node, operand), (operand == 0) != turned ? 1 : 0);
}

} // namespace triptych
