#pragma once
// Hardware profiles and runtime rules, from resources/hardware and resources/runtimes.

#include "support/result.h"

#include <map>
#include <string>
#include <vector>

namespace triptych {

enum class Precision { file, fp32, fp16, bf16 };

/// One device. Every figure says where it comes from.
struct HardwareProfile {
    std::string id, name;
    std::map<std::string, double> peakFlops; ///< flop a second by precision "fp32", "fp16", "bf16"
    double memoryBandwidth = 0;              ///< bytes a second
    double cacheBandwidth = 0;               ///< bytes a second
    double cacheCapacity = 0;                ///< bytes that behave like a cache
    int processors = 0;
    double launchGap = 0;                    ///< microseconds between launches in a graph replay
    double hostCost = 0;                     ///< microseconds of host work an operator, eager
    double floor = 0;                        ///< microseconds that the shortest kernel takes
    bool measured = false;                   ///< false: from a datasheet; times are estimates
    std::map<std::string, std::string> sources; ///< of each figure
};

/// What costs a launch.
struct RuntimeRules {
    std::string id, name;
    bool viewsAreFree = true;   ///< false: Transpose moves data and is a launch
    bool stridedCopies = true;  ///< a consumer that needs dense memory costs a copy
    bool composites = true;     ///< the spelled-out form of one operator is one launch
};

Result<HardwareProfile> hardwareProfile(std::string_view id); ///< fails with the known ids
Result<RuntimeRules> runtimeRules(std::string_view id);
std::vector<std::string> hardwareIds();
std::vector<std::string> runtimeIds();

} // namespace triptych
