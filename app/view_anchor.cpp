#include "view_anchor.h"

namespace triptych {

ViewAnchor anchorAt(const Layout& layout, QPointF point) {
    ViewAnchor anchor;
    anchor.whole = point.y() / std::max(1.0, double(layout.bounds.height));
    anchor.sideways = point.x() - double(layout.bounds.width) / 2;
    for (const PlacedBlock& placed : layout.placed) {
        if (point.y() < placed.box.y || point.y() > placed.box.bottom()) continue;
        anchor.block = layout.blocks[placed.block].key;
        anchor.part = (point.y() - placed.box.y) / std::max(1.0, double(placed.box.height));
        break;
    }
    return anchor;
}

QPointF pointOf(const Layout& layout, const ViewAnchor& anchor) {
    double y = layout.bounds.height * anchor.whole;
    for (const PlacedBlock& placed : layout.placed)
        if (!anchor.block.empty() && layout.blocks[placed.block].key == anchor.block) y = placed.box.y + anchor.part * placed.box.height;
    return {layout.bounds.width / 2 + anchor.sideways, y};
}

} // namespace triptych
