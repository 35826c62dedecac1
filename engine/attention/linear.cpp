// Which products are linear projections of an activation.

#include "attention/product_axes.h"
#include "attention/trace.h"

#include <array>
#include <algorithm>

namespace triptych {

bool convolves(const Node& node) { return node.is("Conv") || node.is("QLinearConv"); }

std::optional<std::size_t> linearWeight(const Graph& graph, const Shapes& shapes, NodeId id) {
    const Node& node = graph.node(id);
    // Frameworks whose weights have an axis of heads write projections as Einsum.
    if (node.is("Einsum")) return node.inputs.size() == 2 && shapes.isConstant(node.input(1)) && !shapes.isFixed(node.input(0)) ? std::optional<std::size_t>(1) : std::nullopt;
    const bool bits = node.is("com.microsoft", "MatMulNBits") || node.is("com.microsoft", "MatMulBnb4");
    const bool integers = node.is("MatMulInteger") || node.is("QLinearMatMul") || node.is("com.microsoft", "DynamicQuantizeMatMul") || node.is("com.microsoft", "MatMulIntegerToFloat");
    const bool gemm = node.is("com.microsoft", "QGemm");
    const bool product = bits || integers || gemm || node.is("MatMul") || node.is("Gemm") || node.is("com.microsoft", "FusedMatMul");
    const std::size_t at = node.is("QLinearMatMul") || node.is("QLinearConv") || gemm ? 3 : 1;
    if ((!product && !convolves(node)) || !node.input(at)) return std::nullopt;
    // What is constant for bound sizes alone (learned queries for every batch) is an activation.
    if (!shapes.isConstant(node.input(at)) || shapes.isFixed(node.input(0))) return std::nullopt;
    const ValueShape& weight = shapes.of(node.input(at));
    // A batched constant is a table, not a weight.
    if (product && !bits && weight.ranked && weight.dims.size() > 2) return std::nullopt;
    return at;
}

ValueId linearBias(const Node& node) {
    if (node.is("Gemm") || node.is("Conv")) return node.input(2);
    if (node.is("QLinearConv")) return node.input(8);
    if (node.op == "QGemm") return node.input(6);
    if (node.op == "DynamicQuantizeMatMul") return node.input(4);
    if (node.op == "MatMulNBits") return node.input(5);
    return node.op == "MatMulIntegerToFloat" ? node.input(6) : ValueId();
}

namespace {

bool isCopy(const Node& node) { return node.is("Identity") || node.is("Cast") || node.is("Dropout") || node.is("CastLike"); }
bool keepsOrder(const Node& node) { return node.is("Reshape") || node.is("Squeeze") || node.is("Unsqueeze") || node.is("Flatten"); }

} // namespace

ValueId undone(const Graph& graph, const Shapes& shapes, const Node& view) {
    constexpr int longest = 6;
    if (!view.is("Transpose") && !keepsOrder(view)) return {};
    ValueId value = view.input(0);
    const auto* perm = view.is("Transpose") ? view.attributes.integers("perm") : nullptr;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id) return {};
        const Node& node = graph.node(id);
        if (!perm && keepsOrder(view) && keepsOrder(node) && shapes.of(node.input(0)).known() && shapes.of(node.input(0)).dims == shapes.of(view.output()).dims) return node.input(0);
        const auto* other = perm && node.is("Transpose") ? node.attributes.integers("perm") : nullptr;
        if (other && other->size() == perm->size()) {
            for (std::size_t i = 0; i < perm->size(); ++i)
                if ((*perm)[i] < 0 || (*perm)[i] >= static_cast<std::int64_t>(perm->size()) || (*other)[static_cast<std::size_t>((*perm)[i])] != static_cast<std::int64_t>(i)) return {};
            return node.input(0);
        }
        if (!isCopy(node) && !(!perm && keepsOrder(node))) return {};
        value = node.input(0);
    }
    return {};
}

std::set<NodeId> cancelledViews(const Graph& graph, const Shapes& shapes, const RoleTrace& trace) {
    std::set<NodeId> found;
    for (std::size_t i = 0; i < trace.path.size(); ++i) {
        const ValueId before = undone(graph, shapes, graph.node(trace.path[i]));
        for (std::size_t at = i; before && at < trace.path.size() && graph.producer(before) != trace.path[at]; ++at)
            if (!isCopy(graph.node(trace.path[at]))) found.insert(trace.path[at]);
    }
    return found;
}

ValueId bare(const Graph& graph, const Shapes& shapes, ValueId value) {
    constexpr int longest = 32;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id) return value;
        const Node& node = graph.node(id);
        const ValueId before = isCopy(node) ? node.input(0) : undone(graph, shapes, node);
        if (!before) return value;
        value = before;
    }
    return value;
}

