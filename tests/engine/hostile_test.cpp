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

/// Of /proc/self/status.
std::int64_t kilobytes(const std::string& what) {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(what)) return std::stoll(line.substr(what.size()));
    return 0;
}

/// A type: from the inside outwards, each message's length before what it holds.
std::string sequencesInSequences(int levels) {
    std::vector<std::string> heads;
    std::size_t length = 0;
    for (int i = 0; i < levels; ++i) {
        for (const std::uint32_t field : {1U, 4U}) {
            heads.push_back(Wire().varint(field << 3 | 2).varint(length).bytes);
            length += heads.back().size();
        }
    }
    std::string nested;
    for (std::size_t i = heads.size(); i-- > 0;) nested += heads[i];
    return nested;
}

std::int64_t anonymousKilobytes() { return kilobytes("RssAnon:"); }

} // namespace

class HostileTest : public QObject {
    Q_OBJECT
private slots:
    void files_data();
    void files();
    void bombs_data();
    void bombs() { files(); }
    void whatASizeMendsIsNoContradiction();
    void whatTheOtherBranchGivesIsNoContradiction();
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
    row("a call of more than its function gives", model(graph({node("call", "F", {"x"}, {"y", "z"}, "f")}), {Wire().text(1, "F").text(4, "a").text(5, "b").message(7, node("in", "Neg", {"a"}, {"b"})).text(10, "f")}), "call (f.F, node 0) has 2 outputs, its function 1");
    row("an input twice", model(graph({relu}).message(11, valueInfo("x", {3}))), "the input x is given twice");
    row("If without branches", model(graph({node("choice", "If", {"x"}, {"y"})})), "choice (If, node 0) has no else_branch");
    row("names that only look alike", model(graph({node("n", "Neg", {"x"}, {"a\x01"}), node("m", "Abs", {"x"}, {"a\\x01"}), node("o", "Add", {"a\x01", "a\\x01"}, {"y"})})), "");
    row("sizes that don't go together", model(graph({node("n", "MatMul", {"x", "w"}, {"y"})}, {tensor("w", {3, 1}, std::string(12, 'a'))})), "2 columns meet 3 rows");
    row("an unknown element type", model(graph({node("n", "Add", {"x", "w"}, {"y"})}, {Wire().integer(1, 1).integer(2, 257).text(8, "w").text(9, "abcd")})), "257");
    row("a negative size of an input", model(Wire().message(1, relu).text(2, "g").message(11, valueInfo("x", {-5, 2})).message(12, y)), "size -5");
    row("an input against its initializer", model(Wire().message(1, node("n", "Neg", {"w"}, {"y"})).message(5, tensor("w", {2}, std::string(8, 'a'))).text(2, "g").message(11, valueInfo("w", {99, 7})).message(12, y)), "99x7 for 'w', but its initializer is 2");
    row("a declared size that no binding mends", model(Wire().message(1, relu).text(2, "g").message(11, symbolicInfo("x", "n", 4)).message(12, symbolicInfo("y", "n", 5))), "1x5 for 'y', but n (Relu, node 0) gives 1x4");
    row("a declared symbol that no binding mends", model(Wire().message(1, node("n", "Concat", {"x", "x"}, {"y"}).message(5, Wire().text(1, "axis").integer(3, 0).integer(20, 2))).text(2, "g").message(11, symbolicInfo("x", "n", 4)).message(12, symbolicInfo("y", "n", 4))), "1x4 for 'y', but n (Concat, node 0) gives 2x4");
    const Wire turn = Wire().message(1, node("go", "Identity", {"c"}, {"on"})).message(1, node("each", "Relu", {"v"}, {"b"})).text(2, "body").message(11, Wire().text(1, "i")).message(11, Wire().text(1, "c")).message(11, Wire().text(1, "v")).message(12, Wire().text(1, "on")).message(12, valueInfo("b", {9, 9}));
    row("a declared size inside of a body", model(graph({node("loop", "Loop", {"", "", "x"}, {"y"}).message(5, Wire().text(1, "body").message(6, turn).integer(20, 5))})), "9x9 for 'b' inside of loop (Loop, node 0), but each (Relu, node 1) gives 2x2");
    const auto number = [](const std::string& name, std::int64_t value) { return node(name, "Constant", {}, {name}).message(5, Wire().text(1, "value_int").integer(3, value).integer(20, 2)); };
    row("a list without one of its tensors", model(graph({number("p", 1), node("list", "SequenceConstruct", {"x", ""}, {"l"}), node("pick", "SequenceAt", {"l", "p"}, {"a"}), node("join", "ConcatFromSequence", {"l"}, {"y"}).message(5, Wire().text(1, "axis").integer(3, 0).integer(20, 2))})), "");
    row("a list that nothing is put into", model(graph({number("p", 0), node("none", "SequenceEmpty", {}, {"e"}), node("list", "SequenceInsert", {"e", ""}, {"l"}), node("pick", "SequenceAt", {"l", "p"}, {"y"})})), "");
    const Wire sizes = Wire().integer(1, 1).integer(1, 1).integer(2, 7).text(8, "s").text(9, std::string("\1\0\0\0\0\0\0\0", 8));
    row("a list whose sizes have two axes", model(graph({number("p", 1), node("cut", "SplitToSequence", {"x", "s"}, {"l"}), node("pick", "SequenceAt", {"l", "p"}, {"y"})}, {sizes})), "");
    row("newer opset", Wire().integer(1, 99).message(7, graph({node("n", "Neg", {"x"}, {"y"})})).message(8, opset("", 99)).bytes, "newer");
    row("a function that calls itself", model(graph({node("call", "F", {"x"}, {"y"}, "f")}), {Wire().text(1, "F").text(4, "a").text(5, "b").message(7, node("in", "F", {"a"}, {"b"}, "f")).text(10, "f")}), "call");
}

