// The program as a user runs it: exit statuses, messages, files.

#include <QFile>
#include <QImage>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QProcess>
#include <QTemporaryDir>
#include <QTest>
#include <QXmlStreamReader>

class CliTest : public QObject {
    Q_OBJECT
private slots:
    void seedSavesWhatTheResearchSaved();
    void badInputIsOneLineAndThree_data();
    void badInputIsOneLineAndThree();
    void wrongUsageIsTwo();
    void unwritableIsFourAndLeavesNothing();
    void unknownDimensionListsTheKnownOnes();
    void svgHoldsEveryNodeAndGroup();
    void everyFormatIsWritten_data();
    void everyFormatIsWritten();
    void patternsAreListed();
    void windowSavesAPicture();
    void sameFileSameBytes();
    void requirementIsAVerdict();

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
    static QString sample(const char* name) { return QStringLiteral(PROJECT_ROOT "/resources/samples/") + QLatin1String(name); }
    QTemporaryDir m_folder;
};

void CliTest::seedSavesWhatTheResearchSaved() {
    const QString out = m_folder.filePath("seed.json");
    const Ran ran = run({"analyze", sample("vit_b_16.fn.onnx"), "--preset", "seed", "--json", out, "--quiet"});
    QVERIFY2(ran.status == 0, ran.err);
    QFile file(out);
    QVERIFY(file.open(QIODevice::ReadOnly));
    const QJsonObject json = QJsonDocument::fromJson(file.readAll()).object();
    QCOMPARE(json["schema"].toString(), QString("triptych.analysis/1"));
    const QJsonObject graphs = json["graphs"].toObject();
    QCOMPARE(graphs["decomposed"].toObject()["groups"].toInt() - graphs["enhanced"].toObject()["groups"].toInt(), 60);
    QCOMPARE(json["attention"].toArray().size(), 12);
    double bytes = 0, launches = 0;
    const QJsonArray parallel = json["parallel_groups"].toArray();
    QCOMPARE(parallel.size(), 12);
    for (const QJsonValue& each : parallel) {
        QCOMPARE(each.toObject()["shared_input_bytes"].toInt(), 605184);
        QVERIFY(each.toObject()["already_merged"].toBool());
        bytes += each.toObject()["bytes_saved"].toDouble();
        launches += each.toObject()["launches_saved"].toDouble();
    }
    QCOMPARE(bytes, 14524416.0);
    QCOMPARE(launches, 24.0);
    // A dash is standard output, and no file of that name.
    const Ran piped = run({"analyze", sample("vit_b_16.fn.onnx"), "--preset", "seed", "--json", "-", "--quiet"});
    QCOMPARE(QJsonDocument::fromJson(piped.out).object()["parallel_groups"].toArray().size(), parallel.size());
}

void CliTest::badInputIsOneLineAndThree_data() {
    QTest::addColumn<QByteArray>("content");
    QTest::addColumn<QString>("says");
    QTest::newRow("empty") << QByteArray("") << "empty";
    QTest::newRow("text") << QByteArray("just some text\n") << "text file";
    QTest::newRow("gzip") << QByteArray("\x1f\x8b\x08\x00rest", 8) << "gzip";
    QTest::newRow("zip") << QByteArray("PK\x03\x04rest", 8) << "zip";
    QFile whole(sample("attention_block.onnx"));
    QVERIFY(whole.open(QIODevice::ReadOnly));
    QTest::newRow("truncated") << whole.readAll().left(5000) << "truncated";
}

void CliTest::badInputIsOneLineAndThree() {
    QFETCH(QByteArray, content);
    QFETCH(QString, says);
    QFile file(m_folder.filePath("bad.onnx"));
    QVERIFY(file.open(QIODevice::WriteOnly | QIODevice::Truncate));
    file.write(content);
    file.close();
    for (const QString& path : {file.fileName()}) {
        const Ran ran = run({"analyze", path});
        QCOMPARE(ran.status, 3);
        QVERIFY2(ran.err.startsWith("triptych: " + path.toUtf8() + ": "), ran.err);
        QVERIFY2(ran.err.contains(says.toUtf8()), ran.err);
        QCOMPARE(ran.err.count('\n'), 1);
    }
    QCOMPARE(run({"analyze", "/no/such/file.onnx"}).status, 3);
    QCOMPARE(run({"analyze", m_folder.path()}).status, 3);
}

void CliTest::wrongUsageIsTwo() {
    QCOMPARE(run({"analyze"}).status, 2);
    QCOMPARE(run({"analyze", sample("attention_block.onnx"), "--preset", "nonsense"}).status, 2);
    QCOMPARE(run({"analyze", sample("attention_block.onnx"), "--precision", "fp7"}).status, 2);
    QCOMPARE(run({"analyze", sample("attention_block.onnx"), "--disable", "no.such"}).status, 2);
}

void CliTest::unwritableIsFourAndLeavesNothing() {
    const Ran ran = run({"analyze", sample("attention_block.onnx"), "--json", m_folder.filePath("no/such/folder/out.json")});
    QCOMPARE(ran.status, 4);
    QVERIFY2(ran.err.startsWith("triptych: "), ran.err);
}

void CliTest::unknownDimensionListsTheKnownOnes() {
    const Ran ran = run({"analyze", sample("vit_b.separate.onnx"), "--bind", "nonsense=3"});
    QCOMPARE(ran.status, 2);
    QVERIFY2(ran.err.contains("batch"), ran.err);
}

