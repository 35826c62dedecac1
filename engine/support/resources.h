#pragma once
// The data files that the engine ships inside itself: patterns, presets, hardware profiles, runtime rules.

#include <string_view>
#include <vector>

namespace triptych {

struct Resource {
    std::string_view path; ///< below resources/: "patterns/attention.json"
    std::string_view content;
};

/// All resources, ordered by path.
const std::vector<Resource>& resources();
/// Those below a folder ("patterns/"), ordered by path.
std::vector<Resource> resourcesUnder(std::string_view folder);

} // namespace triptych
