// Shape rules against shapes that came out when the operators ran, and against shapes worked out from the specification.

#include "branches.h"
#include "graph/text.h"
#include "shapes/dim_expression.h"
#include "shapes/shapes.h"

#include <QFile>
#include <QRegularExpression>
#include <QSet>
#include <QTest>

using namespace triptych;

namespace {

/// Operators whose data decide a size: the rank must be right, and each size must be right or unknown.
const QSet<QString> dataDecide{"Compress", "NonMaxSuppression", "NonZero", "StringNormalizer", "Unique"};

struct Told {
    QString shape; ///< "f32[2,?]", "f32" where the rank is unknown
    QString reason;
};

QString textOf(const ValueShape& shape) {
    QString text = QString::fromUtf8(shortName(shape.type).data());
    if (!shape.ranked) return text;
    QStringList sizes;
    for (const Dim dim : shape.dims) sizes << (dim < 0 ? QStringLiteral("?") : QString::number(dim));
    return text + '[' + sizes.join(',') + ']';
}

/// Shapes of the graph's outputs.
std::vector<Told> inferred(const QString& text, std::int64_t opset) {
    const auto graph = parseText(text.toStdString());
    if (!graph) qFatal("%s in %s", graph.error().message().c_str(), qPrintable(text));
    Model model;
    model.graph = *graph;
    for (const Node& node : (*graph)->nodes()) model.opsets[node.domain] = opset;
    const auto shapes = inferShapes(model, **graph, {});
    if (!shapes) qFatal("%s", shapes.error().message().c_str());
    std::vector<Told> told;
    for (const ValueId output : (*graph)->outputs()) told.push_back({textOf((*shapes)->of(output)), QString::fromStdString((*shapes)->reasonUnknown(output))});
    return told;
}

/// True where they are equal but for sizes that `open` has as "?".
bool fits(const QString& open, const QString& whole) {
    const QStringList a = open.split(','), b = whole.split(',');
    if (a.size() != b.size()) return false;
    for (qsizetype i = 0; i < a.size(); ++i) {
        QString pattern = QRegularExpression::escape(a[i]);
        pattern.replace("\\?", "\\d+");
        if (!QRegularExpression(QRegularExpression::anchoredPattern(pattern)).match(b[i]).hasMatch()) return false;
    }
    return true;
}

} // namespace

class ShapesTest : public QObject {
    Q_OBJECT
private slots:
    void expressionsOfSizes_data();
    void expressionsOfSizes();
    void defaultsByUse();
    void aPictureFitsTheTableOfPositions();
    void derivedSizesFollow();
    void sizesAreToldByUse();
    void softmaxesRunOverSequences_data();
    void softmaxesRunOverSequences();
    void allKeysArePastAndNewOnes();
    void operators_data();
    void operators();
    void wrongShapesAndAttributesAreSurvived_data() { operators_data(); }
    void wrongShapesAndAttributesAreSurvived();
    void whatDataDecideIsSaid_data();
    void whatDataDecideIsSaid();
    void sizesBesideThoseThatDataDecide();
};

void ShapesTest::operators_data() {
    QTest::addColumn<int>("opset");
    QTest::addColumn<QString>("statement");
    QTest::addColumn<QString>("expected");
    for (const char* name : {"operator_shapes.txt", "operator_shapes_by_hand.txt"}) {
        QFile file(QStringLiteral(TEST_DATA "/") + QLatin1String(name));
        QVERIFY(file.open(QIODevice::ReadOnly));
        for (const QByteArray& line : file.readAll().split('\n')) {
            const QStringList parts = QString::fromUtf8(line).split(" | ");
            if (parts.size() != 3 || line.startsWith('#')) continue;
            const QStringList head = parts[0].split(' ');
            QTest::newRow(qPrintable(head[0])) << head[1].toInt() << parts[1] << parts[2];
        }
    }
}

