// Sequences and optionals. An optional has the shape of the tensor that it holds. SequenceMap has a body: control_flow.cpp.
// Source: the ONNX operator specification (opset 11 to 25).

#include "shapes/rules.h"

#include <algorithm>

namespace triptych {

namespace {

/// More are not followed one by one.
constexpr std::int64_t mostItems = 1024;

/// Place in a list of `count`, from the end where negative; the end itself is a place where `inserting`.
std::optional<std::size_t> placeIn(const RuleCall& call, std::size_t input, std::size_t count, bool inserting) {
    if (!call.has(input)) return inserting ? count : count - 1;
    const auto wanted = call.integer(input);
    const auto size = static_cast<std::int64_t>(count);
    if (!wanted || *wanted < -size || *wanted > size - (inserting ? 0 : 1)) return std::nullopt;
    return static_cast<std::size_t>(*wanted < 0 ? *wanted + size : *wanted);
}

void construct(RuleCall& call) {
    std::vector<ValueShape> items;
    for (std::size_t i = 0; i < call.inputCount(); ++i) items.push_back(call.in(i));
    ValueShape each = commonOf(items);
    call.setSequence(0, {std::move(each), std::move(items)});
}

void empty(RuleCall& call) {
    ValueShape each;
    each.type = static_cast<DataType>(call.node.attributes.integer("dtype", 1));
    call.setSequence(0, {each, std::vector<ValueShape>()});
}

void insert(RuleCall& call) {
    const SequenceShape* to = call.sequence(0);
    if (!to) return call.setSequence(0, {});
    SequenceShape made{*to};
    made.each = to->items && to->items->empty() ? call.in(1) : common(to->each, call.in(1));
    const auto place = to->items && std::ssize(*to->items) < mostItems ? placeIn(call, 2, to->items->size(), true) : std::nullopt;
    if (place) made.items->insert(made.items->begin() + static_cast<std::ptrdiff_t>(*place), call.in(1));
    else made.items.reset();
    call.setSequence(0, std::move(made));
}

void erase(RuleCall& call) {
    const SequenceShape* from = call.sequence(0);
    if (!from) return call.setSequence(0, {});
    SequenceShape made{*from};
    const auto place = made.items && !made.items->empty() ? placeIn(call, 1, made.items->size(), false) : std::nullopt;
    if (place) made.items->erase(made.items->begin() + static_cast<std::ptrdiff_t>(*place));
    else made.items.reset();
    call.setSequence(0, std::move(made));
}

void pick(RuleCall& call) {
    const SequenceShape* from = call.sequence(0);
    if (!from) {
        call.dataDependent = "it comes out of a sequence";
        return;
    }
    const auto place = from->items && !from->items->empty() ? placeIn(call, 1, from->items->size(), false) : std::nullopt;
    call.set(0, place ? (*from->items)[*place] : from->each);
    if (!place) call.dataDependent = from->items ? "its place in a sequence decides" : "what its sequence holds isn't known one by one";
}

void length(RuleCall& call) { call.set(0, DataType::int64, {}); }

/// Along an axis that there is, or (new_axis) stacked along one of its own.
void concatenate(RuleCall& call) {
    const SequenceShape* from = call.sequence(0);
    call.dataDependent = "as long as its sequence";
    if (!from) return;
    ValueShape out = from->items ? commonOf(*from->items) : from->each;
    const bool stacked = call.node.attributes.integer("new_axis", 0) != 0;
    const auto axis = out.ranked ? axisIn(call.node.attributes.integer("axis", 0), out.dims.size() + (stacked ? 1 : 0)) : std::nullopt;
    if (!axis) return call.setType(0, out.type);
    Dim size = from->items ? Dim(0) : unknownDim;
    if (from->items)
        for (const ValueShape& item : *from->items) size = plus(size, stacked ? 1 : item.dims[*axis]);
    if (stacked) out.dims.insert(out.dims.begin() + static_cast<std::ptrdiff_t>(*axis), size);
    else out.dims[*axis] = size;
    call.set(0, out);
}

/// Sizes of the parts along the axis; empty where their number is unknown.
std::optional<Dims> partSizes(const RuleCall& call, Dim whole) {
    if (whole < 0) return std::nullopt;
    Dims parts;
    std::int64_t each = 1;
    if (call.has(1)) {
        const auto given = call.list(1, "");
        if (!given || given->empty()) return std::nullopt;
        if (call.in(1).dims.size() == 1) return std::ssize(*given) <= mostItems ? given : std::nullopt;
        each = given->front();
    }
    if (each <= 0 || whole / each >= mostItems) return std::nullopt;
    for (Dim left = whole; left > 0; left -= parts.back()) parts.push_back(std::min(each, left));
    return parts;
}

void split(RuleCall& call) {
    ValueShape each = call.in(0);
    const auto axis = each.ranked ? axisIn(call.node.attributes.integer("axis", 0), each.dims.size()) : std::nullopt;
    if (!axis) {
        each.ranked = false;
        return call.setSequence(0, {each, std::nullopt});
    }
    const bool slices = !call.has(1) && call.node.attributes.integer("keepdims", 1) == 0;
    const auto parts = partSizes(call, each.dims[*axis]);
    const auto part = [&](Dim size) {
        ValueShape made = each;
        if (slices) made.dims.erase(made.dims.begin() + static_cast<std::ptrdiff_t>(*axis));
        else made.dims[*axis] = size;
        return made;
    };
    SequenceShape made{part(call.has(1) ? unknownDim : 1), std::nullopt};
    if (parts) {
        made.items.emplace();
        for (const Dim size : *parts) made.items->push_back(part(size));
        made.each = commonOf(*made.items);
    }
    call.setSequence(0, std::move(made));
}

/// The same value, whatever it is.
void same(RuleCall& call) {
    if (call.sequence(0)) call.dataDependent = "it is a sequence";
    call.set(0, call.in(0));
}

void optional(RuleCall& call) {
    if (call.has(0)) return same(call);
    call.dataDependent = "it is an optional, and empty";
}

void isThere(RuleCall& call) { call.set(0, DataType::boolean, {}); }

} // namespace

void addSequenceRules(RuleTable& table) {
    table["SequenceConstruct"] = construct;
    table["SequenceEmpty"] = empty;
    table["SequenceInsert"] = insert;
    table["SequenceErase"] = erase;
    table["SequenceAt"] = pick;
    table["SequenceLength"] = length;
    table["ConcatFromSequence"] = concatenate;
    table["SplitToSequence"] = split;
    table["Identity"] = table["OptionalGetElement"] = same;
    table["Optional"] = optional;
    table["OptionalHasElement"] = isThere;
}

} // namespace triptych
