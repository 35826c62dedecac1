#include "document.h"

#include <QElapsedTimer>
#include <QUndoCommand>

namespace triptych {

namespace {

/// Sizes that were chosen for dimensions which the file doesn't have any more.
void dropUnknown(const Model& model, Bindings& bindings) {
    std::set<std::string> known;
    for (const SymbolicDim& dim : symbolicDims(*model.graph)) known.insert(dim.name);
    std::erase_if(bindings, [&](const auto& binding) { return !known.contains(binding.first); });
}

/// What a stage returns; what a library of it throws becomes a failure, and what is shown stays.
template <class Work>
auto guarded(const Work& work) -> decltype(work()) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return fail("analyze", "there is not enough memory for this", "try a smaller model, or bind smaller sizes");
    } catch (const std::exception& error) {
        return fail("analyze", std::string("the file can't be analysed: ") + error.what(), "please report it");
    }
}

} // namespace

/// One change of what the user chose, undoable.
class OptionsCommand : public QUndoCommand {
public:
    OptionsCommand(Document& document, AnalysisOptions before, AnalysisOptions after, const QString& text) : QUndoCommand(text), m_document(document), m_before(std::move(before)), m_after(std::move(after)) {}
    void undo() override { m_document.applyOptions(m_before); }
    void redo() override { m_document.applyOptions(m_after); }

private:
    Document& m_document;
    AnalysisOptions m_before, m_after;
};

Document::Document(QObject* parent) : QObject(parent) {}

Document::~Document() {
    m_worker.stop();
    m_effects.stop();
}

Result<Snapshot> Document::layOutBoth(AnalysisPtr analysis, const LayoutOptions& options, const Job& job) {
    Snapshot snapshot;
    snapshot.analysis = std::move(analysis);
    QElapsedTimer timer;
    timer.start();
    auto baseline = layOut(snapshot.analysis->baseline, snapshot.analysis->attentions, nullptr, options, job);
    if (!baseline) return tl::unexpected(baseline.error());
    snapshot.layoutBaselineMs = double(timer.nsecsElapsed()) / 1e6;
    timer.restart();
    auto enhanced = layOut(snapshot.analysis->enhanced, snapshot.analysis->attentions, snapshot.analysis->decomposition.get(), options, job);
    if (!enhanced) return tl::unexpected(enhanced.error());
    snapshot.layoutEnhancedMs = double(timer.nsecsElapsed()) / 1e6;
    snapshot.baseline = *baseline;
    snapshot.enhanced = *enhanced;
    return snapshot;
}

Result<Entered> Document::enterGraph(const Snapshot& snapshot, std::size_t side, NodeId node, std::size_t which, const LayoutOptions& layout, const Job& job) {
    const Projected& outer = snapshot.projected(side);
    auto projected = enterNested(*snapshot.analysis, outer, node, which, job);
    if (!projected) return tl::unexpected(projected.error());
    Entered made;
    const Node& holder = outer.graph->node(node);
    made.node = holder.name;
    made.which = which;
    made.title = QStringLiteral("%1 (%2)").arg(QString::fromStdString(holder.name), QString::fromStdString(holder.op));
    for (const NestedGraph& nested : nestedGraphs(*snapshot.analysis->model, holder)) made.siblings.push_back(QString::fromStdString(nested.name));
    made.projected = std::move(*projected);
    made.options = layout;
    auto laidOut = layOut(made.projected, {}, nullptr, layout, job);
    if (!laidOut) return tl::unexpected(laidOut.error());
    made.layout = *laidOut;
    return made;
}

// By name, as far in as the nodes are still there.
void Document::enterAgain(Snapshot& snapshot, const std::array<std::vector<Entered>, 2>& before, const Job& job) {
    for (std::size_t side = 0; side < 2; ++side) {
        for (const Entered& level : before[side]) {
            const NodeId node = snapshot.projected(side).graph->findNode(level.node);
            if (!node) break;
            auto entered = enterGraph(snapshot, side, node, level.which, level.options, job);
            if (!entered) break;
            snapshot.entered[side].push_back(std::move(*entered));
        }
    }
}

