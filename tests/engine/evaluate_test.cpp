// Operators of the reference evaluator against values worked out by hand or by NumPy.

#include "graph/text.h"
#include "reference/run.h"

#include <QFile>
#include <QRegularExpression>
#include <QTest>
#include <cmath>

using namespace triptych;

namespace {

RunOptions plainOptions(std::int64_t opset) {
    return {{{"", opset}, {"com.microsoft", 1}}, [](const Tensor& tensor) -> Result<std::vector<std::byte>> { return *tensor.payload.bytes; }, {}};
}

std::vector<double> evaluated(const QString& text, std::int64_t opset = 17) {
    const auto graph = parseText(text.toStdString());
    if (!graph) qFatal("%s", graph.error().message().c_str());
    const auto outputs = runGraph(**graph, {}, plainOptions(opset));
    if (!outputs) qFatal("%s", outputs.error().message().c_str());
    std::vector<double> all;
    for (const ValueId output : (*graph)->outputs()) {
        const HostTensor& tensor = outputs->at((*graph)->value(output).name);
        for (std::size_t i = 0; i < static_cast<std::size_t>(tensor.count()); ++i) all.push_back(tensor.at(i));
    }
    return all;
}

} // namespace

class EvaluateTest : public QObject {
    Q_OBJECT
private slots:
    void operators_data();
    void operators();
    void maskOfOneColumn();
    void againstPyTorch_data();
    void againstPyTorch();
    void halfIsRounded();
    void unknownOperatorIsNamed();
    void sizesThatDontFitAreNamed();
    void loopAndIf();
    void aLoopWithoutATurnStacksNothing();
    void aLoopMayCarryASequence();
    void memoryIsBounded();
};

