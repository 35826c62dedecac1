// What the window shows of a snapshot, and where it looks: views and selection survive a new one.
#include "main_window.h"

#include "bindings_dialog.h"
#include "settings.h"

#include <QFileInfo>
#include <QLabel>
#include <QMessageBox>
#include <QPushButton>
#include <QStackedWidget>
#include <QTime>
#include <QTimer>
#include <QTreeWidget>

namespace triptych {

// A graph that was not shown before begins at its top; one that is laid out anew stays where it is, told by its blocks.
void MainWindow::refreshSide(int side) {
    const Snapshot& snapshot = m_document.snapshot();
    const auto at = static_cast<std::size_t>(side);
    Side& here = m_sides[side];
    const Projected& shown = snapshot.projected(at);
    const std::vector<Entered>& path = snapshot.entered[at];
    const LayoutPtr layout = snapshot.shownLayout(at);
    const bool same = here.shown == layout, left = path.size() < here.outside.size(), deeper = path.size() > here.outside.size();
    const bool fresh = !here.shown || snapshot.change == Change::opened || deeper || (snapshot.change == Change::entered && !same && !left);
    const double scale = here.canvas->scale();
    const QPointF centre = here.canvas->centre();
    const ViewAnchor anchor = here.shown ? anchorAt(*here.shown, centre) : ViewAnchor();
    if (deeper) here.outside.push_back({scale, centre, path.back().node});
    Outside back;
    if (left) {
        back = here.outside[path.size()];
        here.outside.resize(path.size());
    }
    here.canvas->setDrawing(draw(shown, *layout, *snapshot.analysis), shown.graph->nodes().size(), fresh || left);
    here.shown = layout;
    if (left) here.canvas->setView(back.scale, back.centre);
    else if (!fresh && !same) here.canvas->setView(scale, pointOf(*layout, anchor));
    here.crumbs->show(path);
    if (left && snapshot.change == Change::entered) {
        m_selectedSide = side;
        m_selectedName = back.node;
    }
    if (deeper && m_selectedSide == side) m_selectedSide = -1;
    if (path.empty()) {
        const GraphMetrics& m = *shown.metrics;
        here.figures->setText(tr("%1 launches · %2 groups%3").arg(m.launches).arg(m.groups).arg(m.estimated ? tr(" · estimated") : QString()));
    } else {
        const std::size_t count = shown.graph->nodes().size();
        here.figures->setText(count == 1 ? tr("1 node") : tr("%1 nodes").arg(count));
    }
}

void MainWindow::refresh() {
    const Snapshot& snapshot = m_document.snapshot();
    const bool opened = snapshot.change == Change::opened;
    m_stack->setCurrentIndex(1);
    m_following = true;
    if (opened) {
        for (Side& side : m_sides) side.outside.clear();
        m_selectedSide = -1;
    }
    for (const int side : {0, 1}) refreshSide(side);
    if (opened) {
        // One scale for both: the side that needs more room decides.
        const double scale = std::min(m_sides[0].canvas->scale(), m_sides[1].canvas->scale());
        for (Side& side : m_sides) side.canvas->showBeginning(scale);
    }
    m_following = false;
    if (snapshot.change != Change::entered) {
        m_patternModel->setAnalysis(snapshot.analysis);
        m_metrics->setAnalysis(snapshot.analysis);
        m_figures->updateGeometry();
    }
    if (snapshot.change == Change::options) {
        for (Side& side : m_sides) side.canvas->setGroup(-1); // groups are numbered anew
    } else {
        if (snapshot.change != Change::entered) refreshOutline();
        selectAgain();
    }
    refreshBars();
    refreshSettings();
    const Analysis& a = *snapshot.analysis;
    const auto& parallel = a.enhanced.partition->parallel;
    m_statusText->setText(tr("%1 attention layers · %2 parallel groups · %3 near misses%4%5")
                              .arg(attentionCount(a))
                              .arg(parallel.size())
                              .arg(a.enhanced.partition->nearMisses.size())
                              .arg(a.warnings.empty() ? QString() : (a.warnings.size() == 1 ? tr(" · 1 warning") : tr(" · %1 warnings").arg(a.warnings.size())))
                              .arg(snapshot.change == Change::reloaded ? tr(" · read again at %1").arg(QTime::currentTime().toString(QStringLiteral("HH:mm:ss"))) : QString()));
}

/// What depends on the file rather than on how it is looked at.
void MainWindow::refreshBars() {
    const Snapshot& snapshot = m_document.snapshot();
    const Analysis& analysis = *snapshot.analysis;
    const bool read = snapshot.change == Change::opened || snapshot.change == Change::reloaded;
    const auto dims = symbolicDims(*analysis.model->graph);
    if (snapshot.change == Change::opened) m_sizesBar->setVisible(std::any_of(dims.begin(), dims.end(), [&](const SymbolicDim& dim) { return !analysis.options.bindings.contains(dim.name); }));
    if (dims.empty()) m_sizesBar->hide();
    if (!m_sizesBar->isHidden()) m_sizesBar->say(tr("The file leaves sizes open, taken as:  %1").arg(describeSizes(dims, analysis.bindings)));
    if (!read) return;
    m_errorBar->hide();
    FileWatcher::Stamps weights;
    for (const auto& [name, file] : analysis.model->dataFiles) weights[QString::fromStdString(file.place.string())] = file.stamp;
    m_watcher.watch(m_document.file(), m_stamp, std::move(weights));
    const auto& refused = analysis.model->refusedFolders;
    if (refused.empty()) m_accessBar->hide();
    else m_accessBar->say(tr("Weights in %1 are not read: the folder lies outside of the model's own.").arg(QString::fromStdString(refused[0].string())));
    Settings().addRecent(m_document.file());
    refreshRecent();
    setWindowTitle(tr("%1 – Triptych").arg(QFileInfo(m_document.file()).fileName()));
}

/// Node numbers of an earlier snapshot mean nothing in this one; names do.
void MainWindow::selectAgain() {
    const int side = m_selectedSide;
    const NodeId node = side < 0 ? NodeId() : projected(side).graph->findNode(m_selectedName);
    selectNode(node ? side : 0, node ? static_cast<int>(drawnAs(*projected(side).classes, node).position()) : -1);
}

void MainWindow::reload() {
    if (!m_document.loaded()) {
        if (!m_asked.isEmpty()) openFile(m_asked);
        return;
    }
    m_stamp = stampOf(m_document.file().toStdString());
    m_document.reload();
}

// A run that the user asked for goes first; a change of the file must not cancel it.
void MainWindow::reloadWhenIdle() {
    if (m_watcher.file() != (m_document.loaded() ? m_document.file() : m_asked)) return;
    constexpr int soon = 200;
    if (m_document.busy()) QTimer::singleShot(soon, this, &MainWindow::reloadWhenIdle);
    else reload();
}

void MainWindow::goBack(int side) {
    if (inside(side)) m_document.leave(static_cast<std::size_t>(side), m_document.snapshot().entered[static_cast<std::size_t>(side)].size() - 1);
}

void MainWindow::escape() {
    if (m_errorBar->isVisible()) return m_errorBar->hide();
    const int focused = m_sides[0].canvas->hasFocus() ? 0 : 1;
    goBack(inside(focused) ? focused : 1 - focused);
}

void MainWindow::changeSizes() {
    if (!m_document.loaded()) return;
    const Analysis& analysis = *m_document.snapshot().analysis;
    editBindings(this, symbolicDims(*analysis.model->graph), analysis.bindings, [this](const Bindings& chosen) {
        AnalysisOptions options = m_document.options();
        options.bindings = chosen;
        m_document.setOptions(options);
    });
}

void MainWindow::askForFolder() {
    if (!m_document.loaded() || m_document.snapshot().analysis->model->refusedFolders.empty()) return;
    const QString folder = QString::fromStdString(m_document.snapshot().analysis->model->refusedFolders[0].string());
    auto* question = new QMessageBox(QMessageBox::Question, tr("Allow this folder"), tr("The model names files in\n%1\nwhich is outside of its own folder. Read them? The permission ends with this window.").arg(folder), QMessageBox::Yes | QMessageBox::No, this);
    question->setObjectName("allowFolder");
    question->setAttribute(Qt::WA_DeleteOnClose);
    question->setDefaultButton(QMessageBox::No);
    connect(question, &QMessageBox::accepted, this, [this, folder] {
        m_stamp = stampOf(m_document.file().toStdString());
        m_document.allowFolder(folder);
    });
    question->open();
}

void MainWindow::refreshOutline() {
    const Snapshot& snapshot = m_document.snapshot();
    m_outline->clear();
    auto* root = new QTreeWidgetItem(m_outline, {QFileInfo(m_document.file()).fileName(), QString::number(snapshot.analysis->model->graph->nodes().size())});
    for (std::size_t b = 0; b < snapshot.enhanced->blocks.size(); ++b) {
        const Block& block = snapshot.enhanced->blocks[b];
        auto* item = new QTreeWidgetItem(root, {QString::fromStdString(block.title), QString::number(block.nodes.size())});
        item->setData(0, Qt::UserRole, int(b));
        item->setToolTip(0, QString::fromStdString(block.title));
    }
    auto* attention = new QTreeWidgetItem(m_outline, {tr("Attention"), QString::number(attentionCount(*snapshot.analysis))});
    for (std::size_t i = 0; i < snapshot.analysis->attentions.found.size(); ++i) {
        const AttentionSpec& spec = snapshot.analysis->attentions.found[i];
        auto* item = new QTreeWidgetItem(attention, {QString::fromStdString(spec.scope.empty() ? spec.id : spec.scope), tr("%1 × %2").arg(spec.heads).arg(spec.headDim)});
        item->setData(0, Qt::UserRole + 1, int(i));
        item->setToolTip(0, QString::fromStdString(spec.form + ", " + std::string(toString(spec.projections))));
    }
    for (const NestedAttention& nested : snapshot.analysis->nested) {
        for (const AttentionSpec& spec : nested.attentions.found) {
            auto* item = new QTreeWidgetItem(attention, {QString::fromStdString(nested.place + "/" + (spec.scope.empty() ? spec.id : spec.scope)), tr("%1 × %2").arg(spec.heads).arg(spec.headDim)});
            item->setData(0, Qt::UserRole + 2, QString::fromStdString(snapshot.analysis->inlined->node(nested.node).name));
            item->setToolTip(0, tr("inside of a node: select it and press Enter to see its body"));
        }
    }
    for (const Unrecognised& each : snapshot.analysis->attentions.unrecognised) {
        auto* item = new QTreeWidgetItem(attention, {QString::fromStdString(each.at), tr("unrecognised")});
        item->setToolTip(0, QString::fromStdString(each.reason));
    }
    root->setExpanded(true);
    attention->setExpanded(attentionCount(*snapshot.analysis) <= 12);
}

void MainWindow::syncViews(int from) {
    if (m_following || !m_sync->isChecked() || !m_document.loaded() || inside(0) || inside(1)) return;
    m_following = true;
    const Canvas& source = *m_sides[from].canvas;
    m_sides[1 - from].canvas->setView(source.scale(), pointOf(layout(1 - from), anchorAt(layout(from), source.centre())));
    m_following = false;
}

} // namespace triptych
