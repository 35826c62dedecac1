// Figures against hand-computed ones on small graphs.

#include "graph/text.h"
#include "pipeline.h"

#include <QTest>

using namespace triptych;

class CostTest : public QObject {
    Q_OBJECT
private slots:
    void productAndBias();
    void reshapeOfTransposedDataIsACopy();
    void batchedOperandsCopyAboveBatchOne();
    void precisionHalvesBytes();
    void wholeModelAgainstCountedKernels_data();
    void wholeModelAgainstCountedKernels();

private:
    static AnalysisPtr of(const char* text, const AnalysisOptions& options) {
        const auto graph = parseText(text);
        if (!graph) qFatal("%s", graph.error().message().c_str());
        auto model = std::make_shared<Model>();
        model->graph = *graph;
        model->opsets[""] = 17;
        auto analysis = analyze(model, options);
        if (!analysis) qFatal("%s", analysis.error().message().c_str());
        return *analysis;
    }
};

void CostTest::productAndBias() {
    const auto a = of("x: f32[1,8,64]\ny = Add(MatMul(x, w: f32[64,32]), b: f32[32])\n", {});
    const GraphMetrics& m = *a->unfused.metrics;
    QCOMPARE(m.launches, std::int64_t(1)); // a product with its bias is one operator
    QCOMPARE(m.flops, 2.0 * 8 * 64 * 32 + 8 * 32);
    QCOMPARE(m.weightBytes, std::int64_t((64 * 32 + 32) * 4));
    QCOMPARE(m.readBytes - m.weightBytes, std::int64_t(8 * 64 * 4));
    QCOMPARE(m.writeBytes, std::int64_t(8 * 32 * 4));
}

void CostTest::reshapeOfTransposedDataIsACopy() {
    const auto strided = of("x: f32[1,8,4,16]\ny = Relu(Reshape(Transpose(x, perm=[0,2,1,3]), {1,4,128}))\n", {});
    const auto dense = of("x: f32[1,8,4,16]\ny = Relu(Reshape(x, {1,8,64}))\n", {});
    QCOMPARE(strided->unfused.metrics->launches, std::int64_t(2));
    QCOMPARE(dense->unfused.metrics->launches, std::int64_t(1));
}

void CostTest::batchedOperandsCopyAboveBatchOne() {
    const char* text = "q: f32[batch,8,4,16]\nk: f32[batch,4,16,8]\ny = MatMul(Transpose(q, perm=[0,2,1,3]), k)\n";
    AnalysisOptions options;
    QCOMPARE(of(text, options)->unfused.metrics->launches, std::int64_t(1));
    options.bindings["batch"] = 8;
    QCOMPARE(of(text, options)->unfused.metrics->launches, std::int64_t(2));
}

void CostTest::precisionHalvesBytes() {
    AnalysisOptions options;
    const char* text = "x: f32[1,8,64]\ny = MatMul(x, w: f32[64,32])\n";
    const std::int64_t full = of(text, options)->unfused.metrics->bytes;
    options.precision = Precision::fp16;
    QCOMPARE(of(text, options)->unfused.metrics->bytes * 2, full);
}

// Kernels that an H200 launched for these very models in fp16, split-K reductions left out.
void CostTest::wholeModelAgainstCountedKernels_data() {
    QTest::addColumn<QString>("sample");
    QTest::addColumn<int>("batch");
    QTest::addColumn<QString>("preset");
    QTest::addColumn<int>("kernels");
    QTest::newRow("block") << "attention_block.onnx" << 1 << "" << 16;
    QTest::newRow("block, batch 8") << "attention_block.onnx" << 8 << "" << 19;
    QTest::newRow("block merged") << "attention_block.onnx" << 1 << "parallel" << 14;
    QTest::newRow("block flash") << "attention_block.onnx" << 1 << "flash" << 12;
    QTest::newRow("block both") << "attention_block.onnx" << 1 << "flash,parallel" << 10;
    QTest::newRow("vit") << "vit_b.separate.onnx" << 1 << "" << 192;
    QTest::newRow("vit merged") << "vit_b.separate.onnx" << 1 << "parallel" << 168;
    QTest::newRow("vit flash") << "vit_b.separate.onnx" << 1 << "flash" << 144;
    QTest::newRow("vit both") << "vit_b.separate.onnx" << 1 << "flash,parallel" << 120;
}

void CostTest::wholeModelAgainstCountedKernels() {
    QFETCH(QString, sample);
    QFETCH(int, batch);
    QFETCH(QString, preset);
    QFETCH(int, kernels);
    AnalysisOptions options;
    options.precision = Precision::fp16;
    options.bindings["batch"] = batch;
    if (!preset.isEmpty()) options.preset = preset.toStdString();
    const auto analysis = analyze(std::filesystem::path((PROJECT_ROOT "/resources/samples/" + sample).toStdString()), options);
    QVERIFY2(analysis.has_value(), analysis ? "" : analysis.error().message().c_str());
    const Projected& shown = preset.isEmpty() ? (*analysis)->unfused : (*analysis)->enhanced;
    QCOMPARE(int(shown.metrics->launches), kernels);
}

QTEST_APPLESS_MAIN(CostTest)
#include "cost_test.moc"
