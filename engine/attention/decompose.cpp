#include "attention/rewrite.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

class Decomposer {
public:
    Decomposer(const Model& model, const Graph& graph, const Shapes& shapes, const Attentions& attentions, Expansion expansion, const Job& job)
        : m_model(model), m_graph(graph), m_shapes(shapes), m_attentions(attentions), m_expansion(expansion), m_job(job), m_candidate(graph.nodes().size(), false) {}

    Result<Decomposition> run() {
        m_builder.adoptValues(m_graph);
        for (std::size_t i = 0; i < m_attentions.found.size(); ++i) {
            if (m_job.stopped()) return fail("decompose", "stopped");
            m_named.push_back(one(m_attentions.found[i]));
        }
        adoptWhatIsRead();
        auto graph = m_builder.finish("decompose");
        if (!graph) return tl::unexpected(graph.error());
        m_result.graph = *graph;
        for (std::size_t i = 0; i < m_named.size(); ++i) m_result.attentions.push_back(resolved(i));
        return std::move(m_result);
    }

private:
    std::vector<SourceId> sourcesOf(const std::vector<NodeId>& nodes) const {
        std::set<SourceId> all;
        for (const NodeId node : nodes)
            for (const SourceId source : m_graph.sources(node)) all.insert(source);
        return {all.begin(), all.end()};
    }

    NamedAttention one(const AttentionSpec& spec) {
        if (spec.opaque) {
            const Node& node = m_graph.node(spec.opaque);
            Emitter emit(m_builder, node.name, node.scope, sourcesOf({spec.opaque}));
            auto expanded = expandOpaque(emit, m_graph, m_shapes, spec, m_expansion);
            NamedAttention named;
            if (!expanded) {
                m_result.warnings.push_back(expanded.error().message());
                named.nodes.push_back(node.name);
            } else {
                named = std::move(*expanded);
                named.rewritten = true;
                named.nodes = emit.names();
                m_removed.insert(spec.opaque);
                if (m_expansion == Expansion::canonical) takeApart(spec, named, {node.input(0), node.input(1), node.input(2)});
            }
            outerProjections(spec, named);
            return named;
        }
        if (m_expansion == Expansion::canonical && spec.form.starts_with("function:"))
            if (auto named = canonicalCall(spec)) return std::move(*named);
        NamedAttention named = asWritten(spec);
        if (m_expansion == Expansion::canonical) takeApart(spec, named, coreOperands(spec));
        outerProjections(spec, named);
        return named;
    }

    NamedAttention asWritten(const AttentionSpec& spec) const {
        NamedAttention named;
        for (const NodeId node : spec.nodes) named.nodes.push_back(m_graph.node(node).name);
        if (spec.scores) named.scores = m_graph.node(spec.scores).name;
        if (spec.softmax) named.softmax = m_graph.node(spec.softmax).name;
        if (spec.context) named.context = m_graph.node(spec.context).name;
        named.inputQ = spec.q;
        named.inputK = spec.k;
        named.inputV = spec.v;
        named.wasPacked = spec.projections == ProjectionForm::packed || spec.projections == ProjectionForm::packedInterleaved;
        return named;
    }

    std::array<ValueId, 3> coreOperands(const AttentionSpec& spec) const {
        const CoreResult core = findCore(m_graph, m_shapes, spec.softmax);
        if (!core.core) return {};
        return {core.core->q, core.core->k, core.core->v};
    }

    /// Projections that stay as the file has them.
    void outerProjections(const AttentionSpec& spec, NamedAttention& named) const {
        const auto fill = [&](const std::optional<Projection>& projection, std::vector<std::string>& names) {
            if (!names.empty() || !projection || projection->nodes[0] == spec.opaque) return;
            for (const NodeId node : projection->nodes) names.push_back(m_graph.node(node).name);
        };
        fill(spec.projectionQ, named.q);
        fill(spec.projectionK, named.k);
        fill(spec.projectionV, named.v);
        if (!named.inputQ) named.inputQ = spec.q;
        if (!named.inputK) named.inputK = spec.k;
        if (!named.inputV) named.inputV = spec.v;
    }

    static std::string weightPrefix(const Graph& graph, const Node& product) {
        const auto source = weightSource(graph, product.input(1));
        return source && !source->tensor->name.empty() ? source->tensor->name : product.name;
    }

