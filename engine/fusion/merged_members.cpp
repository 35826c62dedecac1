#include "fusion/merged_members.h"

#include "attention/same_value.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

Dims dimsOf(const WeightSource& source) {
    Dims dims = source.tensor->dims;
    if (source.transposed) std::reverse(dims.begin(), dims.end());
    return dims;
}

/// Where a product of integers keeps what each of its columns has.
struct IntegerProduct {
    const char *domain, *op;
    std::size_t weight, scale, zeroPoint, bias; ///< inputs; none: `nowhere`
};
constexpr std::size_t nowhere = 99;
// Source: Operators.md and ContribOperators.md.
constexpr std::array integerProducts{IntegerProduct{"", "MatMulInteger", 1, nowhere, 3, nowhere}, IntegerProduct{"", "QLinearMatMul", 3, 4, 5, nowhere}, IntegerProduct{"com.microsoft", "QGemm", 3, 4, 5, 6},
                                     IntegerProduct{"com.microsoft", "MatMulIntegerToFloat", 1, 3, 5, 6}, IntegerProduct{"com.microsoft", "DynamicQuantizeMatMul", 1, 2, 3, 4}};

const IntegerProduct* integerProduct(const Node& node) {
    const auto found = std::find_if(integerProducts.begin(), integerProducts.end(), [&](const IntegerProduct& each) { return node.is(each.domain, each.op); });
    return found == integerProducts.end() ? nullptr : &*found;
}

/// One number as a vector of many.
TensorPtr repeated(const TensorPtr& number, std::int64_t width) {
    auto whole = std::make_shared<Tensor>(*number);
    whole->dims = {1};
    if (number->payload.place == Payload::Place::absent) whole->dims = {width};
    // Each time twice as long: a part for each column would be as many as a weight is wide.
    while (whole->dims[0] < width) {
        auto longer = std::make_shared<Tensor>();
        longer->name = number->name;
        longer->type = number->type;
        longer->dims = {std::min(2 * whole->dims[0], width)};
        longer->payload.parts = {{whole, false, 0, whole->dims[0]}, {whole, false, 0, longer->dims[0] - whole->dims[0]}};
        longer->payload.place = Payload::Place::derived;
        longer->payload.length = longer->byteSize().value_or(0);
        whole = std::move(longer);
    }
    return whole;
}

/// One member's operands under way; `why` says what keeps it apart.
class MemberReader {
public:
    MemberReader(const Graph& graph, const Shapes& shapes, const std::vector<NodeId>& nodes, ValueId shared, std::int64_t opset)
        : m_graph(graph), m_shapes(shapes), m_nodes(nodes), m_shared(shared), m_opset(opset) {}

    std::optional<MergedMember> run(std::string& why) {
        why = "is more than a product by initializers, with a vector added";
        if (m_nodes.empty() || m_nodes.size() > 2) return std::nullopt;
        m_member.product = m_nodes[0];
        m_member.input = m_shared;
        const Node& product = m_graph.node(m_nodes[0]);
        m_member.output = product.output();
        if (product.input(0) != m_shared || !operands(product, why)) return std::nullopt;
        return behind(product) ? std::optional(std::move(m_member)) : std::nullopt;
    }

private:
    bool hold(const Node& node, std::size_t input, std::size_t axis, const char* name) {
        auto source = weightSource(m_graph, node.input(input));
        if (!source || axis >= source->tensor->dims.size()) return false;
        m_member.held.push_back({input, axis, std::move(*source), name});
        return true;
    }

    /// As hold(), of a vector along the columns, or of one number for all of them; what is computed may be one number that all members share.
    bool holdVector(const Node& node, std::size_t input, const char* name) {
        if (!node.input(input)) return true;
        auto source = weightSource(m_graph, node.input(input));
        const ValueShape& shape = m_shapes.of(node.input(input));
        if (!source) return shape.known() && shape.count() == 1;
        const Dims& dims = source->tensor->dims;
        const bool number = dims.empty() || dims == Dims{1};
        if (number ? bitsOf(source->tensor->type) % 8 != 0 : dims != Dims{m_member.width}) return false;
        if (number) source = WeightSource{repeated(source->tensor, m_member.width), false};
        m_member.held.push_back({input, 0, std::move(*source), name});
        return true;
    }

    bool operands(const Node& product, std::string& why) {
        const Attributes& a = product.attributes;
        if (product.is("com.microsoft", "MatMulNBits")) return ofBits(product, why);
        if (const IntegerProduct* integers = integerProduct(product)) return ofIntegers(product, *integers, why);
        const bool gemm = product.is("Gemm") && a.integer("transA", 0) == 0 && a.real("alpha", 1) == 1 && a.real("beta", 1) == 1;
        if (!product.is("MatMul") && !gemm) return false;
        const bool turned = gemm && a.integer("transB", 0) != 0;
        if (const NodeId maker = m_graph.producer(product.input(1)); maker && m_graph.node(maker).is("DequantizeLinear")) return dequantised(maker, turned ? 0 : 1, why);
        if (!hold(product, 1, 1, "weight") || m_member.held[0].source.tensor->dims.size() != 2) return false;
        if (turned) m_member.held[0].source.transposed = !m_member.held[0].source.transposed;
        m_member.width = dimsOf(m_member.held[0].source)[1];
        return true;
    }

