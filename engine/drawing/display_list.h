#pragma once
// A drawing as plain shapes with ids: the canvas, the SVG writer and the PDF and PNG painters only consume it.

#include "fusion/pattern.h"

#include <cstdint>
#include <string>
#include <vector>

namespace triptych {

struct Point { float x = 0, y = 0; };
struct Box {
    float x = 0, y = 0, width = 0, height = 0;
    float right() const { return x + width; }
    float bottom() const { return y + height; }
    bool contains(Point p) const { return p.x >= x && p.x <= right() && p.y >= y && p.y <= bottom(); }
    bool meets(const Box& o) const { return x < o.right() && o.x < right() && y < o.bottom() && o.y < bottom(); }
};

/// What a shape stands for; a theme gives each its colours (resources/themes, docs/screens). The SVG class is the name.
enum class Role : std::uint8_t {
    node,      ///< a compute operator
    view,      ///< a view: pill
    opaque,    ///< an opaque attention
    input,     ///< graph input or output
    standIn,       ///< named stand-in for a tensor that many blocks read
    collapsed, ///< a whole block drawn as one box
    group,     ///< region behind fused nodes, coloured by family
    bracket,   ///< round the members of a parallel group
    block,     ///< frame and heading of a repeated block
    edge,      ///< data flow
    text,      ///< free text: title, legend, metrics strip
    nearMiss,  ///< marks where a pattern nearly matched
};
std::string_view toString(Role role);

enum class Font : std::uint8_t { words, figures }; ///< Inter; JetBrains Mono
enum class Align : std::uint8_t { left, centre, right };

struct Label {
    Point at;          ///< baseline, at the aligned end
    std::string text;
    float size = 12;   ///< pixels
    Font font = Font::words;
    Align align = Align::left;
    bool bold = false;
    bool dim = false;  ///< drawn in the dim ink
};

/// One element: a closed shape, a line, or text alone. Drawn in order of the list.
struct Shape {
    std::string id;    ///< unique in the list, valid as an XML id
    std::string title; ///< tooltip and <title>
    Role role = Role::node;
    Family family = Family::none;
    Box box;           ///< bounds; for an edge, of its path
    float radius = 0;  ///< of rounded corners
    std::vector<Point> path; ///< edges and brackets: a start point, then cubic triples (or straight: see `curved`)
    bool curved = false;
    bool arrow = false;
    std::vector<Label> labels;
    std::int32_t subject = -1; ///< position of the node, group, block or value in its snapshot, by role
};

struct DisplayList {
    std::vector<Shape> shapes;
    Box bounds;
};

} // namespace triptych
