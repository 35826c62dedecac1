// Files that are written open again, hold the same, and appear whole or not at all.

#include "fusion/fused_model.h"
#include "graph/text.h"
#include "onnx_io/export.h"
#include "pipeline.h"
#include "proof.h"

#include <QTemporaryDir>
#include <QTest>
#include <fstream>

using namespace triptych;

namespace {

Model modelOf(const std::string& text) {
    const auto parsed = parseText(text);
    if (!parsed) qFatal("%s", parsed.error().message().c_str());
    Model model;
    model.irVersion = 8;
    model.opsets = {{"", 17}};
    model.metadata = {{"author", "someone"}};
    model.graph = *parsed;
    return model;
}

const std::string packed = "x: f32[1,2,4]\n"
                           "w: f32[4,12] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 0.1, 0.3, 0.5, 0.7, 0.9, 0.2, 0.4, 0.6, 0.8, 0.1, 0.2, 0.3, "
                           "0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2, 0.1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3}\n"
                           "q1, k1, v1 = Split(MatMul(x, w), {4,4,4}, axis=-1)\n"
                           "q = Transpose(Reshape(q1, {1,2,2,2}), perm=[0,2,1,3])\nk = Transpose(Reshape(k1, {1,2,2,2}), perm=[0,2,3,1])\nv = Transpose(Reshape(v1, {1,2,2,2}), perm=[0,2,1,3])\n"
                           "s = Softmax(MatMul(q, k), axis=-1)\ny = Reshape(Transpose(MatMul(s, v), perm=[0,2,1,3]), {1,2,4})\nreturn y";

} // namespace

class ExportTest : public QObject {
    Q_OBJECT
private slots:
    void roundTrip();
    void largeWeightsGoBeside();
    void decomposedAndFusedOpenAgain();
    void quantisedProjectionsMerge_data();
    void quantisedProjectionsMerge();
    void failureLeavesNothing();
    void missingWeightsStayReferences();
    void branchesInFunctionsReadTheRightValues();

private:
    std::filesystem::path file(const char* name) const { return std::filesystem::path(m_dir.path().toStdString()) / name; }
    ModelPtr opened(const std::filesystem::path& path) const {
        const auto model = importModel(path);
        if (!model) qFatal("%s", model.error().message().c_str());
        return *model;
    }
    QTemporaryDir m_dir;
};

void ExportTest::roundTrip() {
    const Model model = modelOf("x: f32[batch,seq,4]\nc: bool[2] = {1, 0}\n@first a = com.acme::Odd(x, _, c, alpha=0.5, names=[\"p\",\"q\"], list=[1,-2], real=[0.25,4.0], word=\"w\")\n"
                                "t = Reshape(a, {0,-1})\n@last y = Identity(t)\nreturn y");
    QVERIFY(exportModel({model, *model.graph, {}, {{"key", "value"}}}, file("round.onnx")));
    const ModelPtr again = opened(file("round.onnx"));
    QCOMPARE(printText(*again->graph), printText(*model.graph));
    QCOMPARE(again->opsets.at(""), std::int64_t(17));
    QCOMPARE(again->metadata.size(), std::size_t(2));
    const Value& input = again->graph->value(again->graph->inputs()[0]);
    QCOMPARE(input.declared.symbols, (std::vector<std::string>{"batch", "seq", ""}));
}

void ExportTest::largeWeightsGoBeside() {
    std::vector<float> numbers(1000);
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
    GraphBuilder builder("g");
    const ValueId x = builder.value("x"), w = builder.addInitializer(makeTensor("w", {1000}, numbers)), y = builder.value("y");
    builder.edit(x).declared = {DataType::float32, true, {1000}, {""}, "tensor"};
    builder.addInput(x);
    builder.addNode({"add", "Add", {}, {}, {}, {x, w}, {y}, {}, {}, {}});
    builder.addOutput(y);
    Model model = modelOf("x: f32[1]\ny = Identity(x)\nreturn y");
    model.graph = *builder.finish();
    QVERIFY(exportModel({model, *model.graph, {}, {}, 100}, file("beside.onnx")));
    QVERIFY(std::filesystem::exists(file("beside.onnx.data")));
    const ModelPtr again = opened(file("beside.onnx"));
    const TensorPtr& tensor = again->graph->value(again->graph->findValue("w")).initializer;
    QCOMPARE(tensor->payload.place, Payload::Place::external);
    const auto bytes = readPayload(*again, *tensor);
    QVERIFY(bytes);
    QCOMPARE(decodeTensor(DataType::float32, {1000}, *bytes).floats(), numbers);
    // What lies outside stays outside when it is written again.
    QVERIFY(exportModel({*again, *again->graph, {}, {}}, file("again.onnx")));
    QVERIFY(std::filesystem::exists(file("again.onnx.data")));
    QCOMPARE(std::filesystem::file_size(file("again.onnx.data")), std::uintmax_t(4000));
}

