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
    connect(&m_document, &Document::failed, this, [this](const Failure& failure) {
        showError(QString::fromStdString(failure.cause), QString::fromStdString(failure.node), QString::fromStdString(failure.advice));
        if (!m_document.loaded()) m_watcher.watch(m_asked, m_stamp); // it may be half written yet
    });
    connect(&m_document, &Document::reloadFailed, this, [this](const Failure& failure) {
        const QString what = QString::fromStdString(failure.cause), where = QString::fromStdString(failure.node), advice = QString::fromStdString(failure.advice);
        showError(tr("the file has changed and can't be read now: %1").arg(what), where, advice + (advice.isEmpty() ? QString() : QStringLiteral("; ")) + tr("the picture shows it as it was, until the file changes again"));
    });
    connect(&m_watcher, &FileWatcher::fileChanged, this, &MainWindow::reloadWhenIdle);
    connect(&m_document, &Document::effectsReady, m_patternModel, &PatternModel::setEffects);
    connect(&m_document, &Document::progress, this, [this](const QString& stage, double part) { m_progress->setText(tr("%1 %2 %").arg(stage).arg(qRound(part * 100))); });
    connect(&m_document, &Document::busyChanged, this, [this](bool busy) {
        m_cancel->setVisible(busy);
        if (!busy) m_progress->clear();
    });
}

const Projected& MainWindow::projected(int side) const { return m_document.snapshot().projected(static_cast<std::size_t>(side)); }

const Layout& MainWindow::layout(int side) const { return m_document.snapshot().layout(static_cast<std::size_t>(side)); }

bool MainWindow::inside(int side) const { return !m_document.snapshot().entered[static_cast<std::size_t>(side)].empty(); }

void MainWindow::openFile(const QString& file) {
    m_errorBar->hide();
    const QString before = m_document.loaded() ? m_document.file() : m_asked;
    m_asked = file;
    m_stamp = stampOf(file.toStdString());
    AnalysisOptions options = m_document.options();
    if (!before.isEmpty() && before != file) options.bindings.clear();
    m_document.open(file, options);
}

void MainWindow::selectNode(int side, int node) {
    if (!m_document.loaded()) return;
    const int other = 1 - side;
    const Analysis& analysis = *m_document.snapshot().analysis;
    m_sides[side].canvas->setSelected(node);
    m_sides[other].canvas->setSelected(-1);
    for (Side& each : m_sides) each.canvas->setGroup(-1);
    m_selectedSide = node < 0 ? -1 : side;
    m_selectedName = node < 0 ? std::string() : projected(side).graph->nodes()[static_cast<std::size_t>(node)].name;
    std::vector<std::size_t> lit;
    if (node >= 0) {
        // A spelled-out operator stands for all its nodes.
        std::vector<NodeId> own{NodeId(static_cast<std::size_t>(node))};
        const NodeClasses& classes = *projected(side).classes;
        if (const std::int32_t composite = classes.compositeOf[own[0]]; composite >= 0) own = classes.composites[static_cast<std::size_t>(composite)].nodes;
        std::set<NodeId> found;
        for (const NodeId each : own) {
            if (inside(0) || inside(1)) break; // counterparts are known between whole graphs
            const auto others = side == 0 ? analysis.counterparts.inEnhanced(each) : analysis.counterparts.inBaseline(each);
            found.insert(others.begin(), others.end());
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
    if (!m_document.loaded() || inside(1)) return;
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
    m_errorBar->say((where.isEmpty() ? QString() : where + QStringLiteral(": ")) + what + (advice.isEmpty() ? QString() : QStringLiteral(" — ") + advice));
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
    if (m_document.loaded()) selectAgain();
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
