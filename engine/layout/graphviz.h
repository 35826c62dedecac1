#pragma once
// Graphviz through the helper program. Private to engine/layout.

#include "layout/layered.h"
#include "support/job.h"

#include <filesystem>
#include <optional>

namespace triptych {

struct HelperAnswer {
    std::vector<std::optional<LayeredResult>> results; ///< same order as asked; empty where the helper gave none
    std::string problem;                               ///< why some are empty
};

/// Lays all graphs out in one run of the helper; killed after `seconds`, or when the job is stopped. What was answered by then counts.
HelperAnswer layOutWithGraphviz(const std::vector<const LayeredGraph*>& graphs, const std::filesystem::path& helper, double seconds, const Job& job);

/// triptych-layout beside this program.
std::filesystem::path helperBesideProgram();

} // namespace triptych
