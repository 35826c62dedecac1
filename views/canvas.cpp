#include "canvas.h"

#include "minimap.h"

#include <QHelpEvent>
#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <QScrollBar>
#include <QToolTip>
#include <QWheelEvent>
#include <cmath>
#include <utility>

namespace triptych {

namespace {

constexpr double leastScale = 0.02, mostScale = 4, border = 24;

bool isNode(const triptych::Shape& shape) { return shape.role == Role::node || shape.role == Role::view || shape.role == Role::opaque; }

} // namespace

Canvas::Canvas(QWidget* parent) : QAbstractScrollArea(parent), m_theme(&lightTheme()), m_minimap(new Minimap(m_list, viewport())) {
    setFrameShape(QFrame::NoFrame);
    setFocusPolicy(Qt::StrongFocus);
    viewport()->setMouseTracking(true);
    viewport()->setAttribute(Qt::WA_OpaquePaintEvent);
    setAccessibleName(tr("Graph"));
    connect(m_minimap, &Minimap::moved, this, [this](QPointF centre) {
        setView(m_scale, centre);
        emit viewChanged();
    });
}

void Canvas::setTheme(const Theme& theme) {
    m_theme = &theme;
    m_minimap->setTheme(theme);
    viewport()->update();
}

void Canvas::setDrawing(DisplayList list, std::size_t nodeCount, bool fitting) {
    m_list = std::move(list);
    m_emphasis.nodes.resize(nodeCount);
    m_painted = false;
    if (fitting) {
        m_emphasis = {};
        m_emphasis.nodes.resize(nodeCount);
        showBeginning();
    }
    m_minimap->drawingChanged();
    updateBars();
    viewport()->update();
}

void Canvas::setLit(const std::vector<std::size_t>& nodes) {
    std::fill(m_emphasis.nodes.begin(), m_emphasis.nodes.end(), false);
    for (const std::size_t node : nodes)
        if (node < m_emphasis.nodes.size()) m_emphasis.nodes[node] = true;
    viewport()->update();
}

void Canvas::setSelected(int node) {
    m_emphasis.selected = node;
    viewport()->update();
}

void Canvas::setGroup(int group) {
    m_emphasis.group = group;
    viewport()->update();
}

QPointF Canvas::toDrawing(QPointF position) const { return m_origin + position / m_scale; }

QPointF Canvas::centre() const { return toDrawing(QPointF(viewport()->width(), viewport()->height()) / 2); }

void Canvas::setView(double scale, QPointF centre) {
    m_scale = std::clamp(scale, leastScale, mostScale);
    m_origin = centre - QPointF(viewport()->width(), viewport()->height()) / 2 / m_scale;
    updateBars();
    viewport()->update();
}

void Canvas::fit() {
    const triptych::Box& b = m_list.bounds;
    if (b.width <= 0 || b.height <= 0) return;
    const double scale = std::min(viewport()->width() / (b.width + 2 * border), viewport()->height() / (b.height + 2 * border));
    setView(std::min(scale, 1.5), {b.x + b.width / 2, b.y + b.height / 2});
    emit viewChanged();
}

void Canvas::showBeginning(double atMost) {
    const triptych::Box& b = m_list.bounds;
    if (b.width <= 0 || viewport()->width() <= 0) return;
    const double scale = std::clamp(viewport()->width() / (b.width + 2 * border), 0.45, std::max(0.45, atMost));
    setView(scale, {b.x + b.width / 2, b.y - border + viewport()->height() / scale / 2});
    emit viewChanged();
}

void Canvas::centreOn(int node) {
    for (const triptych::Shape& shape : m_list.shapes) {
        if (!isNode(shape) || shape.subject != node) continue;
        setView(std::max(m_scale, 0.6), {shape.box.x + shape.box.width / 2, shape.box.y + shape.box.height / 2});
        emit viewChanged();
        return;
    }
}

const triptych::Shape* Canvas::shapeAt(QPoint position) const {
    const QPointF at = toDrawing(position);
    const Point point{static_cast<float>(at.x()), static_cast<float>(at.y())};
    for (std::size_t i = m_list.shapes.size(); i-- > 0;) {
        const triptych::Shape& shape = m_list.shapes[i];
        if (shape.role != Role::edge && shape.subject >= 0 && shape.box.contains(point)) return &shape;
    }
    return nullptr;
}

void Canvas::paintEvent(QPaintEvent* event) {
    QPainter painter(viewport());
    painter.fillRect(event->rect(), toColour(m_theme->canvas));
    painter.setRenderHint(QPainter::Antialiasing, m_scale >= 0.35);
    painter.scale(m_scale, m_scale);
    painter.translate(-m_origin);
    const QRectF visible(m_origin, QSizeF(viewport()->size()) / m_scale);
    paintList(painter, m_list, *m_theme, visible, m_scale, &m_emphasis);
    m_painted = !m_list.shapes.empty();
}

void Canvas::zoomAt(QPointF position, double factor) {
    const QPointF fixed = toDrawing(position);
    m_scale = std::clamp(m_scale * factor, leastScale, mostScale);
    m_origin = fixed - position / m_scale;
    updateBars();
    viewport()->update();
    emit viewChanged();
}

void Canvas::wheelEvent(QWheelEvent* event) {
    if (event->modifiers() & Qt::ShiftModifier) m_origin.rx() -= event->angleDelta().y() / m_scale;
    else if (event->modifiers() & Qt::AltModifier) m_origin.ry() -= event->angleDelta().x() / m_scale;
    else return zoomAt(event->position(), std::pow(1.0015, event->angleDelta().y()));
    updateBars();
    viewport()->update();
    emit viewChanged();
}

void Canvas::mousePressEvent(QMouseEvent* event) {
    m_pressed = event->pos();
    m_dragging = false;
}

void Canvas::mouseMoveEvent(QMouseEvent* event) {
    if (!(event->buttons() & (Qt::LeftButton | Qt::MiddleButton))) return;
    if (!m_dragging && (event->pos() - m_pressed).manhattanLength() < 4) return;
    m_dragging = true;
    m_origin -= QPointF(event->pos() - m_pressed) / m_scale;
    m_pressed = event->pos();
    updateBars();
    viewport()->update();
    emit viewChanged();
}

void Canvas::mouseReleaseEvent(QMouseEvent* event) {
    if (m_dragging || event->button() != Qt::LeftButton || std::exchange(m_activated, false)) return;
    const triptych::Shape* shape = shapeAt(event->pos());
    if (shape && isNode(*shape)) emit nodeSelected(shape->subject);
    else if (shape && (shape->role == Role::group || shape->role == Role::bracket || shape->role == Role::text)) emit groupSelected(shape->subject);
    else emit nodeSelected(-1);
}

void Canvas::mouseDoubleClickEvent(QMouseEvent* event) {
    const triptych::Shape* shape = shapeAt(event->pos());
    if (shape && (shape->role == Role::collapsed || shape->role == Role::block)) emit blockActivated(shape->subject);
    if (!shape || !isNode(*shape)) return;
    m_activated = true;
    emit nodeActivated(shape->subject);
}

void Canvas::walk(int key) {
    // Along an edge: the nearest node in the direction of the arrow.
    const triptych::Shape* from = nullptr;
    for (const triptych::Shape& shape : m_list.shapes)
        if (isNode(shape) && shape.subject == m_emphasis.selected) from = &shape;
    const triptych::Shape* best = nullptr;
    double least = 1e18;
    for (const triptych::Shape& shape : m_list.shapes) {
        if (!isNode(shape) || &shape == from) continue;
        const double dx = shape.box.x + shape.box.width / 2 - (from ? from->box.x + from->box.width / 2 : 0), dy = shape.box.y - (from ? from->box.y : -1e6F);
        const bool ahead = !from || (key == Qt::Key_Down ? dy > 4 : key == Qt::Key_Up ? dy < -4 : key == Qt::Key_Right ? dx > 4 && std::abs(dy) < 60 : dx < -4 && std::abs(dy) < 60);
        const bool vertical = key == Qt::Key_Down || key == Qt::Key_Up;
        const double distance = vertical ? std::abs(dy) + 2 * std::abs(dx) : std::abs(dx) + 4 * std::abs(dy);
        if (ahead && distance < least) {
            least = distance;
            best = &shape;
        }
    }
    if (!best) return;
    emit nodeSelected(best->subject);
    centreOn(best->subject);
}

void Canvas::keyPressEvent(QKeyEvent* event) {
    switch (event->key()) {
    case Qt::Key_Down:
    case Qt::Key_Up:
    case Qt::Key_Left:
    case Qt::Key_Right: walk(event->key()); break;
    case Qt::Key_Plus:
    case Qt::Key_Equal: zoomAt(QPointF(viewport()->width(), viewport()->height()) / 2, 1.2); break;
    case Qt::Key_Minus: zoomAt(QPointF(viewport()->width(), viewport()->height()) / 2, 1 / 1.2); break;
    case Qt::Key_F: fit(); break;
    case Qt::Key_Return:
    case Qt::Key_Enter:
        if (m_emphasis.selected >= 0) emit nodeActivated(m_emphasis.selected);
        break;
    case Qt::Key_Backspace: emit backRequested(); break;
    default: QAbstractScrollArea::keyPressEvent(event);
    }
}

bool Canvas::focusNextPrevChild(bool) {
    emit sideChangeRequested();
    return true;
}

void Canvas::resizeEvent(QResizeEvent*) { updateBars(); }

// Bars count in viewport pixels at the present scale.
void Canvas::updateBars() {
    m_settingBars = true;
    const auto set = [&](QScrollBar* bar, double begin, double length, double origin, int view) {
        const int low = qRound((begin - border) * m_scale), high = qRound((begin + length + border) * m_scale);
        bar->setRange(std::min(low, qRound(origin * m_scale)), std::max(high - view, qRound(origin * m_scale)));
        bar->setPageStep(view);
        bar->setSingleStep(24);
        bar->setValue(qRound(origin * m_scale));
    };
    set(horizontalScrollBar(), m_list.bounds.x, m_list.bounds.width, m_origin.x(), viewport()->width());
    set(verticalScrollBar(), m_list.bounds.y, m_list.bounds.height, m_origin.y(), viewport()->height());
    m_settingBars = false;
    m_minimap->showView({m_origin, QSizeF(viewport()->size()) / m_scale});
}

void Canvas::scrollContentsBy(int, int) {
    if (m_settingBars) return;
    m_origin = QPointF(horizontalScrollBar()->value(), verticalScrollBar()->value()) / m_scale;
    viewport()->update();
    emit viewChanged();
}

bool Canvas::viewportEvent(QEvent* event) {
    if (event->type() != QEvent::ToolTip) return QAbstractScrollArea::viewportEvent(event);
    const auto* help = static_cast<QHelpEvent*>(event);
    const triptych::Shape* shape = shapeAt(help->pos());
    if (shape && !shape->title.empty()) QToolTip::showText(help->globalPos(), QString::fromStdString(shape->title), viewport());
    else QToolTip::hideText();
    return true;
}

} // namespace triptych
