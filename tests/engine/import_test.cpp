// Files as they are, and as they should not be.

#include "pipeline.h"
#include "wire_model.h"

#include <QFile>
#include <QRandomGenerator>
#include <QTemporaryDir>
#include <QTest>

using namespace triptych;

class ImportTest : public QObject {
    Q_OBJECT
private slots:
    void samplesImport_data();
    void samplesImport();
    void everyShapeOfTheSamplesIsKnown_data() { samplesImport_data(); }
    void everyShapeOfTheSamplesIsKnown();
    void truncatedFilesFailCleanly();
    void flippedBitsNeverCrash();
    void weightsAreNotRead();
    void cutWeightsAreTheRightColumns();
    void functionsAreInlinedWithTheirSource();
    void otherFormatsAreNamed_data();
    void otherFormatsAreNamed();
    void whatIsLeftAsideIsSaid();
    void operatorsThatAreOthersInAFunctionAreSaid();
    void functionsDeclareTheirValues();
    void defaultsThatDontFitGiveWayToOthers();
    void aConditionThatAsksAnUnknownShapeSaysWhy();
    void elementsOfSequencesAreDeclared();
    void linkPutThereLater_data();
    void linkPutThereLater();
    void sparseConstantsAreWrittenOut();

private:
    static QByteArray sample(const char* name) {
        QFile file(QStringLiteral(PROJECT_ROOT "/resources/samples/") + QLatin1String(name));
        return file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
    }
    std::filesystem::path write(const QByteArray& bytes) {
        const QString path = m_folder.filePath("model.onnx");
        QFile file(path);
        if (!file.open(QIODevice::WriteOnly | QIODevice::Truncate)) qFatal("no temporary file");
        file.write(bytes);
        return path.toStdString();
    }
    QTemporaryDir m_folder;
};

void ImportTest::samplesImport_data() {
    QTest::addColumn<QString>("name");
    QTest::addColumn<int>("nodes");
    QTest::newRow("function") << "vit_b_16.fn.onnx" << 544;
    QTest::newRow("bert") << "bert_base.onnx" << 1096;
    QTest::newRow("block") << "attention_block.onnx" << 43;
    QTest::newRow("separate") << "vit_b.separate.onnx" << 0;
}

void ImportTest::samplesImport() {
    QFETCH(QString, name);
    QFETCH(int, nodes);
    const auto model = importModel((QStringLiteral(PROJECT_ROOT "/resources/samples/") + name).toStdString());
    QVERIFY2(model.has_value(), model ? "" : model.error().message().c_str());
    if (nodes > 100) QCOMPARE(int((*model)->graph->nodes().size()), nodes);
    QVERIFY((*model)->opsets.at("") >= 13);
    QVERIFY(!(*model)->graph->outputs().empty());
}

void ImportTest::everyShapeOfTheSamplesIsKnown() {
    QFETCH(QString, name);
    const auto analysis = analyze(std::filesystem::path((QStringLiteral(PROJECT_ROOT "/resources/samples/") + name).toStdString()), {});
    QVERIFY2(analysis.has_value(), analysis ? "" : analysis.error().message().c_str());
    QCOMPARE((*analysis)->inlinedShapes->unknownCount(), 0U);
    for (const Projected* each : {&(*analysis)->unfused, &(*analysis)->baseline, &(*analysis)->decomposed, &(*analysis)->enhanced}) {
        QCOMPARE(each->shapes->unknownCount(), 0U);
        QCOMPARE(illegal(*each->graph, *each->classes, *each->partition), std::string());
    }
}

void ImportTest::truncatedFilesFailCleanly() {
    const QByteArray whole = sample("attention_block.onnx");
    QVERIFY(whole.size() > 5000);
    int failed = 0;
    for (int i = 1; i < 200; ++i) {
        const auto result = analyze(write(whole.left(whole.size() * i / 200)), {});
        if (result) continue;
        ++failed;
        QVERIFY(!result.error().message().empty());
        QVERIFY(!result.error().stage.empty());
    }
    QVERIFY(failed > 150);
}

