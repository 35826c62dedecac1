#include "document.h"

#include <QElapsedTimer>
#include <QUndoCommand>

namespace triptych {

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
    m_worker.request_stop();
    m_effects.request_stop();
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

// Results of an older generation are dropped: the user has asked for something else since.
void Document::run(std::function<Result<Snapshot>(const Job&)> work, const QString& file) {
    const int generation = ++m_generation;
    m_busy = true;
    emit busyChanged(true);
    m_effects.request_stop();
    m_worker = std::jthread([this, generation, file, work = std::move(work)](const std::stop_token& stop) {
        Job job{stop, {}};
        job.progress = [this](std::string_view stage, double part) {
            QMetaObject::invokeMethod(this, [this, name = QString::fromUtf8(stage.data(), qsizetype(stage.size())), part] { emit progress(name, part); });
        };
        auto result = std::make_shared<Result<Snapshot>>(work(job));
        if (stop.stop_requested()) return;
        QMetaObject::invokeMethod(this, [this, generation, file, result] {
            if (generation != m_generation) return;
            m_busy = false;
            emit busyChanged(false);
            if (!*result) {
                const Failure& failure = result->error();
                emit failed(QString::fromStdString(failure.cause), QString::fromStdString(failure.node), QString::fromStdString(failure.advice));
                return;
            }
            if (file != m_file) m_undo.clear();
            m_file = file;
            m_snapshot = std::move(**result);
            m_options = m_snapshot.analysis->options;
            emit changed();
            measureEffects();
        });
    });
}

void Document::open(const QString& file, const AnalysisOptions& options) {
    m_worker.request_stop();
    m_layout = {};
    run([path = file.toStdString(), options, layout = m_layout](const Job& job) -> Result<Snapshot> {
        auto analysis = analyze(std::filesystem::path(path), options, job);
        if (!analysis) return tl::unexpected(analysis.error());
        return layOutBoth(*analysis, layout, job);
    }, file);
}

// A toggle re-partitions one graph: quick enough for the window's thread, so that it shows in the next frame.
void Document::applyOptions(const AnalysisOptions& options) {
    if (!loaded()) return;
    if (options.bindings != m_options.bindings) {
        run([earlier = m_snapshot.analysis, options, layout = m_layout](const Job& job) -> Result<Snapshot> {
            auto analysis = reanalyze(earlier, options, job);
            if (!analysis) return tl::unexpected(analysis.error());
            return layOutBoth(*analysis, layout, job);
        }, m_file);
        return;
    }
    m_effects.request_stop();
    auto analysis = reanalyze(m_snapshot.analysis, options);
    if (!analysis) {
        emit failed(QString::fromStdString(analysis.error().cause), {}, QString::fromStdString(analysis.error().advice));
        return;
    }
    m_options = options;
    m_snapshot.analysis = *analysis;
    m_snapshot.relaidOut = false;
    emit changed();
    measureEffects();
}

void Document::setOptions(const AnalysisOptions& options) {
    if (!loaded()) {
        m_options = options;
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

void Document::expand(const QString& block, bool all) {
    if (!loaded()) return;
    if (all) m_layout.expandAll = true;
    else if (!m_layout.expanded.insert(block.toStdString()).second) m_layout.expanded.erase(block.toStdString());
    run([analysis = m_snapshot.analysis, layout = m_layout](const Job& job) { return layOutBoth(analysis, layout, job); }, m_file);
}

void Document::cancel() {
    ++m_generation;
    m_worker.request_stop();
    m_busy = false;
    emit busyChanged(false);
}

void Document::measureEffects() {
    const int generation = ++m_generation;
    m_effects = std::jthread([this, generation, analysis = m_snapshot.analysis](const std::stop_token& stop) {
        auto effects = marginalEffects(*analysis, Job{stop, {}});
        if (stop.stop_requested()) return;
        QMetaObject::invokeMethod(this, [this, generation, effects = std::move(effects)] {
            if (generation == m_generation) emit effectsReady(effects);
        });
    });
}

} // namespace triptych