void ExportTest::decomposedAndFusedOpenAgain() {
    const Model source = modelOf(packed);
    QVERIFY(exportModel({source, *source.graph, {}, {}}, file("packed.onnx")));
    AnalysisOptions options;
    options.forFile = true;
    const auto analysis = analyze(file("packed.onnx"), options);
    QVERIFY2(analysis, analysis ? "" : analysis.error().message().c_str());
    const Analysis& a = **analysis;
    QVERIFY(exportModel({*a.model, *a.decomposition->graph, {}, {}}, file("decomposed.onnx")));
    const auto fused = fusedModel(*a.enhanced.graph, *a.enhanced.shapes, *a.enhanced.partition, *a.library, a.model->opsets);
    QVERIFY(fused);
    QVERIFY(!fused->functions.empty());
    QVERIFY(exportModel({*a.model, *fused->graph, fused->functions, {}}, file("fused.onnx")));
    for (const char* name : {"decomposed.onnx", "fused.onnx"}) {
        const auto other = analyze(file(name), AnalysisOptions());
        QVERIFY2(other, other ? "" : other.error().message().c_str());
        QCOMPARE((*other)->attentions.found.size(), std::size_t(1));
        const AttentionSpec &was = a.attentions.found[0], &is = (*other)->attentions.found[0];
        QCOMPARE(is.heads, was.heads);
        QCOMPARE(is.headDim, was.headDim);
        QCOMPARE(is.form, std::string("explicit"));
        const VerifyRequest request{*a.model, *a.inlined, *a.inlinedShapes, *(*other)->model, *(*other)->inlined, name, nullptr, nullptr, {Fill::random, Fill::ramp}, 3, std::nullopt, std::nullopt};
        const auto same = verify(request);
        QVERIFY2(same, same ? "" : same.error().message().c_str());
        QVERIFY(same->holds());
    }
    const ModelPtr written = opened(file("decomposed.onnx"));
    const NodeId made = written->graph->findNode(a.decomposition->graph->node(a.decomposition->attentions[0].q[0]).name);
    QVERIFY(made);
    const auto& metadata = written->graph->node(made).metadata;
    QVERIFY(std::any_of(metadata.begin(), metadata.end(), [](const auto& each) { return each.first == sourcesKey && each.second.find("MatMul") != std::string::npos; }));
    QVERIFY(written->graph->findValue("w.q_weight"));
}

