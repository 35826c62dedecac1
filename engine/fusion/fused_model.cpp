#include "fusion/fused_model.h"

#include "fusion/function_groups.h"
#include "fusion/merged_members.h"
#include "onnx_io/versions.h"

#include <algorithm>

namespace triptych {

namespace {

class FusedModelWriter {
public:
    FusedModelWriter(const Graph& graph, const Shapes& shapes, const Partition& partition, const PatternLibrary& library, const std::map<std::string, std::int64_t>& opsets)
        : m_graph(graph), m_shapes(shapes), m_partition(partition), m_library(library), m_opsets(opsets) {}

    Result<FusedModel> run() {
        m_outer.adoptValues(m_graph);
        std::map<GroupId, const ParallelGroup*> merged;
        for (const ParallelGroup& parallel : m_partition.parallel)
            if (parallel.group) merged[parallel.group] = &parallel;
        std::vector<bool> written(m_graph.nodes().size(), false);
        std::vector<GroupId> plain;
        const auto functions = functionGroups(m_graph, m_partition, plain);
        for (const GroupId id : plain)
            m_result.warnings.push_back(m_partition.groups[id.position()].id + " (" + m_library[m_partition.groups[id.position()].pattern].id + "): stays plain nodes in the written file: shapes that it needs follow from what another group computes");
        for (std::size_t g = 0; g < functions.size(); ++g) {
            if (functions[g].empty()) continue;
            const auto parallel = merged.find(GroupId(g));
            if (auto done = writeGroup(m_partition.groups[g].pattern, functions[g], parallel == merged.end() ? nullptr : parallel->second); !done) return tl::unexpected(done.error());
            for (const NodeId node : functions[g]) written[node.position()] = true;
        }
        for (const NodeId node : m_dropped) written[node.position()] = true;
        for (std::size_t i = 0; i < written.size(); ++i)
            if (!written[i]) m_outer.adoptNode(m_graph, NodeId(i));
        auto graph = m_outer.finish("fuse");
        if (!graph) return tl::unexpected(graph.error());
        m_result.graph = *graph;
        return std::move(m_result);
    }

private:
    /// Values that enter the nodes from outside, in the order of first use, and those that leave.
    void border(const std::vector<NodeId>& nodes, std::vector<ValueId>& inputs, std::vector<ValueId>& outputs) const {
        const std::set<NodeId> inside(nodes.begin(), nodes.end());
        std::set<ValueId> seen;
        for (const NodeId id : nodes)
            for (const ValueId value : m_graph.node(id).inputs)
                if (value && !inside.contains(m_graph.producer(value)) && seen.insert(value).second) inputs.push_back(value);
        for (const NodeId id : nodes) {
            for (const ValueId value : m_graph.node(id).outputs) {
                if (!value) continue;
                const auto readers = m_graph.readers(value);
                if (m_graph.isOutput(value) || std::any_of(readers.begin(), readers.end(), [&](NodeId reader) { return !inside.contains(reader); }))
                    outputs.push_back(value);
            }
        }
    }

    static Node copyInto(GraphBuilder& body, const Graph& from, NodeId id) {
        Node node = from.node(id);
        for (ValueId& value : node.inputs)
            if (value) value = body.value(from.value(value).name);
        for (ValueId& value : node.outputs)
            if (value) value = body.value(from.value(value).name);
        return node;
    }

    /// The product by the joined weight, its bias, and the Split that gives each member its columns.
    void writeMerged(GraphBuilder& body, const std::vector<MergedMember>& members, const std::string& name, std::vector<ValueId>& callInputs) {
        const auto parameter = [&](const std::string& suffix, const std::vector<WeightSource>& sources, std::size_t axis) {
            const ValueId outer = m_outer.addInitializer(joinedTensor(name + suffix, sources, axis));
            callInputs.push_back(outer);
            const ValueId inner = body.value(m_outer.peek(outer).name);
            body.addInput(inner);
            return inner;
        };
        std::vector<WeightSource> biases;
        std::vector<std::int64_t> widths;
        std::int64_t columns = 0;
        for (const MergedMember& member : members) {
            if (member.biasSource) biases.push_back(*member.biasSource);
            widths.push_back(member.width);
            columns += member.width;
        }
        const auto add = [&](std::string op, std::vector<ValueId> inputs, std::vector<ValueId> outputs) -> Node& {
            Node node;
            node.name = name + "/" + op;
            node.op = std::move(op);
            node.inputs = std::move(inputs);
            node.outputs = std::move(outputs);
            return body.editNode(body.addNode(std::move(node)));
        };
        const MergedMember& first = members[0];
        const Node &product = m_graph.node(first.product), &holder = m_graph.node(first.holder());
        std::vector<ValueId> operands = holder.inputs;
        for (ValueId& value : operands)
            if (value) value = body.value(m_graph.value(value).name);
        for (std::size_t i = 0; i < first.held.size(); ++i) {
            std::vector<WeightSource> sources;
            for (const MergedMember& member : members) sources.push_back(member.held[i].source);
            operands[first.held[i].input] = parameter("_" + first.held[i].name, sources, first.held[i].axis);
        }
        const ValueId input = body.value(m_graph.value(first.input).name);
        if (first.dequantised) {
            const ValueId weight = body.newValue(name + "_dequantised");
            Attributes& attributes = add("DequantizeLinear", operands, {weight}).attributes;
            attributes = holder.attributes;
            if (!attributes.has("block_size")) attributes.set("axis", static_cast<std::int64_t>(first.held[0].axis));
            operands = {input, weight};
        }
        ValueId whole = body.newValue(name + "_product");
        // Joined weights stand as a MatMul reads them.
        const bool plain = !first.dequantised && (product.is("MatMul") || product.is("Gemm"));
        Node& merged = add(plain ? "MatMul" : product.op, plain ? std::vector<ValueId>{input, operands[1]} : operands, {whole});
        if (!plain) {
            merged.domain = product.domain;
            merged.attributes = product.attributes;
            if (product.attributes.has("N")) merged.attributes.set("N", columns);
        }
        if (!biases.empty()) {
            const ValueId bias = parameter("_bias", biases, 0);
            const ValueId sum = body.newValue(name + "_sum");
            add("Add", {whole, bias}, {sum});
            whole = sum;
        }
        std::vector<ValueId> outputs;
        for (const MergedMember& member : members) outputs.push_back(body.value(m_graph.value(member.output).name));
        // Before opset 13 the sizes were an attribute.
        if (const std::int64_t opset = standardVersion(m_opsets); opset > 0 && opset < 13) {
            Node& split = add("Split", {whole}, outputs);
            split.attributes.set("axis", std::int64_t(-1));
            split.attributes.set("split", widths);
        } else {
            const ValueId sizes = body.newValue(name + "_widths");
            Node& constant = add("Constant", {}, {sizes});
            constant.attributes.set("value", makeTensor("", {static_cast<Dim>(widths.size())}, widths));
            add("Split", {whole, sizes}, outputs).attributes.set("axis", std::int64_t(-1));
        }
    }

