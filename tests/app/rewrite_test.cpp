// decompose, fuse and verify as a user runs them.

#include <QDir>
#include <QFile>
#include <QProcess>
#include <QTemporaryDir>
#include <QTest>

class RewriteTest : public QObject {
    Q_OBJECT
private slots:
    void writtenFilesComputeTheSame_data();
    void writtenFilesComputeTheSame();
    void writtenAgainIsTheSame();
    void differenceIsOne();
    void missingWeightsAreThree();
    void wrongUsageIsTwo();
    void unwritableIsFour();
    void strippedModelsAreWrittenToo();

private:
    struct Ran {
        int status;
        QByteArray out, err;
    };
    static Ran run(const QStringList& arguments) {
        QProcess process;
        process.start(PROGRAM_DIR "/triptych", arguments);
        if (!process.waitForFinished(120000) || process.exitStatus() != QProcess::NormalExit) return {-1, {}, process.readAllStandardError()};
        return {process.exitCode(), process.readAllStandardOutput(), process.readAllStandardError()};
    }
    static QString data(const char* name) { return QStringLiteral(TEST_DATA "/") + QLatin1String(name); }
    static QString sample(const char* name) { return QStringLiteral(PROJECT_ROOT "/resources/samples/") + QLatin1String(name); }
    QTemporaryDir m_folder;
};

void RewriteTest::writtenFilesComputeTheSame_data() {
    QTest::addColumn<QString>("model");
    for (const char* name : {"opinion_packed.onnx", "opinion_separate.onnx", "opinion_microsoft.onnx", "opinion_integers.onnx"}) QTest::newRow(name) << data(name);
}

void RewriteTest::writtenFilesComputeTheSame() {
    QFETCH(QString, model);
    const Ran alone = run({"verify", model});
    QVERIFY2(alone.status == 0, alone.out + alone.err);
    QVERIFY(alone.out.contains("masked"));
    for (const QString& verb : {QStringLiteral("decompose"), QStringLiteral("fuse")}) {
        const QString out = m_folder.filePath(verb + ".onnx");
        const Ran written = run({verb, model, "-o", out});
        QVERIFY2(written.status == 0, written.err);
        // Sizes that were bound to nothing when the file was written.
        const Ran same = run({"verify", model, "--against", out, "--bind", "batch=3", "--bind", "seq=7"});
        QVERIFY2(same.status == 0, same.out + same.err);
        const Ran table = run({"analyze", out, "--quiet", "--json", m_folder.filePath("a.json")});
        QVERIFY2(table.status == 0, table.err);
        QFile json(m_folder.filePath("a.json"));
        QVERIFY(json.open(QIODevice::ReadOnly));
        QCOMPARE(json.readAll().count("\"heads\""), 1);
    }
}

void RewriteTest::writtenAgainIsTheSame() {
    const QString once = m_folder.filePath("once.onnx"), twice = m_folder.filePath("twice.onnx");
    QCOMPARE(run({"decompose", data("opinion_packed.onnx"), "-o", once, "--quiet"}).status, 0);
    QCOMPARE(run({"decompose", once, "-o", twice, "--quiet"}).status, 0);
    QFile first(once), second(twice);
    QVERIFY(first.open(QIODevice::ReadOnly) && second.open(QIODevice::ReadOnly));
    QCOMPARE(second.readAll(), first.readAll());
}

void RewriteTest::differenceIsOne() {
    const Ran ran = run({"verify", data("opinion_packed.onnx"), "--against", data("opinion_separate.onnx"), "--fill", "random"});
    QCOMPARE(ran.status, 1);
    QVERIFY(ran.out.contains("DIFFERENT"));
    const Ran loose = run({"verify", data("opinion_packed.onnx"), "--against", data("opinion_separate.onnx"), "--fill", "random", "--atol", "1000"});
    QCOMPARE(loose.status, 0);
}

void RewriteTest::missingWeightsAreThree() {
    const Ran ran = run({"verify", sample("bert_base.onnx")});
    QCOMPARE(ran.status, 3);
    QVERIFY2(ran.err.contains("weights"), ran.err);
    QCOMPARE(ran.err.count('\n'), 1);
}

void RewriteTest::wrongUsageIsTwo() {
    QCOMPARE(run({"verify", data("opinion_packed.onnx"), "--fill", "chocolate"}).status, 2);
    QCOMPARE(run({"verify", data("opinion_packed.onnx"), "--data", m_folder.path()}).status, 2);
    QCOMPARE(run({"decompose", data("opinion_packed.onnx")}).status, 2);
}

void RewriteTest::unwritableIsFour() {
    const QString out = m_folder.filePath("no/such/folder/out.onnx");
    QCOMPARE(run({"decompose", data("opinion_packed.onnx"), "-o", out}).status, 4);
    QVERIFY(!QFile::exists(out));
    QCOMPARE(run({"decompose", data("opinion_packed.onnx"), "-o", "/dev/null"}).status, 0);
}

void RewriteTest::strippedModelsAreWrittenToo() {
    for (const QString& verb : {QStringLiteral("decompose"), QStringLiteral("fuse")}) {
        const QString out = m_folder.filePath("stripped.onnx");
        const Ran ran = run({verb, sample("vit_b_16.fn.onnx"), "-o", out});
        QVERIFY2(ran.status == 0, ran.err);
        QVERIFY(QFile::exists(out));
        QCOMPARE(run({"analyze", out, "--quiet"}).status, 0);
    }
}

QTEST_APPLESS_MAIN(RewriteTest)
#include "rewrite_test.moc"
