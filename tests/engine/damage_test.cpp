// Truncates and damages small real files: every outcome is an analysis or a failure, each within ten seconds.
// TRIPTYCH_DAMAGE sets the random bits flipped in each file (2000; continuous integration takes fewer under sanitizers).

#include "pipeline.h"

#include <QDir>
#include <QElapsedTimer>
#include <QTemporaryDir>
#include <QTest>
#include <random>

using namespace triptych;

class DamageTest : public QObject {
    Q_OBJECT
private slots:
    void everyFile_data();
    void everyFile();

private:
    /// Milliseconds of one analysis.
    qint64 analysed(const QByteArray& bytes) {
        QFile file(m_dir.filePath("damaged.onnx"));
        if (!file.open(QIODevice::WriteOnly | QIODevice::Truncate)) qFatal("no temporary file");
        file.write(bytes);
        file.close();
        QElapsedTimer timer;
        timer.start();
        (void)analyze(std::filesystem::path(file.fileName().toStdString()), AnalysisOptions());
        return timer.elapsed();
    }
    QTemporaryDir m_dir;
};

void DamageTest::everyFile_data() {
    QTest::addColumn<QString>("path");
    const auto add = [](const QString& folder) {
        const QDir files(folder);
        for (const QString& name : files.entryList({"*.onnx"}, QDir::Files, QDir::Name))
            if (files.exists(name) && QFileInfo(files.filePath(name)).size() < 20'000) QTest::newRow(qPrintable(name)) << files.filePath(name);
    };
    add(PROJECT_ROOT "/tests/fuzz/corpus");
    add(PROJECT_ROOT "/tests/data");
    add(PROJECT_ROOT "/resources/samples");
}

void DamageTest::everyFile() {
    QFETCH(QString, path);
    QFile file(path);
    QVERIFY(file.open(QIODevice::ReadOnly));
    const QByteArray whole = file.readAll();
    qint64 slowest = 0;
    for (int i = 0; i < 200; ++i) slowest = std::max(slowest, analysed(whole.first(whole.size() * i / 200)));
    std::mt19937 random(1);
    bool given = false;
    const int wanted = qEnvironmentVariableIntValue("TRIPTYCH_DAMAGE", &given);
    const int flips = given ? wanted : 2000;
    for (int i = 0; i < flips; ++i) {
        QByteArray damaged = whole;
        const auto bit = random() % static_cast<std::uint32_t>(whole.size() * 8);
        damaged[static_cast<qsizetype>(bit / 8)] = static_cast<char>(damaged[static_cast<qsizetype>(bit / 8)] ^ (1 << bit % 8));
        slowest = std::max(slowest, analysed(damaged));
    }
    QVERIFY2(slowest < 10'000, qPrintable(QString::number(slowest)));
}

QTEST_APPLESS_MAIN(DamageTest)
#include "damage_test.moc"
