// The shipped library and its presets.

#include "fusion/rule.h"
#include "support/files.h"
#include "support/resources.h"

#include <algorithm>
#include <cassert>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace triptych {

std::string_view toString(PatternKind kind) {
    switch (kind) {
    case PatternKind::sequential:
        return "sequential";
    case PatternKind::parallel:
        return "parallel";
    case PatternKind::region:
        return "region";
    }
    return "";
}

std::string_view toString(Family family) {
    switch (family) {
    case Family::none:
        return "none";
    case Family::parallel:
        return "parallel";
    case Family::attention:
        return "attention";
    case Family::linear:
        return "linear";
    case Family::norm:
        return "norm";
    case Family::region:
        return "region";
    case Family::gated:
        return "gated";
    case Family::view:
        return "view";
    }
    return "";
}

PatternId PatternLibrary::find(std::string_view id) const {
    for (std::size_t i = 0; i < patterns.size(); ++i)
        if (patterns[i].id == id) return PatternId(i);
    return {};
}

namespace {

/// One file of resources/presets: patterns by id, by "family.*" or all of "*"; what another preset has; or all that a
/// runtime is known to fuse.
struct Preset {
    std::string name, knownIn;
    std::vector<std::string> includes, patterns;
};

std::vector<Preset> shippedPresets() {
    std::vector<Preset> presets;
    for (const Resource& resource : resourcesUnder("presets/")) {
        const nlohmann::json json = nlohmann::json::parse(resource.content);
        presets.push_back({json.at("name"), json.value("known_in", ""),
                           json.value("includes", std::vector<std::string>()),
                           json.value("patterns", std::vector<std::string>())});
    }
    return presets;
}

bool selects(const std::string& selector, const std::string& id) {
    if (selector.ends_with('*')) return id.starts_with(selector.substr(0, selector.size() - 1));
    return selector == id;
}

bool holds(const std::vector<Preset>& presets, const Preset& preset, const Pattern& pattern) {
    for (const std::string& selector : preset.patterns)
        if (selects(selector, pattern.id)) return true;
    for (const Pattern::Known& known : pattern.knownIn)
        if (!preset.knownIn.empty() && known.runtime == preset.knownIn) return true;
    for (const std::string& name : preset.includes)
        for (const Preset& other : presets)
            if (other.name == name && holds(presets, other, pattern)) return true;
    return false;
}

void addPresets(Pattern& pattern, const std::vector<Preset>& presets) {
    for (const Preset& preset : presets)
        if (std::find(pattern.enabledIn.begin(), pattern.enabledIn.end(), preset.name) == pattern.enabledIn.end() &&
            holds(presets, preset, pattern))
            pattern.enabledIn.push_back(preset.name);
    std::sort(pattern.enabledIn.begin(), pattern.enabledIn.end());
}

Result<void> add(PatternLibrary& library, std::vector<Pattern> patterns, const std::vector<Preset>& presets,
                 const std::string& origin) {
    for (Pattern& pattern : patterns) {
        if (library.find(pattern.id))
            return fail("patterns", fmt::format("{}, pattern {}: there is one of that id already", origin, pattern.id),
                        "choose another id");
        for (const std::string& preset : pattern.enabledIn)
            if (std::find(library.presets.begin(), library.presets.end(), preset) == library.presets.end())
                return fail("patterns",
                            fmt::format("{}, pattern {}: key \"enabled_in\" names the unknown preset '{}'", origin,
                                        pattern.id, preset),
                            fmt::format("known are {}", fmt::join(library.presets, ", ")));
        addPresets(pattern, presets);
        library.patterns.push_back(std::move(pattern));
    }
    return {};
}

/// Patterns and presets that ship are tested with the program, so that a fault in them is one of the program.
LibraryPtr readShipped() {
    const std::vector<Preset> presets = shippedPresets();
    auto library = std::make_shared<PatternLibrary>();
    for (const Preset& preset : presets) library->presets.push_back(preset.name);
    for (const Resource& resource : resourcesUnder("patterns/")) {
        Result<std::vector<Pattern>> patterns = parsePatterns(resource.content, std::string(resource.path));
        assert(patterns);
        if (!patterns) continue;
        [[maybe_unused]] const Result<void> added =
            add(*library, std::move(*patterns), presets, std::string(resource.path));
        assert(added);
    }
    return library;
}

} // namespace

LibraryPtr shippedPatterns() {
    static const LibraryPtr library = readShipped();
    return library;
}

Result<LibraryPtr> patternsWith(const std::vector<std::string>& files) {
    if (files.empty()) return shippedPatterns();
    auto library = std::make_shared<PatternLibrary>(*shippedPatterns());
    const std::vector<Preset> presets = shippedPresets();
    for (const std::string& file : files) {
        const Result<std::shared_ptr<const MappedFile>> mapped = MappedFile::open(file);
        if (!mapped) return fail("patterns", file + ": " + mapped.error().cause, mapped.error().advice);
        const std::span<const std::byte> bytes = (*mapped)->bytes();
        Result<std::vector<Pattern>> patterns =
            parsePatterns({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file);
        if (!patterns) return tl::unexpected(patterns.error());
        if (const Result<void> added = add(*library, std::move(*patterns), presets, file); !added)
            return tl::unexpected(added.error());
    }
    return library;
}

Result<PatternSet> presetPatterns(const PatternLibrary& library, std::string_view presets) {
    PatternSet enabled;
    while (!presets.empty()) {
        const std::size_t comma = std::min(presets.find(','), presets.size());
        const std::string name(presets.substr(0, comma));
        presets.remove_prefix(std::min(comma + 1, presets.size()));
        if (std::find(library.presets.begin(), library.presets.end(), name) == library.presets.end())
            return fail("patterns", fmt::format("there is no preset '{}'", name),
                        fmt::format("known are {}", fmt::join(library.presets, ", ")));
        for (std::size_t i = 0; i < library.patterns.size(); ++i) {
            const std::vector<std::string>& in = library.patterns[i].enabledIn;
            if (std::find(in.begin(), in.end(), name) != in.end()) enabled.insert(PatternId(i));
        }
    }
    return enabled;
}

} // namespace triptych