void ImportTest::flippedBitsNeverCrash() {
    const QByteArray whole = sample("attention_block.onnx");
    QRandomGenerator random(20261124);
    int survived = 0;
    for (int i = 0; i < 2000; ++i) {
        QByteArray damaged = whole;
        const int at = int(random.bounded(quint32(damaged.size())));
        damaged[at] = char(damaged[at] ^ (1 << random.bounded(8)));
        const auto result = analyze(write(damaged), {});
        if (result) ++survived;
        else QVERIFY(!result.error().message().empty());
    }
    QVERIFY(survived > 0); // most bits lie in names
}

void ImportTest::weightsAreNotRead() {
    const auto model = importModel(PROJECT_ROOT "/resources/samples/vit_b_16.fn.onnx");
    QVERIFY(model.has_value());
    int absent = 0;
    for (const Value& value : (*model)->graph->values()) {
        if (!value.initializer) continue;
        QVERIFY(!value.initializer->payload.bytes || value.initializer->payload.bytes->size() <= 1024);
        if (value.initializer->payload.place == Payload::Place::absent) {
            ++absent;
            QVERIFY(!value.initializer->payload.missing.empty());
            QVERIFY(!readPayload(**model, *value.initializer).has_value());
        }
    }
    QVERIFY(absent > 10); // stripped, and no failure
}

void ImportTest::cutWeightsAreTheRightColumns() {
    const TensorPtr base = makeTensor("w", {2, 6}, std::vector<float>{0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15});
    Tensor cut;
    cut.type = DataType::float32;
    cut.dims = {2, 3};
    cut.payload.place = Payload::Place::derived;
    cut.payload.axis = 1;
    cut.payload.parts = {{base, false, 4, 2}, {base, false, 0, 1}};
    auto bytes = readPayload({}, cut);
    QVERIFY(bytes.has_value());
    QCOMPARE(decodeTensor(cut.type, cut.dims, *bytes).floats(), (std::vector<float>{4, 5, 0, 14, 15, 10}));
    Tensor turned = cut;
    turned.dims = {6, 1};
    turned.payload.parts = {{base, true, 1, 1}};
    turned.payload.axis = 1;
    bytes = readPayload({}, turned);
    QVERIFY(bytes.has_value());
    QCOMPARE(decodeTensor(turned.type, turned.dims, *bytes).floats(), (std::vector<float>{10, 11, 12, 13, 14, 15}));
    // Numbers of half a byte, cut where bytes end and where they don't.
    auto half = std::make_shared<Tensor>();
    half->type = DataType::uint4;
    half->dims = {2, 6};
    HostTensor numbers = HostTensor::zeros(half->type, half->dims);
    for (std::size_t i = 0; i < 12; ++i) numbers.integers()[i] = static_cast<std::int64_t>(i);
    half->payload.place = Payload::Place::memory;
    half->payload.bytes = std::make_shared<const std::vector<std::byte>>(encodeTensor(numbers));
    half->payload.length = half->payload.bytes->size();
    Tensor narrow = cut;
    narrow.type = half->type;
    narrow.dims = {2, 2};
    narrow.payload.parts = {{half, false, 2, 2}};
    bytes = readPayload({}, narrow);
    QVERIFY(bytes.has_value());
    QCOMPARE(decodeTensor(narrow.type, narrow.dims, *bytes).integers(), (std::vector<std::int64_t>{2, 3, 8, 9}));
    narrow.payload.parts = {{half, false, 1, 2}};
    QVERIFY(!readPayload({}, narrow).has_value());
}

