// The engine stands alone: no Qt in its sources or in what links it, and others can build on the installed package.

#include <QDirIterator>
#include <QProcess>
#include <QRegularExpression>
#include <QTemporaryDir>
#include <QTest>

class IndependenceTest : public QObject {
    Q_OBJECT
private slots:
    void sourcesIncludeNoQt();
    void installedPackageBuildsAProgramWithoutQt();
};

void IndependenceTest::sourcesIncludeNoQt() {
    const QRegularExpression qtInclude(R"(#\s*include\s*[<"](Q[A-Z]\w*|Qt\w*/))");
    int files = 0;
    QDirIterator walk(QStringLiteral(PROJECT_ROOT "/engine"), {"*.h", "*.cpp"}, QDir::Files, QDirIterator::Subdirectories);
    while (walk.hasNext()) {
        QFile file(walk.next());
        QVERIFY(file.open(QIODevice::ReadOnly));
        ++files;
        QVERIFY2(!qtInclude.match(QString::fromUtf8(file.readAll())).hasMatch(), qPrintable(file.fileName()));
    }
    QVERIFY(files > 20);
}

#ifndef __SANITIZE_ADDRESS__
static bool run(const QString& program, const QStringList& arguments, QByteArray* output) {
    QProcess process;
    process.setProcessChannelMode(QProcess::MergedChannels);
    process.start(program, arguments);
    const bool finished = process.waitForFinished(240000);
    *output = process.readAll();
    return finished && process.exitStatus() == QProcess::NormalExit && process.exitCode() == 0;
}
#endif

void IndependenceTest::installedPackageBuildsAProgramWithoutQt() {
#ifdef __SANITIZE_ADDRESS__
    // The package of a sanitized build needs the consumer's flags to match; the release build covers this.
    QVERIFY(QFile::exists(QStringLiteral(PROGRAM_DIR "/engine/libtriptych_engine.a")));
#else
    const QTemporaryDir folder;
    const QString prefix = folder.filePath("prefix"), build = folder.filePath("build");
    QByteArray output;
    QVERIFY2(run("cmake", {"--install", PROGRAM_DIR "/engine", "--prefix", prefix}, &output), output);
    QVERIFY2(run("cmake", {"-G", GENERATOR, "-S", TEST_DATA "/consumer", "-B", build, "-DCMAKE_PREFIX_PATH=" + prefix, "-DCMAKE_BUILD_TYPE=Release"}, &output), output);
    QVERIFY2(run("cmake", {"--build", build}, &output), output);
    QVERIFY2(run(build + "/consumer", {PROJECT_ROOT "/resources/samples/attention_block.onnx"}, &output), output);
    QVERIFY2(output.contains(" nodes"), output);
    QVERIFY2(run("ldd", {build + "/consumer"}, &output), output);
    QVERIFY2(!output.contains("libQt"), output);
#endif
}

QTEST_GUILESS_MAIN(IndependenceTest)
#include "independence_test.moc"