void ShapesTest::operators() {
    QFETCH(int, opset);
    QFETCH(QString, statement);
    QFETCH(QString, expected);
    const auto told = inferred(statement, opset);
    const QStringList wanted = expected.split(' ');
    QCOMPARE(qsizetype(told.size()), wanted.size());
    const bool open = std::any_of(dataDecide.begin(), dataDecide.end(), [&](const QString& op) { return statement.contains(" = " + op + '('); });
    for (qsizetype i = 0; i < wanted.size(); ++i) {
        const Told& each = told[std::size_t(i)];
        if (!open || !fits(each.shape, wanted[i])) QCOMPARE(each.shape, wanted[i]);
        const qsizetype sizes = each.shape.indexOf('[');
        QCOMPARE(each.reason.isEmpty(), sizes >= 0 && each.shape.indexOf('?', sizes) < 0);
    }
}

/// What a damaged file may say: no rule may read past a list or overflow (the sanitizers look), or give a size below -1.
void ShapesTest::wrongShapesAndAttributesAreSurvived() {
    QFETCH(int, opset);
    QFETCH(QString, statement);
    const QRegularExpression shape(":\\s*(\\w+)\\[[^]]*\\]"), content(" = \\{[^}]*\\}"), number("(?<==|\\[|,|\\{)-?\\d+(?=,|\\]|\\)|\\})");
    const auto with = [&](const QRegularExpression& what, const QString& by) { return QString(statement).remove(content).replace(what, by); };
    QStringList wrong;
    for (const char* by : {": \\1[]", ": \\1[3]", ": \\1[?,?,?]", ": \\1[1,1,2,3,4,5,6]"}) wrong << with(shape, QLatin1String(by));
    for (const char* by : {"0", "-1", "7", "9223372036854775807", "-9223372036854775807", "4611686018427387904"}) wrong << with(number, QLatin1String(by)) << QString(statement).replace(number, QLatin1String(by));
    int tried = 0;
    for (const QString& each : wrong) {
        const auto graph = parseText(each.toStdString());
        if (!graph) continue; // content that doesn't fill its shape, a negative size
        ++tried;
        Model model;
        model.graph = *graph;
        for (const Node& node : (*graph)->nodes()) model.opsets[node.domain] = opset;
        const auto shapes = inferShapes(model, **graph, {});
        QVERIFY(shapes.has_value());
        for (const ValueId output : (*graph)->outputs())
            for (const Dim dim : (*shapes)->of(output).dims) QVERIFY2(dim >= unknownDim, qPrintable(each));
    }
    QVERIFY(tried >= 4);
}

void ShapesTest::whatDataDecideIsSaid_data() {
    QTest::addColumn<QString>("statement");
    QTest::addColumn<QString>("reason");
    QTest::newRow("boxes") << "y = NonMaxSuppression(b: f32[1,6,4], s: f32[1,1,6], {3})" << "as many as boxes are kept";
    QTest::newRow("stop words") << "y = StringNormalizer(x: string[4], stopwords=[\"a\"])" << "as many as are no stop words";
    QTest::newRow("parts") << "y = StringSplit(x: string[4])" << "the most parts that a string has";
    QTest::newRow("image") << "y = ImageDecoder(x: u8[99])" << "the size of the image that it decodes";
    QTest::newRow("sequence") << "y = SequenceConstruct(a: f32[2], b: f32[3])" << "it is a sequence";
    QTest::newRow("part of a sequence") << "y = SequenceAt(SequenceConstruct(a: f32[2], b: f32[3]), i: i64[])" << "its place in a sequence decides";
    QTest::newRow("sequence from elsewhere") << "y = ConcatFromSequence(s, axis=0)" << "as long as its sequence";
    QTest::newRow("maps") << "y = ai.onnx.ml::ZipMap(x: f32[4,3])" << "it is a sequence of maps";
    QTest::newRow("steps of other axes") << "y = LSTM(x: f32[1,5,2,4], w: f32[1,12,4], r: f32[1,12,3], hidden_size=3)" << "it reads 1x5x2x4, not steps, batch and features";
    QTest::newRow("inputs that don't fit") << "y = com.microsoft::Attention(x: f32[2,4], w: f32[4,12], num_heads=2)" << "inputs of these sizes don't fit it: 2x4, 4x12";
    QTest::newRow("content that decides") << "y = AffineGrid(t: f32[2,2,3], s: i64[4])" << "the content of 's' decides";
    QTest::newRow("elements too few") << "y = Reshape(x: f32[2,3], {-1,4})" << "it makes ?x4 of 2x3, which has another number of elements";
    QTest::newRow("parts that don't fit") << "y = Concat(SequenceAt(SequenceConstruct(a: f32[2,3], b: f32[2,4]), i: i64[]), c: f32[3,4], axis=1)" << "whose other sizes differ";
    QTest::newRow("unknown operator") << "y = somebody::Thing(x: f32[4])" << "no shape rule for somebody.Thing";
}