    /// A product that several roles share becomes one product a role; what cut it goes.
    void takeApart(const AttentionSpec& spec, NamedAttention& named, const std::array<ValueId, 3>& operands) {
        if (spec.projections != ProjectionForm::packed && spec.projections != ProjectionForm::packedInterleaved) return;
        if (!operands[0] || !operands[1] || !operands[2]) return;
        const std::array<RoleTrace, 3> traces{traceRole(m_graph, m_shapes, operands[0]), traceRole(m_graph, m_shapes, operands[1]), traceRole(m_graph, m_shapes, operands[2])};
        static constexpr std::array roleNames{"q", "k", "v"};
        const std::array names{&named.q, &named.k, &named.v};
        named.wasPacked = true;
        struct Plan {
            const RoleStage* stage;
            ColumnRange range;
            std::size_t role;
        };
        std::vector<Plan> plans;
        for (std::size_t r = 0; r < 3; ++r) {
            std::vector<const RoleTrace*> others;
            for (std::size_t o = 0; o < 3; ++o)
                if (o != r && traces[o].linear && traces[o].linear == traces[r].linear) others.push_back(&traces[o]);
            if (others.empty()) continue;
            const ValueShape& out = m_shapes.of(m_graph.node(traces[r].linear).output());
            const std::int64_t columns = out.known() && !out.dims.empty() ? out.dims.back() : 0;
            const RoleStage* stage = ownStage(traces[r], others, columns);
            auto range = stage ? columnRange(stage->view, columns) : std::nullopt;
            if (!range || !m_shapes.of(stage->value).known()) {
                m_result.warnings.push_back(describe(m_graph, traces[r].linear) + ": its packed projection can't be taken apart: the cut isn't plain");
                return;
            }
            plans.push_back({stage, std::move(*range), r});
        }
        // Another reader of the packed product would lose it: then it stays, beside the parts.
        for (const Plan& plan : plans) {
            const RoleTrace& trace = traces[plan.role];
            const Node& product = m_graph.node(trace.linear);
            Emitter emit(m_builder, product.name, product.scope, sourcesOf({trace.linear, plan.stage->selector}));
            auto own = ownProjection(emit, m_graph, trace, plan.range, roleNames[plan.role], weightPrefix(m_graph, product), *names[plan.role]);
            if (!own) {
                m_result.warnings.push_back(describe(m_graph, trace.linear) + ": its packed weight is computed, so it stays packed");
                return;
            }
            const ValueShape& out = m_shapes.of(product.output());
            Dims ownDims = out.dims;
            ownDims.back() = plan.range.width;
            viewOfOwn(emit, std::string(roleNames[plan.role]) + "_proj", *own, ownDims, plan.stage->view, out.dims.back(), m_shapes.of(plan.stage->value).dims);
            // The last node hands on what the cut handed on, under its name.
            m_builder.editNode(emit.nodes().back()).outputs[0] = plan.stage->value;
            m_replaced.insert(plan.stage->value);
            named.nodes.insert(named.nodes.end(), emit.names().begin(), emit.names().end());
            m_candidate[trace.linear.position()] = true;
            for (const NodeId node : trace.path) m_candidate[node.position()] = true;
            m_candidate[plan.stage->selector.position()] = true;
            named.rewritten = true;
        }
    }

    /// Values that nodes of the call hand to the outside.
    std::vector<ValueId> handedOut(SourceId call) const {
        std::vector<ValueId> values;
        for (std::size_t i = 0; i < m_graph.nodes().size(); ++i) {
            if (!isOf(NodeId(i), call)) continue;
            for (const ValueId value : m_graph.nodes()[i].outputs) {
                if (!value) continue;
                const auto readers = m_graph.readers(value);
                if (m_graph.isOutput(value) || std::any_of(readers.begin(), readers.end(), [&](NodeId reader) { return !isOf(reader, call); })) values.push_back(value);
            }
        }
        return values;
    }
    bool isOf(NodeId node, SourceId call) const {
        const auto sources = m_graph.sources(node);
        return sources.size() == 1 && sources[0] == call;
    }

