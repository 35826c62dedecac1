#pragma once
// From layout and partition to a display list.

#include "layout/layout.h"

namespace triptych {

/// Nodes, edges, group regions, brackets and block frames of one graph. Toggling a pattern needs only this, no new layout.
DisplayList draw(const Projected& projected, const Layout& layout, const Analysis& analysis);

enum class View { baseline, enhanced, both };
/// The exported sheet: title, the graph or both side by side, legend, metrics strip, source file.
DisplayList drawSheet(const Analysis& analysis, const Layout& baseline, const Layout& enhanced, View view);

/// Width of a text in pixels, from the table of the shipped fonts.
float textWidth(std::string_view utf8, float size, Font font, bool bold = false);

/// Colours of a theme: resources/themes.
struct Theme {
    std::uint32_t canvas, panel, line, ink, dim, faint, node, nodeLine, edge, selection, hover, saved, lost; ///< 0xRRGGBB
    std::uint32_t family(Family family) const;
    float groupAlpha; ///< of a region's fill
    bool dark;
};
const Theme& lightTheme();
const Theme& darkTheme();

/// The whole list as SVG: text stays text; each node and group is a <g> with an id, a class and a <title>.
std::string writeSvg(const DisplayList& list, const Theme& theme, std::string_view title);

} // namespace triptych