void ShapesTest::whatDataDecideIsSaid() {
    QFETCH(QString, statement);
    QFETCH(QString, reason);
    const auto told = inferred(statement, 17);
    for (const Told& each : told) QVERIFY2(each.reason.contains(reason), qPrintable(each.reason));
}

/// Of a shape that is known in part, what is known can be picked.
void ShapesTest::sizesBesideThoseThatDataDecide() {
    const QString rows = "n = Compress(x: f32[4,3,5], c: bool[4], axis=0)\ns = Shape(n)\n";
    QCOMPARE(inferred(rows + "y = Expand(o: f32[1,1], Slice(s, b: i64[1] = {1}, e: i64[1] = {3}))\nreturn y", 17)[0].shape, QStringLiteral("f32[3,5]"));
    QCOMPARE(inferred(rows + "y = Range(a: i64[] = {0}, Gather(s, i: i64[] = {2}), b: i64[] = {1})\nreturn y", 17)[0].shape, QStringLiteral("i64[5]"));
    QCOMPARE(inferred(rows + "y = Range(a: i64[] = {0}, Gather(s, i: i64[] = {0}), b: i64[] = {1})\nreturn y", 17)[0].shape, QStringLiteral("i64[?]"));
}

namespace {

ValueId inputOf(GraphBuilder& builder, const char* name, DataType type, Dims dims, std::vector<std::string> symbols) {
    const ValueId id = builder.value(name);
    builder.edit(id).declared = {type, true, std::move(dims), std::move(symbols), "tensor"};
    builder.addInput(id);
    return id;
}

Node nodeOf(const char* op, std::vector<ValueId> inputs, ValueId output) {
    Node node;
    node.name = node.op = op;
    node.inputs = std::move(inputs);
    node.outputs = {output};
    return node;
}

} // namespace

void ShapesTest::expressionsOfSizes_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<int>("size"); ///< with s = 13 and past_len = 4; -1: can't be told
    const auto row = [](const char* text, int size) { QTest::newRow(text) << QString(text) << size; };
    row("past_len + s", 17);
    row("2*s + 1", 27);
    row("(s + 3)//4", 4);
    row("s // 2 - 1", 5);
    row("s/2", 6);
    row("Max(s, past_len, 20)", 20);
    row("Min(s, 5)", 5);
    row("Mod(s, 4)", 1);
    row("s % 4", 1);
    row("FloorDiv(s, 4)", 3);
    row("ceiling(s/4)", 4);
    row("s**2", 169);
    row("-past_len + s", 9);
    row("s + -1", 12);
    row("floor(s/2 - 1/2) + 1", 7);
    row("ceiling(s/2 - 1/2)", 6);
    row("ceiling(s//3)", 4);
    row("PythonMod(s, 4)", 1);
    row("CeilToInt(IntTrueDiv(s, 2))", 7);
    row("-s + 20", 7);
    row("s - 20", -1);
    row("t + 1", -1);
    row("s / 0", -1);
    row("s + ", -1);
    row("((((s", -1);
    row("99999999999999999999", -1);
}

