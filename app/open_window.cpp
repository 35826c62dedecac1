#include "open_window.h"

#include "command_line/arguments.h"
#include "command_line/command_line.h"
#include "main_window.h"
#include "support/files.h"

#include <QApplication>
#include <QBuffer>
#include <QFile>
#include <QImageWriter>
#include <QPainter>
#include <QTimer>
#include <chrono>
#include <cstdio>
#include <ctime>

namespace triptych {

namespace {

/// Milliseconds since the process began, from the kernel's clock ticks.
double sinceStart() {
    QFile stat(QStringLiteral("/proc/self/stat"));
    timespec now{};
    if (!stat.open(QIODevice::ReadOnly) || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0;
    const QByteArray line = stat.readAll();
    const QList<QByteArray> fields = line.mid(line.lastIndexOf(')') + 2).split(' ');
    if (fields.size() < 20) return 0;
    const double begun = fields[19].toDouble() * 1000.0 / 100.0; // USER_HZ
    return double(now.tv_sec) * 1000 + double(now.tv_nsec) / 1e6 - begun;
}

long peakMemory() {
    QFile status(QStringLiteral("/proc/self/status"));
    if (!status.open(QIODevice::ReadOnly)) return 0;
    for (const QByteArray& line : status.readAll().split('\n'))
        if (line.startsWith("VmHWM:")) return line.mid(6).trimmed().split(' ')[0].toLong() * 1024;
    return 0;
}

std::string timingsJson(const Snapshot& snapshot, double firstPaint, double total) {
    const StageTimes& t = snapshot.analysis->times;
    char text[1024];
    std::snprintf(text, sizeof text,
                  "{\"read\": %.3f, \"import\": %.3f, \"shapes\": %.3f, \"attention\": %.3f, \"fusion\": %.3f, \"cost\": %.3f, \"layout_baseline\": %.3f, \"layout_enhanced\": %.3f, \"first_paint\": %.3f, "
                  "\"total\": %.3f, \"peak_rss_bytes\": %ld}\n",
                  t.read, t.import, t.shapes, t.attention, t.fusion, t.cost, snapshot.layoutBaselineMs, snapshot.layoutEnhancedMs, firstPaint, total, peakMemory());
    return text;
}

int save(MainWindow& window, const OpenRequest& request, double firstPaint) {
    QImage image(window.size(), QImage::Format_RGB32);
    {
        QPainter painter(&image);
        window.render(&painter);
    }
    QBuffer buffer;
    buffer.open(QIODevice::WriteOnly);
    QImageWriter writer(&buffer, "png");
    writer.setCompression(12); // of 100: zlib level 1
    writer.write(image);
    const QByteArray bytes = buffer.data();
    const auto report = [](const Failure& failure) {
        std::fprintf(stderr, "triptych: %s\n", failure.message().c_str());
        return int(exitUnwritable);
    };
    if (const auto written = writeFile(request.screenshot, std::string_view(bytes.constData(), std::size_t(bytes.size()))); !written) return report(written.error());
    if (request.timings.empty()) return exitDone;
    if (const auto written = writeFile(request.timings, timingsJson(window.document().snapshot(), firstPaint, sinceStart())); !written) return report(written.error());
    return exitDone;
}

} // namespace

int openWindow(int argc, char** argv, const OpenRequest& request) {
    QApplication application(argc, argv);
    QApplication::setApplicationName(QStringLiteral("triptych"));
    MainWindow window(QString::fromStdString(request.theme));
    window.resize(request.width, request.height);
    const bool picture = !request.screenshot.empty();
    int status = exitDone;
    window.document().setOptions(request.options);
    if (picture) {
        QObject::connect(&window.document(), &Document::failed, &application, [&](const Failure& failure) {
            std::fprintf(stderr, "triptych: %s: %s\n", request.file.c_str(), failure.message().c_str());
            status = statusOf(failure);
            QApplication::quit();
        });
        const auto finish = [&] {
            if (!request.select.empty()) window.selectNamed(QString::fromStdString(request.select));
            status = save(window, request, sinceStart());
            QApplication::quit();
        };
        // With a selection the picture is for a document: it waits for the patterns' effects too.
        if (request.select.empty()) QObject::connect(&window.document(), &Document::changed, &application, finish, Qt::QueuedConnection);
        else QObject::connect(&window.document(), &Document::effectsReady, &application, finish, Qt::QueuedConnection);
    }
    if (!request.file.empty()) window.openFile(QString::fromStdString(request.file));
    else if (picture) QTimer::singleShot(0, &application, [&] {
        status = save(window, request, 0);
        QApplication::quit();
    });
    window.show();
    const int ended = QApplication::exec();
    return status != exitDone ? status : ended;
}

} // namespace triptych
