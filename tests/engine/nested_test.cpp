// Graphs inside nodes, and what is known inside of what surrounds them.

#include "branches.h"
#include "graph/text.h"
#include "nested.h"
#include "onnx_io/export.h"
#include "reference/run.h"
#include "verify/verify.h"

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
    void whatATurnLeavesAsItIsIsKnown();
    void aSwitchChoosesABranch();
    void bothBranchesAreWrittenOut();
    void attentionInALoopIsFoundAndWrittenOut();
    void listsAreFollowedThroughBodies();
    void aTurnKnowsItsNumber();
    void aFunctionKeepsTheVersionThatItImports();
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

void NestedTest::whatATurnLeavesAsItIsIsKnown() {
    const Projected body = enter(whole(), "loop");
    QCOMPARE(shapeOf(body, "state"), std::string("10x64"));
    QCOMPARE(shapeOf(body, "h0"), std::string("10x64"));
}

namespace {

AnalysisPtr analysed(const char* name, const Bindings& bindings, bool forFile = false) {
    AnalysisOptions options;
    options.bindings = bindings;
    options.forFile = forFile;
    const auto analysis = analyze(std::filesystem::path(TEST_DATA) / name, options);
    if (!analysis) qFatal("%s", analysis.error().message().c_str());
    return *analysis;
}

/// Empty where the written-out form computes what the file does, on inputs that turn switches on and off.
QString difference(const Analysis& analysis) {
    const Model& model = *analysis.model;
    const GraphPtr file = *inlineFunctions(model, *model.graph, {});
    const ShapesPtr shapes = *inferShapes(model, *file, analysis.bindings);
    const VerifyRequest request{model, *file, *shapes, model, *analysis.decomposition->graph, "decomposed", nullptr, nullptr, {Fill::random, Fill::random, Fill::ramp}, 1, std::nullopt, std::nullopt};
    const auto comparison = verify(request);
    if (!comparison) return QString::fromStdString(comparison.error().message());
    return comparison->holds() ? QString() : QStringLiteral("different");
}

std::size_t count(const Graph& graph, const char* op) {
    return static_cast<std::size_t>(std::count_if(graph.nodes().begin(), graph.nodes().end(), [&](const Node& node) { return node.is(op); }));
}

} // namespace

void NestedTest::aSwitchChoosesABranch() {
    const AnalysisPtr off = analysed("merged_decoder.onnx", {}), on = analysed("merged_decoder.onnx", {{"use_cache", 1}});
    for (const AnalysisPtr& each : {off, on}) {
        QCOMPARE(each->attentions.found.size(), std::size_t(1));
        QCOMPARE(each->attentions.found[0].heads, std::int64_t(4));
        QCOMPARE(count(*each->baseline.graph, "If"), std::size_t(0));
        QVERIFY(each->nested.empty());
    }
    QVERIFY(!off->attentions.found[0].extras.contains("kv_cache"));
    QVERIFY(on->attentions.found[0].extras.contains("kv_cache"));
    AnalysisOptions options;
    options.bindings["use_cache"] = 2;
    QVERIFY(!analyze(std::filesystem::path(TEST_DATA "/merged_decoder.onnx"), options));
}

void NestedTest::bothBranchesAreWrittenOut() {
    const AnalysisPtr analysis = analysed("merged_decoder.onnx", {}, true);
    QCOMPARE(analysis->nested.size(), std::size_t(2)); // a switch may be thrown later: both stay
    const Graph& graph = *analysis->decomposition->graph;
    QCOMPARE(count(graph, "If"), std::size_t(1));
    for (const NestedGraph& branch : nestedGraphs(*analysis->model, graph.node(graph.findNode("choose")))) QCOMPARE(count(*branch.graph, "Split"), std::size_t(0));
    QCOMPARE(difference(*analysis), QString());
}

void NestedTest::attentionInALoopIsFoundAndWrittenOut() {
    const AnalysisPtr seen = analysed("looped_attention.onnx", {});
    QCOMPARE(attentionCount(*seen), std::size_t(2)); // the If asks a size that is fixed: its branch is put in place
    QCOMPARE(seen->nested.size(), std::size_t(1));
    QCOMPARE(seen->nested[0].place, std::string("loop/body"));
    QCOMPARE(seen->nested[0].attentions.found[0].heads, std::int64_t(4));
    const AnalysisPtr written = analysed("looped_attention.onnx", {}, true);
    QCOMPARE(difference(*written), QString());
    const Graph& graph = *written->decomposition->graph;
    const GraphPtr body = graph.node(graph.findNode("loop")).attributes.graph("body");
    QCOMPARE(count(*body, "Split"), std::size_t(0));
    QVERIFY2(!written->model->function(body->nodes().back()), "a body of a written file calls no function");
}

void NestedTest::listsAreFollowedThroughBodies() {
    const auto analysis = analyze(std::filesystem::path(PROJECT_ROOT "/tests/data/lists.onnx"), {});
    QVERIFY2(analysis.has_value(), analysis ? "" : analysis.error().message().c_str());
    const Projected& projected = (*analysis)->baseline;
    QCOMPARE(shapeOf(projected, "stacked"), std::string("5x4"));
    QCOMPARE(shapeOf(projected, "joined"), std::string("35"));
    QCOMPARE(shapeOf(projected, "picked"), std::string("unknown")); // the branches' lists differ in length, and their tensors in rank
    QCOMPARE(projected.shapes->reasonUnknown(projected.graph->findValue("all")).find("it is a sequence") != std::string::npos, true);
    const auto entered = enterNested(**analysis, projected, projected.graph->findNode("loop"), 0);
    QVERIFY(entered);
    QCOMPARE(shapeOf(*entered, "row"), std::string("4"));
}