// Results of an older generation are dropped: the user has asked for something else since.
void Document::run(Work work, const QString& file, Change change) {
    const int generation = ++m_generation;
    m_busy = true;
    m_coming = file;
    m_pending.reset();
    emit busyChanged(true);
    m_effects.stop();
    m_worker.start([this, generation, file, change, work = std::move(work)](const std::stop_token& stop) {
        Job job{stop, {}};
        job.progress = [this](std::string_view stage, double part) {
            QMetaObject::invokeMethod(this, [this, name = QString::fromUtf8(stage.data(), qsizetype(stage.size())), part] { emit progress(name, part); });
        };
        auto result = std::make_shared<Result<Snapshot>>(guarded([&] { return work(job); }));
        if (stop.stop_requested()) return;
        QMetaObject::invokeMethod(this, [this, generation, file, change, result] {
            if (generation == m_generation) publish(std::move(*result), file, change);
        });
    });
}

void Document::publish(Result<Snapshot> result, const QString& file, Change change) {
    m_busy = false;
    emit busyChanged(false);
    if (!result) {
        const Failure& failure = result.error();
        if (change == Change::reloaded) emit reloadFailed(failure);
        else emit failed(failure);
        m_pending.reset(); // they hold for what is shown
        if (loaded()) measureEffects(); // they were stopped for this run
        return;
    }
    if (change == Change::opened) m_layout = {}; // what was unfolded before stays so where opening fails
    if (file != m_file) m_undo.clear();
    m_file = file;
    m_snapshot = std::move(*result);
    m_snapshot.change = change;
    m_options = m_snapshot.analysis->options;
    emit changed();
    if (m_pending) applyPending();
    else measureEffects();
}

// Sizes and folders are those of what was published: they come with a run of their own.
void Document::applyPending() {
    AnalysisOptions options = std::move(*m_pending);
    m_pending.reset();
    options.bindings = m_options.bindings;
    options.allowedFolders = m_options.allowedFolders;
    applyOptions(options);
}

void Document::open(const QString& file, const AnalysisOptions& options) {
    m_worker.stop();
    // Sizes for the first file come from the command line: one that it doesn't have is an error there.
    run([path = file.toStdString(), options = AnalysisOptions(options), again = loaded()](const Job& job) mutable -> Result<Snapshot> {
        auto model = importModel(path, job, options.allowedFolders);
        if (!model) return tl::unexpected(model.error());
        if (again) dropUnknown(**model, options.bindings);
        auto analysis = analyze(*model, options, job);
        if (!analysis) return tl::unexpected(analysis.error());
        return layOutBoth(*analysis, {}, job);
    }, file, Change::opened);
}

void Document::reload() {
    if (!loaded() || (m_busy && m_coming != m_file)) return; // another file is on its way
    m_worker.stop();
    run([path = m_file.toStdString(), options = m_options, layout = m_layout, entered = m_snapshot.entered](const Job& job) mutable -> Result<Snapshot> {
        auto model = importModel(path, job, options.allowedFolders);
        if (!model) return tl::unexpected(model.error());
        dropUnknown(**model, options.bindings);
        auto analysis = analyze(*model, options, job);
        if (!analysis) return tl::unexpected(analysis.error());
        auto snapshot = layOutBoth(*analysis, layout, job);
        if (snapshot) enterAgain(*snapshot, entered, job);
        return snapshot;
    }, m_file, Change::reloaded);
}

// A toggle re-partitions one graph: quick enough for the window's thread, so that it shows in the next frame.
void Document::applyOptions(const AnalysisOptions& options) {
    if (!loaded()) return;
    if (options.bindings != m_options.bindings) {
        run([earlier = m_snapshot.analysis, options, layout = m_layout, entered = m_snapshot.entered](const Job& job) -> Result<Snapshot> {
            auto analysis = reanalyze(earlier, options, job);
            if (!analysis) return tl::unexpected(analysis.error());
            auto snapshot = layOutBoth(*analysis, layout, job);
            if (snapshot) enterAgain(*snapshot, entered, job);
            return snapshot;
        }, m_file, Change::laidOut);
        return;
    }
    m_effects.stop();
    auto analysis = guarded([&] { return reanalyze(m_snapshot.analysis, options); });
    if (!analysis) {
        emit failed(analysis.error());
        return;
    }
    if (m_busy) m_pending = options;
    m_options = options;
    m_snapshot.analysis = *analysis;
    m_snapshot.change = Change::options;
    emit changed();
    measureEffects();
}

void Document::setOptions(const AnalysisOptions& options) {
    if (!loaded()) {
        m_options = options;
        if (m_busy) m_pending = options;
        return;
    }
    m_undo.push(new OptionsCommand(*this, m_options, options, tr("change settings")));
}

