// Graphs inside nodes, and what is known inside of what surrounds them.

#include "nested.h"

#include <QFile>
#include <QTemporaryDir>
#include <QTest>

using namespace triptych;

class NestedTest : public QObject {
    Q_OBJECT
private slots:
    void initTestCase();
    void bodiesOfANodeAreListed();
    void capturedValuesKeepTheirShapes();
    void bodiesWithinBodies();
    void aFunctionIsSeenWithTheCallsArguments();
    void whatOnlyRunningTellsStaysUnknown();
    void dataOutsideOfTheFolderIsRefusedUnlessAllowed();

private:
    Projected whole() const { return m_analysis->baseline; }
    Projected enter(const Projected& outer, const char* name, std::size_t which = 0) const {
        const auto made = enterNested(*m_analysis, outer, outer.graph->findNode(name), which);
        if (!made) qFatal("%s", made.error().message().c_str());
        return *made;
    }
    static std::string shapeOf(const Projected& projected, const char* value) {
        const ValueShape& shape = projected.shapes->of(projected.graph->findValue(value));
        std::string text;
        for (const Dim dim : shape.dims) text += (text.empty() ? "" : "x") + (dim < 0 ? std::string("?") : std::to_string(dim));
        return shape.ranked ? text : "unknown";
    }
    AnalysisPtr m_analysis;
};

void NestedTest::initTestCase() {
    AnalysisOptions options;
    options.bindings["rows"] = 10;
    const auto analysis = analyze(std::filesystem::path(PROJECT_ROOT "/tests/data/control_flow.onnx"), options);
    QVERIFY2(analysis.has_value(), analysis ? "" : analysis.error().message().c_str());
    m_analysis = *analysis;
}

void NestedTest::bodiesOfANodeAreListed() {
    const Graph& graph = *whole().graph;
    const auto held = nestedGraphs(*m_analysis->model, graph.node(graph.findNode("loop")));
    QCOMPARE(held.size(), std::size_t(1));
    QCOMPARE(held[0].name, std::string("body"));
    QVERIFY(nestedGraphs(*m_analysis->model, graph.node(graph.findNode("first"))).empty());
    QVERIFY(!enterNested(*m_analysis, whole(), graph.findNode("first"), 0));
    QVERIFY(!enterNested(*m_analysis, whole(), graph.findNode("loop"), 1));
}

void NestedTest::capturedValuesKeepTheirShapes() {
    const Projected body = enter(whole(), "loop");
    QCOMPARE(body.graph->nodes().size(), std::size_t(7));
    QCOMPARE(shapeOf(body, "x"), std::string("10x64"));
    QCOMPARE(shapeOf(body, "w"), std::string("64x64"));
    QVERIFY2(body.shapes->isConstant(body.graph->findValue("w")), "a captured weight is a weight inside too");
    QVERIFY(!body.metrics);
    QCOMPARE(body.partition->groupOf.size(), body.graph->nodes().size());
    const auto sources = body.graph->sources(body.graph->findNode("body_add"));
    QCOMPARE(sources.size(), std::size_t(1));
    QCOMPARE(sources[0], m_analysis->model->graph->sources(m_analysis->model->graph->findNode("loop"))[0]);
}

void NestedTest::bodiesWithinBodies() {
    const Projected body = enter(whole(), "loop");
    const auto held = nestedGraphs(*m_analysis->model, body.graph->node(body.graph->findNode("choose")));
    QCOMPARE(held.size(), std::size_t(2));
    QCOMPARE(held[1].name, std::string("else_branch"));
    const Projected branch = enter(body, "choose", 1);
    QCOMPARE(branch.graph->nodes().size(), std::size_t(2));
    QVERIFY(branch.graph->findNode("else_tanh").valid());
}

void NestedTest::aFunctionIsSeenWithTheCallsArguments() {
    // The call is inlined in the baseline; the file's own graph has it.
    Projected file;
    file.graph = m_analysis->model->graph;
    file.shapes = *inferShapes(*m_analysis->model, *file.graph, m_analysis->bindings);
    const Projected block = enter(file, "block");
    QVERIFY(block.graph->findNode("block_gate").valid());
    const Node& softmax = block.graph->node(block.graph->findNode("block_softmax"));
    QCOMPARE(softmax.attributes.integer("axis", 7), -1);
    QCOMPARE(shapeOf(block, "f_w"), std::string("64x64"));
    QCOMPARE(block.graph->inputs().size(), std::size_t(1)); // the weight is none
    const Projected gate = enter(block, "block_gate");
    QVERIFY(gate.graph->findNode("gate_mul").valid());
}

void NestedTest::whatOnlyRunningTellsStaysUnknown() {
    const Projected body = enter(whole(), "loop");
    QCOMPARE(shapeOf(body, "state"), std::string("unknown")); // it may change from one turn to the next
    QCOMPARE(shapeOf(body, "h0"), std::string("unknown"));
}

void NestedTest::dataOutsideOfTheFolderIsRefusedUnlessAllowed() {
    QTemporaryDir folder;
    const QDir root(folder.path());
    QVERIFY(root.mkdir("model") && root.mkdir("weights") && root.mkdir("other"));
    QVERIFY(QFile::copy(PROJECT_ROOT "/tests/data/outside.onnx", root.filePath("model/outside.onnx")));
    QFile weights(root.filePath("weights/weights.bin"));
    QVERIFY(weights.open(QIODevice::WriteOnly));
    weights.write(QByteArray(64 * 64 * 4, '\x3c'));
    weights.close();
    const std::filesystem::path file = root.filePath("model/outside.onnx").toStdString();
    const auto weight = [](const ModelPtr& model) { return model->graph->value(model->graph->findValue("w")).initializer; };

    const auto refused = importModel(file);
    QVERIFY(refused.has_value());
    QCOMPARE((*refused)->refusedFolders.size(), std::size_t(1));
    QCOMPARE((*refused)->refusedFolders[0], std::filesystem::canonical(root.filePath("weights").toStdString()));
    QVERIFY(!(*refused)->warnings.empty());
    QVERIFY(!readPayload(**refused, *weight(*refused)));

    const auto elsewhere = importModel(file, {}, {root.filePath("other").toStdString()});
    QVERIFY(elsewhere.has_value());
    QVERIFY2(!readPayload(**elsewhere, *weight(*elsewhere)), "another folder's permission doesn't count");

    const auto allowed = importModel(file, {}, {root.filePath("weights").toStdString()});
    QVERIFY(allowed.has_value());
    QVERIFY((*allowed)->refusedFolders.empty());
    const auto bytes = readPayload(**allowed, *weight(*allowed));
    QVERIFY(bytes.has_value());
    QCOMPARE(bytes->size(), std::size_t(64 * 64 * 4));
}

QTEST_GUILESS_MAIN(NestedTest)
#include "nested_test.moc"
