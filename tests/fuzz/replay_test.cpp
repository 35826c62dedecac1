// Files that fuzzing began with, and those that it found: none crashes, none hangs.

#include "fuzz.h"

#include <QDir>
#include <QElapsedTimer>
#include <QTest>

class ReplayTest : public QObject {
    Q_OBJECT
private slots:
    void everyFile_data();
    void everyFile();
};

void ReplayTest::everyFile_data() {
    QTest::addColumn<QString>("path");
    for (const char* folder : {"corpus", "regressions"}) {
        const QDir files(QStringLiteral(PROJECT_ROOT "/tests/fuzz/%1").arg(folder));
        for (const QString& name : files.entryList(QDir::Files, QDir::Name)) QTest::newRow(qPrintable(name)) << files.filePath(name);
    }
}

void ReplayTest::everyFile() {
    QFETCH(QString, path);
    QFile file(path);
    QVERIFY(file.open(QIODevice::ReadOnly));
    const QByteArray bytes = file.readAll();
    QElapsedTimer timer;
    timer.start();
    triptych::fuzz::run(reinterpret_cast<const std::uint8_t*>(bytes.constData()), static_cast<std::size_t>(bytes.size()), triptych::fuzz::Depth::analysis);
    triptych::fuzz::run(reinterpret_cast<const std::uint8_t*>(bytes.constData()), static_cast<std::size_t>(bytes.size()), triptych::fuzz::Depth::shapes);
    QVERIFY(timer.elapsed() < 10'000);
}

QTEST_APPLESS_MAIN(ReplayTest)
#include "replay_test.moc"
