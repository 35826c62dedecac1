#include "painter.h"

#include <QFontDatabase>
#include <QPainter>
#include <QPainterPath>
#include <array>

namespace triptych {

QColor toColour(std::uint32_t rgb, float alpha) {
    QColor colour(static_cast<QRgb>(rgb));
    colour.setAlphaF(alpha);
    return colour;
}

QFont shippedFont(Font font, float pixels, bool bold) {
    static const bool loaded = [] {
        for (const char* name : {"Inter-Regular.otf", "Inter-SemiBold.otf", "JetBrainsMono-Regular.ttf"}) QFontDatabase::addApplicationFont(QStringLiteral(":/fonts/") + QLatin1String(name));
        return true;
    }();
    Q_UNUSED(loaded);
    QFont made(font == Font::figures ? QStringLiteral("JetBrains Mono") : QStringLiteral("Inter"));
    made.setPixelSize(std::max(1, qRound(pixels)));
    if (bold) made.setWeight(QFont::DemiBold);
    return made;
}

namespace {

class ListPainter {
public:
    ListPainter(QPainter& painter, const Theme& theme, double scale, const Emphasis* emphasis) : m_painter(painter), m_theme(theme), m_scale(scale), m_emphasis(emphasis) {}

    void shape(const Shape& shape) {
        if (shape.role == Role::edge) return edge(shape);
        if (shape.box.width > 0 && (shape.role != Role::text || shape.radius > 0)) box(shape);
        if (m_scale < 0.35) return;
        for (const Label& each : shape.labels) label(each);
    }

private:
    void edge(const Shape& shape) {
        m_painter.setBrush(Qt::NoBrush);
        QPen pen(toColour(m_theme.edge), 0);
        m_painter.setPen(pen);
        const auto point = [&](std::size_t i) { return QPointF(shape.path[i].x, shape.path[i].y); };
        if (m_scale < 0.35) {
            m_painter.drawLine(point(0), point(shape.path.size() - 1));
            return;
        }
        QPainterPath path(point(0));
        for (std::size_t i = 1; i + 2 < shape.path.size(); i += 3) path.cubicTo(point(i), point(i + 1), point(i + 2));
        m_painter.drawPath(path);
        if (!shape.arrow) return;
        const QPointF tip = point(shape.path.size() - 1);
        const std::array<QPointF, 3> head{tip, tip + QPointF(-3.2, -6.5), tip + QPointF(3.2, -6.5)};
        m_painter.setBrush(toColour(m_theme.edge));
        m_painter.setPen(Qt::NoPen);
        m_painter.drawPolygon(head.data(), 3);
    }

    void box(const Shape& shape) {
        const QRectF rect(shape.box.x, shape.box.y, shape.box.width, shape.box.height);
        QPen pen(toColour(m_theme.nodeLine), 0);
        QBrush brush(toColour(m_theme.node));
        switch (shape.role) {
        case Role::view:
        case Role::standIn:
        case Role::input:
            brush = toColour(m_theme.panel);
            pen.setStyle(Qt::DashLine);
            break;
        case Role::opaque: pen = QPen(toColour(m_theme.selection), 2); break;
        case Role::block:
            brush = Qt::NoBrush;
            pen.setColor(toColour(m_theme.line));
            break;
        case Role::collapsed: brush = toColour(m_theme.panel); break;
        case Role::group:
        case Role::bracket:
            brush = toColour(m_theme.family(shape.family), m_theme.groupAlpha);
            pen = QPen(toColour(m_theme.family(shape.family)), shape.role == Role::bracket ? 2 : 0);
            if (m_emphasis && m_emphasis->group == shape.subject) pen = QPen(toColour(m_theme.family(shape.family)), 3);
            break;
        case Role::text:
            brush = toColour(m_theme.panel);
            pen = QPen(toColour(m_theme.family(shape.family)), 0);
            break;
        default: break;
        }
        const bool isNode = shape.role == Role::node || shape.role == Role::view || shape.role == Role::opaque;
        if (m_emphasis && isNode && shape.subject >= 0) {
            const auto at = static_cast<std::size_t>(shape.subject);
            if (at < m_emphasis->nodes.size() && m_emphasis->nodes[at]) {
                brush = toColour(m_theme.hover);
                pen = QPen(toColour(m_theme.selection), 1.5);
            }
            if (m_emphasis->selected == shape.subject) pen = QPen(toColour(m_theme.selection), 2.5);
        }
        if (m_scale < 0.2) {
            if (shape.role == Role::block) return;
            if (isNode) brush = toColour(m_theme.nodeLine);
            m_painter.fillRect(rect, brush);
            return;
        }
        m_painter.setPen(pen);
        m_painter.setBrush(brush);
        m_painter.drawRoundedRect(rect, shape.radius, shape.radius);
    }

    void label(const Label& each) {
        const int key = static_cast<int>(each.size * 4) * 4 + (each.font == Font::figures ? 2 : 0) + (each.bold ? 1 : 0);
        auto found = m_fonts.find(key);
        if (found == m_fonts.end()) found = m_fonts.emplace(key, shippedFont(each.font, each.size, each.bold)).first;
        m_painter.setFont(found->second);
        m_painter.setPen(toColour(each.dim ? m_theme.dim : m_theme.ink));
        const QString text = QString::fromStdString(each.text);
        double x = each.at.x;
        const double width = textWidth(each.text, each.size, each.font, each.bold);
        if (each.align == Align::centre) x -= width / 2;
        if (each.align == Align::right) x -= width;
        m_painter.drawText(QPointF(x, each.at.y), text);
    }

    QPainter& m_painter;
    const Theme& m_theme;
    double m_scale;
    const Emphasis* m_emphasis;
    std::map<int, QFont> m_fonts;
};

} // namespace

void paintList(QPainter& painter, const DisplayList& list, const Theme& theme, const QRectF& visible, double scale, const Emphasis* emphasis) {
    ListPainter sink(painter, theme, scale, emphasis);
    const Box area{static_cast<float>(visible.x()), static_cast<float>(visible.y()), static_cast<float>(visible.width()), static_cast<float>(visible.height())};
    for (const Shape& shape : list.shapes)
        if (shape.box.meets(area) || (shape.role == Role::edge && shape.box.x <= area.right() && shape.box.right() >= area.x && shape.box.y <= area.bottom() && shape.box.bottom() >= area.y)) sink.shape(shape);
}

} // namespace triptych
