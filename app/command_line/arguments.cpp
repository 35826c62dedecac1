#include "command_line/arguments.h"

#include <CLI/CLI.hpp>
#include <cstdio>

namespace triptych {

void addAnalysisOptions(CLI::App& command, AnalysisArguments& arguments) {
    command.add_option("FILE", arguments.file, "an ONNX model")->required();
    command.add_option("--bind", arguments.bindings, "NAME=N: a symbolic dimension of an input")->take_all()->allow_extra_args(false);
    command.add_option("--hardware", arguments.options.hardware, "hardware profile")->capture_default_str();
    command.add_option("--runtime", arguments.options.runtime, "what costs a launch")->capture_default_str();
    command.add_option("--precision", arguments.precision, "fp32, fp16, bf16 or file")->capture_default_str()->check(CLI::IsMember({"fp32", "fp16", "bf16", "file"}));
    command.add_option("--preset", arguments.options.preset, "named sets of patterns, joined by commas")->capture_default_str();
    command.add_option("--patterns", arguments.options.patternFiles, "a file with more patterns")->allow_extra_args(false);
    command.add_option("--enable", arguments.options.enable, "switch a pattern on")->allow_extra_args(false);
    command.add_option("--disable", arguments.options.disable, "switch a pattern off")->allow_extra_args(false);
    command.add_option("--allow-folder", arguments.options.allowedFolders, "external data may lie in this folder too")->allow_extra_args(false);
    command.add_flag("--quiet", arguments.quiet, "no warnings");
    command.add_flag("--progress", arguments.progress, "say which stage runs");
}

int complain(const std::string& file, const Failure& failure, int status) {
    std::fprintf(stderr, "triptych: %s%s%s\n", file.c_str(), file.empty() ? "" : ": ", failure.message().c_str());
    return status;
}

Result<void> complete(AnalysisArguments& arguments) {
    for (const std::string& binding : arguments.bindings) {
        const std::size_t equals = binding.rfind('=');
        char* end = nullptr;
        const std::int64_t size = equals == std::string::npos ? -1 : std::strtoll(binding.c_str() + equals + 1, &end, 10);
        if (equals == std::string::npos || equals == 0 || !end || *end != '\0' || end == binding.c_str() + equals + 1) return fail("options", "'" + binding + "' is no binding", "write NAME=N");
        arguments.options.bindings[binding.substr(0, equals)] = size;
    }
    arguments.options.precision = arguments.precision == "fp32"   ? Precision::fp32
                                  : arguments.precision == "fp16" ? Precision::fp16
                                  : arguments.precision == "bf16" ? Precision::bf16
                                                                  : Precision::file;
    return {};
}

int statusOf(const Failure& failure) { return failure.stage == "options" || failure.stage == "bindings" ? exitUsage : exitUnreadable; }

Job jobFor(const AnalysisArguments& arguments) {
    Job job;
    if (arguments.progress) job.progress = [](std::string_view stage, double part) { std::fprintf(stderr, "%.*s %.0f %%\n", static_cast<int>(stage.size()), stage.data(), part * 100); };
    return job;
}

tl::expected<std::shared_ptr<Analysis>, int> analyzed(AnalysisArguments& arguments, bool withEffects) {
    if (const auto ready = complete(arguments); !ready) return tl::unexpected(complain(arguments.file, ready.error(), exitUsage));
    const Job job = jobFor(arguments);
    const auto analysis = analyze(std::filesystem::path(arguments.file), arguments.options, job);
    if (!analysis) return tl::unexpected(complain(arguments.file, analysis.error(), statusOf(analysis.error())));
    auto full = std::make_shared<Analysis>(**analysis);
    if (withEffects) full->marginals = marginalEffects(*full, job);
    return full;
}

} // namespace triptych
