// An attention that is all of one call of a model-local function, in canonical form.

#include "attention/call_order.h"
#include "attention/decomposer.h"

#include <algorithm>

namespace triptych {

/// Nodes that come from a call and from nothing else. All calls are gone through once.
const std::vector<NodeId>& Decomposer::nodesOf(SourceId call) {
    if (m_callNodes.empty())
        for (std::size_t i = 0; i < m_graph.nodes().size(); ++i)
            if (const auto sources = m_graph.sources(NodeId(i)); sources.size() == 1) m_callNodes[sources[0]].push_back(NodeId(i));
    return m_callNodes[call];
}

/// Values that nodes of the call hand to the outside.
std::vector<ValueId> Decomposer::handedOut(SourceId call) {
    std::vector<ValueId> values;
    for (const NodeId id : nodesOf(call)) {
        for (const ValueId value : m_graph.node(id).outputs) {
            if (!value) continue;
            const auto readers = m_graph.readers(value);
            if (m_graph.isOutput(value) || std::any_of(readers.begin(), readers.end(), [&](NodeId reader) { return !isOf(reader, call); })) values.push_back(value);
        }
    }
    return values;
}
bool Decomposer::isOf(NodeId node, SourceId call) const {
    const auto sources = m_graph.sources(node);
    return sources.size() == 1 && sources[0] == call;
}

/// Back through the views at the beginning of a call: the value that enters it, and whether the sequence stands first there.
ValueId Decomposer::batchFirst(ValueId value, bool sequenceFirst, bool& turned) const {
    turned = false;
    const NodeId id = m_graph.producer(value);
    if (!sequenceFirst || !id) return value;
    const Node& node = m_graph.node(id);
    const auto* perm = node.attributes.integers("perm");
    if (node.is("Transpose") && perm && *perm == std::vector<std::int64_t>{1, 0, 2}) {
        turned = true;
        return node.input(0);
    }
    return value;
}

/// Whether nothing but what is written out again lies between the inputs of the projections and a call's result: a residual sum,
/// a gate or a query that is negated would be lost.
bool Decomposer::isAlone(ValueId result, const Core& core, const std::array<RoleTrace, 3>& traces, const AttentionSpec& spec) const {
    std::set<NodeId> known(core.nodes.begin(), core.nodes.end());
    std::set<ValueId> ends(core.masks.begin(), core.masks.end());
    known.insert(spec.projectionOut->nodes.begin(), spec.projectionOut->nodes.end());
    for (std::size_t r = 0; r < 3; ++r) {
        known.insert(traces[r].linear);
        known.insert(traces[r].bias);
        ends.insert(m_graph.node(traces[r].linear).input(0));
        for (const NodeId id : traces[r].path) {
            const Node& node = m_graph.node(id);
            // A number on queries or keys is part of the scale.
            const bool number = node.is("Mul") ? m_shapes.scalar(node.input(0)) || m_shapes.scalar(node.input(1)) : node.is("Div") && m_shapes.scalar(node.input(1));
            if (r < 2 && number) known.insert(id);
        }
        // Places that are left out on the way to a role.
        const Dims &from = m_shapes.of(m_graph.node(traces[r].linear).output()).dims, &to = m_shapes.of(traces[r].operand).dims;
        const std::int64_t width = spec.heads * (r == 2 ? spec.vHeadDim : spec.headDim);
        if (from.empty() || from.back() == 0 || m_shapes.of(traces[r].operand).count() != elementCount(from).value_or(0) / from.back() * width || to.empty()) return false;
    }
    static constexpr std::array views{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Cast", "Split", "Slice", "Gather"};
    std::vector<ValueId> open{result};
    std::set<ValueId> seen;
    while (!open.empty()) {
        const ValueId value = open.back();
        open.pop_back();
        const NodeId id = value ? m_graph.producer(value) : NodeId();
        if (!id || ends.contains(value) || m_shapes.isConstant(value) || !seen.insert(value).second) continue;
        const Node& node = m_graph.node(id);
        if (!known.contains(id) && !isOneOf(node, views)) return false;
        open.insert(open.end(), node.inputs.begin(), node.inputs.end());
    }
    return true;
}

/// An attention that is all of a call, in canonical form.
std::optional<NamedAttention> Decomposer::canonicalCall(const AttentionSpec& spec) {
    if (!spec.softmax) return std::nullopt;
    const SourceId call = m_graph.sources(spec.core[0])[0];
    const auto core = findCore(m_graph, m_shapes, spec.softmax).core;
    const auto outputs = handedOut(call);
    if (!core || outputs.empty() || !spec.projectionQ || !spec.projectionK || !spec.projectionV || !spec.projectionOut || spec.heads != spec.kvHeads || !spec.joined.empty() || !spec.parts.empty()) return std::nullopt;
    for (const char* odd : {"softcap", "nan_guard", "banded", "rope", "qk_norm", "kv_cache", "disentangled", "cosine", "linformer", "landmarks", "sink", "talking_heads"})
        if (spec.extras.contains(odd)) return std::nullopt;
    if (core->headDim != spec.headDim) return std::nullopt; // channels attend, not places
    if (core->masks.size() > 1 || !core->selecting.empty() || core->altered || core->scaleUnknown) return std::nullopt;
    const std::array<RoleTrace, 3> traces{traceRole(m_graph, m_shapes, core->q), traceRole(m_graph, m_shapes, core->k), traceRole(m_graph, m_shapes, core->v)};
    for (const RoleTrace& trace : traces)
        if (!trace.linear || m_shapes.of(m_graph.node(trace.linear).output()).dims.size() != 3 || !m_graph.node(trace.linear).is("MatMul")) return std::nullopt;
    // A damaged body has shapes that no attention has.
    const Dims& out = m_shapes.of(spec.projectionOut->output).dims;
    if (out.empty() || m_shapes.of(m_graph.node(spec.scores).output()).dims.size() < 2 || m_shapes.of(m_graph.node(traces[0].linear).input(0)).dims.size() < 2) return std::nullopt;
    // The output that comes out of the output projection.
    ValueId result;
    for (const ValueId value : outputs)
        if (m_shapes.of(value).ranked && m_shapes.of(value).dims.size() == 3 && m_shapes.of(value).dims.back() == out.back()) result = value;
    if (!result || !isAlone(result, *core, traces, spec)) return std::nullopt;
    const ValueShape& sequence = m_shapes.of(m_graph.node(traces[0].linear).input(0));
    const ValueShape& scoresShape = m_shapes.of(m_graph.node(spec.scores).output());
    const Dim queries = scoresShape.dims[scoresShape.dims.size() - 2];
    const bool sequenceFirst = sequence.dims[0] == queries && (sequence.dims[1] != queries || precededByTurn(m_graph.node(traces[0].linear).input(0)));
    bool outTurned = false;
    batchFirst(m_graph.node(traces[2].linear).input(0), sequenceFirst, outTurned);
    if (!keepsCanonicalOrder(m_graph, m_shapes, spec, *core, traces, {sequenceFirst, sequenceFirst && !outTurned, result})) return std::nullopt;

    const NodeId callNode = fileNode(call);
    const std::string name = callNode ? m_model.graph->node(callNode).name : m_graph.node(spec.softmax).name;
    Emitter emit = emitter(name, m_graph.node(spec.softmax).scope, {call});
    NamedAttention named;
    named.rewritten = true;
    named.wasPacked = isPacked(spec.projections);

    std::array<ValueId, 3> heads;
    const std::array nameLists{&named.q, &named.k, &named.v};
    const std::array inputs{&named.inputQ, &named.inputK, &named.inputV};
    for (std::size_t r = 0; r < 3; ++r) {
        bool turned = false;
        const Node& product = m_graph.node(traces[r].linear);
        const ValueId input = batchFirst(product.input(0), sequenceFirst, turned);
        *inputs[r] = input;
        std::vector<const RoleTrace*> others;
        for (std::size_t o = 0; o < 3; ++o)
            if (o != r && traces[o].linear == traces[r].linear) others.push_back(&traces[o]);
        const std::int64_t columns = m_shapes.of(product.output()).dims.back();
        ColumnRange range{0, columns, true, {{0, columns}}};
        if (!others.empty()) {
            const RoleStage* stage = ownStage(traces[r], others, columns);
            auto own = stage ? columnRange(stage->view, columns) : std::nullopt;
            if (!own) return std::nullopt;
            range = std::move(*own);
        }
        OwnColumns part(m_graph, m_shapes, range, columns);
        auto own = ownProjection(emit, m_graph, m_shapes, traces[r], part, roleNames[r], name, *nameLists[r], input);
        if (!own) return std::nullopt;
        const std::int64_t size = r == 2 ? spec.vHeadDim : spec.headDim;
        const ValueId split = emit.reshape(roleNames[r], *own, {0, sequenceFirst && !turned ? 0 : -1, spec.heads, size});
        heads[r] = emit.transpose(roleNames[r], split, sequenceFirst && !turned ? std::vector<std::int64_t>{1, 2, 0, 3} : std::vector<std::int64_t>{0, 2, 1, 3});
    }
    const ValueId keys = emit.transpose("k_transposed", heads[1], {0, 1, 3, 2});
    ValueId scores = emit.op("scores", "MatMul", {heads[0], keys});
    named.scores = emit.names().back();
    scores = emit.op("scale", "Mul", {scores, emit.scalar(name + "/scale", m_shapes.of(m_graph.node(spec.scores).output()).type, spec.scale.value_or(1))});
    if (!core->masks.empty()) scores = emit.op("mask", "Add", {scores, maskForHeads(emit, core->masks[0], scoresShape.dims.size() == 3 ? spec.heads : 0)});
    const ValueId weights = emit.op("softmax", "Softmax", {scores}, {{"axis", emit.lastAxis(4), {}}});
    named.softmax = emit.names().back();
    const ValueId context = emit.op("context", "MatMul", {weights, heads[2]});
    named.context = emit.names().back();
    writeOut(emit, spec, context, sequenceFirst && !outTurned, result);
    named.nodes = emit.names();
    for (const NodeId id : nodesOf(call)) m_candidate[id.position()] = true;
    m_replaced.insert(result);
    return named;
}

bool Decomposer::precededByTurn(ValueId value) const {
    bool turned = false;
    batchFirst(value, true, turned);
    return turned;
}

NodeId Decomposer::fileNode(SourceId source) {
    if (m_fileNodes.empty())
        for (std::size_t i = 0; i < m_model.graph->nodes().size(); ++i)
            for (const SourceId each : m_model.graph->sources(NodeId(i))) m_fileNodes[each] = NodeId(i);
    const auto found = m_fileNodes.find(source);
    return found == m_fileNodes.end() ? NodeId() : found->second;
}

/// A mask of B*H x S x T for scores of B x H x S x T; heads 0: the mask has them apart already.
ValueId Decomposer::maskForHeads(Emitter& emit, ValueId mask, std::int64_t heads) const {
    const ValueShape& shape = m_shapes.of(mask);
    if (shape.ranked && shape.dims.size() == 3 && shape.dims[0] > 1 && heads > 0)
        return m_sizes.reshape(emit, "mask", mask, shape.dims, {shape.dims[0] / heads, heads, shape.dims[1], shape.dims[2]}).value_or(mask);
    return mask;
}

/// Merged heads, output projection, and the result under its own name.
void Decomposer::writeOut(Emitter& emit, const AttentionSpec& spec, ValueId context, bool sequenceFirst, ValueId result) {
    const Node& product = m_graph.node(spec.projectionOut->nodes[0]);
    const ValueId turned = emit.transpose("merge", context, sequenceFirst ? std::vector<std::int64_t>{2, 0, 1, 3} : std::vector<std::int64_t>{0, 2, 1, 3});
    const ValueId merged = emit.reshape("merge", turned, {0, sequenceFirst ? 0 : -1, spec.heads * spec.vHeadDim});
    ValueId weight = product.input(1);
    if (product.is("Gemm") && product.attributes.integer("transB", 0) != 0) {
        // A three-axis product has no transB: the weight is read transposed.
        if (const auto source = weightSource(m_graph, weight)) {
            WeightSource flipped = *source;
            flipped.transposed = !flipped.transposed;
            const std::int64_t columns = flipped.transposed ? flipped.tensor->dims[0] : flipped.tensor->dims[1];
            weight = m_builder.addInitializer(cutTensor(flipped, {{0, columns}}, 1, emit.prefix() + ".out_weight"));
        } else {
            weight = emit.transpose("out_proj", weight, {1, 0});
        }
    }
    const ValueId bias = spec.projectionOut->bias;
    const ValueId out = emit.op("out_proj", "MatMul", {merged, weight}, {}, bias ? ValueId() : result);
    if (bias) emit.op("out_proj", "Add", {out, bias}, {}, result);
}

} // namespace triptych
