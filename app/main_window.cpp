#include "main_window.h"

#include "settings.h"
#include "style_sheet.h"

#include <QApplication>
#include <QDropEvent>
#include <QFileDialog>
#include <QFileInfo>
#include <QMessageBox>
#include <QMimeData>
#include <QShortcut>
#include <QComboBox>
#include <QLabel>
#include <QLineEdit>
#include <QMenu>
#include <QPushButton>
#include <QStackedWidget>
#include <QTableView>
#include <QTreeWidget>
#include <QElapsedTimer>

#include "paint_file.h"

namespace triptych {

MainWindow::MainWindow(const QString& theme) {
    setWindowTitle(tr("Triptych"));
    setAcceptDrops(true);
    resize(1600, 1000);
    buildToolBar();
    buildPanes();
    buildDocks();
    buildStatus();
    buildShortcuts();
    refreshSettings();
    m_themeChoice = theme.isEmpty() ? Settings().theme() : theme;
    applyTheme(m_themeChoice == QLatin1String("dark") || (m_themeChoice.isEmpty() && palette().color(QPalette::Window).lightness() < 128));
    connect(&m_document, &Document::changed, this, &MainWindow::refresh);
    connect(&m_document, &Document::failed, this, &MainWindow::showError);
    connect(&m_document, &Document::effectsReady, m_patternModel, &PatternModel::setEffects);
    connect(&m_document, &Document::progress, this, [this](const QString& stage, double part) { m_progress->setText(tr("%1 %2 %").arg(stage).arg(qRound(part * 100))); });
    connect(&m_document, &Document::busyChanged, this, [this](bool busy) {
        m_cancel->setVisible(busy);
        if (!busy) m_progress->clear();
    });
}

const Projected& MainWindow::projected(int side) const {
    const Analysis& analysis = *m_document.snapshot().analysis;
    return side == 0 ? analysis.baseline : analysis.enhanced;
}

const Layout& MainWindow::layout(int side) const { return side == 0 ? *m_document.snapshot().baseline : *m_document.snapshot().enhanced; }

void MainWindow::openFile(const QString& file) {
    m_errorBar->hide();
    AnalysisOptions options = m_document.options();
    if (m_document.loaded() && m_document.file() != file) options.bindings.clear();
    m_document.open(file, options);
}

void MainWindow::refresh() {
    const Snapshot& snapshot = m_document.snapshot();
    m_stack->setCurrentIndex(1);
    m_following = true;
    for (int side = 0; side < 2; ++side) {
        const Projected& shown = projected(side);
        m_sides[side].canvas->setDrawing(draw(shown, layout(side), *snapshot.analysis), shown.graph->nodes().size(), snapshot.relaidOut);
        const GraphMetrics& m = *shown.metrics;
        m_sides[side].figures->setText(tr("%1 launches · %2 groups%3").arg(m.launches).arg(m.groups).arg(m.estimated ? tr(" · estimated") : QString()));
    }
    if (snapshot.relaidOut) {
        // One scale for both: the side that needs more room decides.
        const double scale = std::min(m_sides[0].canvas->scale(), m_sides[1].canvas->scale());
        for (Side& side : m_sides) side.canvas->showBeginning(scale);
    }
    m_following = false;
    m_patternModel->setAnalysis(snapshot.analysis);
    m_metrics->setAnalysis(snapshot.analysis);
    if (snapshot.relaidOut) {
        refreshOutline();
        m_inspector->showNothing(snapshot.analysis.get());
        Settings().addRecent(m_document.file());
        refreshRecent();
        setWindowTitle(tr("%1 – Triptych").arg(QFileInfo(m_document.file()).fileName()));
    }
    refreshSettings();
    const Analysis& a = *snapshot.analysis;
    const auto& parallel = a.enhanced.partition->parallel;
    m_statusText->setText(tr("%1 attention layers · %2 parallel groups · %3 near misses%4")
                              .arg(a.attentions.found.size())
                              .arg(parallel.size())
                              .arg(a.enhanced.partition->nearMisses.size())
                              .arg(a.warnings.empty() ? QString() : tr(" · %1 warnings").arg(a.warnings.size())));
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
    auto* attention = new QTreeWidgetItem(m_outline, {tr("Attention"), QString::number(snapshot.analysis->attentions.found.size())});
    for (std::size_t i = 0; i < snapshot.analysis->attentions.found.size(); ++i) {
        const AttentionSpec& spec = snapshot.analysis->attentions.found[i];
        auto* item = new QTreeWidgetItem(attention, {QString::fromStdString(spec.scope.empty() ? spec.id : spec.scope), tr("%1 × %2").arg(spec.heads).arg(spec.headDim)});
        item->setData(0, Qt::UserRole + 1, int(i));
        item->setToolTip(0, QString::fromStdString(spec.form + ", " + std::string(toString(spec.projections))));
    }
    for (const Unrecognised& each : snapshot.analysis->attentions.unrecognised) {
        auto* item = new QTreeWidgetItem(attention, {QString::fromStdString(each.at), tr("unrecognised")});
        item->setToolTip(0, QString::fromStdString(each.reason));
    }
    root->setExpanded(true);
    attention->setExpanded(snapshot.analysis->attentions.found.size() <= 12);
}

void MainWindow::selectNode(int side, int node) {
    if (!m_document.loaded()) return;
    const int other = 1 - side;
    const Analysis& analysis = *m_document.snapshot().analysis;
    m_sides[side].canvas->setSelected(node);
    m_sides[other].canvas->setSelected(-1);
    for (Side& each : m_sides) each.canvas->setGroup(-1);
    std::vector<std::size_t> lit;
    if (node >= 0) {
        // A spelled-out operator stands for all its nodes.
        std::vector<NodeId> own{NodeId(static_cast<std::size_t>(node))};
        const NodeClasses& classes = *projected(side).classes;
        if (const std::int32_t composite = classes.compositeOf[own[0]]; composite >= 0) own = classes.composites[static_cast<std::size_t>(composite)].nodes;
        std::set<NodeId> found;
        for (const NodeId each : own) {
            if (side == 0) found.insert(analysis.counterparts[each].begin(), analysis.counterparts[each].end());
            else
                for (std::size_t i = 0; i < analysis.counterparts.size(); ++i)
                    if (std::binary_search(analysis.counterparts[NodeId(i)].begin(), analysis.counterparts[NodeId(i)].end(), each)) found.insert(NodeId(i));
        }
        for (const NodeId each : found) lit.push_back(drawnAs(*projected(other).classes, each).position());
        m_inspector->showNode(analysis, projected(side), own.back());
    } else {
        m_inspector->showNothing(&analysis);
    }
    m_sides[other].canvas->setLit(lit);
    m_sides[side].canvas->setLit({});
}

void MainWindow::selectGroup(int side, int group) {
    if (!m_document.loaded() || group < 0) return;
    const GroupId id(static_cast<std::size_t>(group));
    const Partition& partition = *projected(side).partition;
    if (id.position() >= partition.groups.size()) return;
    selectNode(side, -1);
    m_sides[side].canvas->setGroup(group);
    m_inspector->showGroup(*m_document.snapshot().analysis, projected(side), id);
    if (const PatternId pattern = partition.groups[id.position()].pattern)
        if (const int row = m_patternModel->rowOf(pattern); row >= 0) {
            const QSignalBlocker quiet(m_patterns->selectionModel());
            m_patterns->selectRow(row);
        }
}

void MainWindow::lightPattern(const QString& id) {
    if (!m_document.loaded()) return;
    const Analysis& analysis = *m_document.snapshot().analysis;
    const PatternId pattern = analysis.library->find(id.toStdString());
    std::vector<std::size_t> lit;
    for (const Group& group : analysis.enhanced.partition->groups)
        if (std::find(group.patterns.begin(), group.patterns.end(), pattern) != group.patterns.end())
            for (const NodeId node : group.nodes) lit.push_back(drawnAs(*analysis.enhanced.classes, node).position());
    m_sides[1].canvas->setLit(lit);
}

bool MainWindow::selectNamed(const QString& name) {
    if (!m_document.loaded()) return false;
    for (int side = 0; side < 2; ++side) {
        const NodeId node = projected(side).graph->findNode(name.toStdString());
        if (!node) continue;
        const auto shown = static_cast<int>(drawnAs(*projected(side).classes, node).position());
        selectNode(side, shown);
        m_sides[side].canvas->centreOn(shown);
        return true;
    }
    return false;
}

// The same block stays side by side: the point in the view is told by its block and the part of it, not by pixels.
void MainWindow::syncViews(int from) {
    if (m_following || !m_sync->isChecked() || !m_document.loaded()) return;
    m_following = true;
    const Layout &here = layout(from), &there = layout(1 - from);
    Canvas &source = *m_sides[from].canvas, &target = *m_sides[1 - from].canvas;
    const QPointF centre = source.centre();
    double y = there.bounds.height * centre.y() / std::max(1.0, double(here.bounds.height));
    for (const PlacedBlock& placed : here.placed) {
        if (centre.y() < placed.box.y || centre.y() > placed.box.bottom()) continue;
        const std::string& key = here.blocks[placed.block].key;
        for (const PlacedBlock& match : there.placed)
            if (there.blocks[match.block].key == key) y = match.box.y + (centre.y() - placed.box.y) / placed.box.height * match.box.height;
        break;
    }
    const double x = there.bounds.width / 2 + (centre.x() - here.bounds.width / 2);
    target.setView(source.scale(), {x, y});
    m_following = false;
}

void MainWindow::search(const QString& text) {
    if (!m_document.loaded() || text.isEmpty()) return;
    for (int side = 1; side >= 0; --side) {
        const Projected& shown = projected(side);
        for (const PlacedBlock& placed : layout(side).placed) {
            for (const PlacedNode& node : placed.nodes) {
                const Node& each = shown.graph->node(node.node);
                const QString hay = QString::fromStdString(each.name + " " + drawnOperator(*shown.classes, *shown.graph, node.node) + " " + each.op + " " + each.scope);
                if (!hay.contains(text, Qt::CaseInsensitive)) continue;
                selectNode(side, int(node.node.position()));
                m_sides[side].canvas->centreOn(int(node.node.position()));
                return;
            }
        }
    }
    m_statusText->setText(tr("nothing is called '%1'").arg(text));
}

void MainWindow::exportDrawing() {
    if (!m_document.loaded()) return;
    const QString path = QFileDialog::getSaveFileName(this, tr("Export"), QFileInfo(m_document.file()).completeBaseName() + QStringLiteral(".svg"), tr("SVG (*.svg);;PNG (*.png);;PDF (*.pdf)"));
    if (path.isEmpty()) return;
    const Snapshot& snapshot = m_document.snapshot();
    const DisplayList sheet = drawSheet(*snapshot.analysis, *snapshot.baseline, *snapshot.enhanced, View::both);
    const Theme& theme = m_dark ? darkTheme() : lightTheme();
    Result<void> written;
    if (path.endsWith(QLatin1String(".png"))) written = paintToFile(sheet, theme, path.toStdString(), PaintFormat::png);
    else if (path.endsWith(QLatin1String(".pdf"))) written = paintToFile(sheet, theme, path.toStdString(), PaintFormat::pdf);
    else written = writeFile(path.toStdString(), writeSvg(sheet, theme, snapshot.analysis->model->path.filename().string()));
    if (!written) showError(QString::fromStdString(written.error().cause), {}, QString::fromStdString(written.error().advice));
    else m_statusText->setText(tr("saved %1").arg(path));
}

void MainWindow::showError(const QString& what, const QString& where, const QString& advice) {
    m_errorText->setText((where.isEmpty() ? QString() : where + QStringLiteral(": ")) + what + (advice.isEmpty() ? QString() : QStringLiteral(" — ") + advice));
    m_errorBar->show();
}

void MainWindow::applyTheme(bool dark) {
    m_dark = dark;
    const Theme& theme = dark ? darkTheme() : lightTheme();
    setStyleSheet(triptych::styleSheet(theme));
    for (Side& side : m_sides) side.canvas->setTheme(theme);
    m_metrics->setTheme(theme);
    m_inspector->setTheme(theme);
    m_patternDelegate->setTheme(theme);
    m_legend->update();
    if (m_document.loaded()) m_inspector->showNothing(m_document.snapshot().analysis.get());
}

void MainWindow::changeEvent(QEvent* event) {
    if (event->type() == QEvent::PaletteChange && m_themeChoice.isEmpty() && m_legend) {
        const bool dark = QApplication::palette().color(QPalette::Window).lightness() < 128;
        if (dark != m_dark) applyTheme(dark);
    }
    QMainWindow::changeEvent(event);
}

void MainWindow::dragEnterEvent(QDragEnterEvent* event) {
    if (event->mimeData()->hasUrls()) event->acceptProposedAction();
}

void MainWindow::dropEvent(QDropEvent* event) {
    const auto urls = event->mimeData()->urls();
    if (!urls.isEmpty()) openFile(urls.first().toLocalFile());
}

} // namespace triptych
