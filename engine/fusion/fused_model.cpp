#include "fusion/fused_model.h"

#include "attention/weights.h"
#include "fusion/function_groups.h"

#include <algorithm>

namespace triptych {

namespace {

/// One projection of a merged group, as plain as merging needs it.
struct Member {
    NodeId product, bias; ///< bias: the Add, or none
    std::optional<WeightSource> weight, biasSource;
    Dim rows = 0;
    std::int64_t width = 0;
    ValueId input, output;
};

std::optional<Member> memberOf(const Graph& graph, const std::vector<NodeId>& nodes, ValueId shared) {
    if (nodes.empty() || nodes.size() > 2) return std::nullopt;
    Member member;
    member.product = nodes[0];
    const Node& product = graph.node(nodes[0]);
    const Attributes& a = product.attributes;
    const bool gemm = product.is("Gemm") && a.integer("transA", 0) == 0 && a.real("alpha", 1) == 1 && a.real("beta", 1) == 1;
    if ((!product.is("MatMul") && !gemm) || product.input(0) != shared) return std::nullopt;
    member.weight = weightSource(graph, product.input(1));
    if (!member.weight || member.weight->tensor->dims.size() != 2) return std::nullopt;
    if (gemm && a.integer("transB", 0) != 0) member.weight->transposed = !member.weight->transposed;
    const Dims& dims = member.weight->tensor->dims;
    member.rows = dims[member.weight->transposed ? 1 : 0];
    member.width = dims[member.weight->transposed ? 0 : 1];
    member.input = shared;
    member.output = product.output();
    const auto takeBias = [&](ValueId value) {
        member.biasSource = weightSource(graph, value);
        return member.biasSource && member.biasSource->tensor->dims == Dims{member.width};
    };
    if (gemm && product.input(2)) return nodes.size() == 1 && takeBias(product.input(2)) ? std::optional(member) : std::nullopt;
    if (nodes.size() == 1) return member;
    const Node& add = graph.node(nodes[1]);
    if (!add.is("Add") || graph.readers(member.output).size() != 1 || graph.isOutput(member.output)) return std::nullopt;
    const ValueId other = add.input(0) == member.output ? add.input(1) : add.input(0);
    if (!other || (add.input(0) != member.output && add.input(1) != member.output)) return std::nullopt;
    member.bias = nodes[1];
    member.output = add.output();
    return takeBias(other) ? std::optional(member) : std::nullopt;
}

/// All members, or why they can't be joined.
tl::expected<std::vector<Member>, std::string> membersOf(const Graph& graph, const ParallelGroup& parallel) {
    std::vector<Member> members;
    for (const auto& nodes : parallel.members) {
        auto member = memberOf(graph, nodes, parallel.sharedInput);
        if (!member) return tl::unexpected(std::string("a member is more than a product of floats by an initializer, with a vector added"));
        members.push_back(std::move(*member));
    }
    for (const Member& member : members) {
        if (member.biasSource.has_value() != members[0].biasSource.has_value()) return tl::unexpected(std::string("only some members have a bias"));
        if (member.weight->tensor->type != members[0].weight->tensor->type || member.rows != members[0].rows)
            return tl::unexpected(std::string("the members' weights differ in type or rows"));
        for (const auto* source : {&member.weight, &member.biasSource})
            if (*source && (*source)->tensor->payload.place == Payload::Place::absent) return tl::unexpected(std::string("the weights are not in the file"));
    }
    return members;
}

TensorPtr joined(std::string name, const std::vector<WeightSource>& sources, std::size_t axis) {
    auto whole = std::make_shared<Tensor>();
    whole->name = std::move(name);
    whole->type = sources[0].tensor->type;
    for (const WeightSource& source : sources) {
        Dims dims = source.tensor->dims;
        if (source.transposed) std::reverse(dims.begin(), dims.end());
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

class FusedModelWriter {
public:
    FusedModelWriter(const Graph& graph, const Partition& partition, const PatternLibrary& library, const std::map<std::string, std::int64_t>& opsets)
        : m_graph(graph), m_partition(partition), m_library(library), m_opsets(opsets) {}

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
    void writeMerged(GraphBuilder& body, const std::vector<Member>& members, const std::string& name, std::vector<ValueId>& callInputs) {
        const auto parameter = [&](const std::string& suffix, const std::vector<WeightSource>& sources, std::size_t axis) {
            const ValueId outer = m_outer.addInitializer(joined(name + suffix, sources, axis));
            callInputs.push_back(outer);
            const ValueId inner = body.value(m_outer.peek(outer).name);
            body.addInput(inner);
            return inner;
        };
        std::vector<WeightSource> weights, biases;
        std::vector<std::int64_t> widths;
        for (const Member& member : members) {
            weights.push_back(*member.weight);
            if (member.biasSource) biases.push_back(*member.biasSource);
            widths.push_back(member.width);
        }
        const auto add = [&](std::string op, std::vector<ValueId> inputs, std::vector<ValueId> outputs) -> Node& {
            Node node;
            node.name = name + "/" + op;
            node.op = std::move(op);
            node.inputs = std::move(inputs);
            node.outputs = std::move(outputs);
            return body.editNode(body.addNode(std::move(node)));
        };
        const ValueId weight = parameter("_weight", weights, 1);
        ValueId whole = body.newValue(name + "_product");
        add("MatMul", {body.value(m_graph.value(members[0].input).name), weight}, {whole});
        if (!biases.empty()) {
            const ValueId bias = parameter("_bias", biases, 0);
            const ValueId sum = body.newValue(name + "_sum");
            add("Add", {whole, bias}, {sum});
            whole = sum;
        }
        std::vector<ValueId> outputs;
        for (const Member& member : members) outputs.push_back(body.value(m_graph.value(member.output).name));
        // Before opset 13 the sizes were an attribute.
        const auto opset = m_opsets.find("");
        if (opset != m_opsets.end() && opset->second < 13) {
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

    Result<void> writeGroup(PatternId pattern, const std::vector<NodeId>& nodes, const ParallelGroup* parallel) {
        std::string name = m_library[pattern].id;
        std::replace(name.begin(), name.end(), '.', '_');
        name += "_" + std::to_string(m_result.functions.size());
        std::vector<Member> members;
        if (parallel) {
            auto found = membersOf(m_graph, *parallel);
            if (found) members = std::move(*found);
            else m_result.warnings.push_back(name + ": not merged in the written file: " + found.error());
        }
        std::set<NodeId> replaced;
        std::set<ValueId> absorbed;
        for (const Member& member : members) {
            replaced.insert(member.product);
            if (member.bias) replaced.insert(member.bias);
        }
        std::vector<ValueId> inputs, outputs;
        border(nodes, inputs, outputs);
        // Separate weights that only the replaced nodes read are no parameters any more.
        for (const ValueId value : inputs) {
            const auto readers = m_graph.readers(value);
            const bool elsewhere = std::any_of(nodes.begin(), nodes.end(), [&](NodeId id) {
                return !replaced.contains(id) && std::find(readers.begin(), readers.end(), id) != readers.end();
            });
            if (!members.empty() && value != members[0].input && !elsewhere) absorbed.insert(value);
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
    const Partition& m_partition;
    const PatternLibrary& m_library;
    const std::map<std::string, std::int64_t>& m_opsets;
    GraphBuilder m_outer;
    FusedModel m_result;
};

} // namespace

Result<FusedModel> fusedModel(const Graph& graph, const Partition& partition, const PatternLibrary& library,
                              const std::map<std::string, std::int64_t>& opsets) {
    return FusedModelWriter(graph, partition, library, opsets).run();
}

} // namespace triptych
