#pragma once
// Verdicts for continuous integration: "launches<=180", "baseline.bytes<1e9".

#include "pipeline.h"

namespace triptych {

struct Verdict {
    bool holds = false;
    std::string actual;
};

/// `[GRAPH.]KEY OP NUMBER`, OP one of <= < >= > == !=; GRAPH is enhanced where left out. Fails on an unknown key or form.
Result<Verdict> checkRequirement(const std::string& text, const Analysis& analysis);

} // namespace triptych