void Document::toggle(const QString& pattern, bool on) {
    if (!loaded()) return;
    AnalysisOptions options = m_options;
    const std::string id = pattern.toStdString();
    std::erase(options.enable, id);
    std::erase(options.disable, id);
    (on ? options.enable : options.disable).push_back(id);
    m_undo.push(new OptionsCommand(*this, m_options, options, on ? tr("switch on %1").arg(pattern) : tr("switch off %1").arg(pattern)));
}

void Document::expand(std::size_t side, const QString& block) {
    if (!loaded()) return;
    const std::string key = block.toStdString();
    const auto flip = [&](LayoutOptions& options) {
        if (!options.expanded.insert(key).second) options.expanded.erase(key);
    };
    if (m_snapshot.entered[side].empty()) {
        flip(m_layout);
        run([before = m_snapshot, layout = m_layout](const Job& job) {
            auto snapshot = layOutBoth(before.analysis, layout, job);
            if (snapshot) snapshot->entered = before.entered;
            return snapshot;
        }, m_file, Change::laidOut);
        return;
    }
    run([snapshot = m_snapshot, side, flip](const Job& job) mutable -> Result<Snapshot> {
        Entered& level = snapshot.entered[side].back();
        flip(level.options);
        auto laidOut = layOut(level.projected, {}, nullptr, level.options, job);
        if (!laidOut) return tl::unexpected(laidOut.error());
        level.layout = *laidOut;
        return snapshot;
    }, m_file, Change::laidOut);
}

void Document::expandAll() {
    if (!loaded()) return;
    m_layout.expandAll = true;
    run([before = m_snapshot, layout = m_layout](const Job& job) -> Result<Snapshot> {
        auto snapshot = layOutBoth(before.analysis, layout, job);
        if (!snapshot) return snapshot;
        auto entered = before.entered;
        for (auto& levels : entered)
            for (Entered& level : levels) level.options.expandAll = true;
        enterAgain(*snapshot, entered, job);
        return snapshot;
    }, m_file, Change::laidOut);
}

void Document::enter(std::size_t side, NodeId node, std::size_t which) {
    if (!loaded() || nestedGraphs(*m_snapshot.analysis->model, m_snapshot.projected(side).graph->node(node)).size() <= which) return;
    run([snapshot = m_snapshot, side, node, which](const Job& job) mutable -> Result<Snapshot> {
        auto entered = enterGraph(snapshot, side, node, which, {}, job);
        if (!entered) return tl::unexpected(entered.error());
        snapshot.entered[side].push_back(std::move(*entered));
        return snapshot;
    }, m_file, Change::entered);
}

void Document::enterSibling(std::size_t side, std::size_t which) {
    if (!loaded() || m_snapshot.entered[side].empty()) return;
    run([snapshot = m_snapshot, side, which](const Job& job) mutable -> Result<Snapshot> {
        const std::string holder = snapshot.entered[side].back().node;
        snapshot.entered[side].pop_back();
        auto entered = enterGraph(snapshot, side, snapshot.projected(side).graph->findNode(holder), which, {}, job);
        if (!entered) return tl::unexpected(entered.error());
        snapshot.entered[side].push_back(std::move(*entered));
        return snapshot;
    }, m_file, Change::entered);
}

void Document::leave(std::size_t side, std::size_t depth) {
    if (!loaded() || m_snapshot.entered[side].size() <= depth) return;
    m_snapshot.entered[side].resize(depth);
    m_snapshot.change = Change::entered;
    emit changed();
}

void Document::allowFolder(const QString& folder) {
    m_options.allowedFolders.emplace_back(folder.toStdString());
    reload();
}

void Document::cancel() {
    ++m_generation;
    m_worker.stop();
    m_busy = false;
    emit busyChanged(false);
    if (loaded()) measureEffects(); // they were stopped for what is cancelled now
}

void Document::measureEffects() {
    const int generation = ++m_effectsGeneration;
    m_effects.start([this, generation, analysis = m_snapshot.analysis](const std::stop_token& stop) {
        using Effects = decltype(marginalEffects(*analysis, Job{}));
        const auto measured = guarded([&]() -> Result<Effects> { return marginalEffects(*analysis, Job{stop, {}}); });
        if (!measured || stop.stop_requested()) return; // without memory for them, the figures stay as they are
        QMetaObject::invokeMethod(this, [this, generation, effects = *measured] {
            if (generation == m_effectsGeneration) emit effectsReady(effects);
        });
    });
}

} // namespace triptych
