#include "pipeline.h"

#include "onnx_io/versions.h"
#include "shapes/weight_inputs.h"
#include "support/stopwatch.h"

#include <algorithm>
#include <future>
#include <unordered_map>

namespace triptych {

namespace {

/// Runs both at once; the failure of the first counts first.
template <class First, class Second>
Result<void> atOnce(const First& first, const Second& second) {
    std::future<Result<void>> other = std::async(std::launch::async, second);
    Result<void> done = first();
    Result<void> also = other.get();
    return done ? also : done;
}

bool isSeed(const AnalysisOptions& options) { return options.preset == "seed"; }

/// What the user asked for, resolved against libraries and profiles; no stage has run yet.
Result<std::shared_ptr<Analysis>> resolve(const AnalysisOptions& options) {
    auto analysis = std::make_shared<Analysis>();
    analysis->options = options;
    auto library = options.patternFiles.empty() ? Result<LibraryPtr>(shippedPatterns()) : patternsWith(options.patternFiles);
    // Whatever is wrong here, the user asked for it: not the file's fault.
    const auto asked = [](Failure failure) {
        failure.stage = "options";
        return tl::unexpected(std::move(failure));
    };
    if (!library) return asked(library.error());
    analysis->library = *library;
    auto enabled = presetPatterns(*analysis->library, options.preset);
    if (!enabled) return asked(enabled.error());
    analysis->enabled = std::move(*enabled);
    for (const auto& [ids, on] : {std::pair(&options.enable, true), std::pair(&options.disable, false)}) {
        for (const std::string& id : *ids) {
            const PatternId pattern = analysis->library->find(id);
            if (!pattern) return fail("options", "there is no pattern '" + id + "'", "see triptych patterns");
            if (on) analysis->enabled.insert(pattern);
            else analysis->enabled.erase(pattern);
        }
    }
    auto hardware = hardwareProfile(options.hardware);
    if (!hardware) return tl::unexpected(hardware.error());
    analysis->hardware = std::move(*hardware);
    auto runtime = runtimeRules(options.runtime);
    if (!runtime) return tl::unexpected(runtime.error());
    analysis->runtime = std::move(*runtime);
    return analysis;
}

/// Nodes of every attention in a decomposition, for "inside attention" figures.
std::vector<NodeId> attentionNodes(const Decomposition* decomposition) {
    std::vector<NodeId> nodes;
    if (!decomposition) return nodes;
    for (const DecomposedAttention& each : decomposition->attentions) nodes.insert(nodes.end(), each.nodes.begin(), each.nodes.end());
    return nodes;
}

/// Opaque nodes of the baseline cost what their expansion costs in `unfused`, which is measured before.
std::map<NodeId, GroupMetrics> expansionCosts(const Analysis& analysis) {
    std::map<SourceId, GroupMetrics> bySource;
    const Projected& unfused = analysis.unfused;
    for (std::size_t i = 0; i < unfused.partition->groups.size(); ++i) {
        const auto sources = unfused.graph->sources(unfused.partition->groups[i].nodes[0]);
        if (sources.size() != 1) continue;
        GroupMetrics& sum = bySource[sources[0]];
        const GroupMetrics& part = unfused.metrics->byGroup[i];
        sum.launches += part.launches;
        sum.flops += part.flops;
        sum.inputBytes += part.inputBytes;
        sum.outputBytes += part.outputBytes;
        sum.weightBytes += part.weightBytes;
        sum.internalBytes += part.internalBytes;
        sum.dramBytes += part.dramBytes;
        sum.timeUs += part.timeUs;
        sum.known = sum.known && part.known;
    }
    std::map<NodeId, GroupMetrics> costs;
    std::set<std::string> operators;
    for (const AttentionSpec& spec : analysis.attentions.found)
        if (spec.opaque) operators.insert(analysis.inlined->node(spec.opaque).name);
    const Graph& baseline = *analysis.baseline.graph;
    for (std::size_t i = 0; i < baseline.nodes().size(); ++i) {
        const NodeId id(i);
        const bool call = analysis.model->function(baseline.node(id)) != nullptr;
        const bool opaque = call || operators.contains(baseline.node(id).name);
        const auto found = opaque ? bySource.find(baseline.sources(id)[0]) : bySource.end();
        if (found == bySource.end()) continue;
        GroupMetrics& cost = costs[id] = found->second;
        const std::int64_t bytes = cost.inputBytes + cost.weightBytes + cost.outputBytes;
        cost.intensity = bytes > 0 ? cost.flops / static_cast<double>(bytes) : 0;
    }
    return costs;
}

/// What one graph is divided and measured with. Nothing else of an analysis is read or written, so graphs can take their turn at once.
struct Projection {
    const PatternSet& enabled;
    const Decomposition* decomposition = nullptr;
    bool viewsStayApart = false;
    std::map<NodeId, GroupMetrics> costs = {}; ///< of opaque nodes
};

/// Partitions and measures one graph.
Result<StageTimes> project(const Analysis& analysis, Projected& projected, const Projection& with, const Job& job) {
    StageTimes times;
    {
        const Stopwatch watch(times.fusion);
        auto partition = fuse({*projected.graph, *projected.shapes, *projected.classes, with.decomposition, with.viewsStayApart, standardVersion(analysis.model->opsets)}, *analysis.library, with.enabled, job);
        if (!partition) return tl::unexpected(partition.error());
        projected.partition = std::make_shared<const Partition>(std::move(*partition));
    }
    {
        const Stopwatch watch(times.cost);
        projected.metrics = std::make_shared<const GraphMetrics>(
            measure({*projected.graph, *projected.shapes, *projected.classes, *projected.partition, *analysis.library, analysis.hardware, analysis.runtime,
                     analysis.options.precision, attentionNodes(with.decomposition), isSeed(analysis.options), with.costs}));
    }
    if (job.stopped()) return fail("measure", "stopped");
    return times;
}

Result<void> shapeAndClassify(const Analysis& analysis, Projected& projected, const Job& job) {
    auto shapes = inferShapes(*analysis.model, *projected.graph, analysis.bindings, job);
    if (!shapes) return tl::unexpected(shapes.error());
    projected.shapes = *shapes;
    projected.classes = std::make_shared<const NodeClasses>(classify(*projected.graph, *projected.shapes));
    return {};
}

/// The research's definition: operators that can be seen, views among them.
std::int64_t visible(const NodeClasses& classes) {
    return std::count_if(classes.of.begin(), classes.of.end(), [](NodeClass c) { return c == NodeClass::compute || c == NodeClass::view; });
}

/// A written file has its bodies written out too.
Result<void> writeOutBodies(Analysis& analysis, const Bindings& varied, const Job& job) {
    Decomposition made = *analysis.decomposition;
    const auto bound = inferShapes(*analysis.model, *made.graph, analysis.bindings, job);
    if (!bound) return tl::unexpected(bound.error());
    const auto others = inferShapes(*analysis.model, *made.graph, varied, job);
    if (!others) return tl::unexpected(others.error());
    auto graph = decomposeNested(*analysis.model, made.graph, **bound, **others, made.warnings, job);
    if (!graph) return tl::unexpected(graph.error());
    made.graph = *graph;
    analysis.decomposition = std::make_shared<const Decomposition>(std::move(made));
    return {};
}

/// Import has run: everything up to the two decompositions.
Result<void> findAndDecompose(Analysis& analysis, const Job& job) {
    const Model& model = *analysis.model;
    auto flat = flattenFitting(model, analysis.bindings, analysis.options.bindings, analysis.options.forFile, job);
    if (!flat) return tl::unexpected(flat.error());
    analysis.bindings = flat->shapes->bindings();
    analysis.inlined = flat->graph;
    analysis.inlinedShapes = flat->shapes;
    analysis.taken = std::move(flat->taken);
    analysis.listsUndone = flat->listsUndone;
    analysis.times.import += flat->importMs;
    analysis.times.shapes += flat->shapesMs;
    const Stopwatch watch(analysis.times.attention);
    job.report("attention", 0);
    analysis.attentions = findAttention(model, *analysis.inlined, *analysis.inlinedShapes, job);
    analysis.nested = findNestedAttention(model, *analysis.inlined, *analysis.inlinedShapes, job);
    for (const NestedAttention& each : analysis.nested)
        for (const Unrecognised& inside : each.attentions.unrecognised) analysis.attentions.unrecognised.push_back({each.place + "/" + inside.at, inside.looksLike, inside.reason, inside.detail});
    ShapesPtr varied;
    if (analysis.options.forFile) {
        auto shapes = variedShapes(model, *analysis.inlined, *analysis.inlinedShapes, job);
        if (!shapes) return tl::unexpected(shapes.error());
        varied = *shapes;
    }
    if (job.stopped()) return fail("attention", "stopped");
    const auto writeOut = [&](Expansion expansion, const Shapes* more, std::shared_ptr<const Decomposition>& target) -> Result<void> {
        auto made = decompose(model, *analysis.inlined, *analysis.inlinedShapes, analysis.attentions, expansion, more, job);
        if (!made) return tl::unexpected(made.error());
        target = std::make_shared<const Decomposition>(std::move(*made));
        return {};
    };
    const auto done = atOnce([&] { return writeOut(Expansion::asDocumented, nullptr, analysis.unfusedForm); },
                             [&] { return writeOut(Expansion::canonical, varied.get(), analysis.decomposition); });
    if (!done || !varied || !hasBodies(*analysis.decomposition->graph)) return done;
    return writeOutBodies(analysis, varied->bindings(), job);
}

/// The baseline's graph: calls that are one attention stay calls, all others are inlined.
Result<GraphPtr> baselineGraph(const Analysis& analysis, const Job& job) {
    std::set<SourceId> kept;
    for (const AttentionSpec& spec : analysis.attentions.found) {
        if (!spec.form.starts_with("function:") || spec.core.empty()) continue;
        for (const SourceId source : analysis.inlined->sources(spec.core.front())) kept.insert(source);
    }
    const auto keep = [&](const Graph& graph, NodeId call) {
        const auto sources = graph.sources(call);
        return std::any_of(sources.begin(), sources.end(), [&](SourceId source) { return kept.contains(source); });
    };
    return flattenAlike(*analysis.model, analysis.taken, keep, job);
}

/// Everything behind recognition that options beyond bindings change: the four projections.
Result<void> projectAll(Analysis& analysis, const Job& job) {
    const auto standard = presetPatterns(*analysis.library, "standard");
    if (!standard) return tl::unexpected(standard.error());
    const bool apart = isSeed(analysis.options);
    job.report("fusion", 0);
    StageTimes ofPlain, ofDecomposed;
    // The baseline's opaque operators cost what the unfused graph says, so these two follow each other.
    const auto plain = [&]() -> Result<void> {
        const PatternSet none;
        auto done = project(analysis, analysis.unfused, {none, analysis.unfusedForm.get()}, job);
        if (!done) return tl::unexpected(done.error());
        ofPlain.add(*done);
        done = project(analysis, analysis.baseline, {*standard, nullptr, false, expansionCosts(analysis)}, job);
        if (!done) return tl::unexpected(done.error());
        ofPlain.add(*done);
        return {};
    };
    const auto decomposed = [&]() -> Result<void> {
        auto done = project(analysis, analysis.decomposed, {*standard, analysis.decomposition.get(), apart}, job);
        if (!done) return tl::unexpected(done.error());
        ofDecomposed.add(*done);
        if (analysis.enabled == *standard) {
            analysis.enhanced.partition = analysis.decomposed.partition;
            analysis.enhanced.metrics = analysis.decomposed.metrics;
            return {};
        }
        done = project(analysis, analysis.enhanced, {analysis.enabled, analysis.decomposition.get(), apart}, job);
        if (!done) return tl::unexpected(done.error());
        ofDecomposed.add(*done);
        return {};
    };
    if (auto done = atOnce(plain, decomposed); !done) return done;
    analysis.times.add(ofPlain);
    analysis.times.add(ofDecomposed);
    return {};
}

Result<AnalysisPtr> finish(std::shared_ptr<Analysis> analysis, const Job& job) {
    if (auto done = projectAll(*analysis, job); !done) return tl::unexpected(done.error());
    const auto seen = visible(*analysis->baseline.classes);
    analysis->visibility = seen == 0 ? 1 : static_cast<double>(visible(*analysis->decomposed.classes)) / static_cast<double>(seen);
    analysis->marginals.assign(analysis->library->patterns.size(), {});
    return AnalysisPtr(std::move(analysis));
}

Result<AnalysisPtr> run(std::shared_ptr<Analysis> analysis, const Job& job) {
    auto bindings = resolveBindings(*analysis->model->graph, analysis->options.bindings);
    if (!bindings) return tl::unexpected(bindings.error());
    analysis->bindings = std::move(*bindings);
    if (auto done = findAndDecompose(*analysis, job); !done) return tl::unexpected(done.error());

    analysis->unfused.key = "unfused";
    analysis->unfused.graph = analysis->unfusedForm->graph;
    analysis->baseline.key = "baseline";
    auto baseline = baselineGraph(*analysis, job);
    if (!baseline) return tl::unexpected(baseline.error());
    analysis->baseline.graph = *baseline;
    analysis->decomposed.key = "decomposed";
    analysis->decomposed.graph = analysis->decomposition->graph;
    {
        const Stopwatch watch(analysis->times.shapes);
        const auto others = [&]() -> Result<void> {
            if (auto done = shapeAndClassify(*analysis, analysis->baseline, job); !done) return done;
            return shapeAndClassify(*analysis, analysis->decomposed, job);
        };
        if (auto done = atOnce([&] { return shapeAndClassify(*analysis, analysis->unfused, job); }, others); !done) return tl::unexpected(done.error());
    }
    analysis->enhanced = analysis->decomposed;
    analysis->enhanced.key = "enhanced";
    analysis->counterparts = Counterparts(analysis->baseline.graph, analysis->enhanced.graph);

    const auto declared = contradictions(*analysis->model, *analysis->inlined, *analysis->inlinedShapes, job);
    if (!declared) return tl::unexpected(declared.error());
    analysis->warnings = analysis->model->warnings;
    for (const auto* more : {&*declared, &analysis->inlinedShapes->warnings(), &analysis->decomposition->warnings})
        analysis->warnings.insert(analysis->warnings.end(), more->begin(), more->end());
    if (const std::size_t weights = weightInputs(*analysis->inlined).size(); weights > 0) analysis->warnings.push_back(std::to_string(weights) + " inputs are taken for weights that the file doesn't hold, as of an export without parameters");
    return finish(std::move(analysis), job);
}

} // namespace

void StageTimes::add(const StageTimes& more) {
    read += more.read;
    import += more.import;
    shapes += more.shapes;
    attention += more.attention;
    fusion += more.fusion;
    cost += more.cost;
}

Counterparts::Counterparts(GraphPtr baseline, GraphPtr enhanced) : m_baseline(std::move(baseline)), m_enhanced(std::move(enhanced)) {
    for (const auto& [graph, places] : {std::pair(m_baseline.get(), &m_inBaseline), std::pair(m_enhanced.get(), &m_inEnhanced)})
        for (std::size_t i = 0; i < graph->nodes().size(); ++i)
            for (const SourceId source : graph->sources(NodeId(i))) (*places)[source].push_back(NodeId(i));
}

std::vector<NodeId> Counterparts::sharing(const Graph& from, NodeId node, const Places& places) {
    std::vector<NodeId> found;
    for (const SourceId source : from.sources(node))
        if (const auto at = places.find(source); at != places.end()) found.insert(found.end(), at->second.begin(), at->second.end());
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

std::vector<NodeId> Counterparts::inEnhanced(NodeId baseline) const { return sharing(*m_baseline, baseline, m_inEnhanced); }
std::vector<NodeId> Counterparts::inBaseline(NodeId enhanced) const { return sharing(*m_enhanced, enhanced, m_inBaseline); }

std::size_t attentionCount(const Analysis& analysis) {
    std::size_t count = analysis.attentions.found.size();
    for (const NestedAttention& each : analysis.nested) count += each.attentions.found.size();
    return count;
}

Result<AnalysisPtr> analyze(ModelPtr model, const AnalysisOptions& options, const Job& job) {
    auto analysis = resolve(options);
    if (!analysis) return tl::unexpected(analysis.error());
    (*analysis)->model = std::move(model);
    return run(std::move(*analysis), job);
}

Result<AnalysisPtr> analyze(const std::filesystem::path& path, const AnalysisOptions& options, const Job& job) {
    auto analysis = resolve(options);
    if (!analysis) return tl::unexpected(analysis.error());
    {
        const Stopwatch watch((*analysis)->times.import);
        auto model = importModel(path, job, options.allowedFolders);
        if (!model) return tl::unexpected(model.error());
        (*analysis)->model = std::move(*model);
    }
    return run(std::move(*analysis), job);
}

Result<AnalysisPtr> reanalyze(const AnalysisPtr& earlier, const AnalysisOptions& options, const Job& job) {
    if (options.bindings != earlier->options.bindings) return analyze(earlier->model, options, job);
    auto resolved = resolve(options);
    if (!resolved) return tl::unexpected(resolved.error());
    auto analysis = std::make_shared<Analysis>(*earlier);
    analysis->options = options;
    analysis->library = (*resolved)->library;
    analysis->enabled = std::move((*resolved)->enabled);
    analysis->hardware = std::move((*resolved)->hardware);
    analysis->runtime = std::move((*resolved)->runtime);
    analysis->times = {};
    const AnalysisOptions& before = earlier->options;
    const bool onlyPatterns = before.hardware == options.hardware && before.runtime == options.runtime && before.precision == options.precision &&
                              before.patternFiles == options.patternFiles && isSeed(before) == isSeed(options);
    if (!onlyPatterns) return finish(std::move(analysis), job);
    const auto done = project(*analysis, analysis->enhanced, {analysis->enabled, analysis->decomposition.get(), isSeed(options)}, job);
    if (!done) return tl::unexpected(done.error());
    analysis->times.add(*done);
    analysis->marginals.assign(analysis->library->patterns.size(), {});
    return AnalysisPtr(std::move(analysis));
}

std::vector<Marginal> marginalEffects(const Analysis& analysis, const Job& job) {
    std::vector<Marginal> effects(analysis.library->patterns.size());
    const GraphMetrics& with = *analysis.enhanced.metrics;
    for (const PatternId id : analysis.enabled) {
        if (job.stopped()) break;
        // A pattern that contributed nowhere changes nothing.
        if (analysis.enhanced.partition->matches[id.position()] == 0) continue;
        Projected trial = analysis.enhanced;
        PatternSet others = analysis.enabled;
        others.erase(id);
        if (!project(analysis, trial, {others, analysis.decomposition.get(), isSeed(analysis.options)}, job)) continue;
        const GraphMetrics& without = *trial.metrics;
        effects[id.position()] = {without.launches - with.launches, without.bytes - with.bytes, without.timeUs - with.timeUs};
    }
    return effects;
}

} // namespace triptych