    /// Rows of blocks for each column; scales and zero points for each block, perhaps all in one row. Source: ContribOperators.md.
    bool ofBits(const Node& product, std::string& why) {
        m_member.width = product.attributes.integer("N", 0);
        if (m_member.width < 1 || !hold(product, 1, 0, "weight") || !hold(product, 2, 0, "weight_scale")) return false;
        if ((product.input(3) && !hold(product, 3, 0, "weight_zero_point")) || (product.input(5) && !hold(product, 5, 0, "bias"))) return false;
        why = "has operands whose rows are no columns";
        return std::all_of(m_member.held.begin(), m_member.held.end(), [&](const HeldOperand& each) { return dimsOf(each.source)[0] % m_member.width == 0; });
    }

    bool ofIntegers(const Node& product, const IntegerProduct& at, std::string& why) {
        const std::size_t columns = product.attributes.integer("transB", 0) != 0 ? 0 : 1;
        if (product.attributes.integer("transA", 0) != 0 || !hold(product, at.weight, columns, "weight") || dimsOf(m_member.held[0].source).size() != 2) return false;
        m_member.width = dimsOf(m_member.held[0].source)[columns];
        why = "has a scale, zero point or bias that is neither one for all columns nor one for each";
        if (product.input(at.bias) && (!hold(product, at.bias, 0, "bias") || m_member.held.back().source.tensor->dims != Dims{m_member.width})) return false;
        return holdVector(product, at.scale, "weight_scale") && holdVector(product, at.zeroPoint, "weight_zero_point");
    }

    /// A weight of integers with scales for each column, or for each block of rows of each.
    bool dequantised(NodeId maker, std::size_t columns, std::string& why) {
        const Node& node = m_graph.node(maker);
        m_member.dequantised = maker;
        if (!hold(node, 0, columns, "weight")) return false;
        const Dims dims = dimsOf(m_member.held[0].source);
        if (dims.size() != 2 || m_member.held[0].source.transposed) return false;
        m_member.width = dims[columns];
        why = "has no scale for each column";
        const std::int64_t axis = node.attributes.integer("axis", 1), along = axis < 0 ? axis + 2 : axis, block = node.attributes.integer("block_size", 0);
        const ValueShape& scale = m_shapes.of(node.input(1));
        if (block == 0 && scale.known() && scale.count() == 1) { // for all columns, whatever the axis
            constexpr std::int64_t firstWithAxis = 13;
            const bool done = (m_opset == 0 || m_opset >= firstWithAxis) && holdVector(node, 1, "weight_scale") && holdVector(node, 2, "weight_zero_point");
            return done && m_member.held.size() == (node.input(2) ? 3U : 2U);
        }
        if (block == 0 && along != static_cast<std::int64_t>(columns)) return false;
        if (block != 0 && along == static_cast<std::int64_t>(columns)) {
            why = "has scales for blocks of columns";
            return false;
        }
        const std::size_t own = block == 0 ? 0 : columns;
        for (const auto& [input, name] : {std::pair(1U, "weight_scale"), std::pair(2U, "weight_zero_point")}) {
            if (input == 2 && !node.input(2)) continue;
            if (!hold(node, input, own, name) || dimsOf(m_member.held.back().source)[own] != m_member.width) return false;
        }
        return true;
    }

    /// The vector that is added: an operand of the product, or a node behind it.
    bool behind(const Node& product) {
        const auto takeBias = [&](ValueId value) {
            m_member.biasSource = weightSource(m_graph, value);
            return m_member.biasSource && m_member.biasSource->tensor->dims == Dims{m_member.width};
        };
        if (product.is("Gemm") && product.input(2)) return m_nodes.size() == 1 && takeBias(product.input(2));
        if (m_nodes.size() == 1) return true;
        const Node& add = m_graph.node(m_nodes[1]);
        const bool direct = add.is("Add") && (add.input(0) == m_member.output || add.input(1) == m_member.output);
        if (!direct && integerProduct(product)) return true; // its scales stand between: both stay each member's own
        if (!direct || m_graph.readers(m_member.output).size() != 1 || m_graph.isOutput(m_member.output)) return false;
        const ValueId other = add.input(0) == m_member.output ? add.input(1) : add.input(0);
        m_member.bias = m_nodes[1];
        m_member.output = add.output();
        return other && takeBias(other);
    }

    const Graph& m_graph;
    const Shapes& m_shapes;
    const std::vector<NodeId>& m_nodes;
    ValueId m_shared;
    std::int64_t m_opset;
    MergedMember m_member;
};