/// As tensor_split is exported: each turn cuts from one place to the next, the rest is put behind. A class token's size depends on the turn, and
/// the places of the list hold for every length.
void NestedTest::aTurnKnowsItsNumber() {
    const auto body = parseText("i: i64[]\nc: bool[]\nsofar: f32[]\nfrom = Gather(places, i)\nto = Gather(places, Add(i, one: i64[] = {1}))\nnext = SequenceInsert(sofar, Slice(x, from, to, axis))\nmore = Identity(on)\nreturn more, next");
    QVERIFY(body);
    Model model;
    model.opsets = {{"", 17}};
    GraphBuilder builder;
    const auto list = [&](const char* name, Dims dims, std::vector<std::int64_t> values) { return builder.addInitializer(makeTensor(name, std::move(dims), values)); };
    const ValueId x = builder.value("x"), places = list("places", {2, 1}, {0, 1}), axis = list("axis", {1}, {1}), on = builder.value("on");
    builder.edit(x).declared = {DataType::float32, true, {1, unknownDim, 8}, {"", "seq", ""}, "tensor"};
    builder.addInput(x);
    const auto node = [&](const char* name, const char* op, std::vector<ValueId> inputs, std::vector<ValueId> captured = {}, std::vector<Attribute> attributes = {}) {
        builder.addNode({name, op, {}, {}, {}, std::move(inputs), {builder.value(std::string(name) + "_out")}, std::move(captured), Attributes(std::move(attributes)), {}});
        return builder.value(std::string(name) + "_out");
    };
    HostTensor yes = HostTensor::zeros(DataType::boolean, {});
    yes.integers()[0] = 1;
    builder.edit(on).initializer = tensorOf(yes, "on");
    const ValueId cut = node("loop", "Loop", {list("count", {}, {1}), on, node("nothing", "SequenceEmpty", {})}, {x, places, axis, on}, {{"body", *body, {}}});
    const ValueId rest = node("rest", "Slice", {x, list("begin", {1}, {1}), list("end", {1}, {1 << 30}), axis});
    const ValueId both = node("both", "SequenceInsert", {cut, rest});
    builder.addOutput(node("token", "SequenceAt", {both, list("zero", {}, {0})}));
    builder.addOutput(node("others", "SequenceAt", {both, list("first", {}, {1})}));
    model.graph = *builder.finish();
    const auto flat = flatten(model, {{"seq", 17}}, true);
    QVERIFY2(flat, flat ? "" : flat.error().message().c_str());
    const auto dims = [&](const char* value) { return flat->shapes->of(flat->graph->findValue(value)).dims; };
    QCOMPARE(dims("token_out"), (Dims{1, 1, 8}));
    QCOMPARE(dims("others_out"), (Dims{1, 16, 8}));
    const Node& others = flat->graph->node(flat->graph->findNode("others"));
    QVERIFY2(others.is("Identity"), "two stand in the list, however long x is");
    QCOMPARE(others.input(0), flat->graph->findValue("rest_out"));
}

void NestedTest::aFunctionKeepsTheVersionThatItImports() {
    const auto analysis = analyze(std::filesystem::path(PROJECT_ROOT "/tests/data/function_opset.onnx"), {});
    QVERIFY2(analysis.has_value(), analysis ? "" : analysis.error().message().c_str());
    const Model& model = *(*analysis)->model;
    QVERIFY(std::any_of(model.warnings.begin(), model.warnings.end(), [](const std::string& each) { return each.find("the function Old imports ai.onnx 12") != std::string::npos; }));
    const auto graph = inlineFunctions(model, *model.graph, {});
    QVERIFY(graph);
    std::vector<float> numbers;
    for (int i = 0; i < 24; ++i) numbers.push_back(static_cast<float>(i));
    const HostTensor input = HostTensor::ofFloats({2, 3, 4}, numbers);
    const auto outputs = runGraph(**graph, {{"x", input}}, {model.opsets, {}, {}});
    QVERIFY2(outputs, outputs ? "" : outputs.error().message().c_str());
    const auto sum = [&](const char* name, std::size_t count) {
        double total = 0;
        for (std::size_t i = 0; i < count; ++i) total += outputs->at(name).at(i);
        return total;
    };
    QVERIFY(std::abs(sum("old", 12) - 1) < 1e-6); // opset 12: over everything from axis 1 on
    QVERIFY(std::abs(sum("new", 4) - 1) < 1e-6);  // opset 17: over the last axis
    const QTemporaryDir folder;
    const auto out = std::filesystem::path(folder.filePath("out.onnx").toStdString());
    const auto written = exportModel({model, **graph, {}, {}}, out);
    QVERIFY2(!written && written.error().message().find("ai.onnx 12") != std::string::npos, "under the model's import it would mean another thing");
    QVERIFY(!std::filesystem::exists(out));
    QVERIFY(exportModel({model, *model.graph, model.functions, {}}, out));
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
