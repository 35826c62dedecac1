#include "fusion/merged_members.h"

#include <algorithm>

namespace triptych {

namespace {

Dims dimsOf(const WeightSource& source) {
    Dims dims = source.tensor->dims;
    if (source.transposed) std::reverse(dims.begin(), dims.end());
    return dims;
}

/// One member's operands under way; `why` says what keeps it apart.
class MemberReader {
public:
    MemberReader(const Graph& graph, const std::vector<NodeId>& nodes, ValueId shared) : m_graph(graph), m_nodes(nodes), m_shared(shared) {}

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

    bool operands(const Node& product, std::string& why) {
        const Attributes& a = product.attributes;
        if (product.is("com.microsoft", "MatMulNBits")) return ofBits(product, why);
        if (product.is("MatMulInteger")) return ofIntegers(product);
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

    bool ofIntegers(const Node& product) {
        if (!hold(product, 1, 1, "weight") || dimsOf(m_member.held[0].source).size() != 2) return false;
        m_member.width = dimsOf(m_member.held[0].source)[1];
        // A zero point for all columns is an operand that all members share.
        const auto zero = weightSource(m_graph, product.input(3));
        return !zero || zero->tensor->dims != Dims{m_member.width} || hold(product, 3, 0, "weight_zero_point");
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
        if (!direct && product.is("MatMulInteger")) return true; // its scales stand between: both stay each member's own
        if (!direct || m_graph.readers(m_member.output).size() != 1 || m_graph.isOutput(m_member.output)) return false;
        const ValueId other = add.input(0) == m_member.output ? add.input(1) : add.input(0);
        m_member.bias = m_nodes[1];
        m_member.output = add.output();
        return other && takeBias(other);
    }

    const Graph& m_graph;
    const std::vector<NodeId>& m_nodes;
    ValueId m_shared;
    MergedMember m_member;
};

/// Attributes are the same but for the number of columns.
bool sameAttributes(const Node& a, const Node& b) {
    Attributes one = a.attributes, two = b.attributes;
    for (Attributes* each : {&one, &two})
        if (each->has("N")) each->set("N", std::int64_t(0));
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
std::string apart(const Graph& graph, const MergedMember& first, const MergedMember& member) {
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
        if (!joined && holder.input(i) != otherHolder.input(i)) return "the members have zero points or an order of rows of their own";
    }
    return {};
}

} // namespace

tl::expected<std::vector<MergedMember>, std::string> mergedMembers(const Graph& graph, const ParallelGroup& parallel) {
    std::vector<MergedMember> members;
    for (const auto& nodes : parallel.members) {
        std::string why;
        auto member = MemberReader(graph, nodes, parallel.sharedInput).run(why);
        if (!member) return tl::unexpected("a member " + why + (nodes.empty() ? std::string() : ": " + describe(graph, nodes[0])));
        for (const HeldOperand& each : member->held)
            if (each.source.tensor->payload.place == Payload::Place::absent) return tl::unexpected(std::string("the weights are not in the file"));
        if (member->biasSource && member->biasSource->tensor->payload.place == Payload::Place::absent) return tl::unexpected(std::string("the weights are not in the file"));
        members.push_back(std::move(*member));
        if (const std::string reason = apart(graph, members[0], members.back()); !reason.empty()) return tl::unexpected(reason + ": " + describe(graph, nodes[0]));
    }
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
