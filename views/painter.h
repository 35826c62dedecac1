#pragma once
// Paints a display list with QPainter: the one painter of screen, PNG and PDF.

#include "drawing/draw.h"

#include <QColor>
#include <QFont>

class QPainter;
class QRectF;

namespace triptych {

/// What is emphasised while painting; positions in Projected::graph.
struct Emphasis {
    std::vector<bool> nodes; ///< lit up
    int selected = -1;       ///< node, or -1
    int group = -1;          ///< group, or -1
};

QColor toColour(std::uint32_t rgb, float alpha = 1);
/// The shipped fonts, loaded on first use.
QFont shippedFont(Font font, float pixels, bool bold);

/// Paints what meets `visible` (list coordinates). `scale` is device pixels a unit: below 0.2 nodes are plain rectangles.
void paintList(QPainter& painter, const DisplayList& list, const Theme& theme, const QRectF& visible, double scale, const Emphasis* emphasis = nullptr);

} // namespace triptych
