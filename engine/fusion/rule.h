#pragma once
// The compiled form of a pattern: what its "match" and "when" say. The language is described in docs/patterns.md.

#include "fusion/classes.h"
#include "fusion/pattern.h"

#include <map>
#include <variant>

namespace triptych {

/// Words that a pattern may use as conditions; each has its reason when it fails (docs/patterns.md, "Reasons").
enum class Word : std::uint8_t {
    operandsActivations,
    operandsWeight, // of a matched product
    otherScalar,
    otherConstant,
    otherVector,
    otherActivation,
    otherRandom, // operands that come from no matched node
    axis,
    attribute,
    copies,
    dense,
    swapsLast, // of one matched node
    singleUse,
    notOutput,
    sameInput,
    sameOther,
    sameShape,
    sameWeightShape,
    oneAttention,
    shapeFromArithmetic // of several ("when")
};

struct Condition {
    Word word = Word::singleUse;
    std::vector<std::size_t> nodes; ///< positions in MatchVariant::nodes
    std::string key;                ///< attribute name
    std::variant<std::monostate, std::int64_t, std::string, std::vector<std::int64_t>> value;
};

/// One named node of a pattern.
struct MatchNode {
    std::string name;
    std::vector<std::string> ops; ///< sets already replaced by their members
    struct Edge {
        std::size_t from = 0; ///< position of the producing node
        int operand = -1;     ///< which operand it must be; -1: any
    };
    std::vector<Edge> in;
    std::optional<NodeClass> nodeClass;
};

/// One spelling of a pattern. The last node is the root: every other one is reached from it against the edges.
struct MatchVariant {
    std::vector<MatchNode> nodes;
    std::vector<Condition> conditions;
    struct Step {
        std::size_t node = 0, edge = 0;
    };
    std::vector<Step> steps; ///< edges in the order in which they are walked from the root
};

struct PatternRule {
    std::vector<MatchVariant> variants; ///< sequential patterns
    std::vector<std::string> roles;     ///< parallel patterns: whose products merge
    int products = 1;                   ///< how many matrix products the kernel holds
};

/// The members of a named set of operators ("@activation"); null where there is none.
const std::vector<std::string>* operatorSet(std::string_view name);
/// Names of all sets, for messages.
std::vector<std::string> operatorSets();

/// Parses the text of a pattern file. `origin` names it in failures. Presets of "enabled_in" are taken as they are.
Result<std::vector<Pattern>> parsePatterns(std::string_view text, const std::string& origin);

} // namespace triptych
