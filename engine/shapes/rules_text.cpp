// Strings.
// Sources: the ONNX operator specification (opset 7 to 25); ONNX Runtime's ContribOperators.md.

#include "shapes/rules.h"

#include <algorithm>

namespace triptych {

namespace {

void sameAs(RuleCall& call, std::size_t input, DataType type) {
    ValueShape out = call.in(input);
    out.type = type;
    call.set(0, out);
}

/// [C] or [1, C] strings; those that are stop words are dropped.
void normalizer(RuleCall& call) {
    const Attribute* stop = call.node.attributes.find("stopwords");
    const auto* words = stop ? std::get_if<std::vector<std::string>>(&stop->value) : nullptr;
    if (!words || words->empty()) return sameAs(call, 0, DataType::string);
    call.dataDependent = "as many as are no stop words";
    ValueShape out = call.in(0);
    out.type = DataType::string;
    if (out.ranked && !out.dims.empty()) out.dims.back() = unknownDim;
    call.set(0, out);
}

void concatenated(RuleCall& call) {
    const ValueShape &a = call.in(0), &b = call.in(1);
    if (!a.ranked || !b.ranked) return call.setType(0, DataType::string);
    call.set(0, DataType::string, broadcast(a.dims, b.dims));
}

/// The parts, filled up to the most that a string has, and how many each has.
void stringSplit(RuleCall& call) {
    ValueShape out = call.in(0);
    call.dataDependent = "the most parts that a string has";
    out.type = DataType::int64;
    call.set(1, out);
    out.type = DataType::string;
    if (out.ranked) out.dims.push_back(unknownDim);
    call.set(0, out);
}

/// com.microsoft: a token for each part.
void tokenizer(RuleCall& call) {
    ValueShape out = call.in(0);
    call.dataDependent = "the most tokens that a string has";
    if (out.ranked) out.dims.push_back(unknownDim);
    call.set(0, out);
}

void regexMatch(RuleCall& call) { sameAs(call, 0, DataType::boolean); }

/// com.microsoft
void murmurHash(RuleCall& call) { sameAs(call, 0, call.node.attributes.integer("positive", 1) != 0 ? DataType::uint32 : DataType::int32); }

/// [C] or [N, C] to a number for each n-gram.
void tfIdf(RuleCall& call) {
    ValueShape out = call.in(0);
    out.type = DataType::float32;
    const auto* indexes = call.node.attributes.integers("ngram_indexes");
    const bool known = indexes && !indexes->empty();
    if (out.ranked && !out.dims.empty()) out.dims.back() = known ? plus(*std::max_element(indexes->begin(), indexes->end()), 1) : unknownDim;
    call.set(0, out);
}

} // namespace

void addTextRules(RuleTable& table) {
    table["StringNormalizer"] = normalizer;
    table["StringConcat"] = concatenated;
    table["StringSplit"] = stringSplit;
    table["RegexFullMatch"] = regexMatch;
    table["TfIdfVectorizer"] = tfIdf;
    table["com.microsoft::Tokenizer"] = tokenizer;
    table["com.microsoft::MurmurHash3"] = murmurHash;
}

} // namespace triptych