namespace {

/// Where a value is fed in; none where it is computed.
ValueId fedFrom(const Graph& graph, ValueId value, bool cut) {
    constexpr int longest = 12;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id) return graph.isInput(value) || !graph.value(value).initializer ? value : ValueId();
        const Node& node = graph.node(id);
        if (!cut || !(node.is("Slice") || node.is("Gather") || node.is("GatherElements") || node.is("Transpose") || node.is("Pad") || isCopy(node) || keepsOrder(node))) return {};
        value = node.input(0);
    }
    return {};
}

} // namespace

bool isFed(const Graph& graph, ValueId value, bool cut) { return fedFrom(graph, value, cut).valid(); }

bool joinsFed(const Graph& graph, const Node& node) {
    const ValueId past = fedFrom(graph, node.input(0), true), now = fedFrom(graph, node.input(1), true);
    return node.inputs.size() == 2 && past && now && past != now;
}

bool isOfTable(const Graph& graph, const Shapes& shapes, ValueId value) {
    constexpr int longest = 6;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id) return false;
        const Node& node = graph.node(id);
        if (node.is("Gather") && shapes.isConstant(node.input(0))) return true;
        if (!isCopy(node) && !keepsOrder(node) && !node.is("Transpose")) return false;
        value = node.input(0);
    }
    return false;
}

ValueId writtenToBuffer(const Graph& graph, const Shapes& shapes, const Node& node) {
    const auto buffer = [&](ValueId value) { return value && !shapes.isConstant(value) && shapes.of(value).dims.size() >= 3 && isFed(graph, value, true); };
    const auto fresh = [&](std::size_t input) { return node.input(input) && !shapes.isConstant(node.input(input)) && !isFed(graph, node.input(input), true) ? node.input(input) : ValueId(); };
    if (node.is("Where")) { // at the places that the condition names
        for (const std::size_t branch : {1U, 2U})
            if (buffer(node.input(3 - branch)) && shapes.of(node.input(3 - branch)).dims == shapes.of(node.output()).dims) return fresh(branch);
        return {};
    }
    const bool scatters = node.is("ScatterND") || node.is("ScatterElements") || node.is("TensorScatter");
    if (!scatters || !buffer(node.input(0))) return {};
    const ValueId now = node.input(node.is("TensorScatter") ? 1 : 2);
    // Without a projection new keys are fed too, but not with the buffer.
    return now && !shapes.isConstant(now) && fedFrom(graph, now, true) != fedFrom(graph, node.input(0), true) ? now : ValueId();
}

bool sumsIntegers(const Graph& graph, const Shapes& shapes, ValueId value) {
    constexpr int longest = 4;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(bare(graph, shapes, value));
        if (!id) return false;
        const Node& node = graph.node(id);
        if (node.is("MatMulInteger") || node.is("ConvInteger")) return true;
        if (!node.is("Mul") || shapes.isConstant(node.input(0)) == shapes.isConstant(node.input(1))) return false;
        value = node.input(shapes.isConstant(node.input(0)) ? 1 : 0);
    }
    return false;
}

bool restoresIntegers(const Graph& graph, const Shapes& shapes, ValueId factor, int depth) {
    const ValueId value = factor ? bare(graph, shapes, factor) : ValueId();
    const NodeId id = value ? graph.producer(value) : NodeId();
    constexpr int deepest = 4;
    if (!id || depth > deepest) return false;
    const Node& node = graph.node(id);
    if (node.is("DynamicQuantizeLinear")) return node.outputs.size() > 1 && node.outputs[1] == value;
    if (!node.is("Mul")) return false;
    std::size_t scales = 0, weights = 0;
    for (const ValueId each : node.inputs) {
        if (shapes.isConstant(each)) ++weights;
        else if (restoresIntegers(graph, shapes, each, depth + 1)) ++scales;
    }
    return scales > 0 && scales + weights == node.inputs.size();
}

ValueId withoutAxis(const Graph& graph, const Shapes& shapes, ValueId value) {
    const ValueId copy = bare(graph, shapes, value);
    const NodeId id = graph.producer(copy);
    return id && graph.node(id).is("Unsqueeze") ? bare(graph, shapes, graph.node(id).input(0)) : copy;
}

bool sameHeads(const Graph& graph, const Shapes& shapes, ValueId a, ValueId b) { return withoutAxis(graph, shapes, a) == withoutAxis(graph, shapes, b); }

std::int64_t copiesMade(const Dims& from, const Dims& to) {
    std::int64_t copies = 1;
    for (std::size_t back = 2; back < to.size(); ++back) {
        const Dim was = back <= from.size() ? from[from.size() - back] : 1, is = to[to.size() - back];
        if (was > 0 && is > was && is % was == 0) copies *= is / was;
    }
    return copies;
}

bool lessItsMean(const Graph& graph, const Shapes& shapes, const Node& node) {
    if (!node.is("Sub") || !node.input(0) || !node.input(1)) return false;
    const NodeId id = graph.producer(bare(graph, shapes, node.input(1)));
    return id && graph.node(id).is("ReduceMean") && bare(graph, shapes, graph.node(id).input(0)) == bare(graph, shapes, node.input(0));
}