void EvaluateTest::operators_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<QList<double>>("expected");
    const QString a = "a: f32[2,3] = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}\n", b = "b: f32[3,2] = {1.0, 0.0, 0.0, 1.0, 2.0, 2.0}\n";
    QTest::newRow("SplitToSequence, SequenceAt from the back") << a + "y = SequenceAt(SplitToSequence(a, n: i64[] = {2}, axis=1), p: i64[] = {-1})\nreturn y" << QList<double>{3, 6};
    QTest::newRow("SplitToSequence by lengths") << a + "y = SequenceAt(SplitToSequence(a, n: i64[2] = {1,2}, axis=-1), p: i64[] = {1})\nreturn y" << QList<double>{2, 3, 5, 6};
    QTest::newRow("SplitToSequence, no axis kept, stacked again") << a + "y = ConcatFromSequence(SplitToSequence(a, axis=1, keepdims=0), axis=0, new_axis=1)\nreturn y" << QList<double>{1, 4, 2, 5, 3, 6};
    QTest::newRow("SequenceInsert, SequenceErase, ConcatFromSequence") << a + "l = SequenceInsert(SequenceInsert(SequenceConstruct(a), Neg(a)), Abs(a), p: i64[] = {0})\ny = ConcatFromSequence(SequenceErase(l, q: i64[] = {1}), axis=1)\nreturn y" << QList<double>{1, 2, 3, -1, -2, -3, 4, 5, 6, -4, -5, -6};
    QTest::newRow("SequenceEmpty, SequenceLength") << a + "n = SequenceLength(SequenceInsert(SequenceEmpty(), a))\ny = Cast(n, to=1)\nreturn y" << QList<double>{1};
    QTest::newRow("MatMul") << a + b + "y = MatMul(a, b)\nreturn y" << QList<double>{7, 8, 16, 17};
    QTest::newRow("MatMul, broadcast batch") << a + "c: f32[2,3,1] = {1.0, 1.0, 1.0, 0.0, 0.0, 1.0}\ny = MatMul(a, c)\nreturn y" << QList<double>{6, 15, 3, 6};
    QTest::newRow("Gemm, transposed, scaled, bias") << a + "c: f32[2] = {10.0, 20.0}\ny = Gemm(a, a, c, transB=1, alpha=0.5, beta=2.0)\nreturn y" << QList<double>{27, 56, 36, 78.5};
    // (0 1; 2 3) times (2 1; 0 3), plus 1 and 5, times 1 and 0.5
    const QString q = "i: i32[2,2] = {1, 2, 3, 4}\nj: i32[2,2] = {2, 0, 1, 3}\none: i32[] = {1}\na = Cast(i, to=2)\nb = Cast(j, to=3)\nza = Cast(one, to=2)\nzb = Cast(Sub(one, one), to=3)\n"
                      "sa: f32[] = {0.5}\nsb: f32[2] = {1.0, 0.5}\nc: i32[1,2] = {1, 5}\n";
    QTest::newRow("QGemm to floats") << q + "y = com.microsoft::QGemm(a, sa, za, b, sb, zb, c, transB=1, alpha=2.0)\nreturn y" << QList<double>{1, 4, 5, 8};
    QTest::newRow("QGemm") << q + "sy: f32[] = {0.5}\nten: i32[] = {10}\nzy = Cast(ten, to=2)\ny = com.microsoft::QGemm(a, sa, za, b, sb, zb, c, sy, zy, transB=1, alpha=2.0)\nreturn y" << QList<double>{12, 18, 20, 26};
    QTest::newRow("QLinearAdd") << q + "y = com.microsoft::QLinearAdd(a, sa, za, a, sa, za, sa, za)\nreturn y" << QList<double>{1, 3, 5, 7};
    QTest::newRow("QLinearMul") << q + "y = com.microsoft::QLinearMul(a, sa, za, a, sa, za, sa, za)\nreturn y" << QList<double>{1, 1, 3, 5};
    QTest::newRow("QLinearSoftmax") << q + "sy: f32[] = {0.01}\ny = com.microsoft::QLinearSoftmax(a, sa, za, sy, zb, opset=13)\nreturn y" << QList<double>{38, 62, 38, 62};
    const QString cache = "p: f32[2,4,1] = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}\nu: f32[2,2,1] = {10.0, 20.0, 30.0, 40.0}\n";
    QTest::newRow("TensorScatter") << cache + "i: i64[2] = {1, 2}\ny = TensorScatter(p, u, i)\nreturn y" << QList<double>{1, 10, 20, 4, 5, 6, 30, 40};
    QTest::newRow("TensorScatter, circular") << cache + "i: i64[2] = {3, 0}\ny = TensorScatter(p, u, i, axis=1, mode=\"circular\")\nreturn y" << QList<double>{20, 2, 3, 10, 30, 40, 7, 8};
    // Distances of 0 and 1 back have numbers of their own, as those ahead have; the second head's lie behind the first one's.
    const QString buckets = "t: f32[4,2] = {10.0, 11.0, 12.0, 13.0, 20.0, 21.0, 22.0, 23.0}\n";
    QTest::newRow("RelativePositionBias") << buckets + "y = com.microsoft::RelativePositionBias(t, {3}, {3}, is_bidirectional=1, max_distance=8)\nreturn y" << QList<double>{10, 13, 13, 11, 10, 13, 11, 11, 10, 20, 23, 23, 21, 20, 23, 21, 21, 20};
    QTest::newRow("RelativePositionBias, one way") << buckets + "y = com.microsoft::RelativePositionBias(t, {1}, {5}, max_distance=8)\nreturn y" << QList<double>{10, 11, 12, 12, 13, 20, 21, 22, 22, 23};
    // log 3 makes a gate of three quarters: 0.75 (0.5 * 4 - 1) + 2, and 2.5 for a gate of a half.
    QTest::newRow("GatedRelativePositionBias") << QStringLiteral("q: f32[1,2,2] = {1.0986123, 5.0, 0.0, 0.0}\nb: f32[2] = {0.0, 0.0}\np: f32[1,1,2,2] = {1.0, 2.0, 3.0, 4.0}\nw: f32[2,4] = {1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0}\nc: f32[4] = {0.0, 0.0, 0.0, 0.0}\n"
                                                                 "a: f32[1,1,1,1] = {4.0}\ny = com.microsoft::GatedRelativePositionBias(q, b, p, w, c, a, num_heads=1)\nreturn y")
                                               << QList<double>{2.75, 5.5, 7.5, 10};
    QTest::newRow("Einsum product") << a + b + "y = Einsum(a, b, equation=\"ij,jk->ik\")\nreturn y" << QList<double>{7, 8, 16, 17};
    QTest::newRow("Einsum transposed sum") << a + "y = Einsum(a, equation=\"ij->j\")\nreturn y" << QList<double>{5, 7, 9};
    QTest::newRow("Einsum with ellipsis") << a + "y = Einsum(a, a, equation=\"...i,...i->...\")\nreturn y" << QList<double>{14, 77};
    QTest::newRow("Einsum diagonal") << QStringLiteral("c: f32[2,2] = {1.0, 2.0, 3.0, 4.0}\ny = Einsum(c, equation=\"ii->i\")\nreturn y") << QList<double>{1, 4};
    QTest::newRow("LayerNormalization") << QStringLiteral("x: f32[1,2] = {1.0, 3.0}\ns: f32[2] = {2.0, 2.0}\nb: f32[2] = {1.0, 1.0}\ny = LayerNormalization(x, s, b, epsilon=0.0)\nreturn y") << QList<double>{-1, 3};
    QTest::newRow("RMSNormalization") << QStringLiteral("x: f32[1,2] = {3.0, 4.0}\ns: f32[2] = {1.0, 2.0}\ny = RMSNormalization(x, s, epsilon=0.0)\nreturn y") << QList<double>{3 / std::sqrt(12.5), 8 / std::sqrt(12.5)};
    QTest::newRow("SkipLayerNormalization") << QStringLiteral("x: f32[1,2] = {1.0, 1.0}\nk: f32[1,2] = {0.0, 2.0}\ns: f32[2] = {1.0, 1.0}\nb: f32[2] = {0.0, 0.0}\ny = com.microsoft::SkipLayerNormalization(x, k, s, b, epsilon=0.0)\nreturn y") << QList<double>{-1, 1};
    QTest::newRow("Conv") << QStringLiteral("x: f32[1,1,3] = {1.0, 2.0, 3.0}\nw: f32[1,1,2] = {1.0, 10.0}\nb: f32[1] = {0.5}\ny = Conv(x, w, b, pads=[1,0])\nreturn y") << QList<double>{10.5, 21.5, 32.5};
    QTest::newRow("Conv, depthwise, strides") << QStringLiteral("x: f32[1,2,2] = {1.0, 2.0, 3.0, 4.0}\nw: f32[2,1,1] = {10.0, 100.0}\ny = Conv(x, w, group=2, strides=[2])\nreturn y") << QList<double>{10, 300};
    QTest::newRow("AveragePool") << QStringLiteral("x: f32[1,1,4] = {1.0, 2.0, 3.0, 4.0}\ny = AveragePool(x, kernel_shape=[2], strides=[2])\nreturn y") << QList<double>{1.5, 3.5};
    QTest::newRow("Resize linear") << QStringLiteral("x: f32[1,1,2] = {0.0, 4.0}\ns: f32[3] = {1.0, 1.0, 2.0}\ny = Resize(x, _, s, mode=\"linear\")\nreturn y") << QList<double>{0, 1, 3, 4};
    QTest::newRow("DequantizeLinear by column") << QStringLiteral("x: i64[1,2] = {3, 5}\nq = Cast(x, to=3)\ns: f32[2] = {0.5, 2.0}\nz: i64[2] = {1, 0}\nzi = Cast(z, to=3)\ny = DequantizeLinear(q, s, zi, axis=1)\nreturn y") << QList<double>{1, 10};
    QTest::newRow("MatMulInteger") << QStringLiteral("x: i64[1,2] = {3, 5}\nq = Cast(x, to=2)\nw: i64[2,1] = {1, 2}\nv = Cast(w, to=2)\nz: i64[] = {1}\nzi = Cast(z, to=2)\ny = MatMulInteger(q, v, zi)\nreturn y") << QList<double>{10};
    QTest::newRow("RotaryEmbedding") << QStringLiteral("x: f32[1,1,1,2] = {1.0, 2.0}\nc: f32[1,1] = {0.0}\ns: f32[1,1] = {1.0}\np: i64[1,1] = {0}\ny = RotaryEmbedding(x, c, s, p)\nreturn y") << QList<double>{-2, 1};
    QTest::newRow("Attention of one key") << QStringLiteral("q: f32[1,1,1,2] = {1.0, 2.0}\nv: f32[1,1,1,2] = {5.0, 7.0}\ny = Attention(q, q, v)\nreturn y") << QList<double>{5, 7};
    // Keys of one number: scores 2 and 4, given out before the softmax, the second key hidden.
    QTest::newRow("MultiHeadAttention, scores") << QStringLiteral("q: f32[1,1,1] = {2.0}\nk: f32[1,2,1] = {1.0, 2.0}\nn: i64[1] = {1}\nm = Cast(n, to=6)\ny, _, _, s = com.microsoft::MultiHeadAttention(q, k, k, _, m, num_heads=1, scale=1.0, mask_filter_value=-100.0)\nreturn y, s") << QList<double>{1, 2, -96};
    QTest::newRow("MultiHeadAttention, lengths and their sums") << QStringLiteral("q: f32[2,1,1] = {2.0, 2.0}\nk: f32[2,2,1] = {1.0, 2.0, 3.0, 4.0}\nn: i64[8] = {1, 1, 0, 1, 2, 0, 1, 2}\nm = Cast(n, to=6)\ny = com.microsoft::MultiHeadAttention(q, k, k, _, m, num_heads=1, scale=1.0)\nreturn y") << QList<double>{1, 3};
    QTest::newRow("Attention, nothing seen") << QStringLiteral("q: f32[1,1,1,2] = {1.0, 2.0}\nm: i64[1,1] = {0}\nb = Cast(m, to=9)\ny = Attention(q, q, q, b)\nreturn y") << QList<double>{0, 0};
}

