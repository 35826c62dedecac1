#include "graph/hash.h"
#include "graph/text.h"
#include "support/numbers.h"

#include <QTest>

using namespace triptych;

class GraphTest : public QObject {
    Q_OBJECT
private slots:
    void textSurvivesPrinting();
    void orderIsTopological();
    void readersAndProducers();
    void namesAreMadeUnique();
    void cycleNamesANode();
    void twoProducersAreRefused();
    void hashIgnoresNames();
    void numbersReadWell();
};

static GraphPtr graphOf(const char* text) {
    const auto graph = parseText(text);
    if (!graph) qFatal("%s", graph.error().message().c_str());
    return *graph;
}

void GraphTest::textSurvivesPrinting() {
    const GraphPtr graph = graphOf(R"(
        x: f32[batch,8,64]
        c: f32[] = {0.125}
        q = Add(bq: f32[64], MatMul(x, wq: f32[64,64]))
        a, b = Split(q, axis=-1, num_outputs=2)
        z = com.microsoft::Gelu(Mul(a, c))
        y = Reshape(z, {1,8,4,8}, allowzero=0)
        @odd w = Clip(b, _, {0.5}, name="text", list=[1,2])
        return y, w
    )");
    QCOMPARE(graph->inputs().size(), 1U);
    QCOMPARE(graph->outputs().size(), 2U);
    const std::string printed = printText(*graph);
    const auto again = parseText(printed);
    QVERIFY2(again.has_value(), again ? "" : again.error().message().c_str());
    QCOMPARE(printText(**again), printed);
    QVERIFY(graph->findNode("odd").valid());
    QVERIFY(!graph->node(graph->findNode("odd")).inputs[1].valid());
    QCOMPARE(graph->value(graph->inputs()[0]).declared.symbols[0], std::string("batch"));
}

void GraphTest::orderIsTopological() {
    const GraphPtr graph = graphOf("x: f32[1]\n@late y = Neg(m)\n@early m = Abs(x)\n");
    QCOMPARE(graph->nodes()[0].name, std::string("early"));
    QCOMPARE(graph->sources(NodeId(0))[0], SourceId(1)); // the file's position, not the sorted one
}

void GraphTest::readersAndProducers() {
    const GraphPtr graph = graphOf("x: f32[1]\nm = Abs(x)\ny = Add(m, m)\nz = Neg(m)\n");
    const ValueId m = graph->findValue("m");
    QCOMPARE(graph->readers(m).size(), 3U);
    QCOMPARE(graph->node(graph->producer(m)).op, std::string("Abs"));
    QVERIFY(!graph->producer(graph->findValue("x")).valid());
    QVERIFY(graph->isOutput(graph->findValue("y")));
}

void GraphTest::namesAreMadeUnique() {
    const GraphPtr graph = graphOf("x: f32[1]\n@same a = Abs(x)\n@same b = Neg(a)\nc = Neg(b)\n");
    QCOMPARE(graph->nodes()[1].name, std::string("Neg_1"));
    QCOMPARE(graph->nodes()[2].name, std::string("Neg_2"));
}

void GraphTest::cycleNamesANode() {
    const auto graph = parseText("x: f32[1]\n@first a = Add(x, b)\n@second b = Neg(a)\n@after c = Neg(b)\n");
    QVERIFY(!graph.has_value());
    const std::string message = graph.error().message();
    QVERIFY2(message.find("cycle") != std::string::npos, message.c_str());
    QVERIFY2(message.find("first") != std::string::npos || message.find("second") != std::string::npos, message.c_str());
}

void GraphTest::twoProducersAreRefused() {
    const auto graph = parseText("x: f32[1]\n@one a = Abs(x)\n@two a = Neg(x)\n");
    QVERIFY(!graph.has_value());
    QVERIFY(graph.error().message().find("two") != std::string::npos);
}

void GraphTest::hashIgnoresNames() {
    const GraphPtr one = graphOf("x: f32[1]\na = Softmax(x, axis=-1)\nb = MatMul(a, w: f32[4,4])\n");
    const GraphPtr two = graphOf("z: f32[1]\nk = Softmax(z, axis=-1)\nl = MatMul(k, v: f32[4,4])\n");
    const GraphPtr three = graphOf("z: f32[1]\nk = Softmax(z, axis=1)\nl = MatMul(k, v: f32[4,4])\n");
    const std::vector nodes{NodeId(0), NodeId(1)};
    QCOMPARE(structuralHash(*one, nodes), structuralHash(*two, nodes));
    QVERIFY(structuralHash(*one, nodes) != structuralHash(*three, nodes));
}

void GraphTest::numbersReadWell() {
    QCOMPARE(formatBytes(14524416), std::string("14.5 MB"));
    QCOMPARE(formatBytes(999), std::string("999 B"));
    QCOMPARE(grouped(-14524416), std::string("-14,524,416"));
    QCOMPARE(formatMicroseconds(0.3), std::string("0.3 µs"));
    const std::vector<std::int64_t> dims{1, -1, 768};
    QCOMPARE(formatDims(dims), std::string("1×?×768"));
}

QTEST_APPLESS_MAIN(GraphTest)
#include "graph_test.moc"