void ShapesTest::expressionsOfSizes() {
    QFETCH(QString, text);
    QFETCH(int, size);
    const auto known = [](std::string_view name) -> std::optional<std::int64_t> { return name == "s" ? std::optional<std::int64_t>(13) : name == "past_len" ? std::optional<std::int64_t>(4) : std::nullopt; };
    QCOMPARE(int(evaluateDim(text.toStdString(), known).value_or(-1)), size);
}

void ShapesTest::defaultsByUse() {
    GraphBuilder builder;
    const ValueId picture = inputOf(builder, "pixels", DataType::float32, {-1, -1, -1, -1}, {"batch_size", "num_channels", "height", "width"});
    const ValueId sound = inputOf(builder, "sound", DataType::float32, {-1, -1}, {"batch_size", "sequence_length"}), ids = inputOf(builder, "ids", DataType::int64, {-1, -1}, {"a", "b"});
    const ValueId state = inputOf(builder, "state", DataType::float32, {2, -1, 64}, {"", "", ""});
    const ValueId weight = builder.addInitializer(makeTensor("w", {4, 3, 2, 2}, std::vector<float>(48))), line = builder.addInitializer(makeTensor("l", {1, 1, 4}, std::vector<float>(4)));
    const ValueId axis = builder.addInitializer(makeTensor("axis", {1}, std::vector<std::int64_t>{1})), apart = builder.value("apart");
    builder.addNode(nodeOf("Conv", {picture, weight}, builder.value("y")));
    builder.addNode(nodeOf("Unsqueeze", {sound, axis}, apart));
    Node second = nodeOf("Conv", {apart, line}, builder.value("z"));
    second.name = "second";
    builder.addNode(std::move(second));
    builder.addNode(nodeOf("Neg", {ids}, builder.value("n")));
    builder.addNode(nodeOf("Abs", {state}, builder.value("m")));
    const ValueId speech = inputOf(builder, "speech", DataType::float32, {1, -1}, {"", "s3"}), step = builder.addInitializer(makeTensor("step", {}, std::vector<std::int64_t>{160}));
    builder.addNode(nodeOf("STFT", {speech, step, ValueId(), step}, builder.value("spectrum")));
    const Bindings found = *resolveBindings(**builder.finish(), {});
    const Bindings expected{{"batch_size", 1}, {"num_channels", 3}, {"height", 224}, {"width", 224}, {"sequence_length", 16000}, {"a", 1}, {"b", 128}, {"state_dim_1", 1}, {"s3", 16000}};
    QVERIFY(found == expected);
}

void ShapesTest::aPictureFitsTheTableOfPositions() {
    GraphBuilder builder;
    const ValueId picture = inputOf(builder, "pixels", DataType::float32, {-1, 3, -1, -1}, {"batch", "", "height", "width"});
    Node conv = nodeOf("Conv", {picture, builder.addInitializer(makeTensor("w", {4, 3, 8, 8}, std::vector<float>(768)))}, builder.value("patches"));
    conv.attributes.set("strides", std::vector<std::int64_t>{8, 8});
    builder.addNode(std::move(conv));
    const ValueId sizes = builder.addInitializer(makeTensor("sizes", {3}, std::vector<std::int64_t>{0, 4, -1})), cls = builder.addInitializer(makeTensor("cls", {1, 1, 4}, std::vector<float>(4)));
    builder.addNode(nodeOf("Reshape", {builder.value("patches"), sizes}, builder.value("flat")));
    Node turned = nodeOf("Transpose", {builder.value("flat")}, builder.value("turned"));
    turned.attributes.set("perm", std::vector<std::int64_t>{0, 2, 1});
    builder.addNode(std::move(turned));
    Node joined = nodeOf("Concat", {cls, builder.value("turned")}, builder.value("all"));
    joined.attributes.set("axis", std::int64_t(1));
    builder.addNode(std::move(joined));
    builder.addNode(nodeOf("Add", {builder.value("all"), builder.addInitializer(makeTensor("positions", {1, 26, 4}, std::vector<float>(104)))}, builder.value("y")));
    QCOMPARE(*resolveBindings(**builder.finish(), {}), (Bindings{{"batch", 1}, {"height", 40}, {"width", 40}}));
}