void EvaluateTest::operators() {
    QFETCH(QString, text);
    QFETCH(QList<double>, expected);
    const auto got = evaluated(text);
    QCOMPARE(static_cast<qsizetype>(got.size()), expected.size());
    for (qsizetype i = 0; i < expected.size(); ++i) QVERIFY2(std::fabs(got[static_cast<std::size_t>(i)] - expected[i]) < 1e-5, qPrintable(QString::number(got[static_cast<std::size_t>(i)])));
}

void EvaluateTest::maskOfOneColumn() {
    const QString text = "q: f32[1,1,1,1] = {0.0}\nk: f32[1,1,2,1] = {1.0, 3.0}\nm: f32[1,1] = {0.0}\ny = Attention(q, k, k, m)\nreturn y";
    QCOMPARE(evaluated(text, 23), (std::vector<double>{2})); // stretched over the keys
    QCOMPARE(evaluated(text, 24), (std::vector<double>{1})); // hides the keys that it leaves out
}

void EvaluateTest::againstPyTorch_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<int>("opset");
    QTest::addColumn<QList<double>>("expected");
    QFile file(QStringLiteral(TEST_DATA "/operators.txt"));
    QVERIFY(file.open(QIODevice::ReadOnly));
    static const QRegularExpression each(QStringLiteral("^# (.+) \\((\\d+)\\)\n((?:.+\n)+?)= (.+)$"), QRegularExpression::MultilineOption);
    auto matches = each.globalMatch(QString::fromUtf8(file.readAll()));
    while (matches.hasNext()) {
        const auto match = matches.next();
        QList<double> expected;
        for (const QString& number : match.captured(4).split(QStringLiteral(", "))) expected << number.toDouble();
        QTest::newRow(qPrintable(match.captured(1))) << match.captured(3) << match.captured(2).toInt() << expected;
    }
}

