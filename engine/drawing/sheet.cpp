// The exported sheet: title, graphs side by side, legend, metrics strip.
#include "drawing/draw.h"

#include "support/numbers.h"

#include <algorithm>
#include <set>

namespace triptych {

namespace {

constexpr float titleHeight = 64, columnGap = 60, stripHeight = 96;

class SheetMaker {
public:
    explicit SheetMaker(const Analysis& analysis) : m_analysis(analysis) {}

    DisplayList run(const Layout& baseline, const Layout& enhanced, View view) {
        float x = 0, bottom = 0;
        const auto column = [&](const Projected& projected, const Layout& layout, const std::string& heading) {
            text({x, titleHeight - 14}, heading, 14, true);
            DisplayList list = draw(projected, layout, m_analysis);
            for (Shape& shape : list.shapes) {
                shift(shape, x, titleHeight + 12);
                if (shape.family != Family::none) m_families.insert(shape.family);
                m_sheet.shapes.push_back(std::move(shape));
            }
            bottom = std::max(bottom, titleHeight + 12 + layout.bounds.height);
            x += std::max(layout.bounds.width, 260.0F) + columnGap;
        };
        if (view != View::enhanced) column(m_analysis.baseline, baseline, "Baseline: the file as it is");
        if (view != View::baseline) column(m_analysis.enhanced, enhanced, "Enhanced: decomposed and fused");
        const float width = std::max(x - columnGap, 760.0F);
        text({0, 18}, m_analysis.model->path.filename().string(), 18, true);
        text({0, 36}, "preset " + m_analysis.options.preset + " · " + m_analysis.hardware.name + " · " + m_analysis.runtime.name + bindings(), 11, false, true);
        legend(bottom + 30);
        strip(bottom + 54);
        m_sheet.bounds = {0, 0, width, bottom + 54 + stripHeight};
        return std::move(m_sheet);
    }

private:
    std::string bindings() const {
        std::string all;
        for (const auto& [name, size] : m_analysis.bindings) all += " · " + name + " " + std::to_string(size);
        return all;
    }

    static void shift(Shape& shape, float dx, float dy) {
        shape.box.x += dx;
        shape.box.y += dy;
        for (Point& point : shape.path) point = {point.x + dx, point.y + dy};
        for (Label& label : shape.labels) label.at = {label.at.x + dx, label.at.y + dy};
    }

    Shape& text(Point at, std::string content, float size, bool bold = false, bool dim = false, Font font = Font::words, Align align = Align::left) {
        Shape shape;
        shape.id = "sheet-" + std::to_string(m_texts++);
        shape.role = Role::text;
        shape.box = {at.x, at.y - size, textWidth(content, size, font, bold), size * 1.2F};
        shape.labels.push_back({at, std::move(content), size, font, align, bold, dim});
        m_sheet.shapes.push_back(std::move(shape));
        return m_sheet.shapes.back();
    }

    void legend(float y) {
        float x = 0;
        for (const Family family : m_families) {
            Shape& swatch = text({x + 16, y}, std::string(toString(family)), 11);
            swatch.labels.clear();
            swatch.family = family;
            swatch.role = Role::group;
            swatch.title = std::string("family ") + std::string(toString(family));
            swatch.box = {x, y - 10, 12, 12};
            swatch.radius = 3;
            const std::string name(toString(family));
            text({x + 18, y}, name, 11);
            x += textWidth(name, 11, Font::words) + 40;
        }
    }

    void strip(float y) {
        const float columns[]{0, 130, 250, 370, 490, 620};
        const auto right = [&](std::size_t column, float at, std::string content, bool bold) { text({columns[column] + 90, at}, std::move(content), 11, bold, false, Font::figures, Align::right); };
        const char* heads[]{"launches", "groups", "bytes moved", "GPU time"};
        for (std::size_t i = 0; i < 4; ++i) text({columns[i + 1] + 90, y}, heads[i], 11, false, true, Font::words, Align::right);
        for (const Projected* each : {&m_analysis.unfused, &m_analysis.baseline, &m_analysis.decomposed, &m_analysis.enhanced}) {
            y += 18;
            const GraphMetrics& m = *each->metrics;
            const bool bold = each == &m_analysis.enhanced;
            text({0, y}, each->key + (m.estimated ? " (estimated)" : ""), 11, bold);
            right(1, y, grouped(m.launches), bold);
            right(2, y, grouped(m.groups), bold);
            right(3, y, formatBytes(static_cast<double>(m.bytes)), bold);
            right(4, y, formatMicroseconds(m.timeUs), bold);
        }
    }

    const Analysis& m_analysis;
    DisplayList m_sheet;
    std::set<Family> m_families;
    std::size_t m_texts = 0;
};

} // namespace

DisplayList drawSheet(const Analysis& analysis, const Layout& baseline, const Layout& enhanced, View view) { return SheetMaker(analysis).run(baseline, enhanced, view); }

} // namespace triptych
