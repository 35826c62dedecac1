#include "style_sheet.h"

#include "painter.h"

namespace triptych {

QString styleSheet(const Theme& t) {
    const auto c = [](std::uint32_t rgb) { return toColour(rgb).name(); };
    QString sheet = QStringLiteral(
        "QMainWindow,QWidget{background:%panel;color:%ink;font-family:Inter;font-size:12px}"
        "QMainWindow::separator{width:1px;background:%line}"
        "QWidget#toolBar,QWidget#paneHeader{background:%panel;border-bottom:1px solid %line}"
        "QWidget#outline{border-right:1px solid %line}QWidget#side{border-left:1px solid %line}"
        "QWidget#status{background:%panel;border-top:1px solid %line}"
        "QPushButton,QComboBox{background:%panel;border:1px solid %line;border-radius:6px;padding:4px 11px;min-height:18px;color:%ink}"
        "QPushButton:hover,QComboBox:hover{border-color:%nodeLine;background:%hover}"
        "QPushButton:checked{background:%hover;border-color:%selection;color:%selection}"
        "QPushButton:disabled{color:%faint}"
        "QPushButton::menu-indicator{width:0}"
        "QComboBox::drop-down{width:14px;border:0}"
        "QComboBox QAbstractItemView{background:%panel;selection-background-color:%hover;selection-color:%ink;border:1px solid %line}"
        "QLineEdit{background:%canvas;border:1px solid %line;border-radius:6px;padding:4px 12px;min-height:18px;color:%ink;selection-background-color:%selection}"
        "QLineEdit:focus{border-color:%selection}"
        "QTreeWidget,QTableView,QTextBrowser{background:%panel;border:0;outline:0;color:%ink}"
        "QTreeWidget::item{height:22px}QTreeWidget::item:selected{background:%hover;color:%selection;border-radius:5px}"
        "QHeaderView::section{background:%panel;color:%dim;border:0;font-size:10px;font-weight:600;padding:4px}"
        "QLabel#dim{color:%dim;font-size:11px}QLabel#section{color:%dim;font-size:10px;font-weight:600;padding-left:16px}QLabel#heading{font-weight:600;font-size:13px}"
        "QWidget#error{background:%lost;border-radius:0}QWidget#error QLabel,QWidget#error QPushButton{background:transparent;color:#FFFFFF}QWidget#error QPushButton{border-color:#FFFFFF}"
        "QWidget#notice{background:%hover;border-bottom:1px solid %line}QWidget#notice QLabel{background:transparent}QWidget#notice QPushButton{background:%panel}"
        "QWidget#crumbs{background:%canvas;border-bottom:1px solid %line}QWidget#crumbs QLabel{background:transparent;color:%dim}"
        "QPushButton#crumb{background:transparent;border:1px solid transparent;padding:2px 6px}QPushButton#crumb:hover{background:%hover}QPushButton#crumb:checked{background:%hover;color:%selection}"
        "QWidget#card{background:%canvas}QLabel#welcome{font-size:20px;font-weight:600;background:transparent}QWidget#card QLabel{background:transparent}"
        "QPushButton#sample{text-align:left;padding:10px 16px;min-width:320px}"
        "QScrollBar:vertical{background:%canvas;width:10px;margin:0}QScrollBar:horizontal{background:%canvas;height:10px;margin:0}"
        "QScrollBar::handle{background:%line;border-radius:4px;min-height:24px;min-width:24px}QScrollBar::add-line,QScrollBar::sub-line{width:0;height:0}"
        "QAbstractScrollArea::corner{background:%canvas}"
        "QMenu{background:%panel;border:1px solid %line;color:%ink}QMenu::item{padding:5px 18px}QMenu::item:selected{background:%hover}"
        "QToolTip{background:%panel;color:%ink;border:1px solid %line}QSplitter::handle{background:%line}");
    const std::pair<const char*, std::uint32_t> names[]{{"%panel", t.panel}, {"%canvas", t.canvas}, {"%ink", t.ink}, {"%dim", t.dim}, {"%faint", t.faint}, {"%line", t.line}, {"%nodeLine", t.nodeLine}, {"%hover", t.hover}, {"%selection", t.selection}, {"%lost", t.lost}};

    for (const auto& [name, rgb] : names) sheet.replace(QLatin1String(name), c(rgb));
    return sheet;
}

} // namespace triptych
