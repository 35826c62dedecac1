#pragma once
// One graph to look at: pan, zoom at the cursor, fit, select.

#include "painter.h"

#include <QAbstractScrollArea>

namespace triptych {

class Minimap;

class Canvas : public QAbstractScrollArea {
    Q_OBJECT
public:
    explicit Canvas(QWidget* parent = nullptr);
    void setTheme(const Theme& theme);
    /// Keeps view and selection; `fitting` shows the beginning at a readable size.
    void setDrawing(DisplayList list, std::size_t nodeCount, bool fitting);
    const DisplayList& drawing() const { return m_list; }
    void setLit(const std::vector<std::size_t>& nodes);
    void setSelected(int node);
    void setGroup(int group);
    int selected() const { return m_emphasis.selected; }
    /// Whole drawing in view.
    void fit();
    /// Width in view (or at most the given scale), from the top.
    void showBeginning(double atMost = 1);
    void centreOn(int node);
    double scale() const { return m_scale; }
    /// Centre of the view in drawing coordinates.
    QPointF centre() const;
    void setView(double scale, QPointF centre);
    /// The topmost shape at a viewport position that stands for something; null where there is none.
    const triptych::Shape* shapeAt(QPoint position) const;
    bool painted() const { return m_painted; }

signals:
    void nodeSelected(int node);
    void groupSelected(int group);
    void blockActivated(int block);
    void nodeActivated(int node); ///< double click, or Enter on the selected one
    void backRequested();
    void viewChanged();
    void sideChangeRequested();

protected:
    void paintEvent(QPaintEvent*) override;
    void wheelEvent(QWheelEvent*) override;
    void mousePressEvent(QMouseEvent*) override;
    void mouseMoveEvent(QMouseEvent*) override;
    void mouseReleaseEvent(QMouseEvent*) override;
    void mouseDoubleClickEvent(QMouseEvent*) override;
    void keyPressEvent(QKeyEvent*) override;
    void resizeEvent(QResizeEvent*) override;
    void scrollContentsBy(int, int) override;
    bool viewportEvent(QEvent*) override;
    bool focusNextPrevChild(bool) override;

private:
    void updateBars();
    void zoomAt(QPointF position, double factor);
    void walk(int key);
    QPointF toDrawing(QPointF position) const;

    DisplayList m_list;
    const Theme* m_theme;
    Emphasis m_emphasis;
    double m_scale = 1;
    QPointF m_origin; ///< drawing coordinates of the viewport's upper left corner
    QPoint m_pressed;
    Minimap* m_minimap;
    bool m_activated = false; ///< by the press whose release is still to come
    bool m_dragging = false, m_settingBars = false, m_painted = false;
};

} // namespace triptych