void EvaluateTest::againstPyTorch() {
    QFETCH(QString, text);
    QFETCH(int, opset);
    QFETCH(QList<double>, expected);
    const auto got = evaluated(text, opset);
    QCOMPARE(static_cast<qsizetype>(got.size()), expected.size());
    for (qsizetype i = 0; i < expected.size(); ++i)
        QVERIFY2(std::fabs(got[static_cast<std::size_t>(i)] - expected[i]) < 1e-5, qPrintable(QStringLiteral("%1: %2 instead of %3").arg(i).arg(got[static_cast<std::size_t>(i)]).arg(expected[i])));
}

void EvaluateTest::halfIsRounded() {
    // 1 + 2^-12 is no float16: the sum is 1 again, and 2049 is rounded to even.
    QCOMPARE(evaluated("x: f32[2] = {1.0, 2048.0}\nh = Cast(x, to=10)\ns: f32[2] = {0.000244140625, 1.0}\nt = Cast(s, to=10)\ny = Add(h, t)\nreturn y"), (std::vector<double>{1, 2048}));
}

void EvaluateTest::unknownOperatorIsNamed() {
    const auto graph = parseText("x: f32[1] = {1.0}\n@odd y = acme::Frobnicate(x)\nreturn y");
    const auto made = runGraph(**graph, {}, plainOptions(17));
    QVERIFY(!made);
    QVERIFY2(made.error().message().find("odd (Frobnicate)") != std::string::npos, made.error().message().c_str());
}