void ImportTest::functionsAreInlinedWithTheirSource() {
    const auto model = importModel(PROJECT_ROOT "/resources/samples/vit_b_16.fn.onnx");
    QVERIFY(model.has_value());
    const auto inlined = inlineFunctions(**model, *(*model)->graph, {});
    QVERIFY(inlined.has_value());
    QCOMPARE((*inlined)->nodes().size(), 1024U);
    int inside = 0;
    for (std::size_t i = 0; i < (*inlined)->nodes().size(); ++i) {
        const auto sources = (*inlined)->sources(NodeId(i));
        QCOMPARE(sources.size(), 1U);
        inside += (*inlined)->nodes()[i].name.find("MultiheadAttention/") != std::string::npos;
    }
    QVERIFY(inside > 400);
}

void ImportTest::otherFormatsAreNamed_data() {
    QTest::addColumn<QByteArray>("bytes");
    QTest::addColumn<QString>("says");
    const auto row = [](const char* name, const QByteArray& bytes, const char* says) { QTest::newRow(name) << bytes << QString::fromLatin1(says); };
    const auto bytesOf = [](const Wire& message) { return QByteArray::fromStdString(message.bytes); };
    row("page behind blank lines", "\n\n<!DOCTYPE html><html></html>", "HTML or XML page");
    row("page with a mark of UTF-8", "\xef\xbb\xbf<html></html>", "HTML or XML page");
    row("OpenVINO", "<?xml version=\"1.0\"?>\n<net name=\"m\" version=\"11\">", "OpenVINO");
    row("gzip", "\x1f\x8b\x08 and more", "gzip");
    row("zip", "PK\x03\x04 and more", "zip");
    row("TensorFlow", QByteArray("\x08\x01\x12\x20") + "saved_model and serve", "TensorFlow");
    row("SavedModel", bytesOf(Wire().integer(1, 1).message(2, Wire().message(1, Wire().text(1, std::string(1000, 'o'))).message(2, Wire()))), "TensorFlow SavedModel");
    row("GraphDef", bytesOf(Wire().message(1, Wire().text(1, "c").text(2, "Const").message(5, Wire().text(1, "value").text(2, std::string(5000, 'v'))))), "TensorFlow graph");
    row("Core ML", bytesOf(Wire().integer(1, 4).message(2, Wire()).message(500, Wire().text(1, "layer"))), "Core ML");
    row("Caffe", bytesOf(Wire().text(1, "net").message(100, Wire().text(1, "conv").text(2, "Convolution"))), "Caffe");
    row("tensor", bytesOf(Wire().integer(1, 2).integer(2, 1).text(9, "abcdefgh")), "a single tensor");
    row("ONNX as text", "<\n  ir_version: 8,\n  opset_import: [\"\" : 17]\n>\nagraph (float[N] x) => (float[N] y) { y = Relu(x) }", "ONNX's own text form");
    row("protobuf as text", "ir_version: 8\ngraph {\n  node {\n  }\n}\n", "textproto");
    row("TensorRT", "ftrt and more of it", "TensorRT");
    row("safetensors", QByteArray("\x40\0\0\0\0\0\0\0{\"weight\":{}}", 20), "safetensors");
    row("text", "a note that somebody left", "text file");
    row("PaddlePaddle", bytesOf(Wire().message(1, Wire().integer(1, 0).integer(2, 0).message(3, Wire().text(1, "w")))), "PaddlePaddle");
    row("rar", "Rar!\x1a\x07 and more", "archive");
    row("zeros", QByteArray(5000, '\0'), "zeros alone");
}

void ImportTest::otherFormatsAreNamed() {
    QFETCH(QByteArray, bytes);
    QFETCH(QString, says);
    const auto model = importModel(write(bytes));
    QVERIFY(!model);
    QVERIFY2(QString::fromStdString(model.error().message()).contains(says), model.error().message().c_str());
}

void ImportTest::whatIsLeftAsideIsSaid() {
    const Wire graph = Wire().message(1, node("n", "Relu", {"x"}, {"y"})).text(2, "g").message(11, valueInfo("x", {2})).message(12, Wire().text(1, "y"));
    const std::string bytes = model(graph) + Wire().message(20, Wire().message(2, Wire().text(2, "step"))).message(26, Wire().text(1, "two").integer(2, 2)).bytes;
    const auto read = importModel(write(QByteArray::fromStdString(bytes)));
    QVERIFY2(read.has_value(), read ? "" : read.error().message().c_str());
    QCOMPARE((*read)->warnings.size(), std::size_t(2));
    QVERIFY((*read)->warnings[0].find("trained") != std::string::npos);
    QVERIFY((*read)->warnings[1].find("devices") != std::string::npos);
}

