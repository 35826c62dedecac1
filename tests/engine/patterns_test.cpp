// The pattern library: what ships is sound, what a user writes wrongly is named, presets are what they say.

#include "fusion/pattern.h"

#include <QtTest>

using namespace triptych;

class PatternsTest : public QObject {
    Q_OBJECT

    QTemporaryDir m_folder;

    std::string write(const char* text) {
        const QString path = m_folder.filePath("own.json");
        QFile file(path);
        if (!file.open(QIODevice::WriteOnly)) qFatal("cannot write");
        file.write(text);
        return path.toStdString();
    }
    static std::set<std::string> preset(const char* name) {
        std::set<std::string> ids;
        const LibraryPtr library = shippedPatterns();
        const PatternSet enabled = presetPatterns(*library, name).value();
        for (const PatternId id : enabled) ids.insert((*library)[id].id);
        return ids;
    }

private slots:
    void shippedLibraryIsWhole() {
        const LibraryPtr library = shippedPatterns();
        QVERIFY(library->patterns.size() >= 60);
        std::set<std::string> ids;
        for (const Pattern& pattern : library->patterns) {
            QVERIFY2(ids.insert(pattern.id).second, pattern.id.c_str());
            QVERIFY2(!pattern.title.empty() && !pattern.sketch.empty() && !pattern.why.empty() && pattern.rule,
                     pattern.id.c_str());
            QVERIFY2(pattern.colour != Family::none, pattern.id.c_str());
            QVERIFY2(std::find(pattern.enabledIn.begin(), pattern.enabledIn.end(), "all") != pattern.enabledIn.end(),
                     pattern.id.c_str());
        }
        for (const char* id : {"parallel.qkv",
                               "parallel.kv",
                               "parallel.qk",
                               "parallel.gate_up",
                               "region.flash",
                               "attention.matmul_mul",
                               "attention.mul_softmax",
                               "attention.matmul_softmax",
                               "attention.softmax_matmul",
                               "attention.dropout_matmul",
                               "attention.linear_reshape",
                               "attention.reshape_transpose",
                               "attention.transpose_reshape",
                               "attention.transpose_matmul",
                               "attention.reshape_contiguous",
                               "attention.contiguous_linear",
                               "attention.size_reshape",
                               "attention.size_view",
                               "attention.matmul_transpose",
                               "attention.transpose_softmax"})
            QVERIFY2(library->find(id), id);
    }
    void presetsAreWhatTheySay() {
        QVERIFY(preset("none").empty());
        QCOMPARE(preset("flash"), (std::set<std::string>{"region.flash"}));
        QCOMPARE(preset("parallel"),
                 (std::set<std::string>{"parallel.gate_up", "parallel.kv", "parallel.qk", "parallel.qkv"}));
        QCOMPARE(preset("flash,parallel").size(), std::size_t(5));
        QCOMPARE(preset("all").size(), shippedPatterns()->patterns.size());
        const std::set<std::string> standard = preset("standard"), seed = preset("seed"), usual = preset("default");
        QCOMPARE(seed.size(), standard.size() + 16); // 15 pairs and the merging of Q, K, V
        QVERIFY(std::includes(seed.begin(), seed.end(), standard.begin(), standard.end()));
        QVERIFY(std::includes(usual.begin(), usual.end(), standard.begin(), standard.end()));
        QVERIFY(!preset("onnxruntime").empty());
    }
    void anUnknownPresetListsTheKnownOnes() {
        const auto result = presetPatterns(*shippedPatterns(), "flash,quick");
        QVERIFY(!result);
        QVERIFY(result.error().message().find("'quick'") != std::string::npos);
        QVERIFY(result.error().message().find("default") != std::string::npos);
    }
    void aUsersPatternJoinsTheLibrary() {
        const auto library = patternsWith({write(
            R"({ "id": "pointwise.own", "title": "Own", "family": "pointwise", "why": "To try.", "enabled_in": ["default"],
            "match": { "a": { "op": "Neg" }, "b": { "op": "Abs", "in": ["a"] } }, "when": [ { "single_use": ["a"] } ] })")});
        QVERIFY(library);
        QCOMPARE((*library)->patterns.size(), shippedPatterns()->patterns.size() + 1);
        QVERIFY(presetPatterns(**library, "default")->contains((*library)->find("pointwise.own")));
    }
    void faultsAreNamed_data() {
        QTest::addColumn<QString>("text");
        QTest::addColumn<QString>("named");
        const auto row = [](const char* name, const char* text, const char* named) {
            QTest::newRow(name) << QString(text) << QString(named);
        };
        row("no JSON", "{ \"id\": ", "is not JSON");
        row("a list", "[]", "is no JSON object");
        row("missing key", R"({ "id": "view.a", "title": "A", "family": "view" })",
            "pattern view.a: key \"why\" is missing");
        row("unknown key", R"({ "id": "view.a", "colour": "red" })", "key \"colour\" is no key of a pattern");
        row("unknown family", R"({ "id": "own.a", "title": "A", "family": "own", "why": "w" })",
            "key \"family\" 'own' is unknown; known are");
        row("id of another family", R"({ "id": "own.a", "title": "A", "family": "view", "why": "w" })",
            "key \"id\" must start with its family");
        row("unknown set",
            R"({ "id": "view.a", "title": "A", "family": "view", "why": "w", "match": { "a": { "op": "@views" } } })",
            "key \"match.a.op\" '@views' is no set");
        row("unknown node",
            R"({ "id": "view.a", "title": "A", "family": "view", "why": "w", "match": { "a": { "op": "Neg", "in": ["z"] } } })",
            "key \"match.a.in\" 'z' names no earlier node");
        row("unknown word",
            R"({ "id": "view.a", "title": "A", "family": "view", "why": "w", "match": { "a": { "op": "Neg" } }, "when": [ { "twice": ["a"] } ] })",
            "key \"when\" 'twice' is unknown");
        row("loose node",
            R"({ "id": "view.a", "title": "A", "family": "view", "why": "w", "match": { "a": { "op": "Neg" }, "b": { "op": "Abs" } } })",
            "key \"match.a\" does not lead to the last node");
        row("taken id", R"({ "id": "region.flash", "title": "A", "family": "region", "kind": "region", "why": "w" })",
            "there is one of that id already");
        row("unknown preset",
            R"({ "id": "view.a", "title": "A", "family": "view", "why": "w", "enabled_in": ["mine"], "match": { "a": { "op": "Neg" } } })",
            "unknown preset 'mine'");
    }
    void faultsAreNamed() {
        QFETCH(QString, text);
        QFETCH(QString, named);
        const auto library = patternsWith({write(text.toUtf8().constData())});
        QVERIFY(!library);
        const QString message = QString::fromStdString(library.error().message());
        QVERIFY2(message.contains(named), qPrintable(message));
        QVERIFY2(message.contains("own.json"), qPrintable(message));
    }
    void aMissingFileIsNamed() {
        const auto library = patternsWith({m_folder.filePath("absent.json").toStdString()});
        QVERIFY(!library);
        QVERIFY(library.error().message().find("absent.json") != std::string::npos);
    }
};

QTEST_APPLESS_MAIN(PatternsTest)
#include "patterns_test.moc"