void ShapesTest::derivedSizesFollow() {
    GraphBuilder builder;
    const ValueId ids = inputOf(builder, "ids", DataType::int64, {-1, -1}, {"batch", "seq"}), past = inputOf(builder, "past", DataType::float32, {-1, 4, -1, 8}, {"batch", "", "past_len", ""});
    const ValueId mask = inputOf(builder, "mask", DataType::int64, {-1, -1}, {"batch", "past_len + seq"});
    for (const auto& [value, op] : {std::pair(ids, "Neg"), std::pair(past, "Abs"), std::pair(mask, "Sign")}) builder.addNode(nodeOf(op, {value}, builder.value(op)));
    const GraphPtr graph = *builder.finish();
    QCOMPARE(resolveBindings(*graph, {})->at("past_len + seq"), std::int64_t(256));
    QCOMPARE(resolveBindings(*graph, {{"seq", 5}})->at("past_len + seq"), std::int64_t(133));
    QCOMPARE(resolveBindings(*graph, {{"past_len + seq", 7}})->at("past_len + seq"), std::int64_t(7));
    GraphBuilder fewer; // a large size would leave less than nothing
    fewer.addNode(nodeOf("Neg", {inputOf(fewer, "rest", DataType::float32, {-1, -1}, {"s", "-s + 300"})}, fewer.value("z")));
    QCOMPARE(resolveBindings(**fewer.finish(), {{"s", 100}})->at("-s + 300"), std::int64_t(200));
    GraphBuilder cut; // nothing else is known of s
    cut.addNode(nodeOf("Neg", {inputOf(cut, "part", DataType::float32, {4, 7, 9, -1, 5, -1}, {"", "", "", "s", "", "s - 6"})}, cut.value("z")));
    QCOMPARE(*resolveBindings(**cut.finish(), {}), (Bindings{{"s", 8}, {"s - 6", 2}}));
    Bindings varied{{"batch", 1}, {"seq", 3}, {"past_len", 5}};
    deriveSizes(symbolicDims(*graph), varied);
    QCOMPARE(varied.at("past_len + seq"), std::int64_t(8));
}

void ShapesTest::sizesAreToldByUse() {
    GraphBuilder builder;
    const ValueId cache = inputOf(builder, "k", DataType::float32, {-1, 4, -1, 8}, {"N", "", "P", ""}), fresh = inputOf(builder, "x", DataType::float32, {-1, 4, 1, 8}, {"N", "", "", ""});
    builder.addNode(nodeOf("Neg", {fresh}, builder.value("new")));
    Node joined = nodeOf("Concat", {cache, builder.value("new")}, builder.value("all"));
    joined.attributes.set("axis", std::int64_t(2));
    builder.addNode(std::move(joined));
    const ValueId features = inputOf(builder, "f", DataType::float32, {-1, -1, -1}, {"N", "T", "C"});
    builder.addInitializer(makeTensor("bias", {16}, std::vector<float>(16, 1)));
    builder.addNode(nodeOf("Add", {features, builder.value("bias")}, builder.value("sum")));
    const ValueId q = inputOf(builder, "q", DataType::float32, {-1, 8, 1, 64}, {"N", "", "", ""}), kept = inputOf(builder, "kept", DataType::float32, {-1, 2, -1, 64}, {"N", "", "K", ""}), none;
    builder.addNode(nodeOf("Attention", {q, q, q, none, kept, kept}, builder.value("attended")));
    const GraphPtr graph = *builder.finish();
    const Bindings sizes = *resolveBindings(*graph, {});
    QCOMPARE(sizes.at("K"), std::int64_t(128)); // by what reads it
    QCOMPARE(sizes.at("N"), std::int64_t(1));
    QCOMPARE(sizes.at("P"), std::int64_t(128)); // a cache that grows, whatever it is called
    QCOMPARE(sizes.at("C"), std::int64_t(16));
}

