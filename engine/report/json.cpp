#include "report/json.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace triptych {

namespace {

using Json = nlohmann::ordered_json;

/// Numbers that are whole print as integers; what is not finite has no JSON form.
Json number(double value) {
    if (!std::isfinite(value)) return nullptr;
    return value;
}

std::string nameOf(const Graph& graph, ValueId value) { return value ? graph.value(value).name : std::string(); }

Json namesOf(const Graph& graph, const std::vector<NodeId>& nodes) {
    Json names = Json::array();
    for (const NodeId id : nodes) names.push_back(graph.node(id).name);
    return names;
}

/// Names in the file: an inlined node's own name, which carries the call's before a slash.
Json modelJson(const Analysis& analysis) {
    const Model& model = *analysis.model;
    std::uint64_t weights = 0;
    std::size_t initializers = 0;
    for (const Value& value : model.graph->values()) {
        if (!value.initializer) continue;
        ++initializers;
        weights += value.initializer->byteSize().value_or(0);
    }
    Json unknown = Json::array();
    constexpr std::size_t most = 1000;
    for (const auto& [value, reason] : analysis.inlinedShapes->unknown())
        if (unknown.size() < most) unknown.push_back({{"value", analysis.inlined->value(value).name}, {"reason", reason}});
    return {{"file", model.path.filename().string()},
            {"ir_version", model.irVersion},
            {"opsets", model.opsets},
            {"producer", model.producer},
            {"nodes", model.graph->nodes().size()},
            {"functions", model.functions.size()},
            {"initializers", initializers},
            {"weight_bytes", weights},
            {"bindings", analysis.bindings},
            {"values", analysis.inlined->values().size()},
            {"values_with_unknown_shape", analysis.inlinedShapes->unknownCount()},
            {"unknown_shapes", unknown}};
}

/// Where an attention was found, and what its nodes are called from the file's own graph on.
struct FoundIn {
    const Graph& graph;
    std::string place; ///< of a body: "NODE/body/"; else empty
    Json decomposedNodes;
};

Json attentionJson(const AttentionSpec& spec, const std::string& id, const FoundIn& in) {
    const Graph& graph = in.graph;
    const auto placed = [&](Json names) {
        for (Json& name : names) name = in.place + name.get<std::string>();
        return names;
    };
    Json evidence = Json::array();
    for (const Evidence& each : spec.evidence) evidence.push_back({{"role", each.role}, {"node", in.place + each.node}, {"why", each.why}});
    return {{"id", id},
            {"kind", toString(spec.kind)},
            {"form", spec.form},
            {"heads", spec.heads},
            {"kv_heads", spec.kvHeads},
            {"head_dim", spec.headDim},
            {"v_head_dim", spec.vHeadDim},
            {"projections", toString(spec.projections)},
            {"scale", spec.scale ? number(*spec.scale) : Json(nullptr)},
            {"scale_at", toString(spec.scaleAt)},
            {"causal", spec.causal ? Json(*spec.causal) : Json(nullptr)},
            {"masks", spec.masks},
            {"extras", spec.extras},
            {"inputs", {{"q", nameOf(graph, spec.q)}, {"k", nameOf(graph, spec.k)}, {"v", nameOf(graph, spec.v)}, {"mask", nameOf(graph, spec.mask)}}},
            {"scope", spec.scope},
            {"nodes", placed(namesOf(graph, spec.nodes))},
            {"decomposed_nodes", in.decomposedNodes},
            {"evidence", evidence}};
}

Json attentionsJson(const Analysis& analysis) {
    Json attention = Json::array();
    for (std::size_t i = 0; i < analysis.attentions.found.size(); ++i) {
        const AttentionSpec& spec = analysis.attentions.found[i];
        attention.push_back(attentionJson(spec, spec.id, {*analysis.inlined, "", namesOf(*analysis.decomposition->graph, analysis.decomposition->attentions[i].nodes)}));
    }
    for (const NestedAttention& nested : analysis.nested)
        for (const AttentionSpec& spec : nested.attentions.found)
            attention.push_back(attentionJson(spec, "attention_" + std::to_string(attention.size()), {*nested.graph, nested.place + "/", Json::array()}));
    return attention;
}

/// What the group's launch saves in time: its members measured apart against together, where both are known.
double timeSaved(const Analysis& analysis, const ParallelGroup& parallel) {
    double apart = 0, together = 0;
    const auto timeOf = [](const Projected& projected, GroupId group) {
        return group ? projected.metrics->byGroup[group.position()].timeUs : 0;
    };
    std::set<GroupId> before, after;
    for (const auto& member : parallel.members) {
        for (const NodeId node : member) {
            before.insert(analysis.decomposed.partition->groupOf[node]);
            after.insert(analysis.enhanced.partition->groupOf[node]);
        }
    }
    for (const GroupId group : before) apart += timeOf(analysis.decomposed, group);
    for (const GroupId group : after) together += timeOf(analysis.enhanced, group);
    return apart - together;
}

Json parallelJson(const Analysis& analysis) {
    Json groups = Json::array();
    const Graph& graph = *analysis.enhanced.graph;
    for (const ParallelGroup& each : analysis.enhanced.partition->parallel) {
        Json attention = Json::array(), members = Json::array();
        for (const std::size_t at : each.attention) attention.push_back(analysis.attentions.found[at].id);
        for (const auto& member : each.members)
            for (const NodeId node : member) members.push_back(graph.node(node).name);
        groups.push_back({{"id", each.id},
                          {"pattern", (*analysis.library)[each.pattern].id},
                          {"roles", each.roles},
                          {"attention", attention},
                          {"members", members},
                          {"shared_input", nameOf(graph, each.sharedInput)},
                          {"shared_input_bytes", each.sharedInputBytes},
                          {"bytes_saved", each.bytesSaved},
                          {"launches_saved", each.launchesSaved},
                          {"time_saved_us", each.group ? number(timeSaved(analysis, each)) : Json(nullptr)},
                          {"enabled", each.group.valid()},
                          {"already_merged", each.alreadyMerged}});
    }
    return groups;
}

Json partitionJson(const Analysis& analysis, const Projected& projected) {
    Json groups = Json::array();
    for (std::size_t i = 0; i < projected.partition->groups.size(); ++i) {
        const Group& group = projected.partition->groups[i];
        const GroupMetrics& metrics = projected.metrics->byGroup[i];
        Json patterns = Json::array();
        for (const PatternId id : group.patterns) patterns.push_back((*analysis.library)[id].id);
        groups.push_back({{"id", group.id},
                          {"pattern", group.pattern ? (*analysis.library)[group.pattern].id : group.composite},
                          {"patterns", std::move(patterns)},
                          {"nodes", namesOf(*projected.graph, group.nodes)},
                          {"launches", metrics.launches},
                          {"flops", number(metrics.flops)},
                          {"input_bytes", metrics.inputBytes},
                          {"output_bytes", metrics.outputBytes},
                          {"weight_bytes", metrics.weightBytes},
                          {"internal_bytes", metrics.internalBytes},
                          {"dram_bytes", metrics.dramBytes},
                          {"intensity", number(metrics.intensity)},
                          {"intensity_class", intensityClass(metrics.intensity)},
                          {"limited_by", toString(metrics.limitedBy)},
                          {"time_us", number(metrics.timeUs)}});
    }
    return groups;
}

Json nodesJson(const Analysis& analysis, const Projected& projected) {
    Json nodes = Json::array();
    const Graph& graph = *projected.graph;
    const Graph& file = *analysis.model->graph;
    // A source is a position among the file's nodes as they were read; the graph may hold them in another order.
    std::vector<std::string> fileNames(file.nodes().size());
    for (std::size_t i = 0; i < file.nodes().size(); ++i)
        for (const SourceId source : file.sources(NodeId(i)))
            if (source.position() < fileNames.size()) fileNames[source.position()] = file.nodes()[i].name;
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const NodeId id(i);
        const Node& node = graph.node(id);
        Json inputs = Json::array(), outputs = Json::array(), sources = Json::array();
        for (const ValueId value : node.inputs) inputs.push_back(nameOf(graph, value));
        for (const ValueId value : node.captured) inputs.push_back(nameOf(graph, value));
        for (const ValueId value : node.outputs) outputs.push_back(nameOf(graph, value));
        for (const SourceId source : graph.sources(id))
            if (source.position() < fileNames.size()) sources.push_back(fileNames[source.position()]);
        nodes.push_back({{"name", node.name}, {"op", node.domain.empty() ? node.op : node.domain + "." + node.op}, {"inputs", std::move(inputs)}, {"outputs", std::move(outputs)},
                         {"class", toString(projected.classes->of[id])}, {"sources", std::move(sources)}});
    }
    return nodes;
}

