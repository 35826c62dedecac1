#pragma once

#include "canvas.h"
#include "document.h"
#include "inspector.h"
#include "metrics_panel.h"
#include "pattern_delegate.h"
#include "pattern_model.h"

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
    struct Side {
        Canvas* canvas = nullptr;
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

    Document m_document;
    Side m_sides[2];
    QWidget *m_errorBar = nullptr, *m_legend = nullptr;
    QLabel *m_errorText = nullptr, *m_statusText = nullptr, *m_progress = nullptr;
    QPushButton* m_cancel = nullptr;
    QStackedWidget* m_stack = nullptr;
    QTreeWidget* m_outline = nullptr;
    QTableView* m_patterns = nullptr;
    PatternModel* m_patternModel = nullptr;
    PatternDelegate* m_patternDelegate = nullptr;
    MetricsPanel* m_metrics = nullptr;
    Inspector* m_inspector = nullptr;
    QLineEdit* m_search = nullptr;
    QComboBox *m_preset = nullptr, *m_precision = nullptr, *m_hardware = nullptr, *m_runtime = nullptr;
    QPushButton *m_sync = nullptr, *m_bind = nullptr;
    QMenu* m_recent = nullptr;
    QString m_themeChoice; ///< "" follows the system
    bool m_dark = false, m_following = false, m_filling = false;
};

} // namespace triptych
