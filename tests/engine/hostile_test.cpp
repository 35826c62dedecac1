// Files made to hurt: each ends in a result or a failure that names what is wrong, soon, and in little memory.

#include "pipeline.h"

#include <QElapsedTimer>
#include <QTemporaryDir>
#include <QTest>
#include <fcntl.h>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

using namespace triptych;

namespace {

/// A protobuf message, field by field.
struct Wire {
    std::string bytes;
    Wire& varint(std::uint64_t value) {
        for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
        bytes += static_cast<char>(value);
        return *this;
    }
    Wire& integer(std::uint32_t field, std::int64_t value) {
        varint(static_cast<std::uint64_t>(field) << 3);
        return varint(static_cast<std::uint64_t>(value));
    }
    Wire& text(std::uint32_t field, const std::string& value) {
        varint(static_cast<std::uint64_t>(field) << 3 | 2).varint(value.size());
        bytes += value;
        return *this;
    }
    Wire& message(std::uint32_t field, const Wire& inner) { return text(field, inner.bytes); }
};

Wire opset(const std::string& domain, std::int64_t version) { return Wire().text(1, domain).integer(2, version); }

Wire node(const std::string& name, const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs, const std::string& domain = {}) {
    Wire made;
    for (const auto& each : inputs) made.text(1, each);
    for (const auto& each : outputs) made.text(2, each);
    made.text(3, name).text(4, op);
    if (!domain.empty()) made.text(7, domain);
    return made;
}

Wire valueInfo(const std::string& name, const std::vector<std::int64_t>& dims) {
    Wire shape;
    for (const std::int64_t dim : dims) shape.message(1, Wire().integer(1, dim));
    return Wire().text(1, name).message(2, Wire().message(1, Wire().integer(1, 1).message(2, shape)));
}

Wire tensor(const std::string& name, const std::vector<std::int64_t>& dims, const std::string& raw) {
    Wire made;
    for (const std::int64_t dim : dims) made.integer(1, dim);
    return made.integer(2, 1).text(8, name).text(9, raw);
}

std::string model(const Wire& graph, const std::vector<Wire>& functions = {}) {
    Wire made;
    made.integer(1, 8).message(7, graph).message(8, opset("", 17)).message(8, opset("f", 1));
    for (const Wire& each : functions) made.message(25, each);
    return made.bytes;
}

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

QTEST_APPLESS_MAIN(HostileTest)
#include "hostile_test.moc"
