// From JSON to compiled patterns. Every failure names file, pattern and key, so that a user can mend an own pattern.

#include "fusion/rule.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace triptych {

namespace {

using Json = nlohmann::ordered_json;

/// Thrown inside this file only; parsePatterns turns it into a Failure.
struct Wrong {
    std::string key, cause;
};

std::string stringOf(const Json& json, const std::string& key) {
    if (!json.is_string()) throw Wrong{key, "must be a string"};
    return json.get<std::string>();
}

std::vector<std::string> stringsOf(const Json& json, const std::string& key) {
    if (json.is_string()) return {json.get<std::string>()};
    if (!json.is_array()) throw Wrong{key, "must be a string or a list of strings"};
    std::vector<std::string> strings;
    for (const Json& item : json) strings.push_back(stringOf(item, key));
    return strings;
}

bool boolOf(const Json& json, const std::string& key) {
    if (!json.is_boolean()) throw Wrong{key, "must be true or false"};
    return json.get<bool>();
}

std::int64_t integerOf(const Json& json, const std::string& key) {
    if (!json.is_number_integer()) throw Wrong{key, "must be an integer"};
    return json.get<std::int64_t>();
}

const Json& objectOf(const Json& json, const std::string& key) {
    if (!json.is_object()) throw Wrong{key, "must be an object"};
    return json;
}

template <class T> T wordIn(const std::map<std::string, T>& words, const std::string& word, const std::string& key) {
    const auto found = words.find(word);
    if (found != words.end()) return found->second;
    std::string known;
    for (const auto& [name, value] : words) known += (known.empty() ? "" : ", ") + name;
    throw Wrong{key, fmt::format("'{}' is unknown; known are {}", word, known)};
}

std::vector<std::string> operatorsOf(const Json& json, const std::string& key) {
    std::vector<std::string> ops;
    for (const std::string& name : stringsOf(json, key)) {
        if (!name.starts_with('@')) {
            ops.push_back(name);
            continue;
        }
        const std::vector<std::string>* members = operatorSet(std::string_view(name).substr(1));
        if (!members)
            throw Wrong{
                key, fmt::format("'{}' is no set of operators; known are {}", name, fmt::join(operatorSets(), ", "))};
        ops.insert(ops.end(), members->begin(), members->end());
    }
    if (ops.empty()) throw Wrong{key, "names no operator"};
    std::sort(ops.begin(), ops.end());
    ops.erase(std::unique(ops.begin(), ops.end()), ops.end());
    return ops;
}

const std::map<std::string, Word> operandWords{{"activations", Word::operandsActivations},
                                               {"weight", Word::operandsWeight}};
const std::map<std::string, Word> otherWords{{"scalar", Word::otherScalar},
                                             {"constant", Word::otherConstant},
                                             {"vector", Word::otherVector},
                                             {"activation", Word::otherActivation},
                                             {"random", Word::otherRandom}};
const std::map<std::string, Word> whenWords{
    {"single_use", Word::singleUse},       {"not_output", Word::notOutput},
    {"same_input", Word::sameInput},       {"same_other", Word::sameOther},
    {"same_shape", Word::sameShape},       {"same_weight_shape", Word::sameWeightShape},
    {"one_attention", Word::oneAttention}, {"shape_from_arithmetic", Word::shapeFromArithmetic}};
const std::map<std::string, NodeClass> classWords{
    {"compute", NodeClass::compute}, {"view", NodeClass::view}, {"shape", NodeClass::shape}};

class VariantParser {
public:
    MatchVariant run(const Json& match, const Json* when) {
        for (const auto& [name, node] : objectOf(match, "match").items())
            addNode(name, objectOf(node, "match." + name));
        if (m_variant.nodes.empty()) throw Wrong{"match", "names no node"};
        if (when) addWhen(*when);
        walkFromRoot();
        return std::move(m_variant);
    }

private:
    std::size_t positionOf(const std::string& name, const std::string& key) const {
        for (std::size_t i = 0; i < m_variant.nodes.size(); ++i)
            if (m_variant.nodes[i].name == name) return i;
        throw Wrong{key, fmt::format("'{}' names no earlier node of the match", name)};
    }
    void addNode(const std::string& name, const Json& json) {
        const std::string key = "match." + name;
        MatchNode node;
        node.name = name;
        if (!json.contains("op")) throw Wrong{key, "has no \"op\""};
        for (const auto& [word, value] : json.items()) {
            const std::string at = key + "." + word;
            if (word == "op")
                node.ops = operatorsOf(value, at);
            else if (word == "in")
                for (const std::string& from : stringsOf(value, at)) node.in.push_back({positionOf(from, at), -1});
            else if (word == "class")
                node.nodeClass = wordIn(classWords, stringOf(value, at), at);
        }
        const std::size_t position = m_variant.nodes.size();
        for (const auto& [word, value] : json.items())
            if (word == "at")
                placeEdges(node, objectOf(value, key + ".at"), key + ".at");
            else if (word != "op" && word != "in" && word != "class")
                addCondition(position, word, value, key + "." + word);
        m_variant.nodes.push_back(std::move(node));
    }
    void placeEdges(MatchNode& node, const Json& places, const std::string& key) const {
        for (const auto& [from, operand] : places.items()) {
            const std::size_t position = positionOf(from, key);
            const auto edge = std::find_if(node.in.begin(), node.in.end(),
                                           [&](const MatchNode::Edge& e) { return e.from == position; });
            if (edge == node.in.end()) throw Wrong{key, fmt::format("'{}' is not among \"in\"", from)};
            edge->operand = static_cast<int>(integerOf(operand, key));
        }
    }
    void addCondition(std::size_t node, const std::string& word, const Json& value, const std::string& key) {
        Condition condition;
        condition.nodes = {node};
        if (word == "operands")
            condition.word = wordIn(operandWords, stringOf(value, key), key);
        else if (word == "other")
            condition.word = wordIn(otherWords, stringOf(value, key), key);
        else if (word == "axis") {
            condition.word = Word::axis;
            condition.value = integerOf(value, key);
        } else if (word == "copies")
            condition.word = boolOf(value, key) ? Word::copies : Word::dense;
        else if (word == "swaps_last" && boolOf(value, key))
            condition.word = Word::swapsLast;
        else if (word == "attributes")
            return addAttributes(node, objectOf(value, key), key);
        else
            throw Wrong{key, "is no key of a match"};
        m_variant.conditions.push_back(std::move(condition));
    }
    void addAttributes(std::size_t node, const Json& attributes, const std::string& key) {
        for (const auto& [name, value] : attributes.items()) {
            Condition condition;
            condition.word = Word::attribute;
            condition.nodes = {node};
            condition.key = name;
            if (value.is_string())
                condition.value = value.get<std::string>();
            else if (value.is_array()) {
                std::vector<std::int64_t> list;
                for (const Json& item : value) list.push_back(integerOf(item, key + "." + name));
                condition.value = std::move(list);
            } else
                condition.value = integerOf(value, key + "." + name);
            m_variant.conditions.push_back(std::move(condition));
        }
    }
    /// Conditions that name nodes of another spelling only are not for this one.
    void addWhen(const Json& when) {
        if (!when.is_array()) throw Wrong{"when", "must be a list of objects"};
        for (const Json& item : when)
            for (const auto& [word, names] : objectOf(item, "when").items()) {
                Condition condition;
                condition.word = wordIn(whenWords, word, "when");
                bool here = true;
                for (const std::string& name : stringsOf(names, "when." + word)) {
                    const auto known = [&](const MatchNode& node) { return node.name == name; };
                    const auto found = std::find_if(m_variant.nodes.begin(), m_variant.nodes.end(), known);
                    here = here && found != m_variant.nodes.end();
                    condition.nodes.push_back(static_cast<std::size_t>(found - m_variant.nodes.begin()));
                }
                if (here) m_variant.conditions.push_back(std::move(condition));
            }
    }
    void walkFromRoot() {
        std::vector<bool> reached(m_variant.nodes.size(), false);
        std::vector<std::size_t> todo{m_variant.nodes.size() - 1};
        reached[todo.front()] = true;
        for (std::size_t i = 0; i < todo.size(); ++i)
            for (std::size_t edge = 0; edge < m_variant.nodes[todo[i]].in.size(); ++edge) {
                m_variant.steps.push_back({todo[i], edge});
                const std::size_t from = m_variant.nodes[todo[i]].in[edge].from;
                if (!reached[from]) todo.push_back(from);
                reached[from] = true;
            }
        for (std::size_t i = 0; i < reached.size(); ++i)
            if (!reached[i])
                throw Wrong{"match." + m_variant.nodes[i].name, "does not lead to the last node of the match"};
    }
    MatchVariant m_variant;
};

/// A name in "when" must be known to one spelling at least.
void checkWhenNames(const Json& when, const std::vector<MatchVariant>& variants) {
    for (const Json& item : when)
        for (const auto& [word, names] : item.items())
            for (const std::string& name : stringsOf(names, "when." + word)) {
                const auto has = [&](const MatchVariant& variant) {
                    return std::any_of(variant.nodes.begin(), variant.nodes.end(),
                                       [&](const MatchNode& node) { return node.name == name; });
                };
                if (std::none_of(variants.begin(), variants.end(), has))
                    throw Wrong{"when." + word, fmt::format("'{}' names no node of the match", name)};
            }
}

Family colourOf(const std::string& family) {
    static const std::map<std::string, Family> colours{{"parallel", Family::parallel}, {"attention", Family::attention},
                                                       {"linear", Family::linear},     {"conv", Family::linear},
                                                       {"pointwise", Family::linear},  {"quant", Family::linear},
                                                       {"norm", Family::norm},         {"embedding", Family::norm},
                                                       {"region", Family::region},     {"gated", Family::gated},
                                                       {"view", Family::view}};
    return wordIn(colours, family, "family");
}

void parseKernel(const Json& kernel, PatternRule& rule) {
    for (const auto& [key, value] : objectOf(kernel, "kernel").items()) {
        if (key == "products")
            rule.products = static_cast<int>(integerOf(value, "kernel.products"));
        else if (key == "launches") {
            if (integerOf(value, "kernel.launches") != 1)
                throw Wrong{"kernel.launches", "must be 1: a group is one launch"};
        } else if (key == "keeps_inside") {
            for (const std::string& name : stringsOf(value, "kernel.keeps_inside")) {
                const auto has = [&](const MatchVariant& variant) {
                    return std::any_of(variant.nodes.begin(), variant.nodes.end(),
                                       [&](const MatchNode& node) { return node.name == name; });
                };
                if (std::none_of(rule.variants.begin(), rule.variants.end(), has))
                    throw Wrong{"kernel.keeps_inside", fmt::format("'{}' names no node of the match", name)};
            }
        } else
            throw Wrong{"kernel." + key, "is no key of a kernel"};
    }
}

void parseKnownIn(const Json& list, Pattern& pattern) {
    if (!list.is_array()) throw Wrong{"known_in", "must be a list of objects"};
    for (const Json& item : list) {
        Pattern::Known known;
        for (const auto& [key, value] : objectOf(item, "known_in").items()) {
            if (key == "runtime")
                known.runtime = stringOf(value, "known_in.runtime");
            else if (key == "since")
                known.since = stringOf(value, "known_in.since");
            else if (key == "source")
                known.source = stringOf(value, "known_in.source");
            else
                throw Wrong{"known_in." + key, "is no key of a runtime"};
        }
        pattern.knownIn.push_back(std::move(known));
    }
}

Pattern parsePattern(const Json& json) {
    static const std::map<std::string, PatternKind> kinds{
        {"sequential", PatternKind::sequential}, {"parallel", PatternKind::parallel}, {"region", PatternKind::region}};
    static const std::vector<std::string> keys{"id",   "title", "family", "kind",     "sketch", "match",
                                               "when", "roles", "kernel", "known_in", "why",    "enabled_in"};
    for (const auto& [key, value] : json.items())
        if (std::find(keys.begin(), keys.end(), key) == keys.end()) throw Wrong{key, "is no key of a pattern"};
    for (const char* key : {"id", "title", "family", "why"})
        if (!json.contains(key)) throw Wrong{key, "is missing"};
    Pattern pattern;
    pattern.id = stringOf(json["id"], "id");
    pattern.title = stringOf(json["title"], "title");
    pattern.family = stringOf(json["family"], "family");
    pattern.colour = colourOf(pattern.family);
    if (!pattern.id.starts_with(pattern.family + "."))
        throw Wrong{"id", fmt::format("must start with its family: '{}.'", pattern.family)};
    if (json.contains("kind")) pattern.kind = wordIn(kinds, stringOf(json["kind"], "kind"), "kind");
    if (json.contains("sketch")) pattern.sketch = stringOf(json["sketch"], "sketch");
    pattern.why = stringOf(json["why"], "why");
    if (json.contains("enabled_in")) pattern.enabledIn = stringsOf(json["enabled_in"], "enabled_in");
    PatternRule rule;
    const Json* when = json.contains("when") ? &json["when"] : nullptr;
    if (pattern.kind == PatternKind::sequential) {
        if (!json.contains("match")) throw Wrong{"match", "is missing"};
        const Json& match = json["match"];
        if (match.is_array())
            for (const Json& spelling : match) rule.variants.push_back(VariantParser().run(spelling, when));
        else
            rule.variants.push_back(VariantParser().run(match, when));
        if (rule.variants.empty()) throw Wrong{"match", "has no spelling"};
        if (when) checkWhenNames(*when, rule.variants);
    } else if (json.contains("match") || when)
        throw Wrong{"match", "only sequential patterns have one; the others follow from the structure of attention"};
    if (json.contains("roles")) rule.roles = stringsOf(json["roles"], "roles");
    if ((pattern.kind == PatternKind::parallel) != (rule.roles.size() >= 2))
        throw Wrong{"roles", "two or more are needed for a parallel pattern, and none for another"};
    if (json.contains("kernel")) parseKernel(json["kernel"], rule);
    if (json.contains("known_in")) parseKnownIn(json["known_in"], pattern);
    pattern.rule = std::make_shared<const PatternRule>(std::move(rule));
    return pattern;
}

} // namespace