void ImportTest::operatorsThatAreOthersInAFunctionAreSaid() {
    // Since opset 20 the axis of a Fourier transform is an input.
    const Wire function = Wire().text(1, "F").text(4, "a").text(5, "b").text(10, "f").message(7, node("spectrum", "DFT", {"a"}, {"b"})).message(9, opset("", 20));
    const Wire graph = Wire().message(1, node("call", "F", {"x"}, {"y"}, "f")).text(2, "g").message(11, valueInfo("x", {1, 8, 1})).message(12, Wire().text(1, "y"));
    const auto read = importModel(write(QByteArray::fromStdString(model(graph, {function}))));
    QVERIFY2(read.has_value(), read ? "" : read.error().message().c_str());
    QCOMPARE((*read)->warnings.size(), std::size_t(1));
    QVERIFY2((*read)->warnings[0].find("spectrum (DFT, node 0) means something else") != std::string::npos, (*read)->warnings[0].c_str());
}

void ImportTest::functionsDeclareTheirValues() {
    // The shape behind an operator that nobody knows: said by the function's own value_info, IR 10 and later.
    const Wire function = Wire().text(1, "F").text(4, "a").text(5, "b").text(10, "f").message(12, valueInfo("q", {3, 4}))
                              .message(7, node("odd", "Strange", {"a"}, {"q"}, "acme")).message(7, node("turn", "Transpose", {"q"}, {"b"}));
    const Wire graph = Wire().message(1, node("call", "F", {"x"}, {"y"}, "f")).text(2, "g").message(11, valueInfo("x", {2})).message(12, Wire().text(1, "y"));
    const auto analysis = analyze(write(QByteArray::fromStdString(model(graph, {function}))), AnalysisOptions());
    QVERIFY2(analysis.has_value(), analysis ? "" : analysis.error().message().c_str());
    const ValueShape& shape = (*analysis)->inlinedShapes->of((*analysis)->inlined->findValue("y"));
    QVERIFY(shape.known());
    QCOMPARE(shape.dims, (Dims{4, 3}));
}