/// 1 - bytes(this) / bytes(other).
Json reduction(std::int64_t bytes, std::int64_t other) { return other > 0 ? number(1 - static_cast<double>(bytes) / static_cast<double>(other)) : Json(nullptr); }

Json graphJson(const Analysis& analysis, const Projected& projected, const JsonOptions& options) {
    const GraphMetrics& m = *projected.metrics;
    const GraphMetrics &unfused = *analysis.unfused.metrics, &decomposed = *analysis.decomposed.metrics;
    Json byPattern = Json::object();
    for (const auto& [id, count] : m.groupsByPattern) byPattern[(*analysis.library)[id].id] = count;
    Json json{{"nodes", m.nodes},
              {"compute_nodes", m.computeNodes},
              {"view_nodes", m.viewNodes},
              {"groups", m.groups},
              {"ops_per_group", number(m.opsPerGroup)},
              {"launches", m.launches},
              {"flops", number(m.flops)},
              {"bytes", m.bytes},
              {"weight_bytes", m.weightBytes},
              {"read_bytes", m.readBytes},
              {"write_bytes", m.writeBytes},
              {"internal_bytes", m.internalBytes},
              {"dram_bytes", m.dramBytes},
              {"peak_activation_bytes", m.peakActivationBytes},
              {"intensity", number(m.intensity)},
              {"time_us", number(m.timeUs)},
              {"replay_us", number(m.replayUs)},
              {"eager_us", number(m.eagerUs)},
              {"launch_overhead_us", number(m.launchOverheadUs)},
              {"memory_reduction",
               {{"unfused", reduction(m.bytes, unfused.bytes)},
                {"decomposed", reduction(m.bytes, decomposed.bytes)},
                {"attention_unfused", reduction(m.attentionBytes, unfused.attentionBytes)},
                {"attention_decomposed", reduction(m.attentionBytes, decomposed.attentionBytes)}}},
              {"estimated", m.estimated},
              {"groups_by_pattern", byPattern},
              {"partition", partitionJson(analysis, projected)}};
    if (options.withGraphs) json["graph"] = nodesJson(analysis, projected);
    return json;
}

