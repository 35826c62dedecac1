#include "pattern_delegate.h"

#include "painter.h"
#include "pattern_model.h"

#include <QPainter>

namespace triptych {

void PatternDelegate::paint(QPainter* painter, const QStyleOptionViewItem& given, const QModelIndex& index) const {
    QStyleOptionViewItem option = given;
    initStyleOption(&option, index);
    const bool on = index.siblingAtColumn(PatternModel::TitleColumn).data(Qt::CheckStateRole).toInt() == Qt::Checked;
    painter->save();
    painter->fillRect(option.rect, toColour(option.state & QStyle::State_Selected ? m_theme->hover : m_theme->panel));
    QRect rect = option.rect.adjusted(4, 0, -4, 0);
    if (index.column() == PatternModel::TitleColumn) {
        painter->setRenderHint(QPainter::Antialiasing);
        const QRectF box(rect.x() + 1, rect.center().y() - 6, 13, 13);
        painter->setPen(QPen(toColour(on ? m_theme->selection : m_theme->nodeLine), 1));
        painter->setBrush(toColour(on ? m_theme->selection : m_theme->node));
        painter->drawRoundedRect(box, 3, 3);
        if (on) {
            painter->setPen(QPen(toColour(m_theme->panel), 1.6));
            painter->drawPolyline(QPolygonF({box.topLeft() + QPointF(3, 6.5), box.topLeft() + QPointF(5.6, 9.2), box.topLeft() + QPointF(10, 3.8)}));
        }
        painter->setPen(Qt::NoPen);
        painter->setBrush(toColour(m_theme->family(static_cast<Family>(index.data(PatternModel::FamilyRole).toInt()))));
        painter->drawRoundedRect(QRectF(rect.x() + 22, rect.center().y() - 7, 5, 14), 2, 2);
        rect.adjust(34, 0, 0, 0);
        painter->setFont(shippedFont(Font::words, 12, false));
        painter->setPen(toColour(on ? m_theme->ink : m_theme->faint));
        const QFontMetrics metrics(painter->font());
        painter->drawText(rect, Qt::AlignVCenter | Qt::AlignLeft, metrics.elidedText(option.text, Qt::ElideRight, rect.width()));
    } else {
        const double gain = index.data(PatternModel::GainRole).toDouble();
        const bool figure = index.column() != PatternModel::PlacesColumn;
        painter->setFont(shippedFont(figure ? Font::figures : Font::words, 11, false));
        painter->setPen(toColour(!figure || gain == 0 ? m_theme->dim : gain > 0 ? m_theme->saved : m_theme->lost));
        painter->drawText(rect, Qt::AlignVCenter | Qt::AlignRight, option.text);
    }
    painter->restore();
}

QSize PatternDelegate::sizeHint(const QStyleOptionViewItem&, const QModelIndex&) const { return {60, 24}; }

} // namespace triptych