    /// Back through the views at the beginning of a call: the value that enters it, and whether the sequence stands first there.
    ValueId batchFirst(ValueId value, bool sequenceFirst, bool& turned) const {
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

    /// An attention that is all of a call, in canonical form.
    std::optional<NamedAttention> canonicalCall(const AttentionSpec& spec) {
        const SourceId call = m_graph.sources(spec.core[0])[0];
        const auto core = findCore(m_graph, m_shapes, spec.softmax).core;
        const auto outputs = handedOut(call);
        if (!core || outputs.empty() || !spec.projectionQ || !spec.projectionK || !spec.projectionV || !spec.projectionOut || spec.heads != spec.kvHeads) return std::nullopt;
        for (const char* odd : {"softcap", "nan_guard", "banded", "rope", "qk_norm", "kv_cache", "disentangled"})
            if (spec.extras.contains(odd)) return std::nullopt;
        if (core->masks.size() > 1 || !core->selecting.empty()) return std::nullopt;
        const std::array<RoleTrace, 3> traces{traceRole(m_graph, m_shapes, core->q), traceRole(m_graph, m_shapes, core->k), traceRole(m_graph, m_shapes, core->v)};
        for (const RoleTrace& trace : traces)
            if (m_shapes.of(m_graph.node(trace.linear).output()).dims.size() != 3 || !m_graph.node(trace.linear).is("MatMul")) return std::nullopt;
        // The output that comes out of the output projection.
        ValueId result;
        for (const ValueId value : outputs)
            if (m_shapes.of(value).ranked && m_shapes.of(value).dims.size() == 3 && m_shapes.of(value).dims.back() == m_shapes.of(spec.projectionOut->output).dims.back()) result = value;
        if (!result) return std::nullopt;

        const NodeId callNode = fileNode(call);
        const std::string name = callNode ? m_model.graph->node(callNode).name : m_graph.node(spec.softmax).name;
        Emitter emit(m_builder, name, m_graph.node(spec.softmax).scope, {call});
        NamedAttention named;
        named.rewritten = true;
        named.wasPacked = spec.projections == ProjectionForm::packed || spec.projections == ProjectionForm::packedInterleaved;
        const ValueShape& sequence = m_shapes.of(m_graph.node(traces[0].linear).input(0));
        const ValueShape& scoresShape = m_shapes.of(m_graph.node(spec.scores).output());
        const Dim queries = scoresShape.dims[scoresShape.dims.size() - 2];
        const bool sequenceFirst = sequence.dims[0] == queries && (sequence.dims[1] != queries || precededByTurn(m_graph.node(traces[0].linear).input(0)));

        std::array<ValueId, 3> heads;
        static constexpr std::array roleNames{"q", "k", "v"};
        const std::array nameLists{&named.q, &named.k, &named.v};
        const std::array inputs{&named.inputQ, &named.inputK, &named.inputV};
        bool outTurned = false;
        for (std::size_t r = 0; r < 3; ++r) {
            bool turned = false;
            const Node& product = m_graph.node(traces[r].linear);
            const ValueId input = batchFirst(product.input(0), sequenceFirst, turned);
            outTurned = turned;
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
            auto own = ownProjection(emit, m_graph, traces[r], range, roleNames[r], name, *nameLists[r], input);
            if (!own) return std::nullopt;
            const std::int64_t size = r == 2 ? spec.vHeadDim : spec.headDim;
            const ValueId split = emit.reshape(roleNames[r], *own, {0, sequenceFirst && !turned ? 0 : -1, spec.heads, size});
            heads[r] = emit.transpose(roleNames[r], split, sequenceFirst && !turned ? std::vector<std::int64_t>{1, 2, 0, 3} : std::vector<std::int64_t>{0, 2, 1, 3});
        }
        const ValueId keys = emit.transpose("k_transposed", heads[1], {0, 1, 3, 2});
        ValueId scores = emit.op("scores", "MatMul", {heads[0], keys});
        named.scores = emit.names().back();
        scores = emit.op("scale", "Mul", {scores, emit.scalar(name + "/scale", m_shapes.of(m_graph.node(spec.scores).output()).type, spec.scale.value_or(1))});
        if (!core->masks.empty()) scores = emit.op("mask", "Add", {scores, maskForHeads(emit, core->masks[0], spec.heads)});
        const ValueId weights = emit.op("softmax", "Softmax", {scores}, {{"axis", std::int64_t(-1), {}}});
        named.softmax = emit.names().back();
        const ValueId context = emit.op("context", "MatMul", {weights, heads[2]});
        named.context = emit.names().back();
        writeOut(emit, spec, context, sequenceFirst && !outTurned, result);
        named.nodes = emit.names();
        for (std::size_t i = 0; i < m_graph.nodes().size(); ++i)
            if (isOf(NodeId(i), call)) m_candidate[i] = true;
        m_replaced.insert(result);
        return named;
    }

    bool precededByTurn(ValueId value) const {
        bool turned = false;
        batchFirst(value, true, turned);
        return turned;
    }

    NodeId fileNode(SourceId source) {
        if (m_fileNodes.empty())
            for (std::size_t i = 0; i < m_model.graph->nodes().size(); ++i)
                for (const SourceId each : m_model.graph->sources(NodeId(i))) m_fileNodes[each] = NodeId(i);
        const auto found = m_fileNodes.find(source);
        return found == m_fileNodes.end() ? NodeId() : found->second;
    }

    /// A mask of B*H x S x T for scores of B x H x S x T.
    ValueId maskForHeads(Emitter& emit, ValueId mask, std::int64_t heads) const {
        const ValueShape& shape = m_shapes.of(mask);
        if (shape.ranked && shape.dims.size() == 3 && shape.dims[0] > 1) return emit.reshape("mask", mask, {-1, heads, shape.dims[1], shape.dims[2]});
        return mask;
    }

    /// Merged heads, output projection, and the result under its own name.
    void writeOut(Emitter& emit, const AttentionSpec& spec, ValueId context, bool sequenceFirst, ValueId result) {
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

    /// Keeps every node that is not replaced, and of the candidates those that something still reads.
    void adoptWhatIsRead() {
        std::vector<bool> used(m_graph.values().size(), false);
        const auto use = [&](const Node& node) {
            for (const auto* list : {&node.inputs, &node.captured})
                for (const ValueId value : *list)
                    if (value && value.position() < used.size()) used[value.position()] = true;
        };
        for (std::size_t i = 0; i < m_builder.nodeCount(); ++i) use(m_builder.editNode(NodeId(i)));
        for (const ValueId output : m_graph.outputs()) used[output.position()] = true;
        for (std::size_t i = 0; i < m_graph.nodes().size(); ++i)
            if (!m_candidate[i] && !m_removed.contains(NodeId(i))) use(m_graph.nodes()[i]);
        std::vector<bool> keep(m_graph.nodes().size(), true);
        for (std::size_t i = m_graph.nodes().size(); i-- > 0;) {
            const Node& node = m_graph.nodes()[i];
            if (m_removed.contains(NodeId(i))) {
                keep[i] = false;
            } else if (m_candidate[i]) {
                keep[i] = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId value) { return value && used[value.position()] && !m_replaced.contains(value); });
                if (keep[i]) use(node);
            }
        }
        for (std::size_t i = 0; i < keep.size(); ++i) {
            if (!keep[i]) continue;
            const NodeId added = m_builder.adoptNode(m_graph, NodeId(i));
            // A Split of which one part is replaced keeps its others.
            for (ValueId& value : m_builder.editNode(added).outputs)
                if (value && m_replaced.contains(value)) value = ValueId();
        }
    }

