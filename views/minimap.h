#pragma once
// The whole drawing in a corner of its canvas, with the part in view framed; a click or a drag goes there.

#include "painter.h"

#include <QPixmap>
#include <QWidget>

namespace triptych {

class Minimap : public QWidget {
    Q_OBJECT
public:
    /// `list` outlives this. Nothing is painted, or kept, while the map is hidden.
    Minimap(const DisplayList& list, QWidget* parent);
    void setTheme(const Theme& theme);
    /// The list has other content now.
    void drawingChanged();
    /// What the canvas shows, in the list's coordinates. Hides the map where that is all of it.
    void showView(const QRectF& visible);

signals:
    void moved(QPointF centre);

protected:
    void paintEvent(QPaintEvent*) override;
    void hideEvent(QHideEvent*) override;
    void mousePressEvent(QMouseEvent*) override;
    void mouseMoveEvent(QMouseEvent*) override;

private:
    void paintPicture();
    QRectF inner() const;

    const DisplayList& m_list;
    const Theme* m_theme;
    QPixmap m_picture;
    QRectF m_visible;
};

} // namespace triptych
