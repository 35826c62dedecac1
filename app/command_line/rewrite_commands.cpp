#include "command_line/rewrite_commands.h"

#include "command_line/arguments.h"
#include "fusion/fused_model.h"
#include "onnx_io/export.h"
#include "verify/verify.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

namespace triptych {

namespace {

struct WriteArguments : AnalysisArguments {
    std::string output;
};

struct VerifyArguments : AnalysisArguments {
    std::string against, data, fill;
    int runs = 0;
    std::uint64_t seed = 1;
    std::optional<double> relative, absolute;
};

void printWarnings(const AnalysisArguments& arguments, const std::vector<std::string>& warnings) {
    if (arguments.quiet) return;
    for (const std::string& warning : warnings) std::fprintf(stderr, "triptych: %s: warning: %s\n", arguments.file.c_str(), warning.c_str());
}

int writeModel(const WriteArguments& arguments, const ExportRequest& request) {
    const auto written = exportModel(request, arguments.output, jobFor(arguments));
    if (written) return exitDone;
    const bool unwritable = written.error().stage == "write";
    return complain(unwritable ? arguments.output : arguments.file, written.error(), unwritable ? exitUnwritable : exitUnreadable);
}

/// What a written file says of itself. What was written from a written file still names the first one, as its nodes do.
Metadata provenance(const Model& model, const char* form) {
    std::string source = model.path.filename().string();
    for (const auto& [key, value] : model.metadata)
        if (key == "triptych.source") source = value;
    return {{"triptych.form", form}, {"triptych.source", source}};
}

int runDecompose(WriteArguments& arguments) {
    arguments.options.forFile = true;
    const auto analysis = analyzed(arguments, false);
    if (!analysis) return analysis.error();
    const Analysis& a = **analysis;
    printWarnings(arguments, a.decomposition->warnings);
    return writeModel(arguments, {*a.model, *a.decomposition->graph, {}, provenance(*a.model, "decomposed")});
}

int runFuse(WriteArguments& arguments) {
    arguments.options.forFile = true;
    const auto analysis = analyzed(arguments, false);
    if (!analysis) return analysis.error();
    const Analysis& a = **analysis;
    const auto fused = fusedModel(*a.enhanced.graph, *a.enhanced.shapes, *a.enhanced.partition, *a.library, a.model->opsets);
    if (!fused) return complain(arguments.file, fused.error(), exitUnreadable);
    printWarnings(arguments, a.decomposition->warnings);
    printWarnings(arguments, fused->warnings);
    return writeModel(arguments, {*a.model, *fused->graph, fused->functions, provenance(*a.model, "fused")});
}

/// Sizes that test data has for the file's symbolic dimensions.
void bindTo(const Graph& graph, const NamedTensors& inputs, Bindings& bindings) {
    for (const ValueId input : graph.inputs()) {
        const Value& value = graph.value(input);
        const auto given = inputs.find(value.name);
        if (given == inputs.end() || given->second.dims.size() != value.declared.dims.size()) continue;
        for (std::size_t i = 0; i < value.declared.dims.size(); ++i) {
            if (value.declared.dims[i] >= 0) continue;
            const bool named = i < value.declared.symbols.size() && !value.declared.symbols[i].empty();
            bindings.try_emplace(named ? value.declared.symbols[i] : value.name + "_dim_" + std::to_string(i), given->second.dims[i]);
        }
    }
}

std::vector<Fill> fillsOf(const VerifyArguments& arguments) {
    if (const auto fill = fillNamed(arguments.fill)) return std::vector<Fill>(static_cast<std::size_t>(std::max(arguments.runs, 1)), *fill);
    std::vector<Fill> fills(static_cast<std::size_t>(arguments.runs > 0 ? arguments.runs : 2), Fill::random);
    fills.insert(fills.end(), {Fill::masked, Fill::ones, Fill::ramp});
    return fills;
}

int printComparison(const VerifyArguments& arguments, const Comparison& comparison) {
    if (comparison.differences.empty()) return complain(arguments.file, {"verify", "", "no output could be compared", "give outputs that the model has"}, exitCheckFailed);
    for (const Difference& each : comparison.differences) {
        if (arguments.quiet && each.holds) continue;
        std::printf("%-9s %s, %s, output %s: largest difference %.3g, of the largest value %.3g (allowed %.3g)%s%s\n", each.holds ? "equal" : "DIFFERENT", each.comparison.c_str(), each.inputs.c_str(),
                    each.output.c_str(), each.absolute, each.relative, each.allowed, each.at.empty() ? "" : " at ", each.at.c_str());
    }
    if (comparison.holds()) return exitDone;
    if (!comparison.firstAttention.empty()) std::printf("first attention that differs: %s\n", comparison.firstAttention.c_str());
    return exitCheckFailed;
}

int runVerify(VerifyArguments& arguments) {
    if (const auto ready = complete(arguments); !ready) return complain(arguments.file, ready.error(), exitUsage);
    const Job job = jobFor(arguments);
    const auto model = importModel(arguments.file, job, arguments.options.allowedFolders);
    if (!model) return complain(arguments.file, model.error(), exitUnreadable);
    std::optional<TestData> data;
    if (!arguments.data.empty()) {
        auto read = readTestData(*(*model)->graph, arguments.data);
        if (!read) return complain(arguments.data, read.error(), statusOf(read.error()));
        data = std::move(*read);
        bindTo(*(*model)->graph, data->inputs, arguments.options.bindings);
    }
    arguments.options.forFile = true;
    const auto analysis = analyze(*model, arguments.options, job);
    if (!analysis) return complain(arguments.file, analysis.error(), statusOf(analysis.error()));
    const Analysis& a = **analysis;
    ModelPtr other = *model;
    GraphPtr graph = a.decomposition->graph;
    if (!arguments.against.empty()) {
        const auto opened = importModel(arguments.against, job, arguments.options.allowedFolders);
        if (!opened) return complain(arguments.against, opened.error(), exitUnreadable);
        const auto inlined = inlineFunctions(**opened, *(*opened)->graph, {}, job);
        if (!inlined) return complain(arguments.against, inlined.error(), exitUnreadable);
        other = *opened;
        graph = *inlined;
    } else {
        printWarnings(arguments, a.decomposition->warnings);
    }
    // Branches that are always taken and lists that are undone are part of the rewriting, so part of what is to be proved.
    const bool asInFile = a.taken.empty() && !a.listsUndone;
    const auto file = inlineFunctions(**model, *(*model)->graph, {}, job);
    if (!file) return complain(arguments.file, file.error(), exitUnreadable);
    const auto shapes = asInFile ? Result<ShapesPtr>(a.inlinedShapes) : inferShapes(**model, **file, a.bindings, job);
    if (!shapes) return complain(arguments.file, shapes.error(), exitUnreadable);
    const bool traceable = arguments.against.empty() && asInFile;
    const VerifyRequest request{**model, **file, **shapes, *other, *graph, arguments.against.empty() ? "decomposed" : other->path.filename().string(),
                                traceable ? &a.attentions : nullptr, data ? &*data : nullptr, fillsOf(arguments), arguments.seed, arguments.relative, arguments.absolute};
    const auto comparison = verify(request, job);
    if (!comparison) return complain(arguments.file, comparison.error(), comparison.error().stage == "verify" ? exitCheckFailed : exitUnreadable);
    return printComparison(arguments, *comparison);
}

class Commands : public RewriteCommands {
public:
    explicit Commands(CLI::App& app) {
        m_decompose = app.add_subcommand("decompose", "writes the model with every attention in explicit operators");
        m_fuse = app.add_subcommand("fuse", "as decompose, and every fused group becomes a model-local function");
        for (auto [command, arguments] : {std::pair(m_decompose, &m_decomposeArguments), std::pair(m_fuse, &m_fuseArguments)}) {
            addAnalysisOptions(*command, *arguments);
            command->add_option("-o,--output", arguments->output, "the file to write")->required();
        }
        m_verify = app.add_subcommand("verify", "runs the file and its decomposed form on the same inputs and compares");
        addAnalysisOptions(*m_verify, m_verifyArguments);
        m_verify->add_option("--against", m_verifyArguments.against, "compare with this file instead of the decomposed form");
        m_verify->add_option("--data", m_verifyArguments.data, "folder with input_0.pb ... and the expected output_0.pb ...");
        m_verify->add_option("--fill", m_verifyArguments.fill, "random, ones, zeros, ramp or masked")->check(CLI::IsMember({"random", "ones", "zeros", "ramp", "masked"}));
        m_verify->add_option("--runs", m_verifyArguments.runs, "runs, each with another seed")->check(CLI::Range(1, 1000));
        m_verify->add_option("--seed", m_verifyArguments.seed, "of the first run")->capture_default_str();
        m_verify->add_option("--rtol", m_verifyArguments.relative, "allowed difference, of the largest value");
        m_verify->add_option("--atol", m_verifyArguments.absolute, "allowed difference beside that");
    }

    std::optional<int> run() override {
        if (m_decompose->parsed()) return runDecompose(m_decomposeArguments);
        if (m_fuse->parsed()) return runFuse(m_fuseArguments);
        if (m_verify->parsed()) return runVerify(m_verifyArguments);
        return std::nullopt;
    }

private:
    CLI::App *m_decompose = nullptr, *m_fuse = nullptr, *m_verify = nullptr;
    WriteArguments m_decomposeArguments, m_fuseArguments;
    VerifyArguments m_verifyArguments;
};

} // namespace

std::unique_ptr<RewriteCommands> addRewriteCommands(CLI::App& app) { return std::make_unique<Commands>(app); }

} // namespace triptych