void ImportTest::defaultsThatDontFitGiveWayToOthers() {
    // A table of 77 positions, cut to the length of the sequence: 128 are more than there are.
    const Wire length = node("s", "Shape", {"x"}, {"n"}).message(5, Wire().text(1, "end").integer(3, 1).integer(20, 2));
    const Wire graph = Wire().message(1, length).message(1, node("cut", "Slice", {"table", "zero", "n"}, {"rows"})).message(1, node("sum", "Add", {"x", "rows"}, {"y"})).message(5, tensor("table", {77, 4}, std::string(1232, '\0')))
                           .message(5, Wire().integer(1, 1).integer(2, 7).text(8, "zero").text(9, std::string(8, '\0'))).text(2, "g").message(11, symbolicInfo("x", "seq", 4)).message(12, Wire().text(1, "y"));
    const auto path = write(QByteArray::fromStdString(model(graph)));
    const auto analysis = analyze(path, AnalysisOptions());
    QVERIFY2(analysis.has_value(), analysis ? "" : analysis.error().message().c_str());
    QCOMPARE((*analysis)->bindings.at("seq"), std::int64_t(64));
    QVERIFY((*analysis)->warnings.empty());
    // The same where the table is read in a branch that a size decides, and the graph is one for all sizes.
    const auto branch = [](const Wire& made) { return Wire().message(1, made).text(2, "b").message(12, Wire().text(1, "b")); };
    const auto attribute = [](const char* name, const Wire& body) { return Wire().text(1, name).message(6, body).integer(20, 5); };
    Wire choice = node("choice", "If", {"many"}, {"y"});
    choice.message(5, attribute("then_branch", branch(node("sum", "Add", {"x", "rows"}, {"b"})))).message(5, attribute("else_branch", branch(node("same", "Relu", {"x"}, {"b"}))));
    const Wire decided = Wire().message(1, length).message(1, node("cut", "Slice", {"table", "zero", "n"}, {"rows"})).message(1, node("c", "Cast", {"n"}, {"many"}).message(5, Wire().text(1, "to").integer(3, 9).integer(20, 2))).message(1, choice).message(5, tensor("table", {77, 4}, std::string(1232, '\0')))
                             .message(5, Wire().integer(1, 1).integer(2, 7).text(8, "zero").text(9, std::string(8, '\0'))).text(2, "g").message(11, symbolicInfo("x", "seq", 4)).message(12, Wire().text(1, "y"));
    AnalysisOptions forFile;
    forFile.forFile = true;
    const auto written = analyze(write(QByteArray::fromStdString(model(decided))), forFile);
    QVERIFY2(written.has_value(), written ? "" : written.error().message().c_str());
    QCOMPARE((*written)->bindings.at("seq"), std::int64_t(64));
    write(QByteArray::fromStdString(model(graph)));
    AnalysisOptions options;
    options.bindings = {{"seq", 128}};
    const auto bound = analyze(path, options);
    QVERIFY2(bound.has_value(), bound ? "" : bound.error().message().c_str());
    QCOMPARE((*bound)->bindings.at("seq"), std::int64_t(128));
    QCOMPARE((*bound)->warnings.size(), std::size_t(1));
}

void ImportTest::aConditionThatAsksAnUnknownShapeSaysWhy() {
    const auto branch = [](const char* op) { return Wire().message(1, node(op, op, {"odd"}, {"b"})).text(2, op).message(12, Wire().text(1, "b")); };
    Wire choice = node("choice", "If", {"c"}, {"y"});
    choice.message(5, Wire().text(1, "then_branch").message(6, branch("Neg")).integer(20, 5)).message(5, Wire().text(1, "else_branch").message(6, branch("Abs")).integer(20, 5));
    const Wire graph = Wire().message(1, node("strange", "Frobnicate", {"x"}, {"odd"}, "acme")).message(1, node("s", "Size", {"odd"}, {"n"})).message(1, node("c", "Cast", {"n"}, {"c"}).message(5, Wire().text(1, "to").integer(3, 9).integer(20, 2)))
                           .message(1, choice).text(2, "g").message(11, valueInfo("x", {2})).message(12, Wire().text(1, "y"));
    const auto analysis = analyze(write(QByteArray::fromStdString(model(graph))), AnalysisOptions());
    QVERIFY2(analysis.has_value(), analysis ? "" : analysis.error().message().c_str());
    const std::string reason = (*analysis)->inlinedShapes->reasonUnknown((*analysis)->inlined->findValue("y"));
    QVERIFY2(reason.find("acme.Frobnicate") != std::string::npos, reason.c_str());
}

void ImportTest::elementsOfSequencesAreDeclared() {
    const Wire element = Wire().message(1, Wire().integer(1, 1).message(2, Wire().message(1, Wire().text(2, "n")).message(1, Wire().integer(1, 4))));
    const Wire list = Wire().text(1, "s").message(2, Wire().message(4, Wire().message(1, element)));
    const Wire maybe = Wire().text(1, "o").message(2, Wire().message(9, Wire().message(1, element)));
    const Wire graph = Wire().message(1, node("pick", "SequenceAt", {"s", "i"}, {"a"})).message(1, node("open", "OptionalGetElement", {"o"}, {"b"})).message(1, node("sum", "Add", {"a", "b"}, {"y"}))
                           .text(2, "g").message(11, list).message(11, maybe).message(11, valueInfo("i", {})).message(12, Wire().text(1, "y"));
    AnalysisOptions options;
    options.bindings = {{"n", 7}};
    const auto analysis = analyze(write(QByteArray::fromStdString(model(graph))), options);
    QVERIFY2(analysis.has_value(), analysis ? "" : analysis.error().message().c_str());
    for (const char* name : {"a", "b", "y"}) QCOMPARE((*analysis)->inlinedShapes->of((*analysis)->inlined->findValue(name)).dims, (Dims{7, 4}));
    // The list itself is no tensor.
    QVERIFY(!(*analysis)->inlinedShapes->of((*analysis)->inlined->findValue("s")).known());
}