void HostileTest::files() {
    QFETCH(QByteArray, bytes);
    QFETCH(QString, says);
    const std::int64_t most = kilobytes("VmHWM:");
    QElapsedTimer timer;
    timer.start();
    const auto result = analysed(bytes.toStdString());
    QVERIFY2(timer.elapsed() < 10'000, qPrintable(QString::number(timer.elapsed())));
    QVERIFY2(kilobytes("VmHWM:") - most < 1'000'000, qPrintable(QString::number(kilobytes("VmHWM:") - most)));
    QString said = result ? QString() : QString::fromStdString(result.error().message());
    if (result) {
        for (const auto* list : {&(*result)->model->warnings, &(*result)->warnings})
            for (const std::string& warning : *list) said += QString::fromStdString(warning) + '\n';
    }
    QVERIFY2(said.contains(says), qPrintable("says: " + said));
}

// Small files that would become large.
void HostileTest::bombs_data() {
    QTest::addColumn<QByteArray>("bytes");
    QTest::addColumn<QString>("says");
    const auto row = [](const char* name, const std::string& bytes, const QString& says) { QTest::newRow(name) << QByteArray::fromStdString(bytes) << says; };
    const Wire x = valueInfo("x", {2, 2}), y = Wire().text(1, "y"), relu = node("n", "Relu", {"x"}, {"y"});
    // A chain of nodes behind one.
    const auto chain = [&](Wire first, int count, const std::vector<std::string>& more = {}, const char* op = "Relu") {
        Wire made = Wire().message(1, first).text(2, "g").message(11, x).message(12, Wire().text(1, "v" + std::to_string(count)));
        std::vector<std::string> inputs{""};
        inputs.insert(inputs.end(), more.begin(), more.end());
        for (int i = 0; i < count; ++i) {
            inputs[0] = "v" + std::to_string(i);
            made.message(1, node("n" + std::to_string(i), op, inputs, {"v" + std::to_string(i + 1)}));
        }
        return made;
    };
    const auto integers = [](const std::string& name, std::int64_t count, char each) {
        std::string raw;
        for (std::int64_t i = 0; i < count; ++i) raw += std::string(1, each) + std::string(7, '\0');
        return Wire().integer(1, count).integer(2, 7).text(8, name).text(9, raw);
    };
    const Wire optional = Wire().text(1, "x").message(2, Wire().message(9, Wire().text(1, sequencesInSequences(100'000))));
    row("an optional of sequences of sequences", model(Wire().message(1, relu).text(2, "g").message(11, optional).message(12, y)), "");
    Wire strings = Wire().text(1, "s").text(9, std::string(100'000, 'A')), content = Wire().integer(1, 1).integer(2, 8).text(8, "w").text(6, std::string(100'000, 'A')), key = Wire().text(1, std::string(200'000, 'k'));
    for (int i = 0; i < 40'000; ++i) strings.integer(9, 0), content.integer(6, 0);
    for (int i = 0; i < 200'000; ++i) key.integer(2, 0);
    row("numbers where strings are expected", model(Wire().message(1, node("n", "Foo", {"x"}, {"y"}).message(5, strings.integer(20, 8))).text(2, "g").message(11, x).message(12, y)), "");
    row("numbers where elements are expected", model(Wire().message(1, relu).message(5, content).text(2, "g").message(11, x).message(12, y)), "");
    row("numbers where texts are expected", model(Wire().message(1, relu).text(2, "g").message(11, x).message(12, y)) + Wire().message(14, key).bytes, "");
    Wire axes = Wire().integer(2, 1).text(8, "w").text(9, "abcd");
    for (int i = 0; i < 100'000; ++i) axes.integer(1, 1);
    row("a tensor of many axes", model(chain(node("n", "Relu", {"w"}, {"v0"}), 1'000).message(5, axes)), "w: the tensor has more than 256 axes");
    row("many axes by a Reshape", model(chain(node("n", "Reshape", {"x", "s"}, {"v0"}), 10'000).message(5, integers("s", 4096, 1))), "n (Reshape, node 0): it gives more than 256 axes");
    row("an axis more for each node", model(chain(node("n", "Neg", {"x"}, {"v0"}), 8'000, {"a"}, "Unsqueeze").message(5, integers("a", 1, 0))), "it gives more than 256 axes");
    Wire inner = Wire().text(1, "F").text(4, "a").text(5, "m1000").text(10, "f").message(7, node("in", "Relu", {"a"}, {"m0"}));
    for (int i = 0; i < 1'000; ++i) inner.message(7, node("in" + std::to_string(i), "Relu", {"m" + std::to_string(i)}, {"m" + std::to_string(i + 1)}));
    row("a call of a long name", model(Wire().message(1, node(std::string(200'000, 'c'), "F", {"x"}, {"y"}, "f")).text(2, "g").message(11, x).message(12, y), {inner}), "copy more names and attributes");
    const Wire list = Wire().text(1, "value_ints").text(8, std::string(100'000, '\1')).integer(20, 7);
    const Wire constant = Wire().text(1, "F").text(4, "a").text(5, "b").text(10, "f").message(7, node("k", "Constant", {}, {"k"}).message(5, list)).message(7, node("in", "Add", {"a", "k"}, {"b"}));
    Wire calls = Wire().text(2, "g").message(11, x).message(12, Wire().text(1, "y0"));
    for (int i = 0; i < 2'000; ++i) calls.message(1, node("c" + std::to_string(i), "F", {"x"}, {"y" + std::to_string(i)}, "f"));
    row("a long list for each call", model(calls, {constant}), "copy more names and attributes");
    row("a reason of a long name", model(chain(node(std::string(200'000, 'u'), "Unknown", {"x"}, {"v0"}, "acme"), 10'000)), "acme");
    Wire constants = Wire().message(5, integers("s", 2, 64)).text(2, "g").message(12, Wire().text(1, "c0"));
    for (int i = 0; i < 60'000; ++i) constants.message(1, node("c" + std::to_string(i), "ConstantOfShape", {"s"}, {"c" + std::to_string(i)}));
    row("many constants", model(constants), "");
    Wire outputs = Wire().message(1, relu).text(2, "g").message(11, x), strangers = Wire().text(2, "g").message(11, x).message(12, Wire().text(1, "y0"));
    for (int i = 0; i < 10'000; ++i) outputs.message(12, Wire().text(1, "o" + std::to_string(i)));
    for (int i = 0; i < 1'000; ++i) strangers.message(1, node("n" + std::to_string(i), "Op", {"x"}, {"y" + std::to_string(i)}, "d" + std::to_string(i)));
    row("outputs of nothing", model(outputs), "9990 more outputs are produced by nothing");
    row("many domains", model(strangers), "990 more domains are used but not imported");
    Wire fan = Wire().text(2, "g").message(12, Wire().text(1, "r0"));
    std::vector<std::string> parts;
    for (int i = 0; i < 20'000; ++i) {
        parts.push_back("i" + std::to_string(i));
        fan.message(11, symbolicInfo(parts.back(), "s" + std::to_string(i), 4)).message(1, node("n" + std::to_string(i), "Relu", {"c"}, {"r" + std::to_string(i)}));
    }
    // Each loop looks at what is inside of it more than once.
    const auto body = [](const Wire& inside) {
        return Wire().message(1, node("go", "Identity", {"c"}, {"on"})).message(1, inside).text(2, "body").message(11, Wire().text(1, "i")).message(11, Wire().text(1, "c")).message(11, Wire().text(1, "v")).message(12, Wire().text(1, "on")).message(12, Wire().text(1, "w"));
    };
    Wire loops = body(node("inner", "Relu", {"v"}, {"w"}));
    const auto loop = [](const Wire& inside, const std::string& reads, const std::string& gives) { return node("loop", "Loop", {"", "", reads}, {gives}).message(5, Wire().text(1, "body").message(6, inside).integer(20, 5)); };
    for (int i = 0; i < 50; ++i) loops = body(loop(loops, "v", "w"));
    row("loops in loops", model(Wire().message(1, loop(loops, "x", "y")).text(2, "g").message(11, x).message(12, y)), "");
    row("many inputs, read as one by many", model(fan.message(1, node("c", "Concat", parts, {"c"}).message(5, Wire().text(1, "axis").integer(3, 0).integer(20, 2)))), "");
}

void HostileTest::whatASizeMendsIsNoContradiction() {
    // Traced at 256, where the default is 128: windows of 32 swallow a size that is one more.
    const auto info = [](const std::string& name, const std::vector<Wire>& dims) {
        Wire shape;
        for (const Wire& dim : dims) shape.message(1, dim);
        return Wire().text(1, name).message(2, Wire().message(1, Wire().integer(1, 1).message(2, shape)));
    };
    const auto size = [](std::int64_t dim) { return Wire().integer(1, dim); };
    Wire pool = node("n", "MaxPool", {"x"}, {"y"});
    for (const char* name : {"kernel_shape", "strides"}) pool.message(5, Wire().text(1, name).integer(8, 32).integer(8, 32).integer(20, 7));
    const auto result = analysed(model(Wire().message(1, pool).text(2, "g").message(11, info("x", {size(1), size(1), Wire().text(2, "seq"), size(32)})).message(12, info("y", {size(1), size(1), size(8), size(1)}))));
    QVERIFY2(result, result ? "" : result.error().message().c_str());
    QVERIFY2((*result)->warnings.empty(), (*result)->warnings.empty() ? "" : (*result)->warnings.front().c_str());
    QCOMPARE((*result)->inlinedShapes->of((*result)->inlined->findValue("y")).dims, (Dims{1, 1, 4, 1}));
}

void HostileTest::whatTheOtherBranchGivesIsNoContradiction() {
    // A merged decoder declares its keys as one more than those of before, which holds for the branch with keys of before.
    const auto info = [](const std::string& name, const Wire& dim) { return Wire().text(1, name).message(2, Wire().message(1, Wire().integer(1, 1).message(2, Wire().message(1, dim).message(1, Wire().integer(1, 4))))); };
    const auto branch = [](const Wire& made) { return Wire().message(1, made).text(2, "b").message(12, Wire().text(1, "b")); };
    Wire choice = node("choice", "If", {"use_cache"}, {"y"}), grown = node("grow", "Concat", {"past", "x"}, {"b"});
    grown.message(5, Wire().text(1, "axis").integer(3, 0).integer(20, 2));
    choice.message(5, Wire().text(1, "then_branch").message(6, branch(grown)).integer(20, 5)).message(5, Wire().text(1, "else_branch").message(6, branch(node("as_is", "Relu", {"x"}, {"b"}))).integer(20, 5));
    const Wire flag = Wire().text(1, "use_cache").message(2, Wire().message(1, Wire().integer(1, 9).message(2, Wire().message(1, Wire().integer(1, 1)))));
    const auto result = analysed(model(Wire().message(1, choice).text(2, "g").message(11, info("x", Wire().text(2, "sequence"))).message(11, info("past", Wire().text(2, "past_sequence"))).message(11, flag).message(12, info("y", Wire().text(2, "past_sequence + 1")))));
    QVERIFY2(result, result ? "" : result.error().message().c_str());
    QVERIFY2((*result)->warnings.empty(), (*result)->warnings.empty() ? "" : (*result)->warnings.front().c_str());
    QCOMPARE((*result)->inlinedShapes->of((*result)->inlined->findValue("y")).dims, (Dims{128, 4}));
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
    for (const char* path : {"/etc/passwd", "../outside.bin", "a/../../outside.bin", "link.bin", "", "*/_ORT_MEM_ADDR_/*", "C:\\outside.bin", "d:/outside.bin", "\\\\server\\outside.bin", "..\\outside.bin", "a\\..\\..\\outside.bin"}) QTest::newRow(*path ? path : "empty") << QString(path);
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
    const std::string said = location.isEmpty() ? "names no file" : location.startsWith('*') ? "memory of the program" : "refused";
    QVERIFY(std::any_of(warnings.begin(), warnings.end(), [&](const std::string& each) { return each.find(said) != std::string::npos; }));
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
