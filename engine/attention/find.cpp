#include "attention/kernel_attention.h"
#include "attention/key_blocks.h"
#include "attention/memory.h"
#include "attention/other_scores.h"
#include "attention/product_axes.h"
#include "attention/products.h"
#include "attention/query_blocks.h"
#include "attention/starts.h"
#include "onnx_io/export.h"

#include <algorithm>

namespace triptych {

std::string_view toString(ProjectionForm form) {
    switch (form) {
    case ProjectionForm::separate: return "separate";
    case ProjectionForm::packed: return "packed";
    case ProjectionForm::packedInterleaved: return "packed_interleaved";
    case ProjectionForm::none: break;
    }
    return "none";
}

std::string_view toString(AttentionKind kind) { return kind == AttentionKind::self ? "self" : "cross"; }

std::string_view toString(ScalePlace place) {
    switch (place) {
    case ScalePlace::scores: return "scores";
    case ScalePlace::q: return "q";
    case ScalePlace::k: return "k";
    case ScalePlace::qAndK: return "q_and_k";
    case ScalePlace::inside: return "inside";
    case ScalePlace::none: break;
    }
    return "none";
}

namespace {

/// Whether what is added to the scores is the queries times positions that the file holds (a table, a projection of one).
bool scoresPositions(const Graph& graph, const Shapes& shapes, const MaskFacts& facts, const RoleTrace& queries) {
    return std::any_of(facts.products.begin(), facts.products.end(), [&](NodeId id) {
        const Node& product = graph.node(id);
        const RoleTrace trace = traceRole(graph, shapes, product.input(shapes.isConstant(product.input(0)) ? 1 : 0));
        return trace.linear ? trace.linear == queries.linear : trace.source == queries.source;
    });
}

AttentionSpec explicitAttention(const Graph& graph, const Shapes& shapes, const Core& core, MaskReader& masks) {
    AttentionSpec spec;
    spec.form = "explicit";
    spec.core = core.nodes;
    spec.nodes = core.nodes;
    spec.scores = core.scores;
    spec.softmax = core.softmax;
    spec.context = core.context;
    spec.scope = graph.node(core.scores).scope;
    spec.headDim = core.headDim > 0 ? core.headDim : dimFromEnd(shapes, core.q, 0);
    spec.vHeadDim = core.vHeadDim > 0 ? core.vHeadDim : dimFromEnd(shapes, core.v, 0);
    spec.operands = {core.q, core.k, core.v};
    const std::vector<Roles> streams = traceStreams(graph, shapes, spec.operands);
    const Roles& roles = streams[0];
    assembleRoles(graph, shapes, streams, spec);
    spec.extras.insert(core.extras.begin(), core.extras.end());
    spec.evidence.push_back({"softmax", graph.node(core.softmax).name, "stands between " + graph.node(core.scores).name + " and " + graph.node(core.context).name});
    describeMasks(core.masks, masks, spec, core.multiplied);
    for (Evidence& each : visibleBlocks(graph, shapes, roles, dimFromEnd(shapes, graph.node(core.scores).output(), 0))) {
        (each.role == "global_tokens" ? spec.extras : spec.masks).insert(each.role);
        spec.evidence.push_back(std::move(each));
    }
    // What only selects adds no positions to the scores.
    const auto ofPositions = [&](ValueId mask) { return !masks.facts(mask).boolean && scoresPositions(graph, shapes, masks.facts(mask), roles.q); };
    if (std::any_of(core.masks.begin(), core.masks.end(), ofPositions)) {
        spec.masks.insert("bias");
        spec.extras.insert("relative_bias");
    }
    const double scale = core.scale * roles.q.scale * roles.k.scale;
    if ((core.scaled || roles.q.scaled || roles.k.scaled) && !core.scaleUnknown) spec.scale = scale;
    if (core.scaled) spec.scaleAt = ScalePlace::scores;
    else if (roles.q.scaled && roles.k.scaled) spec.scaleAt = ScalePlace::qAndK;
    else if (roles.q.scaled) spec.scaleAt = ScalePlace::q;
    else if (roles.k.scaled) spec.scaleAt = ScalePlace::k;
    findOutputProjection(graph, shapes, core.result, spec);
    std::sort(spec.nodes.begin(), spec.nodes.end());
    spec.nodes.erase(std::unique(spec.nodes.begin(), spec.nodes.end()), spec.nodes.end());
    return spec;
}

/// Attention whose weights are functions of single scores.
void findWeighed(const Graph& graph, const Shapes& shapes, MaskReader& masks, Attentions& result) {
    std::set<NodeId> taken;
    for (const AttentionSpec& spec : result.found) taken.insert(spec.scores);
    for (const NodeId function : weighings(graph, shapes)) {
        const CoreResult found = findCore(graph, shapes, function);
        if (!found.core || !taken.insert(found.core->scores).second) continue;
        const auto why = whyNotWeighed(graph, shapes, *found.core);
        if (!why) result.found.push_back(explicitAttention(graph, shapes, *found.core, masks));
        else if (!why->first.empty()) result.unrecognised.push_back({graph.node(function).name, "attention without a softmax", why->first, why->second});
    }
}

/// Attention whose scores weigh values as they are: of mapped queries and keys, else a near miss. What data multiply onto scores is a state-space scan's decay.
void findUnweighed(const Graph& graph, const Shapes& shapes, MaskReader& masks, Attentions& result) {
    std::set<NodeId> taken;
    for (const AttentionSpec& spec : result.found) taken.insert(spec.core.begin(), spec.core.end());
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        if (!Products::multiplies(graph.nodes()[i]) || taken.contains(NodeId(i)) || shapes.isConstant(factorOf(graph.nodes()[i], 1))) continue;
        const CoreResult found = findCore(graph, shapes, NodeId(i));
        if (!found.core || taken.contains(found.core->context)) continue;
        if (auto spec = kernelAttention(graph, shapes, *found.core)) {
            describeMasks({}, masks, *spec, found.core->multiplied);
            taken.insert(spec->core.begin(), spec->core.end());
            result.found.push_back(std::move(*spec));
        } else if (std::all_of(found.core->multiplied.begin(), found.core->multiplied.end(), [&](ValueId mask) { return shapes.isConstant(mask); }) && !whyNotWeighed(graph, shapes, *found.core)) {
            result.unrecognised.push_back({graph.nodes()[i].name, "attention without a softmax", "nothing makes weights of its scores", describe(graph, found.core->context) + " reads " + describe(graph, NodeId(i)) + " as it is: neither a softmax nor a sum of mapped keys divides it"});
        }
    }
}

/// Position in the graph, so that opaque and explicit attention come in one order.
NodeId anchor(const AttentionSpec& spec) { return spec.opaque ? spec.opaque : spec.softmax ? spec.softmax : spec.context; }

/// Which calls of model-local functions hold one attention and nothing else that computes.
class Calls {
public:
    Calls(const Model& model, const Graph& inlined) : m_model(model), m_inlined(inlined) {
        if (model.functions.empty()) return;
        for (std::size_t i = 0; i < model.graph->nodes().size(); ++i)
            if (model.function(model.graph->nodes()[i])) m_calls[model.graph->sources(NodeId(i))[0]] = NodeId(i);
        for (std::size_t i = 0; i < inlined.nodes().size(); ++i) {
            const Node& node = inlined.nodes()[i];
            const auto sources = inlined.sources(NodeId(i));
            const bool heavy = node.is("MatMul") || node.is("Gemm") || node.is("Conv") || node.is("Softmax") || node.is("Einsum");
            if (heavy && sources.size() == 1 && m_calls.contains(sources[0])) m_heavy[sources[0]].push_back(NodeId(i));
        }
    }

