#include "shapes/dim_expression.h"
#include "shapes/dimension_use.h"
#include "shapes/shapes.h"

#include <algorithm>
#include <array>
#include <set>
#include <unordered_map>

namespace triptych {

namespace {

bool contains(std::string_view text, std::string_view part) {
    const auto found = std::search(text.begin(), text.end(), part.begin(), part.end(), [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; });
    return found != text.end();
}

/// What weighs an input first.
struct Weighted {
    const Node* node = nullptr; ///< Conv, MatMul, Gemm, a norm or STFT, which has no weight; null: none was found
    Dims weight;
    std::vector<std::size_t> axes; ///< where each axis of the input lies in what is weighed; empty: that can't be told
    bool is(const char* op) const { return node && node->is(op); }
};

Dims weightDims(const Graph& graph, ValueId value) {
    if (const TensorPtr& given = graph.value(value).initializer) return given->dims;
    const NodeId id = graph.producer(value);
    if (id && graph.node(id).is("DequantizeLinear")) return weightDims(graph, graph.node(id).input(0));
    const TensorPtr constant = id && graph.node(id).is("Constant") ? graph.node(id).attributes.tensor("value") : nullptr;
    return constant ? constant->dims : Dims();
}

/// An input on its way to what weighs it.
struct Place {
    ValueId value;
    std::vector<std::size_t> axes;
};

/// What a node hands on of it; no value where it ends there.
Place handedOn(const Node& node, const Place& place) {
    for (const char* op : {"Identity", "Cast", "Pad", "Add", "Sub", "Mul", "Div", "Clip", "Relu", "BatchNormalization", "QuantizeLinear", "DequantizeLinear"})
        if (node.is(op)) return {node.output(), place.axes};
    for (const char* op : {"Unsqueeze", "Squeeze", "Reshape", "Concat", "Slice"})
        if (node.is(op)) return {node.output(), {}};
    const auto* perm = node.is("Transpose") ? node.attributes.integers("perm") : nullptr;
    if (!perm) return {};
    std::vector<std::size_t> turned;
    for (const std::size_t axis : place.axes) {
        const auto found = std::find(perm->begin(), perm->end(), static_cast<std::int64_t>(axis));
        if (found == perm->end()) return {};
        turned.push_back(static_cast<std::size_t>(found - perm->begin()));
    }
    return {node.output(), std::move(turned)};
}

/// The first convolution, product or norm with a weight that reads a value, through what keeps elements apart; in bodies of an If too.
Weighted firstWeighted(const Graph& graph, ValueId input, std::size_t rank, int level = 0) {
    std::vector<Place> open{{input, {}}};
    for (std::size_t i = 0; i < rank; ++i) open[0].axes.push_back(i);
    constexpr std::size_t most = 16, mostReaders = 256; // of values, and of all nodes that read them: many inputs may lead to one that many read
    std::size_t read = 0;
    Weighted bias;
    for (std::size_t i = 0; i < open.size() && input; ++i) {
        const Place here = open[i];
        for (const NodeId reader : graph.readers(here.value)) {
            if (++read > mostReaders) return bias;
            const Node& node = graph.node(reader);
            const bool weighs = node.is("Conv") || node.is("MatMul") || node.is("Gemm") || node.is("LayerNormalization") || node.is("RMSNormalization");
            const Dims weight = weighs && node.input(0) == here.value ? weightDims(graph, node.input(1)) : Dims();
            // A vector that is added tells the features as a product's rows do, where nothing else does.
            const Dims added = node.is("Add") && weight.empty() ? weightDims(graph, node.input(node.input(0) == here.value ? 1 : 0)) : Dims();
            if (added.size() == 1 && added[0] > 1 && !bias.node) bias = {&node, added, here.axes};
            if (!weight.empty() || (node.is("STFT") && node.input(0) == here.value)) return {&node, weight, here.axes};
            if (Place next = open.size() < most ? handedOn(node, here) : Place(); next.value) open.push_back(std::move(next));
            if (!node.is("If") || level > 4) continue;
            for (const char* branch : {"then_branch", "else_branch"}) {
                const GraphPtr body = node.attributes.graph(branch);
                Weighted inside = body ? firstWeighted(*body, body->findValue(graph.value(here.value).name), 0, level + 1) : Weighted();
                if (inside.node) return inside;
            }
        }
    }
    return bias;
}

/// Whether a value is the first part of a longer one along an axis, with something computed behind it: a cache that grows.
bool grows(const Graph& graph, ValueId input, std::size_t axis, std::size_t rank) {
    for (const NodeId reader : graph.readers(input)) {
        const Node& node = graph.node(reader);
        if (!node.is("Concat") || node.input(0) != input || node.inputs.size() != 2 || !graph.producer(node.input(1))) continue;
        const std::int64_t along = node.attributes.integer("axis", 0);
        if (static_cast<std::size_t>(along < 0 ? along + static_cast<std::int64_t>(rank) : along) == axis) return true;
    }
    return false;
}

constexpr std::int64_t tokens = 128, pixels = 224, samples = 16000; // as most models are tried with; a second of speech

/// The side of a square picture that gives as many patches as a table of positions, added behind the convolution, has rows;
/// empty where there is none, or the convolution has patches that overlap.
std::optional<std::int64_t> sideByPositions(const Graph& graph, const Weighted& weighted) {
    const Dims& weight = weighted.weight;
    const auto* strides = weighted.node->attributes.integers("strides");
    if (weight.size() != 4 || weight[2] != weight[3] || weight[2] <= 1 || !strides || *strides != std::vector<std::int64_t>{weight[2], weight[2]}) return std::nullopt;
    // Between them: flattening, turning and a class token.
    constexpr std::size_t most = 12, mostReaders = 64;
    std::vector<ValueId> open{weighted.node->output()};
    std::size_t read = 0;
    for (std::size_t i = 0; i < open.size() && i < most; ++i)
        for (const NodeId reader : graph.readers(open[i])) {
            if (++read > mostReaders) return std::nullopt;
            const Node& node = graph.node(reader);
            const Dims table = node.is("Add") ? weightDims(graph, node.input(node.input(0) == open[i] ? 1 : 0)) : Dims();
            if (table.size() >= 2 && table.back() == weight[0]) {
                const std::int64_t rows = table[table.size() - 2];
                constexpr std::int64_t mostTokens = 2, mostSide = 1024; // a class token, another to distil into
                for (std::int64_t side = mostSide; side > 1; --side)
                    if (side * side <= rows && side * side >= rows - mostTokens) return side * weight[2];
                return std::nullopt;
            }
            if (node.is("Reshape") || node.is("Flatten") || node.is("Transpose") || node.is("Concat") || node.is("Identity") || node.is("Cast")) open.push_back(node.output());
        }
    return std::nullopt;
}

struct Use {
    std::string name;
    std::int64_t size = 1; ///< its default
};

/// An axis that a weight fixes: channels of a picture, features of a place. Empty where none does.
std::optional<Use> fixedByWeight(const Weighted& weighted, std::size_t axis) {
    if (!weighted.node || axis >= weighted.axes.size()) return std::nullopt;
    const std::size_t at = weighted.axes[axis], rank = weighted.axes.size();
    const Dims& weight = weighted.weight;
    const Attributes& attributes = weighted.node->attributes;
    if (weighted.is("Conv")) return at == 1 && rank == weight.size() ? std::optional(Use{"channels", weight[1] * std::max<std::int64_t>(attributes.integer("group", 1), 1)}) : std::nullopt;
    if (at + 1 != rank || rank < 2) return std::nullopt;
    if (weighted.is("MatMul")) return weight.size() >= 2 ? std::optional(Use{"features", weight[weight.size() - 2]}) : std::nullopt;
    if (weighted.is("Gemm")) return weight.size() == 2 && attributes.integer("transA", 0) == 0 ? std::optional(Use{"features", weight[attributes.integer("transB", 0) != 0 ? 1 : 0]}) : std::nullopt;
    if (weighted.is("Add")) return Use{"features", weight[0]};
    return weight.size() == 1 && attributes.integer("axis", -1) == -1 ? std::optional(Use{"features", weight[0]}) : std::nullopt;
}

constexpr std::array sequenceWords{"total", "seq", "len", "token", "ctx"};
constexpr std::array soundWords{"sample", "audio", "wave"};

/// Whether a name holds one of these words.
bool containsAny(std::string_view text, std::span<const char* const> words) {
    return std::any_of(words.begin(), words.end(), [&](const char* word) { return contains(text, word); });
}

/// Some exporters name what has no name after the input, which tells nothing.
bool isNamedAfter(const std::string& symbol, const std::string& input) { return symbol.starts_with(input + "_dynamic_axes"); }

/// What weights say, then the name, then the use as a cache, then the place: axis 0 of an input is the batch, axis 1 of token ids the sequence.
Use useOf(const Graph& graph, const std::string& symbol, const Value& input, const Weighted& weighted, std::size_t axis, bool growing) {
    const DeclaredType& declared = input.declared;
    const std::size_t rank = declared.dims.size();
    const bool real = isFloating(declared.type), convolved = weighted.is("Conv");
    const bool place = convolved && axis < weighted.axes.size() && weighted.axes[axis] >= 2;
    if (contains(symbol, "batch")) return {"batch", 1};
    if (axis > 0)
        if (auto fixed = fixedByWeight(weighted, axis); fixed && fixed->size > 0) return *fixed;
    if (real && rank >= 4 && place) return {"image", sideByPositions(graph, weighted).value_or(pixels)};
    const bool sound = convolved || weighted.is("STFT") || containsAny(symbol, soundWords);
    if (real && rank == 2 && axis == 1 && sound) return {"samples", samples};
    if (real && rank == 3 && axis == 1 && weighted.is("STFT")) return {"samples", samples};
    if (!isNamedAfter(symbol, input.name)) {
        if (contains(symbol, "past")) return {"past", tokens};
        if (containsAny(symbol, sequenceWords)) return {"sequence", tokens};
    }
    if (axis == 0) return {"batch", 1};
    if (real && rank >= 3 && growing) return {"past", tokens};
    // States of a recurrent layer: layers and directions stand before the batch.
    if (real && rank == 3 && axis == 1 && declared.dims[0] > 1 && declared.dims[2] > 0) return {"batch", 1};
    if (contains(input.name, "past")) return axis == 2 ? Use{"past", tokens} : Use{"other", 1};
    if (real && rank == 3 && place) return {"sequence", tokens};
    const bool integers = isInteger(declared.type) || declared.type == DataType::boolean;
    if ((integers && rank <= 4) || (axis == 1 && rank == 3)) return {"sequence", tokens};
    return {"other", 1};
}

/// An integer that stands in the graph.
std::optional<std::int64_t> smallConstant(const Graph& graph, ValueId value) {
    TensorPtr tensor = graph.value(value).initializer;
    if (const NodeId id = graph.producer(value); id && graph.node(id).is("Constant")) {
        const Attributes& attributes = graph.node(id).attributes;
        if (attributes.has("value_int")) return attributes.integer("value_int", 0);
        tensor = attributes.tensor("value");
    }
    if (!tensor || elementCount(tensor->dims) != 1 || !isInteger(tensor->type) || bitsOf(tensor->type) < 8 || !tensor->payload.bytes) return std::nullopt;
    if (tensor->payload.bytes->size() != tensor->byteSize().value_or(0)) return std::nullopt;
    return decodeTensor(tensor->type, tensor->dims, *tensor->payload.bytes).integers()[0];
}

/// An input of one element that decides, perhaps behind views, which branch of an If is taken: a truth value (off by default), or an
/// integer that is compared with a constant (which it is by default). `use` "switch" or "value"; empty where it is neither.
SymbolicDim choiceOf(const Graph& graph, ValueId input) {
    const DeclaredType& declared = graph.value(input).declared;
    const bool truth = declared.type == DataType::boolean, whole = declared.type == DataType::int64 || declared.type == DataType::int32;
    if ((!truth && !whole) || !declared.hasShape || elementCount(declared.dims) != 1) return {};
    std::vector<ValueId> open{input};
    std::int64_t compared = 0;
    bool wasCompared = truth;
    constexpr std::size_t most = 8, mostReaders = 256;
    std::size_t read = 0;
    for (std::size_t i = 0; i < open.size() && i < most; ++i) {
        for (const NodeId reader : graph.readers(open[i])) {
            if (++read > mostReaders) return {};
            const Node& node = graph.node(reader);
            if (node.is("If") && node.input(0) == open[i] && wasCompared) return {graph.value(input).name, compared, truth ? "switch" : "value", {graph.value(input).name}};
            const ValueId other = node.is("Equal") ? node.input(node.input(0) == open[i] ? 1 : 0) : ValueId();
            const auto constant = !wasCompared && other ? smallConstant(graph, other) : std::nullopt;
            if (constant) compared = *constant, wasCompared = true;
            if (constant || node.is("Squeeze") || node.is("Reshape") || node.is("Identity") || node.is("Not") || node.is("Cast")) open.push_back(node.output());
        }
    }
    return {};
}

/// What attention operators read an input as, whatever its name. Sources: ContribOperators.md, Operators.md (Attention, TensorScatter).
void readByAttention(const Graph& graph, std::vector<SymbolicDim>& dims) {
    std::unordered_map<std::string_view, std::size_t> places;
    for (std::size_t i = 0; i < dims.size(); ++i)
        for (const std::string& place : dims[i].inputs) places.emplace(place, i);
    const auto dimOf = [&](ValueId value, std::size_t axis) {
        const auto found = value && graph.isInput(value) ? places.find(graph.value(value).name + "[" + std::to_string(axis) + "]") : places.end();
        return found == places.end() ? dims.end() : dims.begin() + static_cast<std::ptrdiff_t>(found->second);
    };
    struct Past {
        const char *domain, *op;
        std::size_t input, axis;
    };
    constexpr const char* microsoft = "com.microsoft";
    constexpr std::array<Past, 9> pasts{{{microsoft, "GroupQueryAttention", 3, 2}, {microsoft, "MultiHeadAttention", 6, 2}, {microsoft, "DecoderMaskedMultiHeadAttention", 5, 2}, {microsoft, "Attention", 4, 3},
                                         {microsoft, "DecoderMaskedSelfAttention", 4, 3}, {microsoft, "QAttention", 8, 3}, {"", "Attention", 4, 2}, {"", "Attention", 5, 2}, {"", "TensorScatter", 0, 2}}};
    for (const Node& node : graph.nodes()) {
        for (const auto& [domain, op, input, axis] : pasts) {
            if (!node.is(domain, op)) continue;
            if (const auto past = dimOf(node.input(input), axis); past != dims.end() && past->use == "other") past->use = "past", past->defaultSize = tokens;
        }
        // Packed tokens: sums of lengths are one more than there are sequences.
        const bool heads = node.is("com.microsoft", "PackedMultiHeadAttention");
        if (!heads && !node.is("com.microsoft", "PackedAttention")) continue;
        const auto sequences = dimOf(node.input(heads ? 4 : 3), 0), sums = dimOf(node.input(heads ? 5 : 4), 0);
        if (sequences != dims.end() && sums != dims.end() && sums != sequences) sums->defaultSize = sequences->defaultSize + 1;
    }
}

/// Whether it is the length of all keys.
bool isTotal(const SymbolicDim& dim) { return dim.use == "sequence" && (contains(dim.name, "total") || contains(dim.name, "attention_mask")); }

/// All keys are those that came before and those that are new: these two dimensions.
std::optional<std::pair<const SymbolicDim*, const SymbolicDim*>> partsOfTotal(const std::vector<SymbolicDim>& dims) {
    const auto past = std::find_if(dims.begin(), dims.end(), [](const SymbolicDim& each) { return each.use == "past"; });
    const auto fresh = std::find_if(dims.begin(), dims.end(), [](const SymbolicDim& each) { return each.use == "sequence" && !isTotal(each); });
    if (past == dims.end() || fresh == dims.end()) return std::nullopt;
    return std::pair(&*past, &*fresh);
}

/// "s - 2" is a size only where s, of which nothing else is known, is not 1. `places`: of dimensions, by their names.
void raiseParts(const SymbolicDim& derived, const std::unordered_map<std::string, std::size_t>& places, std::vector<SymbolicDim>& dims) {
    for (std::int64_t size = 1; size <= tokens; size *= 2) {
        std::set<std::size_t> parts;
        const auto sizeOf = [&](std::string_view name) -> std::optional<std::int64_t> {
            const auto place = places.find(std::string(name));
            if (place == places.end()) return std::nullopt;
            parts.insert(place->second);
            return dims[place->second].defaultSize;
        };
        if (const auto made = evaluateDim(derived.name, sizeOf); made && *made > 0) return;
        for (const std::size_t part : parts)
            if (dims[part].use == "other") dims[part].defaultSize = std::max(dims[part].defaultSize, size);
    }
}

} // namespace

std::vector<SymbolicDim> symbolicDims(const Graph& graph) {
    std::vector<SymbolicDim> found;
    std::unordered_map<std::string, std::size_t> places;
    for (const ValueId id : graph.inputs()) {
        const Value& input = graph.value(id);
        const Weighted weighted = isFloating(input.declared.type) ? firstWeighted(graph, id, input.declared.dims.size()) : Weighted();
        if (SymbolicDim choice = choiceOf(graph, id); !choice.use.empty()) found.push_back(std::move(choice));
        for (std::size_t axis = 0; axis < input.declared.dims.size(); ++axis) {
            if (input.declared.dims[axis] >= 0) continue;
            std::string symbol = axis < input.declared.symbols.size() ? input.declared.symbols[axis] : "";
            const Use use = useOf(graph, symbol, input, weighted, axis, grows(graph, id, axis, input.declared.dims.size()));
            if (symbol.empty()) symbol = input.name + "_dim_" + std::to_string(axis);
            const auto [known, fresh] = places.try_emplace(symbol, found.size());
            if (fresh) found.push_back({symbol, use.size, use.name, {}});
            // What a weight says counts more than the first place where a name is met.
            SymbolicDim& dim = found[known->second];
            if ((dim.use == "other" || dim.use == "batch") && (use.name == "channels" || use.name == "features")) dim.use = use.name, dim.defaultSize = use.size;
            found[known->second].inputs.push_back(input.name + "[" + std::to_string(axis) + "]");
        }
    }
    readByAttention(graph, found);
    if (const auto parts = partsOfTotal(found))
        for (SymbolicDim& dim : found)
            if (isTotal(dim)) dim.defaultSize = parts->first->defaultSize + parts->second->defaultSize;
    // One that follows from others is no choice. A large size, so that "s - 2" is one, and small ones for "300 - s".
    for (const std::int64_t trial : {720720, 60, 2}) {
        const auto plain = [&](std::string_view name) -> std::optional<std::int64_t> {
            const bool known = !isDimExpression(name) && places.contains(std::string(name));
            return known ? std::optional<std::int64_t>(trial) : std::nullopt;
        };
        for (SymbolicDim& dim : found)
            if (dim.use != "derived" && isDimExpression(dim.name) && evaluateDim(dim.name, plain)) dim.use = "derived";
    }
    for (SymbolicDim& dim : found)
        if (dim.use == "derived") raiseParts(dim, places, found);
    return found;
}

bool nameTellsUse(const SymbolicDim& dim) {
    for (const std::string& place : dim.inputs) {
        const std::string input = place.substr(0, place.rfind('['));
        if (isNamedAfter(dim.name, input) || dim.name.starts_with(input + "_dim_")) return false;
    }
    return contains(dim.name, "batch") || contains(dim.name, "past") || containsAny(dim.name, sequenceWords) || containsAny(dim.name, soundWords);
}

void deriveSizes(const std::vector<SymbolicDim>& dims, Bindings& bindings) {
    const auto sizeOf = [&](std::string_view name) -> std::optional<std::int64_t> {
        const auto found = bindings.find(std::string(name));
        return found == bindings.end() ? std::nullopt : std::optional(found->second);
    };
    for (const SymbolicDim& dim : dims)
        if (dim.use == "derived") bindings[dim.name] = evaluateDim(dim.name, sizeOf).value_or(dim.defaultSize);
}

Result<Bindings> resolveBindings(const Graph& graph, const Bindings& wanted) {
    Bindings all;
    std::set<std::string> switches;
    std::string known;
    const std::vector<SymbolicDim> dims = symbolicDims(graph);
    for (const SymbolicDim& dim : dims) {
        all[dim.name] = dim.defaultSize;
        if (dim.use == "switch") switches.insert(dim.name);
        known += (known.empty() ? "" : ", ") + dim.name;
    }
    for (const auto& [name, size] : wanted) {
        const auto found = all.find(name);
        if (found == all.end())
            return fail("bindings", "no input has a dimension called '" + name + "'", known.empty() ? "all its dimensions are fixed" : "the known ones are " + known);
        constexpr std::int64_t largest = std::int64_t(1) << 40;
        if (size < 0 || size > largest) return fail("bindings", "the dimension " + name + " can't be " + std::to_string(size), "give a size from 0 to " + std::to_string(largest));
        if (size > 1 && switches.contains(name)) return fail("bindings", "the switch " + name + " can't be " + std::to_string(size), "give 0 or 1");
        found->second = size;
    }
    if (const auto parts = partsOfTotal(dims))
        for (const SymbolicDim& dim : dims)
            if (isTotal(dim) && !wanted.contains(dim.name)) all[dim.name] = all[parts->first->name] + all[parts->second->name];
    deriveSizes(dims, all);
    for (const auto& [name, size] : wanted) all[name] = size;
    return all;
}

} // namespace triptych