void ImportTest::sparseConstantsAreWrittenOut() {
    const Wire indices = Wire().integer(1, 2).integer(2, 7).text(9, std::string("\1\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0", 16));
    const Wire sparse = Wire().message(1, tensor("", {2}, std::string("\0\0\x80\x3f\0\0\0\x40", 8))).message(2, indices).integer(3, 2).integer(3, 3);
    Wire constant = node("c", "Constant", {}, {"w"});
    constant.message(5, Wire().text(1, "sparse_value").message(22, sparse).integer(20, 11));
    const Wire graph = Wire().message(1, constant).message(1, node("n", "Neg", {"w"}, {"y"})).text(2, "g").message(12, Wire().text(1, "y"));
    const auto analysis = analyze(write(QByteArray::fromStdString(model(graph))), AnalysisOptions());
    QVERIFY2(analysis.has_value(), analysis ? "" : analysis.error().message().c_str());
    const HostTensor* content = (*analysis)->inlinedShapes->constant((*analysis)->inlined->findValue("w"));
    QVERIFY(content);
    QCOMPARE(content->dims, (Dims{2, 3}));
    for (std::int64_t i = 0; i < 6; ++i) QCOMPARE(content->at(static_cast<std::size_t>(i)), i == 1 ? 1.0 : i == 3 ? 2.0 : 0.0);
}

// What was checked at import is checked again when the bytes are read.
void ImportTest::linkPutThereLater_data() {
    QTest::addColumn<int>("elements");
    QTest::newRow("read") << 4;
    QTest::newRow("mapped") << 64 * 1024;
}

void ImportTest::linkPutThereLater() {
    QFETCH(int, elements);
    const QTemporaryDir dir;
    const auto root = std::filesystem::path(dir.path().toStdString()), folder = root / "model";
    std::filesystem::create_directories(folder);
    const std::string secret(static_cast<std::size_t>(elements) * 4, 's');
    QVERIFY(writeFile(root / "secret.bin", secret) && writeFile(folder / "weights.bin", std::string(secret.size(), 'w')));
    Wire weight;
    weight.integer(1, elements).integer(2, 1).text(8, "w").message(13, Wire().text(1, "location").text(2, "weights.bin")).integer(14, 1);
    const auto file = folder / "model.onnx";
    QVERIFY(writeFile(file, model(Wire().message(1, node("n", "Neg", {"w"}, {"y"})).message(5, weight).text(2, "g").message(12, Wire().text(1, "y")))));
    const auto imported = importModel(file);
    QVERIFY(imported);
    const TensorPtr tensor = (*imported)->graph->value((*imported)->graph->findValue("w")).initializer;
    QVERIFY(readPayload(**imported, *tensor));
    std::filesystem::rename(folder / "weights.bin", root / "moved.bin");
    std::filesystem::create_symlink(root / "secret.bin", folder / "weights.bin");
    QVERIFY(!readPayload(**imported, *tensor));
    std::filesystem::remove(folder / "weights.bin");
    std::filesystem::rename(root / "moved.bin", folder / "weights.bin");
    QVERIFY(readPayload(**imported, *tensor));
    std::filesystem::rename(folder, root / "elsewhere");
    std::filesystem::create_symlink(root, folder);
    QVERIFY(writeFile(root / "weights.bin", secret));
    QVERIFY(!readPayload(**imported, *tensor));
}

QTEST_APPLESS_MAIN(ImportTest)
#include "import_test.moc"
