#pragma once
// The pattern library: data files below resources/patterns, and sets of enabled patterns.

#include "support/result.h"
#include "support/index.h"

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace triptych {

/// Position in PatternLibrary::patterns.
using PatternId = Index<struct PatternTag>;

enum class PatternKind : std::uint8_t { sequential, parallel, region };
std::string_view toString(PatternKind kind);

/// A colour family of the drawing; the names are those of docs/patterns.md.
enum class Family : std::uint8_t { none, parallel, attention, linear, norm, region, gated, view };
std::string_view toString(Family family);

struct PatternRule; ///< the compiled "match" and "when" parts; fusion/rule.h

struct Pattern {
    std::string id;     ///< "attention.matmul_mul": stable, family.name
    std::string title;  ///< one line for people
    std::string family; ///< as the file says
    Family colour = Family::none;
    PatternKind kind = PatternKind::sequential;
    std::string sketch; ///< several lines of plain text
    std::string why;    ///< what it saves, one or two sentences
    struct Known { std::string runtime, since, source; };
    std::vector<Known> knownIn;
    std::vector<std::string> enabledIn; ///< presets
    std::shared_ptr<const PatternRule> rule;
};

/// Immutable; ordered by file, then by position in the file: the order in which patterns are tried.
struct PatternLibrary {
    std::vector<Pattern> patterns;
    std::vector<std::string> presets; ///< names of all presets
    PatternId find(std::string_view id) const; ///< none where unknown
    const Pattern& operator[](PatternId id) const { return patterns[id.position()]; }
};
using LibraryPtr = std::shared_ptr<const PatternLibrary>;

/// The shipped library. Made once.
LibraryPtr shippedPatterns();
/// The shipped library plus the patterns of a user's file. Fails with the file, the pattern and the key that is wrong.
Result<LibraryPtr> patternsWith(const std::vector<std::string>& files);

/// Which patterns are on.
using PatternSet = std::set<PatternId>;
/// Union of presets given as "flash,parallel". Fails on an unknown name, listing the known ones.
Result<PatternSet> presetPatterns(const PatternLibrary& library, std::string_view presets);

} // namespace triptych
