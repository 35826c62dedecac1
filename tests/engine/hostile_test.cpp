// Files made to hurt: each ends in a result or a failure that names what is wrong, soon, and in little memory.

#include "pipeline.h"
#include "wire_model.h"

#include <QElapsedTimer>
#include <QTemporaryDir>
#include <QTest>
#include <fcntl.h>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

using namespace triptych;

namespace {

std::int64_t anonymousKilobytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("RssAnon:")) return std::stoll(line.substr(8));
    return 0;
}

} // namespace

class HostileTest : public QObject {
    Q_OBJECT
private slots:
    void files_data();
    void files();
    void functionBomb();
    void bombOfNothing();
    void overloadsAreTold();
    void deepNesting();
    void externalPaths_data();
    void externalPaths();
    void manyAttributes();
    void stops();
    void hugeWeightsCostNothing();
    void aFileIsShortenedMeanwhile();
    void manyVarintsStayInTheFile();

private:
    Result<AnalysisPtr> analysed(const std::string& bytes) {
        const auto path = std::filesystem::path(m_dir.path().toStdString()) / "hostile.onnx";
        std::ofstream(path, std::ios::binary) << bytes;
        return analyze(path, AnalysisOptions());
    }
    QTemporaryDir m_dir;
};

void HostileTest::files_data() {
    QTest::addColumn<QByteArray>("bytes");
    QTest::addColumn<QString>("says"); ///< in the failure or a warning
    const auto row = [](const char* name, const std::string& bytes, const QString& says) { QTest::newRow(name) << QByteArray::fromStdString(bytes) << says; };
    const Wire x = valueInfo("x", {2, 2}), y = Wire().text(1, "y");
    const auto graph = [&](const std::vector<Wire>& nodes, const std::vector<Wire>& tensors = {}) {
        Wire made;
        for (const Wire& each : nodes) made.message(1, each);
        for (const Wire& each : tensors) made.message(5, each);
        return made.text(2, "g").message(11, x).message(12, y);
    };
    row("cycle", model(graph({node("one", "Add", {"x", "b"}, {"a"}), node("two", "Neg", {"a"}, {"b"}), node("three", "Neg", {"b"}, {"y"})})), "cycle");
    row("own output", model(graph({node("selfish", "Add", {"x", "y"}, {"y"})})), "selfish");
    row("missing producer", model(graph({node("lost", "Add", {"x", "nowhere"}, {"y"})})), "nowhere");
    row("two producers", model(graph({node("first", "Neg", {"x"}, {"y"}), node("second", "Abs", {"x"}, {"y"})})), "second");
    row("dimension of a billion", model(graph({node("n", "MatMul", {"x", "w"}, {"y"})}, {tensor("w", {1000000000, 1000000000}, "abcd")})), "w");
    row("negative dimension", model(graph({node("n", "MatMul", {"x", "w"}, {"y"})}, {tensor("w", {-3, 2}, "abcd")})), "negative");
    row("overflowing product", model(graph({node("n", "MatMul", {"x", "w"}, {"y"})}, {tensor("w", {INT64_MAX, INT64_MAX, 4}, "abcd")})), "w");
    row("bytes fewer than the shape", model(graph({node("n", "MatMul", {"x", "w"}, {"y"})}, {tensor("w", {2, 2}, "abcd")})), "w");
    row("unknown operator", model(graph({node("strange", "Frobnicate", {"x"}, {"y"}, "acme")})), "acme");
    row("huge name", model(graph({node(std::string(5'000'000, 'n'), "Neg", {"x"}, {"y"})})), "");
    row("not UTF-8", model(graph({node("\xff\xfe\x80", "Neg", {"x"}, {"y"})})), "");
    row("empty names", model(graph({node("", "Neg", {"x"}, {"a"}), node("", "Neg", {"a"}, {"y"}), node("", "Neg", {""}, {""})})), "");
    row("repeated names", model(graph({node("n", "Neg", {"x"}, {"a"}), node("n", "Neg", {"a"}, {"y"})})), "");
    row("shapes that make no sense", model(graph({node("turn", "Reshape", {"x", "s"}, {"y"})}, {tensor("s", {2}, std::string(8, '\x7f'))})), "");
    row("length beyond the end", model(graph({node("n", "Neg", {"x"}, {"y"})})).substr(0, 60), "truncated");
    row("nothing in it", model(Wire()), "");
    const Wire relu = node("n", "Relu", {"x"}, {"y"});
    row("older opset", Wire().integer(1, 3).message(7, graph({relu})).message(8, opset("", 1)).bytes, "opset 1 is older");
    row("negative IR", Wire().integer(1, -3).message(7, graph({relu})).message(8, opset("", 17)).bytes, "IR version -3");
    row("two graphs", Wire().integer(1, 8).message(7, graph({relu})).message(7, graph({relu})).message(8, opset("", 17)).bytes, "2 graphs");
    row("functions that call each other", model(graph({node("call", "F", {"x"}, {"y"}, "f")}), {Wire().text(1, "F").text(4, "a").text(5, "b").message(7, node("in", "G", {"a"}, {"b"}, "f")).text(10, "f"), Wire().text(1, "G").text(4, "a").text(5, "b").message(7, node("in", "F", {"a"}, {"b"}, "f")).text(10, "f")}), "call (f.F, node 0): the function F calls itself");
    row("a function twice", model(graph({node("call", "F", {"x"}, {"y"}, "f")}), std::vector<Wire>(2, Wire().text(1, "F").text(4, "a").text(5, "b").message(7, node("in", "Neg", {"a"}, {"b"})).text(10, "f"))), "F is given twice");
    row("If without branches", model(graph({node("choice", "If", {"x"}, {"y"})})), "choice (If, node 0) has no else_branch");
    row("names that only look alike", model(graph({node("n", "Neg", {"x"}, {"a\x01"}), node("m", "Abs", {"x"}, {"a\\x01"}), node("o", "Add", {"a\x01", "a\\x01"}, {"y"})})), "");
    row("sizes that don't go together", model(graph({node("n", "MatMul", {"x", "w"}, {"y"})}, {tensor("w", {3, 1}, std::string(12, 'a'))})), "2 columns meet 3 rows");
    row("an unknown element type", model(graph({node("n", "Add", {"x", "w"}, {"y"})}, {Wire().integer(1, 1).integer(2, 257).text(8, "w").text(9, "abcd")})), "257");
    row("a negative size of an input", model(Wire().message(1, relu).text(2, "g").message(11, valueInfo("x", {-5, 2})).message(12, y)), "size -5");
    row("an input against its initializer", model(Wire().message(1, node("n", "Neg", {"w"}, {"y"})).message(5, tensor("w", {2}, std::string(8, 'a'))).text(2, "g").message(11, valueInfo("w", {99, 7})).message(12, y)), "99x7 for 'w', but its initializer is 2");
    row("a declared size that no binding mends", model(Wire().message(1, relu).text(2, "g").message(11, symbolicInfo("x", "n", 4)).message(12, symbolicInfo("y", "n", 5))), "1x5 for 'y', but n (Relu) gives 1x4");
    row("newer opset", Wire().integer(1, 99).message(7, graph({node("n", "Neg", {"x"}, {"y"})})).message(8, opset("", 99)).bytes, "newer");
    row("a function that calls itself", model(graph({node("call", "F", {"x"}, {"y"}, "f")}), {Wire().text(1, "F").text(4, "a").text(5, "b").message(7, node("in", "F", {"a"}, {"b"}, "f")).text(10, "f")}), "call");
}

