#pragma once
// A place in a drawing told by its block and the part of it, not by pixels: it is found again in another layout.

#include "layout/layout.h"

#include <QPointF>

namespace triptych {

struct ViewAnchor {
    std::string block;   ///< key of the block; "" between blocks
    double part = 0;     ///< 0 at the block's top, 1 at its bottom
    double whole = 0;    ///< the same of the whole drawing
    double sideways = 0; ///< from the drawing's middle
};

ViewAnchor anchorAt(const Layout& layout, QPointF point);
/// Where that is in this layout; by the part of the whole where the block isn't there.
QPointF pointOf(const Layout& layout, const ViewAnchor& anchor);

} // namespace triptych
