#include "cost/flops.h"

#include <map>
#include <set>

namespace triptych {

namespace {

double count(const ValueShape& shape) { return static_cast<double>(shape.count()); }

/// Every label of an Einsum once: the index space of its sum.
std::optional<double> einsumSpace(const Graph& graph, const Shapes& shapes, const Node& node) {
    std::string equation = node.attributes.text("equation");
    std::erase(equation, ' ');
    std::map<char, double> size;
    double leading = 1;
    std::size_t input = 0, at = 0;
    const std::string terms = equation.substr(0, equation.find("->")) + ",";
    while (input < node.inputs.size() && at < terms.size()) {
        const std::string term = terms.substr(at, terms.find(',', at) - at);
        at += term.size() + 1;
        const ValueShape& shape = shapes.of(node.inputs[input++]);
        if (!shape.known()) return std::nullopt;
        std::size_t axis = 0;
        double own = 1;
        for (std::size_t c = 0; c < term.size(); ++c) {
            if (term[c] == '.') {
                const std::size_t named = term.size() - 3;
                for (; axis + (named - c) < shape.dims.size(); ++axis) own *= static_cast<double>(shape.dims[axis]);
                c += 2;
            } else if (axis < shape.dims.size()) {
                size[term[c]] = std::max(size[term[c]], static_cast<double>(shape.dims[axis++]));
            }
        }
        leading = std::max(leading, own);
    }
    (void)graph;
    double product = leading;
    for (const auto& [label, extent] : size) product *= extent;
    return product;
}

std::optional<double> product(const Graph& graph, const Shapes& shapes, const Node& node) {
    const ValueShape &a = shapes.of(node.input(0)), &out = shapes.of(node.output());
    if (!out.known()) return std::nullopt;
    if (node.is("Einsum")) {
        const auto space = einsumSpace(graph, shapes, node);
        return space ? std::optional(2 * *space) : std::nullopt;
    }
    if (!a.known() || a.dims.empty()) return std::nullopt;
    if (node.is("Gemm")) {
        const double inner = static_cast<double>(a.dims[node.attributes.integer("transA", 0) != 0 ? 0 : a.dims.size() - 1]);
        return 2 * count(out) * inner + (node.input(2) ? count(out) : 0);
    }
    return 2 * count(out) * static_cast<double>(a.dims.back());
}

/// A weight is Cout x Cin/group x kernel: each output element is one row of it.
std::optional<double> convolution(const Shapes& shapes, const Node& node) {
    const ValueShape &weight = shapes.of(node.input(1)), &out = shapes.of(node.output()), &in = shapes.of(node.input(0));
    if (!weight.known() || !out.known() || !in.known() || weight.dims.empty() || weight.dims[0] == 0) return std::nullopt;
    if (node.is("ConvTranspose")) return 2 * count(in) * count(weight) / static_cast<double>(weight.dims[0]);
    return 2 * count(out) * count(weight) / static_cast<double>(weight.dims[0]) + (node.input(2) ? count(out) : 0);
}

/// Operations an element, of input or output, whichever is larger.
double perElement(const std::string& op) {
    static const std::map<std::string, double> table{
        {"Softmax", 5}, {"BiasSoftmax", 6}, {"LogSoftmax", 6}, {"LayerNormalization", 8}, {"SkipLayerNormalization", 9}, {"RMSNormalization", 5}, {"SimplifiedLayerNormalization", 5},
        {"SkipSimplifiedLayerNormalization", 6}, {"GroupNormalization", 8}, {"InstanceNormalization", 8}, {"BatchNormalization", 2}, {"Gelu", 10}, {"FastGelu", 12},
        {"BiasGelu", 11}, {"QuickGelu", 6}, {"Sigmoid", 4}, {"Swish", 5}, {"Tanh", 6}, {"Erf", 8}, {"Exp", 4}, {"Log", 4}, {"Sqrt", 2}, {"Reciprocal", 1}, {"Pow", 4}, {"Sin", 4},
        {"Cos", 4}, {"Div", 1}, {"RotaryEmbedding", 6}, {"Softplus", 8}, {"HardSwish", 4}, {"Mish", 14}};
    const auto found = table.find(op);
    return found == table.end() ? 1 : found->second;
}

bool movesOnly(const std::string& op) {
    static const std::set<std::string> moves{"Gather", "GatherElements", "GatherND", "Concat", "Slice", "Split", "Pad", "Cast", "CastLike", "ScatterND", "ScatterElements", "Reshape", "Transpose", "Expand", "Tile",
                                             "Identity", "Dropout", "Squeeze", "Unsqueeze", "Flatten", "Constant", "ConstantOfShape", "Range", "Shape", "Size", "NonZero", "OneHot", "Where", "Trilu", "DepthToSpace", "SpaceToDepth", "Resize"};
    return moves.contains(op);
}

} // namespace

std::optional<double> flopsOf(const Graph& graph, const Shapes& shapes, NodeId id) {
    const Node& node = graph.node(id);
    if (movesOnly(node.op)) return 0;
    static const std::set<std::string_view> products{"MatMul", "Gemm", "Einsum", "FusedMatMul", "MatMulInteger", "MatMulNBits", "QLinearMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulBnb4", "QGemm"};
    if (products.contains(node.op)) return product(graph, shapes, node);
    if (node.op == "Conv" || node.op == "ConvInteger" || node.op == "ConvTranspose" || node.op == "FusedConv") return convolution(shapes, node);
    double elements = 0;
    for (const auto* list : {&node.inputs, &node.outputs}) {
        if (list->empty() || !(*list)[0]) continue;
        const ValueShape& shape = shapes.of((*list)[0]);
        if (!shape.known()) return std::nullopt;
        elements = std::max(elements, count(shape));
    }
    if (node.op == "AveragePool" || node.op == "MaxPool") {
        double window = 1;
        if (const auto* kernel = node.attributes.integers("kernel_shape"))
            for (const std::int64_t size : *kernel) window *= static_cast<double>(size);
        return count(shapes.of(node.output())) * window;
    }
    return elements * perElement(node.op);
}

} // namespace triptych
