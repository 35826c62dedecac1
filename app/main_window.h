#pragma once

#include "breadcrumbs.h"
#include "canvas.h"
#include "document.h"
#include "file_watcher.h"
#include "inspector.h"
#include "message_bar.h"
#include "metrics_panel.h"
#include "pattern_delegate.h"
#include "pattern_model.h"
#include "view_anchor.h"

#include <QMainWindow>

class QComboBox;
class QLabel;
class QLineEdit;
class QPushButton;
class QStackedWidget;
class QTableView;
class QTreeWidget;

namespace triptych {

class MainWindow : public QMainWindow {
    Q_OBJECT
public:
    explicit MainWindow(const QString& theme = {});
    Document& document() { return m_document; }
    void openFile(const QString& file);
    bool painted() const { return m_sides[0].canvas->painted() && m_sides[1].canvas->painted(); }
    /// Selects the node of that name on either side.
    bool selectNamed(const QString& name);

protected:
    void dragEnterEvent(QDragEnterEvent* event) override;
    void dropEvent(QDropEvent* event) override;
    void changeEvent(QEvent* event) override;

private:
    /// A graph that was left for one inside it: the view to come back to.
    struct Outside {
        double scale = 1;
        QPointF centre;
        std::string node; ///< that was entered
    };
    struct Side {
        Canvas* canvas = nullptr;
        Breadcrumbs* crumbs = nullptr;
        LayoutPtr shown;            ///< what the canvas shows
        std::vector<Outside> outside; ///< the graphs that hold the one shown
        QLabel *title = nullptr, *figures = nullptr;
    };
    void buildToolBar();
    void buildPanes();
    void buildDocks();
    void buildStatus();
    void buildShortcuts();
    QWidget* emptyCard();
    QWidget* pane(int side, const QString& title, const QString& subtitle);
    void applyTheme(bool dark);
    void refresh();
    void refreshSide(int side);
    void refreshBars();
    void selectAgain();
    void reload();
    void reloadWhenIdle();
    void escape();
    void goBack(int side);
    void changeSizes();
    void askForFolder();
    void refreshOutline();
    void refreshSettings();
    void refreshRecent();
    void selectNode(int side, int node);
    void selectGroup(int side, int group);
    void lightPattern(const QString& id);
    void syncViews(int from);
    void search(const QString& text);
    void exportDrawing();
    void showError(const QString& what, const QString& where, const QString& advice);
    void showKeys();
    const Projected& projected(int side) const;
    const Layout& layout(int side) const;
    bool inside(int side) const; ///< that side shows a nested graph

    Document m_document;
    Side m_sides[2];
    FileWatcher m_watcher;
    QString m_asked; ///< the file that was last asked for, whether it could be read or not
    FileStamp m_stamp; ///< of the file that is being read
    MessageBar *m_errorBar = nullptr, *m_accessBar = nullptr, *m_sizesBar = nullptr;
    QWidget* m_legend = nullptr;
    QLabel *m_statusText = nullptr, *m_progress = nullptr;
    QPushButton* m_cancel = nullptr;
    QStackedWidget* m_stack = nullptr;
    QTreeWidget* m_outline = nullptr;
    QTableView* m_patterns = nullptr;
    PatternModel* m_patternModel = nullptr;
    PatternDelegate* m_patternDelegate = nullptr;
    QWidget* m_figures = nullptr; ///< what the metrics lie in
    MetricsPanel* m_metrics = nullptr;
    Inspector* m_inspector = nullptr;
    QLineEdit* m_search = nullptr;
    QComboBox *m_preset = nullptr, *m_precision = nullptr, *m_hardware = nullptr, *m_runtime = nullptr;
    QPushButton *m_sync = nullptr, *m_bind = nullptr;
    QMenu* m_recent = nullptr;
    int m_selectedSide = -1;    ///< -1: nothing is selected
    std::string m_selectedName;
    QString m_themeChoice; ///< "" follows the system
    bool m_dark = false, m_following = false, m_filling = false;
};

} // namespace triptych