Json patternEffects(const Analysis& analysis) {
    Json patterns = Json::array();
    for (std::size_t i = 0; i < analysis.library->patterns.size(); ++i) {
        const Pattern& pattern = analysis.library->patterns[i];
        const Marginal& marginal = analysis.marginals[i];
        patterns.push_back({{"id", pattern.id},
                            {"title", pattern.title},
                            {"kind", toString(pattern.kind)},
                            {"enabled", analysis.enabled.contains(PatternId(i))},
                            {"matches", analysis.enhanced.partition->matches[i]},
                            {"marginal", {{"launches", marginal.launches}, {"bytes", marginal.bytes}, {"time_us", number(marginal.timeUs)}}}});
    }
    return patterns;
}

} // namespace

std::string analysisJson(const Analysis& analysis, const JsonOptions& options) {
    Json unrecognised = Json::array(), misses = Json::array();
    for (const Unrecognised& each : analysis.attentions.unrecognised)
        unrecognised.push_back({{"at", each.at}, {"looks_like", each.looksLike}, {"reason", each.reason}, {"detail", each.detail}});
    for (const NearMiss& each : analysis.enhanced.partition->nearMisses)
        misses.push_back({{"pattern", (*analysis.library)[each.pattern].id}, {"at", analysis.enhanced.graph->node(each.at).name}, {"reason", each.reason}, {"detail", each.detail}});
    Json graphs = Json::object();
    for (const Projected* each : {&analysis.unfused, &analysis.baseline, &analysis.decomposed, &analysis.enhanced}) graphs[each->key] = graphJson(analysis, *each, options);
    const Json json{{"schema", "triptych.analysis/1"},
                    {"model", modelJson(analysis)},
                    {"attention", attentionsJson(analysis)},
                    {"parallel_groups", parallelJson(analysis)},
                    {"graphs", std::move(graphs)},
                    {"patterns", patternEffects(analysis)},
                    {"unrecognised", std::move(unrecognised)},
                    {"near_misses", std::move(misses)},
                    {"visibility", number(analysis.visibility)},
                    {"warnings", analysis.warnings}};
    return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string patternsJson(const PatternLibrary& library) {
    Json patterns = Json::array();
    for (const Pattern& pattern : library.patterns)
        patterns.push_back({{"id", pattern.id}, {"title", pattern.title}, {"family", pattern.family}, {"kind", toString(pattern.kind)}, {"sketch", pattern.sketch}, {"enabled_in", pattern.enabledIn}});
    return Json{{"patterns", patterns}}.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace triptych