void ExportTest::quantisedProjectionsMerge_data() {
    QTest::addColumn<QString>("projection"); // of each role, for its letter R
    QTest::addColumn<QString>("product");
    QTest::addColumn<int>("products"); // of the three: 1 where they are merged
    QTest::addColumn<QString>("warning");
    const auto row = [](const char* name, const char* projection, const char* product, int products, const char* warning = "") { QTest::newRow(name) << projection << product << products << warning; };
    row("4 bits", "com.microsoft::MatMulNBits(x, wR: u8[32,2,8], sR: f32[64], zR: u8[32], K=32, N=32, bits=4, block_size=16)", "MatMulNBits", 1);
    row("4 bits, no zero point, biases", "Add(com.microsoft::MatMulNBits(x, wR: u8[32,2,8], sR: f32[64], K=32, N=32, bits=4, block_size=16), bR: f32[32])", "MatMulNBits", 1);
    row("scales for columns", "Add(MatMul(x, DequantizeLinear(wR: i8[32,32], sR: f32[32], zR: i8[32], axis=1)), bR: f32[32])", "MatMul", 1);
    row("scales for blocks of rows", "MatMul(x, DequantizeLinear(wR: i8[32,32], sR: f32[2,32], axis=0, block_size=16))", "MatMul", 1);
    row("scales for blocks of columns", "MatMul(x, DequantizeLinear(wR: i8[32,32], sR: f32[32,2], axis=1, block_size=16))", "MatMul", 3, "scales for blocks of columns");
    row("one scale for all columns", "MatMul(x, DequantizeLinear(wR: i8[32,32], sR: f32[] = {0.0R}))", "MatMul", 1);
    row("one scale and zero point for all columns", "MatMul(x, DequantizeLinear(wR: i8[32,32], sR: f32[] = {0.0R}, zR: i8[]))", "MatMul", 1);
    row("integers", "Mul(Cast(MatMulInteger(u, wR: i8[32,32], uz, zR: i8[32]), to=1), Mul(us, sR: f32[32]))", "MatMulInteger", 1);
    row("integers, one zero point for all columns", "Mul(Cast(MatMulInteger(u, wR: i8[32,32], uz, zR: i8[]), to=1), Mul(us, sR: f32[32]))", "MatMulInteger", 1);
    row("QLinearMatMul", "DequantizeLinear(QLinearMatMul(u, us, uz, wR: i8[32,32], sR: f32[] = {0.0R}, zR: i8[], o: f32[] = {0.5}, oz: u8[]), o, oz)", "QLinearMatMul", 1);
    row("QLinearMatMul, scales for columns, a bias behind", "Add(DequantizeLinear(QLinearMatMul(u, us, uz, wR: i8[32,32], sR: f32[32], zR: i8[32], o: f32[] = {0.5}, oz: u8[]), o, oz), bR: f32[32])", "QLinearMatMul", 1);
    row("QGemm", "DequantizeLinear(com.microsoft::QGemm(Reshape(u, {4,32}), us, uz, wR: i8[32,32], sR: f32[] = {0.0R}, zR: i8[], bR: i32[32], o: f32[] = {0.5}, oz: u8[], transB=1), o, oz)", "QGemm", 1);
    row("MatMulIntegerToFloat", "com.microsoft::MatMulIntegerToFloat(u, wR: i8[32,32], us, sR: f32[1], uz, zR: i8[1], bR: f32[32])", "MatMulIntegerToFloat", 1);
    row("DynamicQuantizeMatMul", "com.microsoft::DynamicQuantizeMatMul(x, wR: i8[32,32], sR: f32[] = {0.0R}, zR: i8[], bR: f32[32])", "DynamicQuantizeMatMul", 1);
}

/// Joined along their columns with what each column has; the reason is told where something is there for all of them.
void ExportTest::quantisedProjectionsMerge() {
    QFETCH(QString, projection);
    QFETCH(QString, product);
    QFETCH(int, products);
    QFETCH(QString, warning);
    QString text = QStringLiteral("x: f32[1,4,32]\n");
    if (projection.contains(QStringLiteral("(u,"))) text += QStringLiteral("u, us, uz = DynamicQuantizeLinear(x)\n");
    for (const auto& [role, digit] : {std::pair('q', '1'), std::pair('k', '2'), std::pair('v', '3')}) {
        QString own = projection;
        own.replace(QStringLiteral("0.0R"), QStringLiteral("0.0") + QLatin1Char(digit));
        for (const char* letter : {"w", "s", "z", "b"}) own.replace(QString::fromLatin1(letter) + QStringLiteral("R"), QString::fromLatin1(letter) + QLatin1Char(role));
        text += QStringLiteral("%1 = Transpose(Reshape(%2, {1,4,4,8}), perm=[0,2,%3])\n").arg(QLatin1Char(role)).arg(own, role == 'k' ? QStringLiteral("3,1") : QStringLiteral("1,3"));
    }
    text += QStringLiteral("c = MatMul(Softmax(MatMul(q, k), axis=-1), v)\ny = Reshape(Transpose(c, perm=[0,2,1,3]), {1,4,32})\nreturn y");
    Model source = modelOf(text.toStdString());
    source.graph = withWeights(*source.graph);
    source.opsets = {{"", 21}, {"com.microsoft", 1}};
    source.irVersion = 10;
    QVERIFY(exportModel({source, *source.graph, {}, {}}, file("quantised.onnx")));
    AnalysisOptions options;
    options.forFile = true;
    const auto analysis = analyze(file("quantised.onnx"), options);
    QVERIFY2(analysis, analysis ? "" : analysis.error().message().c_str());
    const Analysis& a = **analysis;
    const auto fused = fusedModel(*a.enhanced.graph, *a.enhanced.shapes, *a.enhanced.partition, *a.library, a.model->opsets);
    QVERIFY2(fused, fused ? "" : fused.error().message().c_str());
    int found = product == QStringLiteral("MatMul") ? -2 : 0; // scores and context
    const auto count = [&](const Graph& graph) { for (const Node& node : graph.nodes()) found += node.op == product.toStdString(); };
    count(*fused->graph);
    for (const Function& function : fused->functions) count(*function.body);
    std::string all;
    for (const std::string& each : fused->warnings) all += each + "\n";
    QVERIFY2(warning.isEmpty() ? all.find("not merged") == std::string::npos : QString::fromStdString(all).contains(warning), all.c_str());
    QCOMPARE(found, products);
    QVERIFY(exportModel({*a.model, *fused->graph, fused->functions, {}}, file("merged.onnx")));
    const auto other = analyze(file("merged.onnx"), AnalysisOptions());
    QVERIFY2(other, other ? "" : other.error().message().c_str());
    const VerifyRequest request{*a.model, *a.inlined, *a.inlinedShapes, *(*other)->model, *(*other)->inlined, "merged", nullptr, nullptr, {Fill::random, Fill::ramp}, 3, std::nullopt, std::nullopt};
    const auto same = verify(request);
    QVERIFY2(same, same ? "" : same.error().message().c_str());
    QVERIFY(same->holds());
}

