#include "attention/decomposer.h"
#include "attention/starts.h"
#include "onnx_io/versions.h"

#include <algorithm>

namespace triptych {

Decomposer::Decomposer(const Model& model, const Graph& graph, const Shapes& shapes, const Attentions& attentions, Expansion expansion, const Shapes* varied, const Job& job)
    : m_model(model), m_graph(graph), m_sizes(graph, shapes, varied), m_boundSizes(graph, shapes, nullptr), m_active(&m_sizes), m_shapes(m_sizes.shapes()), m_attentions(attentions), m_expansion(expansion), m_job(job),
      m_candidate(graph.nodes().size(), false) {}

Emitter Decomposer::emitter(const std::string& prefix, const std::string& scope, std::vector<SourceId> sources) {
    return {m_builder, prefix, scope, std::move(sources), standardVersion(m_model.opsets)};
}

Result<Decomposition> Decomposer::run() {
    m_builder.adoptValues(m_graph);
    for (std::size_t i = 0; i < m_attentions.found.size(); ++i) {
        if (m_job.stopped()) return fail("decompose", "stopped");
        if (m_attentions.found[i].heads == 0) m_result.warnings.push_back(whyNoHeads(m_attentions.found[i]));
        m_named.push_back(one(m_attentions.found[i]));
        if (m_expansion == Expansion::canonical) shareInputs(m_named.back());
    }
    if (!m_boundOnly.empty())
        m_result.warnings.push_back(m_boundOnly + ": sizes behind the packed projection can't be told for other bindings, so what is taken apart is written for the bound ones only");
    adoptWhatIsRead();
    auto graph = m_builder.finish("decompose");
    if (!graph) return tl::unexpected(graph.error());
    m_result.graph = *graph;
    for (std::size_t i = 0; i < m_named.size(); ++i) m_result.attentions.push_back(resolved(i));
    return std::move(m_result);
}

std::string Decomposer::whyNoHeads(const AttentionSpec& spec) const {
    const NodeId at = spec.opaque ? spec.opaque : spec.scores;
    std::string why;
    for (const ValueId input : m_graph.node(at).inputs)
        if (why.empty()) why = m_shapes.reasonUnknown(input);
    return spec.id + ": how many heads " + describe(m_graph, at) + " has isn't known: " + (why.empty() ? "no projection tells, and with the bound sizes nothing is left of the axis before its places" : why);
}

std::vector<SourceId> Decomposer::sourcesOf(const std::vector<NodeId>& nodes) const {
    std::set<SourceId> all;
    for (const NodeId node : nodes)
        for (const SourceId source : m_graph.sources(node)) all.insert(source);
    return {all.begin(), all.end()};
}

NamedAttention Decomposer::one(const AttentionSpec& spec) {
    if (spec.opaque) {
        const Node& node = m_graph.node(spec.opaque);
        Emitter emit = emitter(node.name, node.scope, sourcesOf({spec.opaque}));
        NamedAttention named, projected;
        const auto apart = [&](std::size_t input) { return m_expansion == Expansion::canonical ? inputApart(spec, input, projected) : std::vector<ValueId>(); };
        auto expanded = expandOpaque(emit, m_graph, m_shapes, spec, m_expansion, m_sizes, apart);
        if (!expanded) {
            m_result.warnings.push_back(expanded.error().message());
            named.nodes.push_back(node.name);
        } else {
            named = std::move(*expanded);
            named.rewritten = true;
            named.nodes = std::move(projected.nodes);
            named.nodes.insert(named.nodes.end(), emit.names().begin(), emit.names().end());
            for (const auto& [own, to] : {std::pair(&projected.q, &named.q), std::pair(&projected.k, &named.k), std::pair(&projected.v, &named.v)})
                if (!own->empty()) *to = std::move(*own);
            named.wasPacked = named.wasPacked || projected.wasPacked;
            m_removed.insert(spec.opaque);
            if (m_expansion == Expansion::canonical) takeApart(spec, named, {node.input(0), node.input(1), node.input(2)});
        }
        outerProjections(spec, named);
        return named;
    }
    if (m_expansion == Expansion::canonical && spec.form.starts_with("function:"))
        if (auto named = canonicalCall(spec)) return std::move(*named);
    NamedAttention named = asWritten(spec);
    writeSoftmax(spec.softmax, named, named);
    for (std::size_t i = 0; i < spec.parts.size(); ++i) writeSoftmax(spec.parts[i].softmax, named.parts[i], named);
    if (m_expansion == Expansion::canonical) takeApart(spec, named, spec.operands);
    outerProjections(spec, named);
    return named;
}

NamedAttention Decomposer::asWritten(const AttentionSpec& spec) const {
    NamedAttention named;
    for (const NodeId node : spec.nodes) named.nodes.push_back(m_graph.node(node).name);
    // What stands in a softmax's place normalises nothing: no kernel of softmax attention computes it.
    // Relu over its sum has no function of single scores at its end; a softmax over the queries is none over the keys.
    const bool exponents = !spec.extras.contains("relu") && !spec.extras.contains("squared_relu") && !spec.extras.contains("inverted");
    static_cast<NamedPart&>(named) = partAsWritten(spec, exponents);
    for (const AttentionPart& part : spec.parts) named.parts.push_back(partAsWritten(part, exponents));
    named.inputQ = spec.q;
    named.inputK = spec.k;
    named.inputV = spec.v;
    named.wasPacked = isPacked(spec.projections);
    return named;
}

NamedPart Decomposer::partAsWritten(const AttentionPart& part, bool exponents) const {
    NamedPart named;
    if (part.scores) named.scores = m_graph.node(part.scores).name;
    if (part.softmax && exponents && !weighing(m_graph, m_shapes, part.softmax)) named.softmax = m_graph.node(part.softmax).name;
    if (part.context) named.context = m_graph.node(part.context).name;
    return named;
}

/// BiasSoftmax as the sum and the softmax that it joins.
void Decomposer::writeSoftmax(NodeId softmax, NamedPart& part, NamedAttention& named) {
    if (!softmax || !m_graph.node(softmax).is("com.microsoft", "BiasSoftmax")) return;
    const Node& node = m_graph.node(softmax);
    Emitter emit = emitter(node.name, node.scope, sourcesOf({softmax}));
    const ValueId sum = emit.op("bias", "Add", {node.input(0), node.input(1)});
    emit.op("softmax", "Softmax", {sum}, {{"axis", emit.lastAxis(m_shapes.of(node.input(0)).dims.size()), {}}}, node.output());
    std::erase(named.nodes, node.name);
    named.nodes.insert(named.nodes.end(), emit.names().begin(), emit.names().end());
    part.softmax = emit.names().back();
    named.rewritten = true;
    m_removed.insert(softmax);
}

/// Projections that stay as the file has them.
void Decomposer::outerProjections(const AttentionSpec& spec, NamedAttention& named) const {
    const auto fill = [&](const StreamProjections& from, NamedStream& to) {
        const auto own = [&](const std::optional<Projection>& projection, std::vector<std::string>& names) {
            if (!names.empty() || !projection || projection->nodes[0] == spec.opaque) return;
            for (const NodeId node : projection->nodes) names.push_back(m_graph.node(node).name);
        };
        own(from.projectionQ, to.q);
        own(from.projectionK, to.k);
        own(from.projectionV, to.v);
        if (!to.inputQ) to.inputQ = from.q;
        if (!to.inputK) to.inputK = from.k;
        if (!to.inputV) to.inputV = from.v;
    };
    fill(spec, named);
    named.joined.resize(spec.joined.size());
    for (std::size_t i = 0; i < spec.joined.size(); ++i) {
        named.joined[i].wasPacked = isPacked(spec.joined[i].projections);
        fill(spec.joined[i], named.joined[i]);
    }
}

void Decomposer::shareInputs(NamedAttention& named) {
    const auto share = [&](ValueId value, ValueId as) {
        if (m_same.of(value) == m_same.of(as) || !sameValue(m_graph, m_shapes, value, as)) return;
        m_same.add(m_graph, m_shapes, value, as);
        named.rewritten = true;
    };
    const auto shareAll = [&](const NamedStream& stream) {
        share(stream.inputK, stream.inputQ);
        share(stream.inputV, stream.inputK);
        share(stream.inputV, stream.inputQ);
    };
    shareAll(named);
    for (const NamedStream& each : named.joined) shareAll(each);
}

/// Keeps every node that is not replaced and that something still reads.
void Decomposer::adoptWhatIsRead() {
    std::vector<bool> used(m_graph.values().size(), false);
    const auto use = [&](const Node& node) {
        for (const ValueId value : node.inputs)
            if (const ValueId same = m_same.of(value); same && same.position() < used.size()) used[same.position()] = true;
        for (const ValueId value : node.captured)
            if (value && value.position() < used.size()) used[value.position()] = true;
    };
    const auto readSame = [&](NodeId added) {
        for (ValueId& value : m_builder.editNode(added).inputs) value = m_same.of(value);
    };
    for (const NodeId node : m_same.made()) m_candidate[node.position()] = true;
    for (std::size_t i = 0; i < m_builder.nodeCount(); ++i) {
        readSame(NodeId(i));
        use(m_builder.editNode(NodeId(i)));
    }
    for (const ValueId output : m_graph.outputs()) used[output.position()] = true;
    std::vector<bool> keep(m_graph.nodes().size(), false);
    for (std::size_t i = m_graph.nodes().size(); i-- > 0;) {
        const Node& node = m_graph.nodes()[i];
        if (m_removed.contains(NodeId(i))) continue;
        const bool isRead = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId value) { return value && used[value.position()] && !m_replaced.contains(value); });
        // What nothing reads in the file either is the file's own affair; sizes and constants that only a replaced node read go with it.
        const bool wasRead = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId value) { return value && !m_graph.readers(value).empty(); });
        keep[i] = isRead || (!wasRead && !m_candidate[i]);
        if (keep[i]) use(node);
    }
    for (std::size_t i = 0; i < keep.size(); ++i) {
        if (!keep[i]) continue;
        const NodeId added = m_builder.adoptNode(m_graph, NodeId(i));
        readSame(added);
        // A Split of which one part is replaced keeps its others, and a name for each: a list of outputs has no gaps (ONNX Runtime crashes at one).
        for (ValueId& value : m_builder.editNode(added).outputs)
            if (value && m_replaced.contains(value)) value = m_builder.newValue(m_graph.value(value).name + "_packed");
    }
}