Result<std::vector<Pattern>> parsePatterns(std::string_view text, const std::string& origin) {
    const auto wrong = [&](const std::string& pattern, const std::string& cause) {
        return fail("patterns", fmt::format("{}{}{}: {}", origin, pattern.empty() ? "" : ", pattern ", pattern, cause),
                    "see docs/patterns.md for the format");
    };
    std::string id;
    try {
        const Json json = Json::parse(text);
        std::vector<Pattern> patterns;
        if (!json.is_object()) return wrong("", "is no JSON object");
        const Json list = json.contains("patterns") ? json["patterns"] : Json::array({json});
        if (!list.is_array()) return wrong("", "\"patterns\" must be a list");
        for (std::size_t i = 0; i < list.size(); ++i) {
            id = list[i].is_object() && list[i].contains("id") && list[i]["id"].is_string()
                     ? list[i]["id"].get<std::string>()
                     : fmt::format("number {}", i + 1);
            patterns.push_back(parsePattern(objectOf(list[i], "patterns")));
        }
        return patterns;
    } catch (const Wrong& error) {
        return wrong(id, fmt::format("key \"{}\" {}", error.key, error.cause));
    } catch (const nlohmann::json::exception& error) {
        return wrong(id, fmt::format("is not JSON ({})", error.what()));
    }
}

} // namespace triptych
