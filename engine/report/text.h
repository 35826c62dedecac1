#pragma once
// The analysis for people: a table for the terminal, Markdown, CSV.

#include "pipeline.h"

namespace triptych {

/// Model, attention, the four graphs side by side, parallel groups, warnings.
std::string analysisTable(const Analysis& analysis);
/// The same as a Markdown document, with the patterns that contributed and what did not fuse.
std::string analysisMarkdown(const Analysis& analysis);
/// One line a group of the baseline or enhanced graph: id, pattern, nodes, launches, flops, bytes, time.
std::string partitionCsv(const Analysis& analysis, const Projected& projected);
/// Every attention that was not recognised and every pattern that nearly matched, with what blocked it.
std::string diagnosisText(const Analysis& analysis);
/// The library as a readable list.
std::string patternsTable(const PatternLibrary& library);

} // namespace triptych