DecomposedAttention Decomposer::resolved(std::size_t at) const {
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
    made.nodes = ids(named.nodes);
    const auto stream = [&](const NamedStream& from) {
        const DecomposedStream own{ids(from.q), ids(from.k), ids(from.v), m_same.of(from.inputQ), m_same.of(from.inputK), m_same.of(from.inputV), from.wasPacked};
        for (const auto* list : {&own.q, &own.k, &own.v}) made.nodes.insert(made.nodes.end(), list->begin(), list->end());
        return own;
    };
    static_cast<DecomposedStream&>(made) = stream(named);
    for (const NamedStream& each : named.joined) made.joined.push_back(stream(each));
    std::sort(made.nodes.begin(), made.nodes.end());
    made.nodes.erase(std::unique(made.nodes.begin(), made.nodes.end()), made.nodes.end());
    const auto part = [&](const NamedPart& from) {
        const auto id = [&](const std::string& name) { return name.empty() ? NodeId() : graph.findNode(name); };
        return AttentionPart{id(from.scores), id(from.softmax), id(from.context)};
    };
    static_cast<AttentionPart&>(made) = part(named);
    for (const NamedPart& each : named.parts) made.parts.push_back(part(each));
    made.rewritten = named.rewritten;
    return made;
}

Result<Decomposition> decompose(const Model& model, const Graph& inlined, const Shapes& shapes, const Attentions& attentions, Expansion expansion, const Shapes* varied, const Job& job) {
    return Decomposer(model, inlined, shapes, attentions, expansion, varied, job).run();
}

} // namespace triptych
