// What single stages cost: every stage on the bundled samples, one toggle, and the exponent of their growth on synthetic
// decoders of 1,000 to 100,000 nodes.
#include "drawing/draw.h"
#include "onnx_io/export.h"
#include "pipeline.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

using namespace triptych;

namespace {

template <class Work>
double milliseconds(const Work& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

/// Builds decoder layers: separate Q, K, V, a mask that all layers read, residual adds, a gated feed-forward part.
class DecoderBuilder {
public:
    GraphPtr build(std::size_t nodes) {
        m_value = m_builder.value("x");
        declare(m_value, {1, 128, width});
        m_builder.addInput(m_value);
        m_mask = m_builder.value("mask");
        declare(m_mask, {1, 1, 128, 128});
        m_builder.addInput(m_mask);
        while (m_builder.nodeCount() < nodes) layer();
        m_builder.addOutput(m_value);
        return *m_builder.finish();
    }

private:
    static constexpr Dim width = 256, heads = 8;

    void declare(ValueId value, Dims dims) { m_builder.edit(value).declared = {DataType::float32, true, std::move(dims), {}, "tensor"}; }
    ValueId weight(Dims dims) {
        auto tensor = std::make_shared<Tensor>();
        tensor->name = "w" + std::to_string(m_builder.nodeCount());
        tensor->type = DataType::float32;
        tensor->dims = std::move(dims);
        return m_builder.addInitializer(tensor);
    }
    ValueId op(const char* type, std::vector<ValueId> inputs, std::vector<std::int64_t> perm = {}) {
        Node node;
        node.op = type;
        node.name = type + std::to_string(m_builder.nodeCount());
        node.inputs = std::move(inputs);
        node.outputs = {m_builder.newValue(node.name + "_out")};
        if (!perm.empty()) node.attributes.set("perm", std::move(perm));
        const ValueId out = node.outputs[0];
        m_builder.addNode(std::move(node));
        return out;
    }
    ValueId linear(ValueId x, Dim in, Dim out) { return op("Add", {op("MatMul", {x, weight({in, out})}), weight({out})}); }
    ValueId split(ValueId x) {
        const ValueId shape = m_builder.addInitializer(makeTensor("heads", {4}, std::vector<std::int64_t>{0, 0, heads, width / heads}));
        return op("Reshape", {x, shape});
    }
    void layer() {
        const ValueId q = op("Transpose", {split(linear(m_value, width, width))}, {0, 2, 1, 3});
        const ValueId k = op("Transpose", {split(linear(m_value, width, width))}, {0, 2, 3, 1});
        const ValueId v = op("Transpose", {split(linear(m_value, width, width))}, {0, 2, 1, 3});
        const ValueId scale = m_builder.addInitializer(makeTensor("scale", {}, std::vector<float>{0.176776F}));
        const ValueId scores = op("Add", {op("Mul", {op("MatMul", {q, k}), scale}), m_mask});
        const ValueId context = op("Transpose", {op("MatMul", {op("Softmax", {scores}), v})}, {0, 2, 1, 3});
        const ValueId merged = m_builder.addInitializer(makeTensor("merged", {3}, std::vector<std::int64_t>{0, 0, width}));
        const ValueId attended = op("Add", {m_value, linear(op("Reshape", {context, merged}), width, width)});
        const ValueId gate = linear(attended, width, 2 * width), up = linear(attended, width, 2 * width);
        const ValueId gated = op("Mul", {op("Mul", {gate, op("Sigmoid", {gate})}), up});
        m_value = op("Add", {attended, linear(gated, 2 * width, width)});
    }

    GraphBuilder m_builder;
    ValueId m_value, m_mask;
};

ModelPtr decoder(std::size_t nodes) {
    auto model = std::make_shared<Model>();
    model->irVersion = 9;
    model->opsets[""] = 17;
    model->graph = DecoderBuilder().build(nodes);
    return model;
}

/// Milliseconds of single stages from a file: read and import, one shape inference, one recognition.
struct FromFile {
    double nodes = 0, import = 0, shapes = 0, recognition = 0;
};

std::optional<FromFile> fromFile(const std::filesystem::path& path) {
    FromFile row;
    Result<ModelPtr> model = tl::unexpected(Failure());
    Result<GraphPtr> graph = tl::unexpected(Failure());
    Result<ShapesPtr> shapes = tl::unexpected(Failure());
    row.import = milliseconds([&] {
        model = importModel(path);
        if (model) graph = inlineFunctions(**model, *(*model)->graph, {});
    });
    if (!model || !graph) return std::nullopt;
    row.nodes = double((*graph)->nodes().size());
    row.shapes = milliseconds([&] { shapes = inferShapes(**model, **graph, *resolveBindings(**graph, {})); });
    if (!shapes) return std::nullopt;
    row.recognition = milliseconds([&] { (void)findAttention(**model, **graph, **shapes); });
    return row;
}

void print(const char* name, const FromFile& row) {
    std::printf("%-24s %7.0f nodes: import %6.1f ms, shapes %6.1f (together %6.1f), recognition %6.1f\n", name, row.nodes, row.import, row.shapes, row.import + row.shapes, row.recognition);
}

/// The median of nine processes that do nothing else: within one process the second run of a small file finds all of its
/// memory in the processor's cache and takes half of the first one's time, which nobody who opens a file ever sees.
std::optional<FromFile> inFreshProcesses(const std::string& program, const std::filesystem::path& path) {
    constexpr std::size_t runs = 9;
    std::vector<FromFile> rows;
    for (std::size_t i = 0; i < runs; ++i) {
        FILE* answer = popen(("'" + program + "' --once '" + path.string() + "'").c_str(), "r");
        if (!answer) return std::nullopt;
        FromFile row;
        const int read = std::fscanf(answer, "%lf %lf %lf %lf", &row.nodes, &row.import, &row.shapes, &row.recognition);
        if (pclose(answer) != 0 || read != 4) return std::nullopt;
        rows.push_back(row);
    }
    FromFile middle = rows[0];
    for (double FromFile::*figure : {&FromFile::import, &FromFile::shapes, &FromFile::recognition}) {
        std::nth_element(rows.begin(), rows.begin() + runs / 2, rows.end(), [&](const FromFile& one, const FromFile& other) { return one.*figure < other.*figure; });
        middle.*figure = rows[runs / 2].*figure;
    }
    return middle;
}

/// Import, shapes and recognition of files of 1,000 to 100,000 nodes.
void singleStages(const std::string& program) {
    const auto folder = std::filesystem::temp_directory_path();
    std::vector<FromFile> rows;
    for (const std::size_t nodes : {1000U, 10000U, 100000U}) {
        const auto path = folder / ("triptych-bench-" + std::to_string(nodes) + ".onnx");
        const ModelPtr made = decoder(nodes);
        if (!exportModel({*made, *made->graph, {}, {}}, path)) return;
        const auto row = inFreshProcesses(program, path);
        std::filesystem::remove(path);
        if (!row) return;
        print("decoder", *row);
        rows.push_back(*row);
    }
    const auto exponent = [&](double FromFile::*figure) { return std::log(rows[2].*figure / rows[0].*figure) / std::log(rows[2].nodes / rows[0].nodes); };
    std::printf("exponent from 1,000 to 100,000 nodes: import %.2f, shapes %.2f, recognition %.2f\n", exponent(&FromFile::import), exponent(&FromFile::shapes), exponent(&FromFile::recognition));
}

void growth() {
    struct Row {
        double nodes, shapes, attention, fusion, cost;
    };
    std::vector<Row> rows;
    for (const std::size_t nodes : {1000U, 10000U, 100000U}) {
        const auto analysis = analyze(decoder(nodes), {});
        if (!analysis) {
            std::printf("growth: %s\n", analysis.error().message().c_str());
            return;
        }
        const StageTimes& t = (*analysis)->times;
        rows.push_back({double((*analysis)->model->graph->nodes().size()), t.shapes, t.attention, t.fusion, t.cost});
        std::printf("decoder of %7.0f nodes: shapes %7.1f ms, attention %7.1f, fusion %7.1f, cost %7.1f\n", rows.back().nodes, t.shapes,
                    t.attention, t.fusion, t.cost);
    }
    const auto exponent = [&](double Row::*figure) { return std::log(rows[2].*figure / rows[1].*figure) / std::log(rows[2].nodes / rows[1].nodes); };
    std::printf("exponent from 10,000 to 100,000 nodes: shapes %.2f, attention %.2f, fusion %.2f, cost %.2f\n", exponent(&Row::shapes),
                exponent(&Row::attention), exponent(&Row::fusion), exponent(&Row::cost));
}

void toggles(const char* name) {
    const auto analysis = analyze(std::filesystem::path(PROJECT_ROOT "/resources/samples") / name, {});
    if (!analysis) {
        std::printf("%s: %s\n", name, analysis.error().message().c_str());
        return;
    }
    std::vector<double> times;
    for (const PatternId id : (*analysis)->enabled) {
        AnalysisOptions options = (*analysis)->options;
        options.disable.push_back((*analysis)->library->patterns[id.position()].id);
        times.push_back(milliseconds([&] { (void)reanalyze(*analysis, options); }));
    }
    if (times.empty()) return;
    std::sort(times.begin(), times.end());
    std::printf("toggle %-24s %zu patterns: median %.1f ms, 95th percentile %.1f ms (without repainting)\n", name, times.size(),
                times[times.size() / 2], times[times.size() * 95 / 100]);
}

} // namespace

/// Files named on the command line come first, as the first work of the process. `--once FILE` prints nodes, import, shapes and recognition (ms).
int main(int argc, char** argv) {
    if (argc == 3 && std::string(argv[1]) == "--once") {
        const auto row = fromFile(argv[2]);
        if (!row) return 1;
        std::printf("%f %f %f %f\n", row->nodes, row->import, row->shapes, row->recognition);
        return 0;
    }
    for (int i = 1; i < argc; ++i)
        if (const auto row = fromFile(argv[i])) print(std::filesystem::path(argv[i]).filename().c_str(), *row);
    singleStages(argv[0]);
    for (const char* name : {"vit_b_16.fn.onnx", "bert_base.onnx"}) toggles(name);
    growth();
    return 0;
}