    /// "function:DOMAIN.NAME" where the attention is all that its call computes; else "".
    std::string form(const AttentionSpec& spec) const {
        if (spec.core.empty() || m_calls.empty()) return {};
        const SourceId call = m_inlined.sources(spec.core[0])[0];
        const auto found = m_calls.find(call);
        if (found == m_calls.end()) return {};
        const std::set<NodeId> own(spec.nodes.begin(), spec.nodes.end());
        for (const NodeId node : spec.core)
            if (m_inlined.sources(node).size() != 1 || m_inlined.sources(node)[0] != call) return {};
        for (const NodeId node : m_heavy.at(call))
            if (!own.contains(node)) return {};
        const Node& node = m_model.graph->node(found->second);
        if (node.domain == fusedDomain) return {};
        return "function:" + (node.domain.empty() ? std::string("ai.onnx") : node.domain) + "." + node.op;
    }

private:
    const Model& m_model;
    const Graph& m_inlined;
    std::map<SourceId, NodeId> m_calls;
    std::map<SourceId, std::vector<NodeId>> m_heavy;
};

} // namespace

Attentions findAttention(const Model& model, const Graph& graph, const Shapes& shapes, const Job& job) {
    Attentions result;
    MaskReader masks(model, graph, shapes);
    const Calls calls(model, graph);
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const Node& node = graph.nodes()[i];
        if (auto spec = opaqueAttention(graph, shapes, NodeId(i), masks)) result.found.push_back(std::move(*spec));
        else if (const std::string name = unknownAttention(node); !name.empty()) result.unrecognised.push_back({node.name, "attention operator", "what " + name + " computes is not written out", "it stays one operator"});
        else if (auto edges = attendsOverEdges(graph, shapes, NodeId(i))) result.unrecognised.push_back(std::move(*edges));
        else if (isOverSeveralAxes(shapes, node)) result.unrecognised.push_back({node.name, "softmax attention", "its softmax takes its axes from " + std::to_string(node.attributes.integer("axis", 1)) + " on together", describe(graph, NodeId(i)) + ": over the last axis alone it would be one of keys"});
    }
    for (const NodeId softmax : softmaxes(graph, shapes)) {
        if (job.stopped()) break;
        CoreResult found = findCore(graph, shapes, softmax);
        if (found.core) result.found.push_back(explicitAttention(graph, shapes, *found.core, masks));
        else if (!found.reason.empty()) result.unrecognised.push_back({graph.node(softmax).name, "softmax attention", found.reason, found.detail});
        else if (const auto memory = looksMemoryUp(graph, shapes, softmax)) result.unrecognised.push_back({graph.node(softmax).name, "attention over a memory", memory->first, memory->second});
        else if (auto other = scoredOtherwise(graph, shapes, softmax)) result.unrecognised.push_back(std::move(*other));
    }
    joinLandmarks(graph, shapes, result.found);
    joinKeyBlocks(graph, shapes, result.found);
    joinQueryBlocks(graph, shapes, result.found);
    findWeighed(graph, shapes, masks, result);
    for (AttentionSpec& spec : kernelAttentions(graph, shapes)) result.found.push_back(std::move(spec));
    findUnweighed(graph, shapes, masks, result);
    std::stable_sort(result.found.begin(), result.found.end(), [](const AttentionSpec& a, const AttentionSpec& b) { return anchor(a) < anchor(b); });
    for (std::size_t i = 0; i < result.found.size(); ++i) {
        AttentionSpec& spec = result.found[i];
        spec.id = "attention_" + std::to_string(i);
        if (const std::string form = calls.form(spec); !form.empty()) spec.form = form;
    }
    return result;
}

} // namespace triptych