/// Attributes are the same but for the number of columns and where they are, which operands tell.
bool sameAttributes(const Node& a, const Node& b) {
    Attributes one = a.attributes, two = b.attributes;
    for (Attributes* each : {&one, &two})
        for (const char* name : {"N", "axis"}) each->set(name, std::int64_t(0));
    return describe(one) == describe(two);
}

/// Whether two sizes of an operand differ along its columns only, and its numbers fill bytes where they are joined.
bool fits(const HeldOperand& a, const HeldOperand& b) {
    Dims one = dimsOf(a.source), two = dimsOf(b.source);
    if (a.input != b.input || a.axis != b.axis || a.source.tensor->type != b.source.tensor->type || one.size() != two.size()) return false;
    std::int64_t inner = bitsOf(b.source.tensor->type) * two[b.axis];
    for (std::size_t i = b.axis + 1; i < two.size(); ++i) inner *= two[i];
    one[a.axis] = two[b.axis] = 0;
    return one == two && inner % 8 == 0;
}

/// What keeps a member from being joined with the first; empty where nothing does.
std::string apart(const Graph& graph, const Shapes& shapes, const MergedMember& first, const MergedMember& member) {
    if (member.biasSource.has_value() != first.biasSource.has_value()) return "only some members have a bias";
    const Node &product = graph.node(member.product), &other = graph.node(first.product), &holder = graph.node(member.holder()), &otherHolder = graph.node(first.holder());
    const bool plain = !first.dequantised && first.held.size() == 1 && (other.is("MatMul") || other.is("Gemm"));
    if (member.dequantised.valid() != first.dequantised.valid() || (!plain && (product.op != other.op || !sameAttributes(product, other) || !sameAttributes(holder, otherHolder)))) return "the members are quantised in different ways";
    if (member.held.size() != first.held.size()) return "only some members have a zero point or a bias";
    for (std::size_t i = 0; i < first.held.size(); ++i)
        if (!fits(first.held[i], member.held[i])) return "the members' weights differ in type or rows";
    // What isn't joined is there once.
    for (std::size_t i = 1; !plain && i < std::max(holder.inputs.size(), otherHolder.inputs.size()); ++i) {
        const bool joined = std::any_of(first.held.begin(), first.held.end(), [&](const HeldOperand& each) { return each.input == i; });
        if (!joined && holder.input(i) != otherHolder.input(i) && !sameValue(graph, shapes, holder.input(i), otherHolder.input(i))) return "the members have zero points or an order of rows of their own";
    }
    return {};
}

bool isQuantised(const Graph& graph, const Node& product) {
    const NodeId maker = product.input(1) ? graph.producer(product.input(1)) : NodeId();
    return integerProduct(product) || product.is("com.microsoft", "MatMulNBits") || (maker && graph.node(maker).is("DequantizeLinear"));
}

} // namespace

tl::expected<std::vector<MergedMember>, MergeObstacle> mergedMembers(const Graph& graph, const Shapes& shapes, const ParallelGroup& parallel, std::int64_t opset) {
    std::vector<MergedMember> members;
    bool absent = false;
    const auto isAbsent = [](const WeightSource& source) { return source.tensor->payload.place == Payload::Place::absent; };
    for (const auto& nodes : parallel.members) {
        const auto obstacle = [&](std::string reason) {
            const NodeId at = nodes.empty() ? NodeId() : nodes[0];
            return tl::unexpected(MergeObstacle{at, std::move(reason), at && isQuantised(graph, graph.node(at))});
        };
        std::string why;
        auto member = MemberReader(graph, shapes, nodes, parallel.sharedInput, opset).run(why);
        if (!member) return obstacle("a member " + why);
        absent = absent || std::any_of(member->held.begin(), member->held.end(), [&](const HeldOperand& each) { return isAbsent(each.source); }) || (member->biasSource && isAbsent(*member->biasSource));
        members.push_back(std::move(*member));
        if (std::string reason = apart(graph, shapes, members[0], members.back()); !reason.empty()) return obstacle(std::move(reason));
    }
    if (absent) return tl::unexpected(MergeObstacle{{}, "the weights are not in the file", false});
    return members;
}

TensorPtr joinedTensor(std::string name, const std::vector<WeightSource>& sources, std::size_t axis) {
    auto whole = std::make_shared<Tensor>();
    whole->name = std::move(name);
    whole->type = sources[0].tensor->type;
    for (const WeightSource& source : sources) {
        Dims dims = dimsOf(source);
        const Dim length = dims[axis];
        if (!whole->dims.empty()) dims[axis] += whole->dims[axis];
        whole->dims = std::move(dims);
        whole->payload.parts.push_back({source.tensor, source.transposed, 0, length});
    }
    whole->payload.place = Payload::Place::derived;
    whole->payload.axis = static_cast<int>(axis);
    whole->payload.length = whole->byteSize().value_or(0);
    return whole;
}

} // namespace triptych