void ExportTest::failureLeavesNothing() {
    Model model = modelOf("x: f32[1]\nw: f32[2] = {1.0, 2.0}\ny = Add(x, w)\nreturn y");
    const auto refused = exportModel({model, *model.graph, {}, {}}, file("no/such/folder/out.onnx"));
    QVERIFY(!refused);
    QCOMPARE(refused.error().stage, std::string("write"));
    // A weight that is promised but not there: the target stays what it was.
    std::ofstream(file("old.onnx")) << "old";
    GraphBuilder builder("g");
    builder.adoptValues(*model.graph);
    auto gone = std::make_shared<Tensor>(*model.graph->value(model.graph->findValue("w")).initializer);
    gone->payload = {};
    gone->payload.place = Payload::Place::model;
    gone->payload.length = 8;
    builder.edit(model.graph->findValue("w")).initializer = gone;
    builder.adoptNode(*model.graph, NodeId(0));
    const auto graph = builder.finish();
    const auto failed = exportModel({model, **graph, {}, {}}, file("old.onnx"));
    QVERIFY(!failed);
    QCOMPARE(failed.error().stage, std::string("weights"));
    QCOMPARE(std::filesystem::file_size(file("old.onnx")), std::uintmax_t(3));
}

void ExportTest::missingWeightsStayReferences() {
    const Model model = modelOf("x: f32[1,4]\ny = MatMul(x, w: f32[4,4])\nreturn y");
    QVERIFY(exportModel({model, *model.graph, {}, {}}, file("bare.onnx")));
    const ModelPtr again = opened(file("bare.onnx"));
    const TensorPtr& tensor = again->graph->value(again->graph->findValue("w")).initializer;
    QVERIFY(tensor);
    QCOMPARE(tensor->dims, (Dims{4, 4}));
    QCOMPARE(tensor->payload.place, Payload::Place::absent);
}

void ExportTest::branchesInFunctionsReadTheRightValues() {
    // F(a) = If(true) a * (a + a): called twice, so that names inside the branch must differ from call to call.
    const ModelPtr model = opened(TEST_DATA "/function_with_branch.onnx");
    const auto inlined = inlineFunctions(*model, *model->graph, {});
    QVERIFY(inlined);
    QVERIFY(exportModel({*model, **inlined, {}, {}}, file("inlined.onnx")));
    const ModelPtr again = opened(file("inlined.onnx"));
    for (const auto& [graph, owner] : {std::pair(*inlined, model), std::pair(again->graph, again)}) {
        const auto made = runGraph(*graph, {{"x", HostTensor::ofFloats({2}, {1, 2})}}, {owner->opsets, [&](const Tensor& tensor) { return readPayload(*owner, tensor); }, {}});
        QVERIFY2(made, made ? "" : made.error().message().c_str());
        QCOMPARE(made->at("y").floats(), (std::vector<float>{8, 128}));
    }
}

QTEST_APPLESS_MAIN(ExportTest)
#include "export_test.moc"
