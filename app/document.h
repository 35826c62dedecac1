#pragma once
// The model that is open, and what the user chose. Runs stages on a worker; publishes snapshots on the window's thread.

#include "drawing/draw.h"

#include <QObject>
#include <QUndoStack>
#include <thread>

namespace triptych {

/// What the window shows: never changed once published.
struct Snapshot {
    AnalysisPtr analysis;
    LayoutPtr baseline, enhanced;
    bool relaidOut = true;
    double layoutBaselineMs = 0, layoutEnhancedMs = 0;
};

class Document : public QObject {
    Q_OBJECT
public:
    explicit Document(QObject* parent = nullptr);
    ~Document() override;

    /// Keeps the present model until the new one is ready; a failure is reported and leaves it.
    void open(const QString& file, const AnalysisOptions& options);
    void setOptions(const AnalysisOptions& options);
    const AnalysisOptions& options() const { return m_options; }
    void toggle(const QString& pattern, bool on);
    void expand(const QString& block, bool all);
    void cancel();
    const Snapshot& snapshot() const { return m_snapshot; }
    QString file() const { return m_file; }
    QUndoStack* undoStack() { return &m_undo; }
    bool busy() const { return m_busy; }
    bool loaded() const { return m_snapshot.analysis != nullptr; }

signals:
    void changed();
    void effectsReady(std::vector<triptych::Marginal> effects);
    void failed(const QString& what, const QString& where, const QString& advice);
    void progress(const QString& stage, double part);
    void busyChanged(bool busy);

private:
    friend class OptionsCommand;
    void run(std::function<Result<Snapshot>(const Job&)> work, const QString& file);
    void measureEffects();
    void applyOptions(const AnalysisOptions& options);
    static Result<Snapshot> layOutBoth(AnalysisPtr analysis, const LayoutOptions& layout, const Job& job);

    QString m_file;
    AnalysisOptions m_options;
    LayoutOptions m_layout;
    Snapshot m_snapshot;
    QUndoStack m_undo;
    std::jthread m_worker, m_effects;
    int m_generation = 0;
    bool m_busy = false;
};

} // namespace triptych
