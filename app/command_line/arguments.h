#pragma once
// What the subcommands share: options of every analysis, messages, exit statuses.

#include "command_line/command_line.h"
#include "pipeline.h"

namespace CLI {
class App;
}

namespace triptych {

/// Options that every analysis takes.
struct AnalysisArguments {
    std::string file;
    std::vector<std::string> bindings;
    std::string precision = "file";
    AnalysisOptions options;
    bool quiet = false, progress = false;
};

void addAnalysisOptions(CLI::App& command, AnalysisArguments& arguments);
/// "triptych: FILE: what is wrong" on standard error; returns `status`.
int complain(const std::string& file, const Failure& failure, int status);
/// Text to bindings and precision; fails (exit status 2) where it doesn't parse.
Result<void> complete(AnalysisArguments& arguments);
/// Which exit status a failed analysis has: wrong options are usage, all else is the file.
int statusOf(const Failure& failure);
Job jobFor(const AnalysisArguments& arguments);
/// Analyses, with the effect of every pattern where asked for; prints what is wrong and gives the exit status otherwise.
tl::expected<std::shared_ptr<Analysis>, int> analyzed(AnalysisArguments& arguments, bool withEffects);

} // namespace triptych
