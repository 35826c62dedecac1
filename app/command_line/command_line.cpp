#include "command_line/command_line.h"

#include "command_line/arguments.h"
#include "command_line/requirement.h"
#include "command_line/rewrite_commands.h"
#include "open_window.h"
#include "drawing/draw.h"
#include "paint_file.h"
#include "report/json.h"
#include "report/text.h"

#include <CLI/CLI.hpp>
#include <cstdio>

namespace triptych {

namespace {

/// "-" is standard output, as elsewhere on a command line.
int writeOutput(const std::string& path, const std::string& text) {
    if (path == "-") return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() ? exitDone : exitUnwritable;
    if (const auto written = writeFile(path, text); !written) return complain(path, written.error(), exitUnwritable);
    return exitDone;
}

struct AnalyzeArguments : AnalysisArguments {
    std::string json;
    bool withGraphs = false;
    std::vector<std::string> requirements;
};

int runAnalyze(AnalyzeArguments& arguments) {
    const auto analysis = analyzed(arguments, true);
    if (!analysis) return analysis.error();
    if (!arguments.json.empty()) {
        if (const int status = writeOutput(arguments.json, analysisJson(**analysis, {arguments.withGraphs})); status != exitDone) return status;
    } else if (!arguments.quiet) {
        std::fputs(analysisTable(**analysis).c_str(), stdout);
    }
    int status = exitDone;
    for (const std::string& requirement : arguments.requirements) {
        const auto verdict = checkRequirement(requirement, **analysis);
        if (!verdict) return complain("", verdict.error(), exitUsage);
        if (verdict->holds) continue;
        std::fprintf(stderr, "triptych: %s: required %s, but it is %s\n", arguments.file.c_str(), requirement.c_str(), verdict->actual.c_str());
        status = exitCheckFailed;
    }
    return status;
}

struct ExportArguments : AnalysisArguments {
    std::string view = "both", format = "svg", output, theme = "light";
    bool collapse = false;
};

int exportDrawing(const ExportArguments& arguments, const Analysis& analysis) {
    LayoutOptions options;
    options.expandAll = !arguments.collapse;
    options.collapseRepeats = arguments.collapse;
    LayoutPtr layouts[2];
    const Projected* projected[2] = {&analysis.baseline, &analysis.enhanced};
    for (int side = 0; side < 2; ++side) {
        const Decomposition* decomposition = side == 0 ? nullptr : analysis.decomposition.get();
        auto layout = layOut(*projected[side], analysis.attentions, decomposition, options);
        if (!layout) return complain(arguments.file, layout.error(), exitUnreadable);
        layouts[side] = *layout;
    }
    const View view = arguments.view == "baseline" ? View::baseline : arguments.view == "enhanced" ? View::enhanced : View::both;
    const DisplayList sheet = drawSheet(analysis, *layouts[0], *layouts[1], view);
    const Theme& theme = arguments.theme == "dark" ? darkTheme() : lightTheme();
    if (arguments.format == "svg") return writeOutput(arguments.output, writeSvg(sheet, theme, analysis.model->path.filename().string()));
    const auto painted = paintToFile(sheet, theme, arguments.output, arguments.format == "png" ? PaintFormat::png : PaintFormat::pdf);
    return painted ? exitDone : complain(arguments.output, painted.error(), exitUnwritable);
}

int runExport(ExportArguments& arguments) {
    const auto analysis = analyzed(arguments, arguments.format == "md");
    if (!analysis) return analysis.error();
    const Analysis& a = **analysis;
    if (arguments.format == "md") return writeOutput(arguments.output, analysisMarkdown(a));
    if (arguments.format == "csv") {
        std::string text;
        if (arguments.view != "enhanced") text += partitionCsv(a, a.baseline);
        if (arguments.view != "baseline") text += partitionCsv(a, a.enhanced);
        return writeOutput(arguments.output, text);
    }
    return exportDrawing(arguments, a);
}

struct DiagnoseArguments : AnalysisArguments {
    bool strict = false;
};

int runDiagnose(DiagnoseArguments& arguments) {
    const auto analysis = analyzed(arguments, false);
    if (!analysis) return analysis.error();
    std::fputs(diagnosisText(**analysis).c_str(), stdout);
    return arguments.strict && !(*analysis)->attentions.unrecognised.empty() ? exitCheckFailed : exitDone;
}

} // namespace

int runCommandLine(int argc, char** argv) {
    CLI::App app("What would fuse in this ONNX transformer, what it would really save, and why something did not fuse.", "triptych");
    app.require_subcommand(0, 1);
    OpenRequest window;
    app.add_option("FILE", window.file, "an ONNX model to open in the window");

    AnalyzeArguments analyzeArguments;
    CLI::App* analyzeCommand = app.add_subcommand("analyze", "everything the window knows, as a table or as JSON");
    addAnalysisOptions(*analyzeCommand, analyzeArguments);
    analyzeCommand->add_option("--json", analyzeArguments.json, "write JSON to this file; - is standard output");
    analyzeCommand->add_flag("--with-graphs", analyzeArguments.withGraphs, "each graph's nodes in the JSON too");
    analyzeCommand->add_option("--require", analyzeArguments.requirements, "KEY OP NUMBER, as launches<=180: exit 1 where it doesn't hold")->allow_extra_args(false);

    ExportArguments exportArguments;
    CLI::App* exportCommand = app.add_subcommand("export", "a diagram or a report");
    addAnalysisOptions(*exportCommand, exportArguments);
    exportCommand->add_option("--view", exportArguments.view, "baseline, enhanced or both")->check(CLI::IsMember({"baseline", "enhanced", "both"}))->capture_default_str();
    exportCommand->add_option("--format", exportArguments.format, "svg, png, pdf, md or csv")->check(CLI::IsMember({"svg", "png", "pdf", "md", "csv"}))->capture_default_str();
    exportCommand->add_option("--theme", exportArguments.theme, "light or dark")->check(CLI::IsMember({"light", "dark"}))->capture_default_str();
    exportCommand->add_option("-o,--output", exportArguments.output, "the file to write")->required();
    exportCommand->add_flag("--collapse", exportArguments.collapse, "repeated blocks as one box");

    DiagnoseArguments diagnoseArguments;
    CLI::App* diagnoseCommand = app.add_subcommand("diagnose", "what blocked every attention and every pattern that nearly matched");
    addAnalysisOptions(*diagnoseCommand, diagnoseArguments);
    diagnoseCommand->add_flag("--strict", diagnoseArguments.strict, "exit 1 where any attention is unrecognised");

    const auto rewriting = addRewriteCommands(app);

    bool patternsAsJson = false;
    CLI::App* patternsCommand = app.add_subcommand("patterns", "the pattern library");
    patternsCommand->add_flag("--json", patternsAsJson, "as JSON");

    AnalysisArguments openArguments;
    std::string size = "1600x1000";
    CLI::App* openCommand = app.add_subcommand("open", "the window; with --screenshot it saves a picture of itself and ends");
    addAnalysisOptions(*openCommand, openArguments);
    openCommand->add_option("--screenshot", window.screenshot, "PNG to save once both graphs are painted");
    openCommand->add_option("--size", size, "WIDTHxHEIGHT")->capture_default_str();
    openCommand->add_option("--timings", window.timings, "JSON with the milliseconds of each stage");
    openCommand->add_option("--theme", window.theme, "light or dark")->check(CLI::IsMember({"light", "dark"}));
    openCommand->add_option("--select", window.select, "name of a node to select");

    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& asked) { // --help
        return app.exit(asked);
    } catch (const CLI::ParseError& error) {
        std::fprintf(stderr, "triptych: %s; see triptych --help\n", error.what());
        return exitUsage;
    }
    if (analyzeCommand->parsed()) return runAnalyze(analyzeArguments);
    if (exportCommand->parsed()) return runExport(exportArguments);
    if (diagnoseCommand->parsed()) return runDiagnose(diagnoseArguments);
    if (const auto status = rewriting->run()) return *status;
    if (patternsCommand->parsed()) {
        const LibraryPtr library = shippedPatterns();
        std::fputs((patternsAsJson ? patternsJson(*library) : patternsTable(*library)).c_str(), stdout);
        return exitDone;
    }
    if (openCommand->parsed()) {
        if (const auto ready = complete(openArguments); !ready) return complain(openArguments.file, ready.error(), exitUsage);
        if (std::sscanf(size.c_str(), "%dx%d", &window.width, &window.height) != 2 || window.width < 200 || window.height < 150 || window.width > 16000 || window.height > 16000)
            return complain("", {"options", "", "'" + size + "' is no size", "write WIDTHxHEIGHT, as 1600x1000"}, exitUsage);
        window.file = openArguments.file;
        window.options = openArguments.options;
    }
    return openWindow(argc, argv, window);
}

} // namespace triptych
