#include "cost/profile.h"

#include "support/resources.h"

#include <nlohmann/json.hpp>

namespace triptych {

namespace {

using Json = nlohmann::json;

std::string known(const std::vector<std::string>& ids) {
    std::string text;
    for (const std::string& id : ids) text += (text.empty() ? "" : ", ") + id;
    return text;
}

std::vector<std::string> idsUnder(std::string_view folder) {
    std::vector<std::string> ids;
    for (const Resource& resource : resourcesUnder(folder)) {
        std::string id(resource.path.substr(folder.size()));
        id.erase(id.rfind(".json"));
        ids.push_back(std::move(id));
    }
    return ids;
}

Result<Json> load(std::string_view folder, std::string_view id) {
    for (const Resource& resource : resourcesUnder(folder)) {
        if (resource.path.substr(folder.size()) != std::string(id) + ".json") continue;
        Json json = Json::parse(resource.content, nullptr, false);
        if (json.is_object()) return json;
    }
    return fail("options", "there is no '" + std::string(id) + "'", "the known ones are " + known(idsUnder(folder)));
}

} // namespace

std::vector<std::string> hardwareIds() { return idsUnder("hardware/"); }
std::vector<std::string> runtimeIds() { return idsUnder("runtimes/"); }

Result<HardwareProfile> hardwareProfile(std::string_view id) {
    const auto json = load("hardware/", id);
    if (!json) return tl::unexpected(json.error());
    HardwareProfile profile;
    profile.id = json->value("id", std::string(id));
    profile.name = json->value("name", std::string(id));
    const Json peaks = json->value("peak_flops", Json::object()), sources = json->value("sources", Json::object());
    for (const auto& [precision, peak] : peaks.items()) profile.peakFlops[precision] = peak.get<double>();
    profile.memoryBandwidth = json->value("memory_bandwidth", 0.0);
    profile.cacheBandwidth = json->value("cache_bandwidth", 0.0);
    profile.cacheCapacity = json->value("cache_capacity", 0.0);
    profile.processors = json->value("processors", 0);
    profile.launchGap = json->value("launch_gap_us", 0.0);
    profile.hostCost = json->value("host_cost_us", 0.0);
    profile.floor = json->value("floor_us", 0.0);
    profile.measured = json->value("measured", false);
    for (const auto& [figure, source] : sources.items()) profile.sources[figure] = source.get<std::string>();
    return profile;
}

Result<RuntimeRules> runtimeRules(std::string_view id) {
    const auto json = load("runtimes/", id);
    if (!json) return tl::unexpected(json.error());
    RuntimeRules rules;
    rules.id = json->value("id", std::string(id));
    rules.name = json->value("name", std::string(id));
    rules.viewsAreFree = json->value("views_are_free", true);
    rules.stridedCopies = json->value("strided_copies", true);
    rules.composites = json->value("composites", true);
    return rules;
}

} // namespace triptych