    DecomposedAttention resolved(std::size_t at) const {
        const NamedAttention& named = m_named[at];
        const Graph& graph = *m_result.graph;
        const auto ids = [&](const std::vector<std::string>& names) {
            std::vector<NodeId> found;
            for (const std::string& name : names)
                if (const NodeId id = graph.findNode(name)) found.push_back(id);
            std::sort(found.begin(), found.end());
            found.erase(std::unique(found.begin(), found.end()), found.end());
            return found;
        };
        DecomposedAttention made;
        made.attention = AttentionId(at);
        made.q = ids(named.q);
        made.k = ids(named.k);
        made.v = ids(named.v);
        made.nodes = ids(named.nodes);
        for (const auto* list : {&made.q, &made.k, &made.v}) made.nodes.insert(made.nodes.end(), list->begin(), list->end());
        std::sort(made.nodes.begin(), made.nodes.end());
        made.nodes.erase(std::unique(made.nodes.begin(), made.nodes.end()), made.nodes.end());
        made.inputQ = named.inputQ;
        made.inputK = named.inputK;
        made.inputV = named.inputV;
        if (!named.scores.empty()) made.scores = graph.findNode(named.scores);
        if (!named.softmax.empty()) made.softmax = graph.findNode(named.softmax);
        if (!named.context.empty()) made.context = graph.findNode(named.context);
        made.rewritten = named.rewritten;
        made.wasPacked = named.wasPacked;
        return made;
    }

    const Model& m_model;
    const Graph& m_graph;
    const Shapes& m_shapes;
    const Attentions& m_attentions;
    Expansion m_expansion;
    const Job& m_job;
    GraphBuilder m_builder;
    Decomposition m_result;
    std::vector<NamedAttention> m_named;
    std::set<NodeId> m_removed;     ///< replaced for good
    std::vector<bool> m_candidate;  ///< go where nothing reads them any more
    std::set<ValueId> m_replaced;   ///< new nodes produce these
    std::map<SourceId, NodeId> m_fileNodes;
};

} // namespace

Result<Decomposition> decompose(const Model& model, const Graph& inlined, const Shapes& shapes, const Attentions& attentions, Expansion expansion, const Job& job) {
    return Decomposer(model, inlined, shapes, attentions, expansion, job).run();
}

} // namespace triptych