void ShapesTest::softmaxesRunOverSequences_data() {
    QTest::addColumn<QString>("input");
    QTest::addColumn<QString>("heads");
    QTest::addColumn<QString>("turned");
    QTest::addColumn<QString>("sizes");
    QTest::newRow("no batch") << "f32[s,8]" << "{0,2,4}" << "[1,0,2]" << "s 128";
    QTest::newRow("places first") << "f32[t,b,8]" << "{0,0,2,4}" << "[1,2,0,3]" << "b 1 t 128";
    QTest::newRow("a batch first") << "f32[b,n,8]" << "{0,0,2,4}" << "[0,2,1,3]" << "b 1 n 128";
    QTest::newRow("without a name") << "f32[?,1,8]" << "{0,0,2,4}" << "[1,2,0,3]" << "x_dim_0 128";
    QTest::newRow("named otherwise") << "f32[batch,t,8]" << "{0,0,2,4}" << "[1,2,0,3]" << "batch 1 t 128";
}

void ShapesTest::softmaxesRunOverSequences() {
    QFETCH(QString, input);
    QFETCH(QString, heads);
    QFETCH(QString, turned);
    QFETCH(QString, sizes);
    const QString text = QStringLiteral("x: %1\n"
                                        "q = Transpose(Reshape(MatMul(x, wq: f32[8,8]), %2), perm=%3)\n"
                                        "k = Transpose(Reshape(MatMul(x, wk: f32[8,8]), %2), perm=%3)\n"
                                        "y = Softmax(Einsum(q, k, equation=\"...qd,...kd->...qk\"), axis=-1)\n");
    const auto graph = parseText(text.arg(input, heads, turned).toStdString());
    QVERIFY2(graph, graph ? "" : graph.error().message().c_str());
    Model model;
    model.graph = *graph;
    model.opsets = {{"", 17}};
    const FlatGraph flat = *flattenFitting(model, *resolveBindings(**graph, {}), {}, false);
    QStringList found;
    for (const auto& [name, size] : flat.shapes->bindings()) found << QString::fromStdString(name) + ' ' + QString::number(size);
    QCOMPARE(found.join(' '), sizes);
    // What is wanted stays as it is.
    const Bindings wanted{{flat.shapes->bindings().rbegin()->first, 5}};
    QCOMPARE(flattenFitting(model, *resolveBindings(**graph, wanted), wanted, false)->shapes->bindings().rbegin()->second, std::int64_t(5));
}

void ShapesTest::allKeysArePastAndNewOnes() {
    GraphBuilder builder;
    const ValueId q = inputOf(builder, "q", DataType::float32, {-1, -1, 64}, {"batch", "seq", ""}), cache = inputOf(builder, "cache", DataType::float32, {-1, 2, -1, 8}, {"batch", "", "kept", ""});
    const ValueId mask = inputOf(builder, "mask", DataType::int64, {-1, -1}, {"batch", "total_len"}), none;
    Node attention = nodeOf("GroupQueryAttention", {q, none, none, cache, cache}, builder.value("y"));
    attention.domain = "com.microsoft";
    builder.addNode(std::move(attention));
    builder.addNode(nodeOf("Neg", {mask}, builder.value("n")));
    const GraphPtr graph = *builder.finish();
    QCOMPARE(resolveBindings(*graph, {})->at("kept"), std::int64_t(128)); // by what reads it
    QCOMPARE(resolveBindings(*graph, {})->at("total_len"), std::int64_t(256));
    QCOMPARE(resolveBindings(*graph, {{"seq", 1}, {"kept", 6}})->at("total_len"), std::int64_t(7));
    QCOMPARE(resolveBindings(*graph, {{"seq", 1}, {"total_len", 5}})->at("total_len"), std::int64_t(5));
}

QTEST_APPLESS_MAIN(ShapesTest)
#include "shapes_test.moc"