    /// Whether a merged product reads a value as its members did: an operand that all of them share.
    bool stays(const MergedMember& member, ValueId value) const {
        const std::vector<ValueId>& operands = m_graph.node(member.holder()).inputs;
        if (m_graph.node(member.holder()).is("Gemm")) return false; // its bias is joined too
        for (std::size_t i = 0; i < operands.size(); ++i)
            if (operands[i] == value && std::none_of(member.held.begin(), member.held.end(), [&](const HeldOperand& each) { return each.input == i; })) return true;
        return false;
    }

    Result<void> writeGroup(PatternId pattern, const std::vector<NodeId>& nodes, const ParallelGroup* parallel) {
        std::string name = m_library[pattern].id;
        std::replace(name.begin(), name.end(), '.', '_');
        name += "_" + std::to_string(m_result.functions.size());
        std::vector<MergedMember> members;
        if (parallel) {
            auto found = mergedMembers(m_graph, m_shapes, *parallel, standardVersion(m_opsets));
            if (found) members = std::move(*found);
            else m_result.warnings.push_back(name + ": not merged in the written file: " + found.error().reason + (found.error().at ? ": " + describe(m_graph, found.error().at) : std::string()));
        }
        std::set<NodeId> replaced;
        std::set<ValueId> absorbed;
        for (const MergedMember& member : members) {
            replaced.insert(member.product);
            if (member.bias) replaced.insert(member.bias);
            // Nothing else reads the weight of its own any more.
            if (const NodeId own = member.dequantised; own && m_graph.readers(m_graph.node(own).output()).size() == 1 && !m_graph.isOutput(m_graph.node(own).output())) {
                replaced.insert(own);
                m_dropped.push_back(own);
            }
        }
        std::vector<ValueId> inputs, outputs;
        border(nodes, inputs, outputs);
        // Separate weights that only the replaced nodes read are no parameters any more.
        for (const ValueId value : inputs) {
            const auto readers = m_graph.readers(value);
            const bool elsewhere = std::any_of(nodes.begin(), nodes.end(), [&](NodeId id) {
                return !replaced.contains(id) && std::find(readers.begin(), readers.end(), id) != readers.end();
            });
            if (!members.empty() && value != members[0].input && !elsewhere && !stays(members[0], value)) absorbed.insert(value);
        }
        std::erase_if(inputs, [&](ValueId value) { return absorbed.contains(value); });

        GraphBuilder body(name);
        std::vector<SourceId> sources;
        for (const ValueId value : inputs) body.addInput(body.value(m_graph.value(value).name));
        if (!members.empty()) writeMerged(body, members, name, inputs);
        for (const NodeId id : nodes) {
            const auto own = m_graph.sources(id);
            sources.insert(sources.end(), own.begin(), own.end());
            if (!replaced.contains(id)) body.addNode(copyInto(body, m_graph, id));
        }
        for (const ValueId value : outputs) body.addOutput(body.value(m_graph.value(value).name));
        auto finished = body.finish("fuse");
        if (!finished) return tl::unexpected(finished.error());

        std::sort(sources.begin(), sources.end());
        sources.erase(std::unique(sources.begin(), sources.end()), sources.end());
        Node call;
        call.name = name;
        call.op = name;
        call.domain = fusedDomain;
        call.scope = m_graph.node(nodes[0]).scope;
        call.inputs = std::move(inputs);
        call.outputs = std::move(outputs);
        m_outer.addNode(std::move(call), sources);
        m_result.functions.push_back({std::string(fusedDomain), name, {}, {}, m_opsets, *finished});
        return {};
    }

    const Graph& m_graph;
    const Shapes& m_shapes;
    const Partition& m_partition;
    const PatternLibrary& m_library;
    const std::map<std::string, std::int64_t>& m_opsets;
    GraphBuilder m_outer;
    std::vector<NodeId> m_dropped; ///< that nothing reads any more
    FusedModel m_result;
};

} // namespace

Result<FusedModel> fusedModel(const Graph& graph, const Shapes& shapes, const Partition& partition, const PatternLibrary& library,
                              const std::map<std::string, std::int64_t>& opsets) {
    return FusedModelWriter(graph, shapes, partition, library, opsets).run();
}

} // namespace triptych
