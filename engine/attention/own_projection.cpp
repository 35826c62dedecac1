// A packed product as one role's own: the same operator with the role's columns of everything that has columns.

#include "attention/own_columns.h"

#include "attention/product_axes.h"

#include <algorithm>

namespace triptych {

namespace {

/// An input that holds the packed columns along an axis, `each` elements of it a column. Optional ones may be absent or one number for all.
struct Held {
    std::size_t input, axis;
    std::string name;
    std::int64_t each = 1;
    bool optional = false;
};

/// com.microsoft MatMulNBits: rows of blocks of K; scales and zero points for each block, perhaps all in one row. Source: ContribOperators.md.
std::vector<Held> ofBits(const Shapes& shapes, const Node& node) {
    const std::int64_t k = node.attributes.integer("K", 0), n = node.attributes.integer("N", 0), block = node.attributes.integer("block_size", 0);
    if (k < 1 || n < 1 || block < 1) return {};
    const auto eachOf = [&](std::size_t input) {
        const ValueShape& shape = shapes.of(node.input(input));
        return shape.known() && shape.dims.size() == 1 && shape.dims[0] % n == 0 ? shape.dims[0] / n : 1;
    };
    if (node.op == "MatMulNBits") return {{1, 0, "weight"}, {2, 0, "weight_scale", eachOf(2)}, {3, 0, "weight_zero_point", eachOf(3), true}, {5, 0, "bias", 1, true}};
    // MatMulBnb4 knows no rows: a column must end with a block.
    if (k % block != 0 || k % 2 != 0 || node.attributes.integer("transB", 1) == 0) return {};
    return {{1, 0, "weight", eachOf(1)}, {2, 0, "weight_scale", eachOf(2)}};
}

std::vector<Held> heldBy(const Shapes& shapes, const Node& node) {
    // The bias of a Gemm may be one row: columns are its last axis.
    const auto lastOf = [&](std::size_t input) { return std::max<std::size_t>(shapes.of(node.input(input)).dims.size(), 1) - 1; };
    const bool turned = node.attributes.integer("transB", 0) != 0;
    if (convolves(node)) {
        const std::size_t weight = node.is("Conv") ? 1 : 3;
        if (shapes.of(node.input(weight)).dims.size() < 3 || node.attributes.integer("group", 1) != 1) return {};
        if (node.is("QLinearConv")) return {{3, 0, "weight"}, {4, 0, "weight_scale", 1, true}, {5, 0, "weight_zero_point", 1, true}, {8, 0, "bias", 1, true}};
        return {{1, 0, "weight"}, {2, 0, "bias", 1, true}};
    }
    if (node.is("MatMul")) return {{1, 1, "weight"}};
    if (node.is("com.microsoft", "FusedMatMul")) return {{1, node.attributes.integer("transB", 0) != 0 ? 0U : 1U, "weight"}};
    if (const auto axis = node.is("Einsum") && shapes.of(node.input(1)).dims.size() == 2 ? lastAxisIn(node, 1) : std::nullopt) return {{1, *axis, "weight"}};
    if (node.is("Gemm")) return {{1, turned ? 0U : 1U, "weight"}, {2, lastOf(2), "bias", 1, true}};
    if (node.is("com.microsoft", "QGemm")) return {{3, turned ? 0U : 1U, "weight"}, {4, 0, "weight_scale", 1, true}, {5, 0, "weight_zero_point", 1, true}, {6, lastOf(6), "bias", 1, true}};
    if (node.is("MatMulInteger")) return {{1, 1, "weight"}, {3, 0, "weight_zero_point", 1, true}};
    if (node.is("QLinearMatMul")) return {{3, 1, "weight"}, {4, 0, "weight_scale", 1, true}, {5, 0, "weight_zero_point", 1, true}};
    if (node.op == "DynamicQuantizeMatMul") return {{1, 1, "weight"}, {2, 0, "weight_scale", 1, true}, {3, 0, "weight_zero_point", 1, true}, {4, 0, "bias", 1, true}};
    if (node.op == "MatMulIntegerToFloat") return {{1, 1, "weight"}, {3, 0, "weight_scale", 1, true}, {5, 0, "weight_zero_point", 1, true}, {6, 0, "bias", 1, true}};
    return node.op == "MatMulNBits" || node.op == "MatMulBnb4" ? ofBits(shapes, node) : std::vector<Held>();
}

/// Left out, or one number for all columns.
bool isWhole(const Shapes& shapes, const Node& product, const Held& held) { return held.optional && (!product.input(held.input) || shapes.of(product.input(held.input)).count() == 1); }

/// What is added right behind the product; none where nothing is.
ValueId biasOf(const Graph& graph, const RoleTrace& role) {
    if (!role.bias) return {};
    const Node& add = graph.node(role.bias);
    return add.input(add.input(0) == graph.node(role.linear).output() ? 1 : 0);
}

} // namespace

bool hasOwnProjection(const Graph& graph, const Shapes& shapes, const RoleTrace& role, const OwnColumns& own) {
    const Node& product = graph.node(role.linear);
    const auto all = heldBy(shapes, product);
    const bool known = std::all_of(all.begin(), all.end(), [&](const Held& held) { return isWhole(shapes, product, held) || own.cuts(product.input(held.input), held.axis, held.each); });
    if (all.empty() || !known || (convolves(product) && role.bias)) return false;
    return !role.bias || own.cutsLast(biasOf(graph, role));
}

std::optional<ValueId> ownProjection(Emitter& emit, const Graph& graph, const Shapes& shapes, const RoleTrace& role, OwnColumns& own, const std::string& roleName, const std::string& weightPrefix,
                                     std::vector<std::string>& names, ValueId input) {
    if (!hasOwnProjection(graph, shapes, role, own)) return std::nullopt;
    const Node& product = graph.node(role.linear);
    const ValueId bias = biasOf(graph, role);
    const std::string prefix = weightPrefix + "." + roleName + "_";
    std::vector<ValueId> inputs = product.inputs;
    if (input) inputs[0] = input;
    for (const Held& held : heldBy(shapes, product))
        if (!isWhole(shapes, product, held)) inputs[held.input] = own.of(emit, inputs[held.input], held.axis, prefix + held.name, held.each);
    ValueId value = emit.copy(roleName + "_proj", product, std::move(inputs));
    if (product.attributes.has("N")) emit.builder().editNode(emit.nodes().back()).attributes.set("N", own.range().width);
    names.push_back(emit.names().back());
    if (bias) {
        value = emit.op(roleName + "_proj", "Add", {value, own.ofLast(emit, bias, prefix + "bias")});
        names.push_back(emit.names().back());
    }
    return value;
}

} // namespace triptych
