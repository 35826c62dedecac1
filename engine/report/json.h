#pragma once
// The analysis as JSON, schema triptych.analysis/1 (docs/analysis.schema.json), and the pattern library as JSON.

#include "pipeline.h"

namespace triptych {

struct JsonOptions {
    bool withGraphs = false; ///< each graph's nodes, values, classes and sources too
};

/// Keys never vary by model; `marginals` are those of the analysis (see marginalEffects).
std::string analysisJson(const Analysis& analysis, const JsonOptions& options = {});

/// {"patterns": [{"id", "title", "family", "kind", "sketch", "enabled_in"}]}
std::string patternsJson(const PatternLibrary& library);

} // namespace triptych
