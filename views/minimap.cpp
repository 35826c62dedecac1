#include "minimap.h"

#include <QMouseEvent>
#include <QPainter>

namespace triptych {

namespace {

constexpr int margin = 10, padding = 5, leastSide = 44, mostWidth = 132, mostHeight = 240;

bool isSolid(Role role) { return role == Role::node || role == Role::view || role == Role::opaque || role == Role::collapsed || role == Role::group || role == Role::bracket; }

} // namespace

Minimap::Minimap(const DisplayList& list, QWidget* parent) : QWidget(parent), m_list(list), m_theme(&lightTheme()) {
    setObjectName("minimap");
    setAccessibleName(tr("Overview"));
    setToolTip(tr("Overview: click or drag to move the view"));
    setCursor(Qt::ArrowCursor);
    hide();
}

void Minimap::setTheme(const Theme& theme) {
    m_theme = &theme;
    drawingChanged();
}

void Minimap::drawingChanged() {
    m_picture = {};
    update();
}

void Minimap::showView(const QRectF& visible) {
    m_visible = visible;
    const Box& b = m_list.bounds;
    const QSize view = parentWidget()->size();
    const bool larger = b.height > visible.height() * 1.02 || b.width > visible.width() * 1.02;
    const int tallest = std::min(mostHeight, view.height() * 2 / 5), widest = std::min(mostWidth, view.width() / 4);
    if (!larger || m_list.shapes.empty() || tallest < leastSide || widest < leastSide) return hide();
    // A long graph would be a thread: below a least width its sides are scaled apart.
    const double scale = std::min(tallest / double(b.height), widest / double(b.width));
    const QSize size(std::max(leastSide, qRound(b.width * scale)), std::max(leastSide, qRound(b.height * scale)));
    if (size != this->size()) m_picture = {};
    setGeometry(view.width() - size.width() - margin, view.height() - size.height() - margin, size.width(), size.height());
    show();
    update();
}

QRectF Minimap::inner() const { return QRectF(rect()).adjusted(padding, padding, -padding, -padding); }

void Minimap::paintPicture() {
    const double ratio = devicePixelRatioF();
    m_picture = QPixmap(size() * ratio);
    m_picture.setDevicePixelRatio(ratio);
    m_picture.fill(toColour(m_theme->panel));
    DisplayList solid;
    for (const Shape& shape : m_list.shapes) {
        if (!isSolid(shape.role)) continue;
        Shape& plain = solid.shapes.emplace_back();
        plain.role = shape.role;
        plain.family = shape.family;
        plain.box = shape.box;
    }
    const Box& b = m_list.bounds;
    const QRectF area = inner();
    QPainter painter(&m_picture);
    painter.translate(area.topLeft());
    painter.scale(area.width() / std::max(1.0F, b.width), area.height() / std::max(1.0F, b.height));
    painter.translate(-b.x, -b.y);
    constexpr double plainly = 0.1; // rectangles without outlines and words
    paintList(painter, solid, *m_theme, QRectF(b.x, b.y, b.width, b.height), plainly);
}

void Minimap::paintEvent(QPaintEvent*) {
    if (m_picture.isNull()) paintPicture();
    QPainter painter(this);
    painter.drawPixmap(0, 0, m_picture);
    const Box& b = m_list.bounds;
    const QRectF area = inner();
    const double sx = area.width() / std::max(1.0F, b.width), sy = area.height() / std::max(1.0F, b.height);
    const QRectF seen(area.x() + (m_visible.x() - b.x) * sx, area.y() + (m_visible.y() - b.y) * sy, m_visible.width() * sx, std::max(4.0, m_visible.height() * sy));
    painter.setPen(QPen(toColour(m_theme->line), 1));
    painter.drawRect(QRectF(rect()).adjusted(0.5, 0.5, -0.5, -0.5));
    painter.setPen(QPen(toColour(m_theme->selection), 1.5));
    painter.setBrush(toColour(m_theme->selection, 0.14F));
    painter.drawRect(seen.intersected(QRectF(rect()).adjusted(2, 2, -2, -2)));
}

void Minimap::hideEvent(QHideEvent*) { m_picture = {}; }

void Minimap::mousePressEvent(QMouseEvent* event) {
    const Box& b = m_list.bounds;
    const QRectF area = inner();
    emit moved({b.x + (event->position().x() - area.x()) / area.width() * b.width, b.y + (event->position().y() - area.y()) / area.height() * b.height});
    event->accept();
}

void Minimap::mouseMoveEvent(QMouseEvent* event) {
    if (event->buttons() & Qt::LeftButton) mousePressEvent(event);
}

} // namespace triptych