/// As of a file that was traced at one size and is run at another.
void EvaluateTest::sizesThatDontFitAreNamed() {
    const auto graph = parseText("x: f32[2,3] = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}\ny = Reshape(x, {2,4})\nreturn y");
    const auto made = runGraph(**graph, {}, plainOptions(17));
    QVERIFY(!made);
    QVERIFY2(made.error().message().find("2x4") != std::string::npos && made.error().message().find("2x3") != std::string::npos, made.error().message().c_str());
}

void EvaluateTest::loopAndIf() {
    // Bodies as graphs of their own; `step` is read from outside.
    const auto body = parseText("i: i64[]\nc: bool[]\nsum: f32[]\nmore = Identity(c)\nnext = Add(sum, step)\neach = Identity(next)\nreturn more, next, each");
    const auto same = parseText("big = Mul(step, step)\nreturn big"), other = parseText("none = Sub(step, step)\nreturn none");
    QVERIFY(body && same && other);
    GraphBuilder builder;
    const ValueId step = builder.addInitializer(makeTensor("step", {}, std::vector<float>{3}));
    const ValueId count = builder.addInitializer(makeTensor("count", {}, std::vector<std::int64_t>{4})), begin = builder.addInitializer(makeTensor("begin", {}, std::vector<float>{0}));
    const auto node = [&](const char* op, std::vector<ValueId> inputs, std::vector<ValueId> outputs, std::vector<Attribute> attributes) {
        builder.addNode({op, op, {}, {}, {}, std::move(inputs), std::move(outputs), {step}, Attributes(std::move(attributes)), {}});
    };
    node("Loop", {count, ValueId(), begin}, {builder.value("last"), builder.value("all")}, {{"body", *body, {}}});
    node("If", {builder.value("last")}, {builder.value("chosen")}, {{"then_branch", *same, {}}, {"else_branch", *other, {}}});
    for (const char* name : {"last", "all", "chosen"}) builder.addOutput(builder.value(name));
    const auto graph = builder.finish();
    QVERIFY(graph);
    const auto made = runGraph(**graph, {}, plainOptions(17));
    QVERIFY2(made, made ? "" : made.error().message().c_str());
    QCOMPARE(made->at("last").at(0), 12.0);
    QCOMPARE(made->at("all").dims, Dims{4});
    QCOMPARE(made->at("chosen").at(0), 9.0);
}

