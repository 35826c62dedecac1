// From process start until both graphs are painted and the screenshot is saved, as a ratio to an empty window timed in
// the same run. Arguments: further files; without any the bundled samples.
#include <QCoreApplication>
#include <QElapsedTimer>
#include <QFileInfo>
#include <QProcess>
#include <QTemporaryDir>

#include <algorithm>
#include <cstdio>

namespace {

constexpr int rounds = 7;

/// Milliseconds of one run; negative where it failed.
double milliseconds(const QString& program, const QStringList& arguments) {
    QElapsedTimer timer;
    timer.start();
    QProcess process;
    process.start(program, arguments);
    if (!process.waitForFinished(60000) || process.exitCode() != 0 || process.exitStatus() != QProcess::NormalExit) return -1;
    return double(timer.nsecsElapsed()) / 1e6;
}

double median(std::vector<double> numbers) {
    std::sort(numbers.begin(), numbers.end());
    return numbers[numbers.size() / 2];
}

} // namespace

int main(int argc, char** argv) {
    QCoreApplication application(argc, argv);
    qputenv("QT_QPA_PLATFORM", "offscreen");
    const QTemporaryDir folder;
    const QString picture = folder.filePath("window.png");
    QStringList files = application.arguments().mid(1);
    if (files.isEmpty())
        for (const char* name : {"vit_b_16.fn.onnx", "bert_base.onnx", "vit_b.separate.onnx", "attention_block.onnx"})
            files << QStringLiteral(PROJECT_ROOT "/resources/samples/") + name;
    int status = 0;
    for (const QString& file : files) {
        std::vector<double> floors, opens;
        for (int round = 0; round < rounds; ++round) {
            floors.push_back(milliseconds(PROGRAM_DIR "/bench_floor", {picture}));
            opens.push_back(milliseconds(PROGRAM_DIR "/triptych", {"open", file, "--screenshot", picture, "--size", "1600x1000"}));
        }
        const double floor = median(floors), open = median(opens);
        if (floor <= 0 || open <= 0) {
            std::printf("open %-28s failed\n", qPrintable(QFileInfo(file).fileName()));
            status = 1;
            continue;
        }
        std::printf("open %-28s %6.0f ms, empty window %4.0f ms, ratio %.1f\n", qPrintable(QFileInfo(file).fileName()), open, floor, open / floor);
    }
    return status;
}
