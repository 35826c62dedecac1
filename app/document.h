#pragma once
// The model that is open, and what the user chose. Runs stages on a worker; publishes snapshots on the window's thread.

#include "drawing/draw.h"
#include "nested.h"
#include "worker.h"

#include <QObject>
#include <QUndoStack>
#include <array>

namespace triptych {

/// A graph inside a node that a side shows in place of what holds it.
struct Entered {
    std::string node;      ///< its name in the graph one level further out
    std::size_t which = 0; ///< of its nested graphs
    QString title;         ///< "/loop (Loop)"
    std::vector<QString> siblings; ///< names of all its nested graphs
    Projected projected;
    LayoutPtr layout;
    LayoutOptions options;
};

/// How a snapshot differs from the one before, as far as views must care.
enum class Change { opened, reloaded, laidOut, entered, options };

/// What the window shows: never changed once published.
struct Snapshot {
    AnalysisPtr analysis;
    LayoutPtr baseline, enhanced;
    std::array<std::vector<Entered>, 2> entered; ///< for each side, from the outside inwards; mostly empty
    Change change = Change::opened;
    double layoutBaselineMs = 0, layoutEnhancedMs = 0;

    /// What a side (0: baseline, 1: enhanced) shows.
    const Projected& projected(std::size_t side) const { return entered[side].empty() ? whole(side) : entered[side].back().projected; }
    const Layout& layout(std::size_t side) const { return *shownLayout(side); }
    const LayoutPtr& shownLayout(std::size_t side) const { return entered[side].empty() ? (side == 0 ? baseline : enhanced) : entered[side].back().layout; }
    const Projected& whole(std::size_t side) const { return side == 0 ? analysis->baseline : analysis->enhanced; }
};

class Document : public QObject {
    Q_OBJECT
public:
    explicit Document(QObject* parent = nullptr);
    ~Document() override;

    /// Keeps the present model until the new one is ready; a failure is reported and leaves it.
    void open(const QString& file, const AnalysisOptions& options);
    /// Reads the file again. Options, opened blocks, entered graphs and undo stay; sizes of dimensions that are gone are dropped.
    void reload();
    void setOptions(const AnalysisOptions& options);
    const AnalysisOptions& options() const { return m_options; }
    void toggle(const QString& pattern, bool on);
    void expand(std::size_t side, const QString& block);
    void expandAll();
    /// Shows the graph inside a node of what that side shows. Nothing happens where there is none.
    void enter(std::size_t side, NodeId node, std::size_t which = 0);
    /// Shows another graph of the node that was entered last.
    void enterSibling(std::size_t side, std::size_t which);
    /// Goes back until `depth` graphs are entered.
    void leave(std::size_t side, std::size_t depth);
    /// Lets this model read external data from a folder of its choice, and reads it again.
    void allowFolder(const QString& folder);
    void cancel();
    const Snapshot& snapshot() const { return m_snapshot; }
    QString file() const { return m_file; }
    QUndoStack* undoStack() { return &m_undo; }
    bool busy() const { return m_busy; }
    bool loaded() const { return m_snapshot.analysis != nullptr; }

signals:
    void changed();
    void effectsReady(std::vector<triptych::Marginal> effects);
    void failed(const triptych::Failure& failure);
    /// As failed(), of a file that is shown already: the picture stays.
    void reloadFailed(const triptych::Failure& failure);
    void progress(const QString& stage, double part);
    void busyChanged(bool busy);

private:
    friend class OptionsCommand;
    using Work = std::function<Result<Snapshot>(const Job&)>;
    void run(Work work, const QString& file, Change change);
    void publish(Result<Snapshot> result, const QString& file, Change change);
    void measureEffects();
    void applyOptions(const AnalysisOptions& options);
    void applyPending();
    static Result<Snapshot> layOutBoth(AnalysisPtr analysis, const LayoutOptions& layout, const Job& job);
    static Result<Entered> enterGraph(const Snapshot& snapshot, std::size_t side, NodeId node, std::size_t which, const LayoutOptions& layout, const Job& job);
    static void enterAgain(Snapshot& snapshot, const std::array<std::vector<Entered>, 2>& before, const Job& job);

    QString m_file;
    AnalysisOptions m_options;
    LayoutOptions m_layout;
    Snapshot m_snapshot;
    QUndoStack m_undo;
    Worker m_worker, m_effects;
    int m_generation = 0, m_effectsGeneration = 0;
    bool m_busy = false;
    QString m_coming;                        ///< the file of the run that is on
    std::optional<AnalysisOptions> m_pending; ///< chosen while a run was on that knows nothing of them
};

} // namespace triptych