void EvaluateTest::aLoopWithoutATurnStacksNothing() {
    const auto body = parseText("i: i64[]\nc: bool[]\nsum: f32[3]\nmore = Identity(c)\nnext = Identity(sum)\neach = Identity(next)\nreturn more, next, each");
    QVERIFY(body);
    GraphBuilder builder;
    Node loop;
    loop.name = loop.op = "Loop";
    loop.inputs = {builder.addInitializer(makeTensor("count", {}, std::vector<std::int64_t>{0})), ValueId(), builder.addInitializer(makeTensor("begin", {3}, std::vector<float>{1, 2, 3}))};
    loop.outputs = {builder.value("last"), builder.value("all")};
    loop.attributes = Attributes({{"body", *body, {}}});
    builder.addNode(loop);
    for (const char* name : {"last", "all"}) builder.addOutput(builder.value(name));
    const auto made = runGraph(**builder.finish(), {}, plainOptions(17));
    QVERIFY2(made, made ? "" : made.error().message().c_str());
    QCOMPARE(made->at("last").at(2), 3.0);
    QCOMPARE(made->at("all").count(), std::int64_t(0));
}

/// As repeat_interleave is exported: parts of a split, each changed, in a sequence that grows.
void EvaluateTest::aLoopMayCarryASequence() {
    const auto body = parseText("i: i64[]\nc: bool[]\nsofar: f32[]\nmore = Identity(c)\npart = SequenceAt(parts, i)\nnext = SequenceInsert(sofar, Concat(part, part, axis=0))\nreturn more, next");
    QVERIFY(body);
    GraphBuilder builder;
    const auto node = [&](const char* op, std::vector<ValueId> inputs, const char* output, std::vector<Attribute> attributes = {}) {
        const std::vector<ValueId> captured = op == std::string("Loop") ? std::vector{builder.value("parts")} : std::vector<ValueId>();
        builder.addNode({op, op, {}, {}, {}, std::move(inputs), {builder.value(output)}, captured, Attributes(std::move(attributes)), {}});
        return builder.value(output);
    };
    const ValueId x = builder.addInitializer(makeTensor("x", {3}, std::vector<float>{1, 2, 3})), count = builder.addInitializer(makeTensor("count", {}, std::vector<std::int64_t>{3}));
    node("SplitToSequence", {x}, "parts");
    const ValueId all = node("Loop", {count, ValueId(), node("SequenceEmpty", {}, "none")}, "all", {{"body", *body, {}}});
    builder.addOutput(node("ConcatFromSequence", {all}, "y", {{"axis", std::int64_t(0), {}}}));
    builder.addOutput(node("SequenceLength", {all}, "length"));
    const auto made = runGraph(**builder.finish(), {}, plainOptions(17));
    QVERIFY2(made, made ? "" : made.error().message().c_str());
    std::vector<double> got;
    for (std::size_t i = 0; i < 6; ++i) got.push_back(made->at("y").at(i));
    QCOMPARE(got, (std::vector<double>{1, 1, 2, 2, 3, 3}));
    QCOMPARE(made->at("length").at(0), 3.0);
}

void EvaluateTest::memoryIsBounded() {
    const auto graph = parseText("s: i64[2] = {100000, 100000}\ny = ConstantOfShape(s)\nz = Add(y, y)\nreturn z");
    const auto made = runGraph(**graph, {}, plainOptions(17));
    QVERIFY(!made);
}

QTEST_APPLESS_MAIN(EvaluateTest)
#include "evaluate_test.moc"
