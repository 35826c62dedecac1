#pragma once
// Draws a pattern's row: check box, colour of its family, figures in green where they save and red where they cost.

#include "drawing/draw.h"

#include <QStyledItemDelegate>

namespace triptych {

class PatternDelegate : public QStyledItemDelegate {
    Q_OBJECT
public:
    using QStyledItemDelegate::QStyledItemDelegate;
    void setTheme(const Theme& theme) { m_theme = &theme; }
    void paint(QPainter* painter, const QStyleOptionViewItem& option, const QModelIndex& index) const override;
    QSize sizeHint(const QStyleOptionViewItem& option, const QModelIndex& index) const override;

private:
    const Theme* m_theme = &lightTheme();
};

} // namespace triptych
