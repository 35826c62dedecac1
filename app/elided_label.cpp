#include "elided_label.h"

#include <QPainter>
#include <QStyle>

namespace triptych {

ElidedLabel::ElidedLabel(const QString& text, QWidget* parent) : QLabel(text, parent) { setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred); }

void ElidedLabel::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    const QString shown = fontMetrics().elidedText(text(), Qt::ElideRight, contentsRect().width());
    style()->drawItemText(&painter, contentsRect(), int(alignment()), palette(), isEnabled(), shown, foregroundRole());
    // A text is set and a width given in any order: what is painted tells.
    const QString whole = shown == text() ? QString() : text();
    if (toolTip() != whole) setToolTip(whole);
}

void ElidedLabel::resizeEvent(QResizeEvent* event) {
    QLabel::resizeEvent(event);
    update();
}

} // namespace triptych
