// The JSON keeps its contract: docs/analysis.schema.json, on bundled samples and on every form of attention.

#include "graph/text.h"
#include "report/json.h"
#include "report/text.h"

#include <QDir>
#include <QFile>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QTest>

using namespace triptych;

class ReportTest : public QObject {
    Q_OBJECT
private slots:
    void jsonFollowsItsSchema_data();
    void jsonFollowsItsSchema();
    void formsFollowTheSchema();
    void wordsAreExplained_data();
    void wordsAreExplained();
    void validatorCanFail();
    void tableNamesTheFourGraphs();
    void togglesShareWhatTheyLeaveAlone();

private:
    /// The part of JSON Schema that ours uses: type, properties, required, additionalProperties, items, enum, $ref.
    static QString problem(const QJsonValue& value, QJsonObject schema, const QJsonObject& root, const QString& at);
    static bool isOf(const QJsonValue& value, const QString& type);
    static QByteArray content(const QString& path) {
        QFile file(path);
        if (!file.open(QIODevice::ReadOnly)) qFatal("no %s", qPrintable(path));
        return file.readAll();
    }
    static QJsonObject schema() { return QJsonDocument::fromJson(content(PROJECT_ROOT "/docs/analysis.schema.json")).object(); }
    static AnalysisPtr sample(const QString& name) {
        auto analysis = analyze(std::filesystem::path((PROJECT_ROOT "/resources/samples/" + name).toStdString()), {});
        if (!analysis) qFatal("%s", analysis.error().message().c_str());
        return *analysis;
    }
};

bool ReportTest::isOf(const QJsonValue& value, const QString& type) {
    if (type == "null") return value.isNull();
    if (type == "string") return value.isString();
    if (type == "boolean") return value.isBool();
    if (type == "number") return value.isDouble();
    if (type == "integer") return value.isDouble() && value.toDouble() == double(qint64(value.toDouble()));
    if (type == "array") return value.isArray();
    return type == "object" && value.isObject();
}

QString ReportTest::problem(const QJsonValue& value, QJsonObject schema, const QJsonObject& root, const QString& at) {
    if (const QString reference = schema["$ref"].toString(); !reference.isEmpty()) schema = root["$defs"].toObject()[reference.section('/', -1)].toObject();
    const QJsonValue type = schema["type"];
    bool fits = type.isUndefined();
    for (const QJsonValue& each : type.isArray() ? type.toArray() : QJsonArray{type}) fits = fits || isOf(value, each.toString());
    if (!fits) return at + ": is not of its type";
    if (schema.contains("enum") && !schema["enum"].toArray().contains(value)) return at + ": " + value.toString() + " is none of the words";
    if (value.isArray()) {
        int i = 0;
        for (const QJsonValue& each : value.toArray())
            if (const QString inside = problem(each, schema["items"].toObject(), root, at + "/" + QString::number(i++)); !inside.isEmpty()) return inside;
    }
    if (!value.isObject()) return {};
    const QJsonObject object = value.toObject(), properties = schema["properties"].toObject();
    for (const QJsonValue& key : schema["required"].toArray())
        if (!object.contains(key.toString())) return at + ": " + key.toString() + " is missing";
    for (auto each = object.begin(); each != object.end(); ++each) {
        const bool known = properties.contains(each.key());
        if (!known && schema["additionalProperties"] == QJsonValue(false)) return at + ": " + each.key() + " is not in the schema";
        const QJsonObject inner = known ? properties[each.key()].toObject() : schema["additionalProperties"].toObject();
        if (const QString inside = problem(each.value(), inner, root, at + "/" + each.key()); !inside.isEmpty()) return inside;
    }
    return {};
}

void ReportTest::jsonFollowsItsSchema_data() {
    QTest::addColumn<QString>("name");
    for (const char* name : {"vit_b_16.fn.onnx", "vit_b.separate.onnx", "bert_base.onnx", "attention_block.onnx"}) QTest::newRow(name) << name;
}

void ReportTest::jsonFollowsItsSchema() {
    QFETCH(QString, name);
    const auto analysis = sample(name);
    for (const bool graphs : {false, true}) {
        const std::string text = analysisJson(*analysis, {graphs});
        const QJsonDocument json = QJsonDocument::fromJson(QByteArray::fromStdString(text));
        QVERIFY(json.isObject());
        QCOMPARE(problem(json.object(), schema(), schema(), {}), QString());
        QCOMPARE(json["graphs"]["enhanced"].toObject().contains("graph"), graphs);
    }
}

void ReportTest::formsFollowTheSchema() {
    const QJsonObject root = schema();
    const QDir folder(QStringLiteral(TEST_DATA "/forms"));
    for (const QString& name : folder.entryList({"*.txt"}, QDir::Files)) {
        auto model = std::make_shared<Model>();
        model->graph = *parseText(content(folder.filePath(name)).toStdString());
        model->opsets = {{"", 17}, {"com.microsoft", 1}};
        const auto analysis = analyze(model, {});
        QVERIFY2(analysis.has_value(), qPrintable(name));
        const QJsonDocument json = QJsonDocument::fromJson(QByteArray::fromStdString(analysisJson(**analysis)));
        QCOMPARE(problem(json.object(), root, root, name), QString());
    }
}

void ReportTest::wordsAreExplained_data() {
    QTest::addColumn<QString>("list");
    for (const char* list : {"masks", "extras"}) QTest::newRow(list) << list;
}

void ReportTest::wordsAreExplained() {
    QFETCH(QString, list);
    const QJsonObject one = schema()["properties"].toObject()["attention"].toObject()["items"].toObject();
    const QJsonArray words = one["properties"].toObject()[list].toObject()["items"].toObject()["enum"].toArray();
    QVERIFY(!words.isEmpty());
    for (const char* page : {"/docs/cli.md", "/docs/attention.md"}) {
        const QString text = QString::fromUtf8(content(QStringLiteral(PROJECT_ROOT) + page));
        for (const QJsonValue& word : words) QVERIFY2(text.contains('`' + word.toString() + '`'), qPrintable(word.toString() + " is missing in " + page));
    }
}

void ReportTest::validatorCanFail() {
    QJsonObject json = QJsonDocument::fromJson(QByteArray::fromStdString(analysisJson(*sample("attention_block.onnx")))).object();
    json["surprise"] = 1;
    QVERIFY(problem(json, schema(), schema(), {}).contains("surprise"));
    json.remove("surprise");
    json.remove("warnings");
    QVERIFY(problem(json, schema(), schema(), {}).contains("warnings"));
}

void ReportTest::tableNamesTheFourGraphs() {
    const QString table = QString::fromStdString(analysisTable(*sample("attention_block.onnx")));
    for (const char* word : {"unfused", "baseline", "decomposed", "enhanced", "launches", "parallel.qkv"}) QVERIFY2(table.contains(word), word);
}

void ReportTest::togglesShareWhatTheyLeaveAlone() {
    const auto before = sample("attention_block.onnx");
    AnalysisOptions options = before->options;
    options.disable.push_back("parallel.qkv");
    const auto after = reanalyze(before, options);
    QVERIFY(after.has_value());
    QCOMPARE((*after)->enhanced.graph.get(), before->enhanced.graph.get());
    QCOMPARE((*after)->baseline.metrics.get(), before->baseline.metrics.get());
    QCOMPARE((*after)->enhanced.metrics->launches, before->enhanced.metrics->launches + 2);
    const auto effects = marginalEffects(*before);
    QCOMPARE(effects[before->library->find("parallel.qkv").position()].launches, std::int64_t(2));
}

QTEST_APPLESS_MAIN(ReportTest)
#include "report_test.moc"