ValueId wholeOf(const Graph& graph, ValueId piece) {
    const NodeId id = graph.producer(piece);
    return id && (graph.node(id).is("Slice") || graph.node(id).is("Split")) ? graph.node(id).input(0) : piece;
}

bool closeBehindLinear(const Graph& graph, const Shapes& shapes, ValueId value) {
    static constexpr std::array passing{"Transpose", "BatchNormalization", "Split", "Slice", "Gather", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"};
    constexpr int longest = 10;
    for (int steps = 0; steps < longest && value; ++steps) {
        const NodeId id = graph.producer(bare(graph, shapes, value));
        if (!id) return false;
        if (linearWeight(graph, shapes, id)) return true;
        const Node& node = graph.node(id);
        if (node.is("Add") && shapes.isConstant(node.input(0)) != shapes.isConstant(node.input(1))) {
            value = node.input(shapes.isConstant(node.input(0)) ? 1 : 0);
            continue;
        }
        if (!isCopy(node) && !keepsOrder(node) && !isOneOf(node, passing)) return false;
        value = node.input(0);
    }
    return false;
}

std::int64_t headsMultiplied(const Graph& graph, const Shapes& shapes, NodeId product) {
    const Node& node = graph.node(product);
    const ValueId matrices = node.input(1);
    const Dims& dims = shapes.of(matrices).dims;
    if (!matrices || !shapes.isConstant(matrices) || shapes.isFixed(node.input(0)) || dims.size() < 3) return 0;
    if (node.is("MatMul")) return dims[dims.size() - 3] == shapes.of(matrices).count() / (dims[dims.size() - 1] * dims[dims.size() - 2]) ? dims[dims.size() - 3] : 0;
    return node.is("Einsum") ? sharedSize(graph, shapes, product) : 0;
}

bool isGiven(const Graph& graph, const Shapes& shapes, ValueId value) {
    const NodeId id = graph.producer(value);
    return shapes.isFixed(value) && (!id || graph.node(id).is("Constant"));
}

std::int64_t linearColumns(const Graph& graph, const Shapes& shapes, NodeId linear) {
    const Node& node = graph.node(linear);
    const ValueShape& out = shapes.of(node.output());
    if (!out.known() || out.dims.empty()) return 0;
    if (convolves(node) && out.dims.size() > 1) return out.dims[1]; // channels stand second
    if (!node.is("Einsum")) return out.dims.back();
    // Axes of the result that come from the weight: "bsd,dhk->bshk" has h and k.
    const std::string equation = node.attributes.text("equation");
    const std::size_t comma = equation.find(','), arrow = equation.find("->");
    if (comma == std::string::npos || arrow == std::string::npos) return out.dims.back();
    std::string result = equation.substr(arrow + 2), input = equation.substr(0, comma);
    std::erase(result, ' ');
    std::int64_t columns = 1;
    for (std::size_t i = 0; i < result.size() && result.size() == out.dims.size(); ++i)
        if (input.find(result[i]) == std::string::npos) columns *= out.dims[i];
    return columns;
}

NodeId sequenceProjection(const Graph& graph, const Shapes& shapes, NodeId product, ValueId& next) {
    const Node& node = graph.node(product);
    if (!node.is("MatMul") && !node.is("Einsum")) return {};
    // A constant on the left mixes places: E x K.
    if (node.is("MatMul") && node.input(0) && node.input(1) && shapes.isConstant(node.input(0)) && !shapes.isConstant(node.input(1)) && shapes.of(node.input(0)).dims.size() >= 2) {
        next = node.input(1);
        return product;
    }
    // A constant on the right does so where the places were turned to the end before: (K^T E)^T.
    if (!linearWeight(graph, shapes, product)) return {};
    const NodeId before = graph.producer(bare(graph, shapes, node.input(0)));
    const auto* perm = before && graph.node(before).is("Transpose") ? graph.node(before).attributes.integers("perm") : nullptr;
    const bool turned = perm && perm->size() >= 3 && perm->back() != static_cast<std::int64_t>(perm->size()) - 1;
    if (node.is("Einsum") ? sumsLastAxis(node, 0) || shapes.of(node.input(0)).dims.size() < 3 : !turned) return {};
    // Only behind another projection: turned images are projected like anything else.
    const ValueId places = node.is("Einsum") ? node.input(0) : graph.node(before).input(0);
    ValueId value = places;
    for (int steps = 0; steps < 6 && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (!id) return {};
        const Node& each = graph.node(id);
        if (convolves(each)) return {}; // channels stand second: the Transpose turns them to the end, as for any other product
        if (linearWeight(graph, shapes, id)) {
            if (node.is("Einsum") && each.is("Einsum")) return {}; // where one keeps its columns isn't looked for
            next = places;
            return product;
        }
        const bool passes = each.is("Reshape") || each.is("Transpose") || each.is("Split") || each.is("Identity") || each.is("Cast") || each.is("Squeeze") || each.is("Add");
        if (!passes) return {};
        value = each.is("Add") && shapes.isConstant(each.input(0)) ? each.input(1) : each.input(0);
    }
    return {};
}

} // namespace triptych
