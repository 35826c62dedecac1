#include "legend.h"

#include "painter.h"

#include <QPainter>

namespace triptych {

Legend::Legend(const bool& dark, QWidget* parent) : QWidget(parent), m_dark(dark) { setAccessibleName(tr("Colours of pattern families")); setMinimumWidth(120); }

void Legend::paintEvent(QPaintEvent*) {
    const Theme& theme = m_dark ? darkTheme() : lightTheme();
    QPainter painter(this);
    painter.setRenderHint(QPainter::Antialiasing);
    painter.setFont(shippedFont(Font::words, 11, false));
    double x = 0;
    for (const Family family : {Family::parallel, Family::attention, Family::linear, Family::norm, Family::region, Family::gated, Family::view}) {
        const QString name = QString::fromUtf8(toString(family).data(), qsizetype(toString(family).size()));
        if (x + 16 + painter.fontMetrics().horizontalAdvance(name) > width()) break;
        painter.setPen(toColour(theme.family(family)));
        painter.setBrush(toColour(theme.family(family), 0.45F));
        painter.drawRoundedRect(QRectF(x, height() / 2.0 - 5.5, 11, 11), 3, 3);
        painter.setPen(toColour(theme.dim));
        painter.drawText(QPointF(x + 16, height() / 2.0 + 4), name);
        x += painter.fontMetrics().horizontalAdvance(name) + 34;
    }
}

} // namespace triptych