void HostileTest::files() {
    QFETCH(QByteArray, bytes);
    QFETCH(QString, says);
    QElapsedTimer timer;
    timer.start();
    const auto result = analysed(bytes.toStdString());
    QVERIFY2(timer.elapsed() < 10'000, qPrintable(QString::number(timer.elapsed())));
    QString said = result ? QString() : QString::fromStdString(result.error().message());
    if (result) {
        for (const auto* list : {&(*result)->model->warnings, &(*result)->warnings})
            for (const std::string& warning : *list) said += QString::fromStdString(warning) + '\n';
    }
    QVERIFY2(said.contains(says), qPrintable("says: " + said));
}

void HostileTest::functionBomb() {
    // Each function calls the next one twice: 2^40 nodes if one believed it.
    std::vector<Wire> functions;
    for (int i = 0; i < 40; ++i) {
        const std::string next = "F" + std::to_string(i + 1), domain = i == 39 ? "" : "f";
        const std::string op = i == 39 ? "Neg" : next;
        functions.push_back(Wire().text(1, "F" + std::to_string(i)).text(4, "a").text(5, "b").message(7, node("l", op, {"a"}, {"t"}, domain)).message(7, node("r", op, {"t"}, {"b"}, domain)).text(10, "f"));
    }
    const std::int64_t before = anonymousKilobytes();
    QElapsedTimer timer;
    timer.start();
    const auto result = analysed(model(Wire().message(1, node("bomb", "F0", {"x"}, {"y"}, "f")).text(2, "g").message(11, valueInfo("x", {2})).message(12, Wire().text(1, "y")), functions));
    QVERIFY(!result);
    QVERIFY2(result.error().message().find("bomb") != std::string::npos, result.error().message().c_str());
    QVERIFY(timer.elapsed() < 20'000);
    QVERIFY(anonymousKilobytes() - before < 4'000'000);
}

void HostileTest::bombOfNothing() {
    // As before, but the last function is empty: a call must cost something, or 2^40 of them cost nothing.
    std::vector<Wire> functions;
    for (int i = 0; i < 40; ++i) {
        const std::string next = "F" + std::to_string(i + 1);
        Wire function = Wire().text(1, "F" + std::to_string(i)).text(4, "a").text(5, "a").text(10, "f");
        if (i < 39) function.message(7, node("l", next, {"a"}, {"t"}, "f")).message(7, node("r", next, {"a"}, {"u"}, "f"));
        functions.push_back(std::move(function));
    }
    QElapsedTimer timer;
    timer.start();
    QVERIFY(!analysed(model(Wire().message(1, node("bomb", "F0", {"x"}, {"y"}, "f")).text(2, "g").message(11, valueInfo("x", {2})).message(12, Wire().text(1, "y")), functions)));
    QVERIFY(timer.elapsed() < 5'000);
}

void HostileTest::overloadsAreTold() {
    std::vector<Wire> functions;
    for (const auto& [overload, op] : {std::pair("one", "Relu"), std::pair("two", "Neg")})
        functions.push_back(Wire().text(1, "F").text(4, "a").text(5, "b").message(7, node("inner", op, {"a"}, {"b"}, "")).text(10, "f").text(13, overload));
    Wire call = node("call", "F", {"x"}, {"y"}, "f");
    call.text(8, "two");
    const auto result = analysed(model(Wire().message(1, call).text(2, "g").message(11, valueInfo("x", {2})).message(12, Wire().text(1, "y")), functions));
    QVERIFY2(result, result ? "" : result.error().message().c_str());
    QCOMPARE((*result)->inlined->nodes().back().op, std::string("Neg"));
}

void HostileTest::deepNesting() {
    // A hundred thousand graphs in one another.
    std::string inner = node("leaf", "Neg", {"x"}, {"y"}).bytes;
    Wire graph = Wire().text(1, inner);
    for (int i = 0; i < 2'000; ++i) {
        Wire attribute = Wire().text(1, "then_branch").message(6, graph).integer(20, 5);
        graph = Wire().message(1, node("n", "If", {"c"}, {"y"}).message(5, attribute));
    }
    QVERIFY(!analysed(model(graph)));
    // Deeper than any real message: lengths that only promise.
    std::string promise;
    for (int i = 0; i < 100'000; ++i) promise += "\x3a\xff\xff\xff\x07";
    QVERIFY(!analysed(promise));
}

void HostileTest::externalPaths_data() {
    QTest::addColumn<QString>("location");
    for (const char* path : {"/etc/passwd", "../outside.bin", "a/../../outside.bin", "link.bin", ""}) QTest::newRow(*path ? path : "empty") << QString(path);
}

void HostileTest::externalPaths() {
    QFETCH(QString, location);
    const auto folder = std::filesystem::path(m_dir.path().toStdString());
    std::error_code error;
    std::filesystem::create_symlink("/etc/passwd", folder / "link.bin", error);
    Wire weight;
    weight.integer(1, 2).integer(1, 2).integer(2, 1).text(8, "w").message(13, Wire().text(1, "location").text(2, location.toStdString())).integer(14, 1);
    const auto result = analysed(model(Wire().message(1, node("n", "MatMul", {"x", "w"}, {"y"})).message(5, weight).text(2, "g").message(11, valueInfo("x", {2, 2})).message(12, Wire().text(1, "y"))));
    QVERIFY2(result, result ? "" : result.error().message().c_str());
    const Graph& graph = *(*result)->model->graph;
    const TensorPtr& tensor = graph.value(graph.findValue("w")).initializer;
    QVERIFY(!readPayload(*(*result)->model, *tensor));
    const auto& warnings = (*result)->model->warnings;
    QVERIFY(std::any_of(warnings.begin(), warnings.end(), [](const std::string& each) { return each.find("refused") != std::string::npos; }));
}

void HostileTest::manyAttributes() {
    Wire busy = node("busy", "Neg", {"x"}, {"y"});
    for (int i = 0; i < 200'000; ++i) busy.message(5, Wire().text(1, "a" + std::to_string(i)).integer(3, i).integer(20, 2));
    QElapsedTimer timer;
    timer.start();
    QVERIFY(analysed(model(Wire().message(1, busy).text(2, "g").message(11, valueInfo("x", {2})).message(12, Wire().text(1, "y")))));
    QVERIFY(timer.elapsed() < 10'000);
}

void HostileTest::stops() {
    std::stop_source source;
    source.request_stop();
    Job job;
    job.stop = source.get_token();
    QVERIFY(!analyze(std::filesystem::path(PROJECT_ROOT "/resources/samples/bert_base.onnx"), AnalysisOptions(), job));
}

void HostileTest::hugeWeightsCostNothing() {
    // 1.2 GB of weights inside the file, as a hole: looking at the model must not touch them.
    const auto path = std::filesystem::path(m_dir.path().toStdString()) / "huge.onnx";
    constexpr std::uint64_t weightBytes = 1'200'000'000;
    Wire head;
    for (const std::int64_t dim : {30000, 10000}) head.integer(1, dim);
    head.integer(2, 1).text(8, "w").varint(9 << 3 | 2).varint(weightBytes);
    Wire rest = Wire().message(1, node("n", "MatMul", {"x", "w"}, {"y"})).text(2, "g").message(11, valueInfo("x", {2, 30000})).message(12, Wire().text(1, "y"));
    const std::uint64_t tensorBytes = head.bytes.size() + weightBytes;
    Wire before;
    before.varint(5 << 3 | 2).varint(tensorBytes);
    Wire start;
    start.integer(1, 8).message(8, opset("", 17)).varint(7 << 3 | 2).varint(rest.bytes.size() + before.bytes.size() + tensorBytes);
    const std::string prefix = start.bytes + rest.bytes + before.bytes + head.bytes;
    const int file = ::open(path.c_str(), O_CREAT | O_WRONLY, 0600);
    QVERIFY(file >= 0);
    QVERIFY(::write(file, prefix.data(), prefix.size()) == static_cast<ssize_t>(prefix.size()));
    QVERIFY(::ftruncate(file, static_cast<off_t>(prefix.size() + weightBytes)) == 0);
    ::close(file);
    const std::int64_t was = anonymousKilobytes();
    QElapsedTimer timer;
    timer.start();
    const auto result = analyze(path, AnalysisOptions());
    QVERIFY2(result, result ? "" : result.error().message().c_str());
    QVERIFY2(anonymousKilobytes() - was < 60'000, qPrintable(QString::number(anonymousKilobytes() - was)));
    QVERIFY2(timer.elapsed() < 2'000, qPrintable(QString::number(timer.elapsed())));
    const Graph& graph = *(*result)->model->graph;
    QCOMPARE(graph.value(graph.findValue("w")).initializer->payload.length, weightBytes);
}

void HostileTest::aFileIsShortenedMeanwhile() {
    constexpr std::size_t weightBytes = std::size_t(12) << 20; // small files are copied
    const std::filesystem::path path = m_dir.filePath("shortened.onnx").toStdString();
    const Wire graph = Wire().message(1, node("n", "Mul", {"x", "w"}, {"y"})).message(1, node("m", "Mul", {"y", "v"}, {"z"})).text(2, "g")
                           .message(5, tensor("w", {weightBytes / 4}, std::string(weightBytes, '\1'))).message(5, tensor("v", {512}, std::string(2048, '\2'))).message(11, valueInfo("x", {1}));
    std::ofstream(path, std::ios::binary) << model(graph);
    const auto read = importModel(path);
    QVERIFY2(read, read ? "" : read.error().message().c_str());
    const TensorPtr& small = (*read)->graph->value((*read)->graph->findValue("v")).initializer;
    QVERIFY(readPayload(**read, *small).has_value());
    QVERIFY(::truncate(path.c_str(), 1000) == 0);
    // What lay behind the new end is gone: reading it is a failure that says so, and no signal.
    for (const char* name : {"w", "v"}) {
        const auto bytes = readPayload(**read, *(*read)->graph->value((*read)->graph->findValue(name)).initializer);
        QVERIFY(!bytes);
        QVERIFY2(bytes.error().message().find("written to since") != std::string::npos, bytes.error().message().c_str());
    }
    const auto mapped = (*read)->file->bytes();
    QCOMPARE(mapped[mapped.size() - 1], std::byte(0));
    QVERIFY((*read)->file->altered());
}

void HostileTest::manyVarintsStayInTheFile() {
    // int8 weights as exporters without raw_data write them: one varint each.
    constexpr std::size_t count = std::size_t(48) << 20;
    const std::filesystem::path path = m_dir.filePath("varints.onnx").toStdString();
    Wire weights = Wire().integer(1, count).integer(2, 3).text(8, "w");
    weights.varint(5 << 3 | 2).varint(count);
    Wire graph = Wire().message(1, node("n", "Cast", {"w"}, {"y"})).message(12, Wire().text(1, "y")).text(2, "g");
    graph.varint(5 << 3 | 2).varint(weights.bytes.size() + count);
    Wire start;
    start.integer(1, 8).message(8, opset("", 17)).varint(7 << 3 | 2).varint(graph.bytes.size() + weights.bytes.size() + count);
    const std::string prefix = start.bytes + graph.bytes + weights.bytes;
    std::ofstream(path, std::ios::binary) << prefix;
    std::filesystem::resize_file(path, prefix.size() + count); // zeros, which take no place on the disk
    const std::int64_t was = anonymousKilobytes();
    const auto read = importModel(path);
    QVERIFY2(read, read ? "" : read.error().message().c_str());
    QVERIFY2(anonymousKilobytes() - was < 20'000, qPrintable(QString::number(anonymousKilobytes() - was)));
    const TensorPtr& tensor = (*read)->graph->value((*read)->graph->findValue("w")).initializer;
    QVERIFY(tensor->payload.varints);
    const auto bytes = readPayload(**read, *tensor);
    QVERIFY2(bytes, bytes ? "" : bytes.error().message().c_str());
    QCOMPARE(bytes->size(), count);
}

QTEST_APPLESS_MAIN(HostileTest)
#include "hostile_test.moc"
