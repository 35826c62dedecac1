// How the window is put together; what it does is in main_window.cpp.
#include "main_window.h"

#include "bindings_dialog.h"
#include "elided_label.h"
#include "fitting_area.h"
#include "legend.h"
#include "settings.h"

#include <QBoxLayout>
#include <QComboBox>
#include <QDockWidget>
#include <QFileDialog>
#include <QFileInfo>
#include <QHeaderView>
#include <QLabel>
#include <QLineEdit>
#include <QMenu>
#include <QMessageBox>
#include <QPushButton>
#include <QShortcut>
#include <QSplitter>
#include <QStackedWidget>
#include <QTableView>
#include <QTreeWidget>

namespace triptych {

namespace {

QLabel* label(const QString& text, const char* name) {
    auto* made = new QLabel(text);
    made->setObjectName(QLatin1String(name));
    return made;
}

} // namespace

void MainWindow::buildToolBar() {
    auto* bar = new QWidget;
    bar->setObjectName("toolBar");
    bar->setFixedHeight(46);
    bar->setMinimumWidth(1); // a narrow window squeezes the tools rather than growing
    auto* row = new QHBoxLayout(bar);
    row->setContentsMargins(12, 0, 12, 0);
    row->setSpacing(6);
    const auto button = [&](const QString& text, const QString& tip, auto action) {
        auto* made = new QPushButton(text);
        made->setToolTip(tip);
        made->setAccessibleName(tip);
        made->setFocusPolicy(Qt::TabFocus);
        connect(made, &QPushButton::clicked, this, action);
        row->addWidget(made);
        return made;
    };
    auto* open = button(tr("Open…"), tr("Open a model (Ctrl+O)"), [] {});
    m_recent = new QMenu(this);
    open->setMenu(m_recent);
    refreshRecent();
    button(tr("Export…"), tr("Export what is seen as SVG, PNG or PDF (Ctrl+E)"), [this] { exportDrawing(); });
    row->addSpacing(8);
    auto* undo = button(tr("‹"), tr("Undo (Ctrl+Z)"), [this] { m_document.undoStack()->undo(); });
    auto* redo = button(tr("›"), tr("Redo (Ctrl+Shift+Z)"), [this] { m_document.undoStack()->redo(); });
    undo->setEnabled(false);
    redo->setEnabled(false);
    connect(m_document.undoStack(), &QUndoStack::canUndoChanged, undo, &QPushButton::setEnabled);
    connect(m_document.undoStack(), &QUndoStack::canRedoChanged, redo, &QPushButton::setEnabled);
    row->addSpacing(8);
    button(tr("Fit"), tr("Show all (F)"), [this] { for (Side& side : m_sides) side.canvas->fit(); });
    m_sync = button(tr("Sync"), tr("Both sides scroll and zoom together"), [] {});
    m_sync->setCheckable(true);
    m_sync->setChecked(true);
    button(tr("Expand"), tr("Open every repeated block"), [this] { m_document.expandAll(); });
    m_search = new QLineEdit;
    m_search->setObjectName("search");
    m_search->setPlaceholderText(tr("Search nodes, operators, modules…   /"));
    m_search->setMinimumWidth(40);
    m_search->setMaximumWidth(320);
    connect(m_search, &QLineEdit::returnPressed, this, [this] { search(m_search->text()); });
    row->addSpacing(8);
    row->addWidget(m_search, 1);
    row->addStretch();
    m_bind = button(tr("sizes"), tr("Bind the symbolic dimensions of the inputs"), [this] {
        changeSizes();
    });
    m_bind->setStyleSheet(QStringLiteral("text-align:left")); // where it is cut, the end goes
    const auto chooser = [&](const QString& name, const std::vector<std::string>& items, auto apply) {
        auto* made = new QComboBox;
        made->setAccessibleName(name);
        made->setToolTip(name);
        made->setObjectName(name);
        made->setSizeAdjustPolicy(QComboBox::AdjustToContents);
        made->setMinimumWidth(64); // a narrow window cuts the text
        for (const std::string& item : items) made->addItem(QString::fromStdString(item));
        connect(made, &QComboBox::currentTextChanged, this, [this, apply](const QString& text) {
            if (m_filling || !m_document.loaded()) return;
            AnalysisOptions options = m_document.options();
            apply(options, text.toStdString());
            m_document.setOptions(options);
        });
        row->addWidget(made);
        return made;
    };
    m_preset = chooser(tr("preset"), shippedPatterns()->presets, [](AnalysisOptions& options, const std::string& text) {
        options.preset = text;
        options.enable.clear();
        options.disable.clear();
    });
    m_precision = chooser(tr("precision"), {"file", "fp32", "fp16", "bf16"}, [](AnalysisOptions& options, const std::string& text) {
        options.precision = text == "fp32" ? Precision::fp32 : text == "fp16" ? Precision::fp16 : text == "bf16" ? Precision::bf16 : Precision::file;
    });
    m_hardware = chooser(tr("hardware"), hardwareIds(), [](AnalysisOptions& options, const std::string& text) { options.hardware = text; });
    m_runtime = chooser(tr("runtime"), runtimeIds(), [](AnalysisOptions& options, const std::string& text) { options.runtime = text; });
    button(tr("◐"), tr("Light or dark"), [this] {
        m_themeChoice = m_dark ? QStringLiteral("light") : QStringLiteral("dark");
        Settings().setTheme(m_themeChoice);
        applyTheme(!m_dark);
    });
    button(tr("?"), tr("Keys (F1)"), [this] { showKeys(); });
    setMenuWidget(bar);
}

QWidget* MainWindow::pane(int side, const QString& title, const QString& subtitle) {
    auto* pane = new QWidget;
    auto* column = new QVBoxLayout(pane);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    auto* header = new QWidget;
    header->setObjectName("paneHeader");
    header->setFixedHeight(40);
    auto* row = new QHBoxLayout(header);
    row->setContentsMargins(16, 0, 16, 0);
    m_sides[side].title = label(title, "heading");
    m_sides[side].figures = new ElidedLabel({});
    m_sides[side].figures->setObjectName("dim");
    m_sides[side].figures->setSizePolicy(QSizePolicy::Preferred, QSizePolicy::Preferred);
    row->addWidget(m_sides[side].title);
    auto* below = new ElidedLabel(subtitle);
    below->setObjectName("dim");
    row->addWidget(below, 1);
    row->addWidget(m_sides[side].figures);
    column->addWidget(header);
    auto* crumbs = m_sides[side].crumbs = new Breadcrumbs;
    column->addWidget(crumbs);
    const auto at = static_cast<std::size_t>(side);
    connect(crumbs, &Breadcrumbs::leftTo, this, [this, at](std::size_t depth) { m_document.leave(at, depth); });
    connect(crumbs, &Breadcrumbs::siblingChosen, this, [this, at](std::size_t which) { m_document.enterSibling(at, which); });
    auto* canvas = new Canvas;
    canvas->setObjectName(side == 0 ? "baselineCanvas" : "enhancedCanvas");
    canvas->setAccessibleName(title);
    m_sides[side].canvas = canvas;
    column->addWidget(canvas, 1);
    connect(canvas, &Canvas::nodeSelected, this, [this, side](int node) { selectNode(side, node); });
    connect(canvas, &Canvas::groupSelected, this, [this, side](int group) { selectGroup(side, group); });
    connect(canvas, &Canvas::viewChanged, this, [this, side] { syncViews(side); });
    connect(canvas, &Canvas::sideChangeRequested, this, [this, side] { m_sides[1 - side].canvas->setFocus(); });
    connect(canvas, &Canvas::blockActivated, this, [this, side, at](int block) { m_document.expand(at, QString::fromStdString(layout(side).blocks[static_cast<std::size_t>(block)].key)); });
    connect(canvas, &Canvas::nodeActivated, this, [this, at](int node) { m_document.enter(at, NodeId(static_cast<std::size_t>(node))); });
    connect(canvas, &Canvas::backRequested, this, [this, side] { goBack(side); });
    return pane;
}

void MainWindow::buildPanes() {
    m_errorBar = new MessageBar("error", "errorText", {});
    m_accessBar = new MessageBar("notice", "accessText", tr("Allow this folder…"));
    m_sizesBar = new MessageBar("notice", "sizesText", tr("Change…"));
    connect(m_accessBar, &MessageBar::acted, this, &MainWindow::askForFolder);
    connect(m_sizesBar, &MessageBar::acted, this, &MainWindow::changeSizes);

    auto* panes = new QSplitter;
    panes->setHandleWidth(1);
    panes->setChildrenCollapsible(false);
    panes->addWidget(pane(0, tr("Baseline"), tr("the file as it is")));
    panes->addWidget(pane(1, tr("Enhanced"), tr("decomposed and fused")));
    panes->setSizes({430, 560});
    m_stack = new QStackedWidget;
    m_stack->addWidget(emptyCard());
    m_stack->addWidget(panes);
    auto* middle = new QWidget;
    auto* column = new QVBoxLayout(middle);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    for (MessageBar* bar : {m_errorBar, m_accessBar, m_sizesBar}) column->addWidget(bar);
    column->addWidget(m_stack, 1);
    setCentralWidget(middle);
}

void MainWindow::buildDocks() {
    auto* outline = new QWidget;
    outline->setObjectName("outline");
    auto* left = new QVBoxLayout(outline);
    left->setContentsMargins(0, 10, 1, 0);
    left->addWidget(label(tr("OUTLINE"), "section"));
    m_outline = new QTreeWidget;
    m_outline->setHeaderHidden(true);
    m_outline->setColumnCount(2);
    m_outline->setIndentation(12);
    m_outline->setTextElideMode(Qt::ElideMiddle);
    m_outline->header()->setStretchLastSection(false);
    m_outline->header()->setSectionResizeMode(0, QHeaderView::Stretch);
    m_outline->header()->setSectionResizeMode(1, QHeaderView::ResizeToContents);
    m_outline->setAccessibleName(tr("Outline"));
    left->addWidget(m_outline, 1);
    connect(m_outline, &QTreeWidget::itemClicked, this, [this](QTreeWidgetItem* item) {
        if (const QVariant block = item->data(0, Qt::UserRole); block.isValid()) {
            m_document.leave(1, 0);
            const Box& box = layout(1).placed[block.toUInt()].box;
            m_sides[1].canvas->setView(m_sides[1].canvas->scale(), {box.x + box.width / 2, box.y + box.height / 2});
            syncViews(1);
        } else if (const QVariant attention = item->data(0, Qt::UserRole + 1); attention.isValid()) {
            for (const std::size_t each : {0U, 1U}) m_document.leave(each, 0);
            const Analysis& analysis = *m_document.snapshot().analysis;
            const DecomposedAttention& found = analysis.decomposition->attentions[attention.toUInt()];
            const NodeId node = found.scores ? found.scores : found.nodes.empty() ? NodeId() : found.nodes[0];
            if (node) selectNamed(QString::fromStdString(analysis.enhanced.graph->node(node).name));
        } else if (const QVariant holder = item->data(0, Qt::UserRole + 2); holder.isValid()) {
            for (const std::size_t each : {0U, 1U}) m_document.leave(each, 0);
            selectNamed(holder.toString());
        }
    });

    auto* side = new QWidget;
    side->setObjectName("side");
    auto* right = new QVBoxLayout(side);
    right->setContentsMargins(1, 6, 0, 0);
    right->setSpacing(4);
    m_patternModel = new PatternModel(this);
    m_patternDelegate = new PatternDelegate(this);
    m_patterns = new QTableView;
    m_patterns->setObjectName("patterns");
    m_patterns->setModel(m_patternModel);
    m_patterns->setItemDelegate(m_patternDelegate);
    m_patterns->setShowGrid(false);
    m_patterns->setSelectionBehavior(QAbstractItemView::SelectRows);
    m_patterns->setSelectionMode(QAbstractItemView::SingleSelection);
    m_patterns->verticalHeader()->hide();
    m_patterns->verticalHeader()->setDefaultSectionSize(24);
    m_patterns->verticalHeader()->setMinimumSectionSize(18);
    m_patterns->horizontalHeader()->setHighlightSections(false);
    m_patterns->horizontalHeader()->setSectionResizeMode(QHeaderView::Fixed);
    m_patterns->horizontalHeader()->setSectionResizeMode(0, QHeaderView::Stretch);
    m_patterns->horizontalHeader()->setStretchLastSection(false);
    m_patterns->setColumnWidth(1, 42);
    m_patterns->setColumnWidth(2, 54);
    m_patterns->setColumnWidth(3, 46);
    m_patterns->setColumnWidth(4, 44);
    m_patterns->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    m_patterns->setAccessibleName(tr("Patterns"));
    connect(m_patternModel, &PatternModel::patternToggled, this, [this](const QString& id, bool on) { m_document.toggle(id, on); });
    connect(m_patterns->selectionModel(), &QItemSelectionModel::currentRowChanged, this, [this](const QModelIndex& index) { lightPattern(index.data(PatternModel::PatternRole).toString()); });
    m_metrics = new MetricsPanel;
    m_metrics->setObjectName("metrics");
    m_inspector = new Inspector;
    right->addWidget(m_patterns, 5);
    // A low window scrolls the figures rather than cutting them off.
    m_figures = new FittingArea(m_metrics);
    right->addWidget(m_figures);
    right->addWidget(label(tr("INSPECTOR"), "section"));
    right->addWidget(m_inspector, 4);

    const auto dock = [&](QWidget* widget, Qt::DockWidgetArea area, int width, const char* name) {
        auto* made = new QDockWidget;
        made->setObjectName(QLatin1String(name));
        made->setTitleBarWidget(new QWidget);
        made->setFeatures(QDockWidget::NoDockWidgetFeatures);
        widget->setMinimumWidth(width);
        made->setWidget(widget);
        addDockWidget(area, made);
        resizeDocks({made}, {width}, Qt::Horizontal);
    };
    dock(outline, Qt::LeftDockWidgetArea, 226, "outlineDock");
    dock(side, Qt::RightDockWidgetArea, 379, "sideDock");
}

void MainWindow::buildStatus() {
    auto* status = new QWidget;
    status->setObjectName("status");
    status->setFixedHeight(30);
    auto* row = new QHBoxLayout(status);
    row->setContentsMargins(16, 0, 16, 0);
    m_statusText = new ElidedLabel({});
    m_statusText->setObjectName("dim");
    m_progress = label({}, "dim");
    m_cancel = new QPushButton(tr("Cancel"));
    m_cancel->hide();
    connect(m_cancel, &QPushButton::clicked, &m_document, &Document::cancel);
    m_legend = new Legend(m_dark);
    row->addWidget(m_statusText, 3);
    row->addWidget(m_legend, 2);
    row->addWidget(m_progress);
    row->addWidget(m_cancel);
    static_cast<QVBoxLayout*>(centralWidget()->layout())->addWidget(status);
}

void MainWindow::buildShortcuts() {
    const auto key = [&](const QKeySequence& sequence, auto action) { connect(new QShortcut(sequence, this), &QShortcut::activated, this, action); };
    key(QKeySequence::Open, [this] { m_recent->actions().first()->trigger(); });
    key(QKeySequence(QStringLiteral("Ctrl+E")), [this] { exportDrawing(); });
    key(QKeySequence::Undo, [this] { m_document.undoStack()->undo(); });
    key(QKeySequence(QStringLiteral("Ctrl+Shift+Z")), [this] { m_document.undoStack()->redo(); });
    key(QKeySequence(QStringLiteral("/")), [this] { m_search->setFocus(); });
    key(QKeySequence(Qt::Key_F1), [this] { showKeys(); });
    key(QKeySequence(Qt::Key_F5), [this] { reload(); });
    key(QKeySequence(Qt::Key_Escape), [this] { escape(); });
    key(QKeySequence(QStringLiteral("E")), [this] { m_document.expandAll(); });
    key(QKeySequence(QStringLiteral("P")), [this] {
        const QModelIndex row = m_patterns->currentIndex();
        if (row.isValid()) m_document.toggle(row.data(PatternModel::PatternRole).toString(), row.siblingAtColumn(0).data(Qt::CheckStateRole).toInt() != Qt::Checked);
    });
}

void MainWindow::showKeys() {
    QMessageBox::information(this, tr("Keys"),
                             tr("Arrows: walk along edges\nTab: other side\n/: search\nF: fit\n+ and -: zoom, as the wheel\nE: expand all blocks; a double click opens one\nEnter: into an If, Loop, Scan or function call; Esc or Backspace: back\nP: toggle the selected pattern\n"
                                "Ctrl+Z, Ctrl+Shift+Z: undo, redo\nCtrl+O, Ctrl+E: open, export\nF5: reload\nEsc: dismiss the error, or go back"));
}

void MainWindow::refreshSettings() {
    m_filling = true;
    const AnalysisOptions& options = m_document.options();
    static const char* const precisions[]{"file", "fp32", "fp16", "bf16"};
    m_preset->setCurrentText(QString::fromStdString(options.preset));
    m_precision->setCurrentText(QLatin1String(precisions[static_cast<std::size_t>(options.precision)]));
    m_hardware->setCurrentText(QString::fromStdString(options.hardware));
    m_runtime->setCurrentText(QString::fromStdString(options.runtime));
    QString sizes;
    const Bindings bindings = m_document.loaded() ? m_document.snapshot().analysis->bindings : Bindings();
    for (const auto& [name, size] : bindings) sizes += (sizes.isEmpty() ? "" : ", ") + QStringLiteral("%1 %2").arg(QString::fromStdString(name)).arg(size);
    m_bind->setText(!m_document.loaded() ? tr("sizes") : sizes.isEmpty() ? tr("sizes fixed") : sizes.size() > 30 ? sizes.left(28) + QStringLiteral("…") : sizes);
    m_bind->setEnabled(!bindings.empty());
    m_filling = false;
}

} // namespace triptych
