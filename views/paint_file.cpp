#include "paint_file.h"

#include "painter.h"

#include <QBuffer>
#include <QGuiApplication>
#include <QImage>
#include <QImageWriter>
#include <QPainter>
#include <QPdfWriter>
#include <memory>

namespace triptych {

namespace {

constexpr int border = 16;
/// A picture beyond this many pixels on a side is scaled down: paint engines stop at 32,767.
constexpr double longestSide = 16000;

QByteArray picture(const DisplayList& list, const Theme& theme) {
    const double width = list.bounds.width + 2 * border, height = list.bounds.height + 2 * border;
    const double scale = std::min(2.0, longestSide / std::max(width, height));
    QImage image(QSize(qCeil(width * scale), qCeil(height * scale)), QImage::Format_RGB32);
    image.fill(toColour(theme.canvas));
    QPainter painter(&image);
    painter.setRenderHint(QPainter::Antialiasing);
    painter.scale(scale, scale);
    painter.translate(border - list.bounds.x, border - list.bounds.y);
    paintList(painter, list, theme, QRectF(list.bounds.x - border, list.bounds.y - border, width, height), 1);
    painter.end();
    QBuffer buffer;
    buffer.open(QIODevice::WriteOnly);
    QImageWriter writer(&buffer, "png");
    writer.setCompression(12); // of 100: zlib level 1
    writer.write(image);
    return buffer.data();
}

QByteArray page(const DisplayList& list, const Theme& theme) {
    QBuffer buffer;
    buffer.open(QIODevice::WriteOnly);
    QPdfWriter writer(&buffer);
    const double width = list.bounds.width + 2 * border, height = list.bounds.height + 2 * border;
    writer.setResolution(72);
    writer.setPageMargins(QMarginsF());
    // A PDF page ends at 14,400 points.
    const double scale = std::min(1.0, 14400 / std::max(width, height));
    writer.setPageSize(QPageSize(QSizeF(width * scale, height * scale), QPageSize::Point));
    QPainter painter(&writer);
    painter.scale(scale, scale);
    painter.translate(border - list.bounds.x, border - list.bounds.y);
    paintList(painter, list, theme, QRectF(list.bounds.x - border, list.bounds.y - border, width, height), 1);
    painter.end();
    return buffer.data();
}

} // namespace

Result<void> paintToFile(const DisplayList& list, const Theme& theme, const std::filesystem::path& path, PaintFormat format) {
    std::unique_ptr<QGuiApplication> application;
    static int argc = 1;
    static char name[] = "triptych";
    static char* argv[] = {name, nullptr};
    if (!QGuiApplication::instance()) {
        if (qEnvironmentVariableIsEmpty("QT_QPA_PLATFORM") && qEnvironmentVariableIsEmpty("DISPLAY") && qEnvironmentVariableIsEmpty("WAYLAND_DISPLAY")) qputenv("QT_QPA_PLATFORM", "offscreen");
        application = std::make_unique<QGuiApplication>(argc, argv);
    }
    const QByteArray bytes = format == PaintFormat::png ? picture(list, theme) : page(list, theme);
    return writeFile(path, std::string_view(bytes.constData(), static_cast<std::size_t>(bytes.size())));
}

} // namespace triptych