void CliTest::svgHoldsEveryNodeAndGroup() {
    const QString out = m_folder.filePath("both.svg"), json = m_folder.filePath("block.json");
    QCOMPARE(run({"export", sample("attention_block.onnx"), "--view", "enhanced", "--format", "svg", "-o", out}).status, 0);
    QCOMPARE(run({"analyze", sample("attention_block.onnx"), "--json", json}).status, 0);
    QFile svg(out), data(json);
    QVERIFY(svg.open(QIODevice::ReadOnly) && data.open(QIODevice::ReadOnly));
    QSet<QString> ids;
    int groups = 0, titles = 0, texts = 0;
    QXmlStreamReader xml(&svg);
    while (!xml.atEnd()) {
        if (xml.readNext() != QXmlStreamReader::StartElement) continue;
        if (xml.name() == QLatin1String("title")) ++titles;
        if (xml.name() == QLatin1String("text")) ++texts;
        if (xml.name() != QLatin1String("g")) continue;
        const QString id = xml.attributes().value("id").toString();
        QVERIFY2(!ids.contains(id), qPrintable(id));
        ids.insert(id);
    }
    QVERIFY2(!xml.hasError(), qPrintable(xml.errorString()));
    const QJsonArray partition = QJsonDocument::fromJson(data.readAll()).object()["graphs"].toObject()["enhanced"].toObject()["partition"].toArray();
    for (const QJsonValue& each : partition) {
        if (each.toObject()["patterns"].toArray().isEmpty() || each.toObject()["nodes"].toArray().size() < 2) continue;
        ++groups;
        const QString prefix = "e-" + each.toObject()["id"].toString() + "-";
        QVERIFY2(std::any_of(ids.begin(), ids.end(), [&](const QString& id) { return id.startsWith(prefix); }), qPrintable(prefix));
    }
    QVERIFY(groups >= 3);
    QVERIFY(titles > 20);
    QVERIFY(texts > 20);
}

void CliTest::everyFormatIsWritten_data() {
    QTest::addColumn<QString>("format");
    QTest::addColumn<QByteArray>("begins");
    QTest::newRow("svg") << "svg" << QByteArray("<svg");
    QTest::newRow("png") << "png" << QByteArray("\x89PNG");
    QTest::newRow("pdf") << "pdf" << QByteArray("%PDF");
    QTest::newRow("md") << "md" << QByteArray("# attention_block");
    QTest::newRow("csv") << "csv" << QByteArray("graph,group");
}

void CliTest::everyFormatIsWritten() {
    QFETCH(QString, format);
    QFETCH(QByteArray, begins);
    const QString out = m_folder.filePath("out." + format);
    const Ran ran = run({"export", sample("attention_block.onnx"), "--format", format, "-o", out});
    QVERIFY2(ran.status == 0, ran.err);
    QFile file(out);
    QVERIFY(file.open(QIODevice::ReadOnly));
    const QByteArray content = file.readAll();
    QVERIFY(content.startsWith(begins));
    QVERIFY(content.size() > 500);
}

void CliTest::patternsAreListed() {
    const Ran ran = run({"patterns", "--json"});
    QCOMPARE(ran.status, 0);
    const QJsonArray patterns = QJsonDocument::fromJson(ran.out).object()["patterns"].toArray();
    QVERIFY(patterns.size() >= 40);
    QSet<QString> ids;
    for (const QJsonValue& each : patterns) ids.insert(each.toObject()["id"].toString());
    QVERIFY(ids.contains("parallel.qkv") && ids.contains("region.flash") && ids.contains("attention.matmul_mul"));
    QCOMPARE(ids.size(), patterns.size());
}

void CliTest::windowSavesAPicture() {
    const QString picture = m_folder.filePath("window.png"), timings = m_folder.filePath("timings.json");
    const Ran ran = run({"open", sample("attention_block.onnx"), "--screenshot", picture, "--size", "1200x800", "--timings", timings});
    QVERIFY2(ran.status == 0, ran.err);
    QCOMPARE(QImage(picture).size(), QSize(1200, 800));
    QFile file(timings);
    QVERIFY(file.open(QIODevice::ReadOnly));
    const QJsonObject json = QJsonDocument::fromJson(file.readAll()).object();
    for (const char* key : {"read", "import", "shapes", "attention", "fusion", "cost", "layout_baseline", "layout_enhanced", "first_paint", "total", "peak_rss_bytes"}) QVERIFY2(json.contains(key), key);
    QCOMPARE(run({"open", "/no/such.onnx", "--screenshot", picture}).status, 3);
    const Ran unknown = run({"open", sample("vit_b.separate.onnx"), "--bind", "nonsense=3", "--screenshot", picture});
    QCOMPARE(unknown.status, 2);
    QVERIFY2(unknown.err.contains("nonsense"), unknown.err);
}

void CliTest::sameFileSameBytes() {
    QByteArray first;
    for (int i = 0; i < 2; ++i) {
        const QString out = m_folder.filePath("same.json");
        QCOMPARE(run({"analyze", sample("bert_base.onnx"), "--with-graphs", "--json", out}).status, 0);
        QFile file(out);
        QVERIFY(file.open(QIODevice::ReadOnly));
        const QByteArray bytes = file.readAll();
        if (i == 0) first = bytes;
        else QVERIFY(first == bytes);
    }
    QVERIFY(first.size() > 10000);
}

void CliTest::requirementIsAVerdict() {
    QCOMPARE(run({"analyze", sample("attention_block.onnx"), "--quiet", "--require", "launches<=1000"}).status, 0);
    QCOMPARE(run({"analyze", sample("attention_block.onnx"), "--quiet", "--require", "launches<=1"}).status, 1);
    QCOMPARE(run({"analyze", sample("attention_block.onnx"), "--quiet", "--require", "nonsense<=1"}).status, 2);
}

QTEST_GUILESS_MAIN(CliTest)
#include "cli_test.moc"
