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

/// A weight whose columns take several axes as a matrix of `rows`, or a bias beside it as a row (0 rows); none where it isn't in the file as it is read.
std::optional<WeightSource> flattened(const Graph& graph, ValueId value, Dim rows, Dim columns) {
    const auto source = weightSource(graph, value);
    if (!source || source->transposed || !source->tensor->payload.parts.empty() || bitsOf(source->tensor->type) % 8 != 0 || elementCount(source->tensor->dims) != std::max<Dim>(rows, 1) * columns) return std::nullopt;
    auto flat = std::make_shared<Tensor>(*source->tensor);
    flat->dims = rows > 0 ? Dims{rows, columns} : Dims{columns};
    return WeightSource{std::move(flat), false};
}

/// The weight, and the bias where there is one, of a product whose columns take several axes.
struct Flat {
    std::optional<WeightSource> weight, bias;
};

std::optional<Flat> flatOf(const Graph& graph, const Shapes& shapes, const RoleTrace& role) {
    const Node& product = graph.node(role.linear);
    const Dims& weight = shapes.of(product.input(1)).dims;
    const Dim columns = linearColumns(graph, shapes, role.linear);
    if (weight.size() < 3 || columnAxes(product) + 1 != weight.size() || columns < 1) return std::nullopt;
    Flat flat{flattened(graph, product.input(1), weight[0], columns), role.bias ? flattened(graph, biasOf(graph, role), 0, columns) : std::nullopt};
    return flat.weight && (flat.bias || !role.bias) ? std::optional(std::move(flat)) : std::nullopt;
}

} // namespace

bool hasOwnProjection(const Graph& graph, const Shapes& shapes, const RoleTrace& role, const OwnColumns& own) {
    if (flatOf(graph, shapes, role)) return true;
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
    if (const auto flat = flatOf(graph, shapes, role)) {
        const auto cut = [&](const WeightSource& source, std::size_t axis, const char* name) { return emit.builder().addInitializer(cutTensor(source, own.range().runs, axis, prefix + name)); };
        ValueId value = emit.op(roleName + "_proj", "MatMul", {inputs[0], cut(*flat->weight, 1, "weight")});
        names.push_back(emit.names().back());
        if (!flat->bias) return value;
        value = emit.op(roleName + "_proj", "Add", {value, cut(*flat->bias, 0, "bias")});
        names.push_back(emit.names().back());
        return value;
    }
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
