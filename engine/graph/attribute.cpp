#include "graph/attribute.h"

#include <algorithm>

#include "graph/graph.h"
#include "support/numbers.h"

namespace triptych {

const Attribute* Attributes::find(std::string_view name) const {
    for (const Attribute& item : m_items)
        if (item.name == name) return &item;
    return nullptr;
}

namespace {

template <class T>
const T* valueOf(const Attributes& attributes, std::string_view name) {
    const Attribute* found = attributes.find(name);
    return found ? std::get_if<T>(&found->value) : nullptr;
}

} // namespace

std::int64_t Attributes::integer(std::string_view name, std::int64_t absent) const {
    const auto* found = valueOf<std::int64_t>(*this, name);
    return found ? *found : absent;
}

float Attributes::real(std::string_view name, float absent) const {
    const auto* found = valueOf<float>(*this, name);
    return found ? *found : absent;
}

std::string Attributes::text(std::string_view name, std::string absent) const {
    const auto* found = valueOf<std::string>(*this, name);
    return found ? *found : absent;
}

std::span<const GraphPtr> graphsOf(const Attribute& attribute) {
    if (const auto* one = std::get_if<GraphPtr>(&attribute.value)) return {one, 1};
    const auto* many = std::get_if<std::vector<GraphPtr>>(&attribute.value);
    return many ? std::span<const GraphPtr>(*many) : std::span<const GraphPtr>();
}

std::span<GraphPtr> graphsOf(Attribute& attribute) {
    if (auto* one = std::get_if<GraphPtr>(&attribute.value)) return {one, 1};
    auto* many = std::get_if<std::vector<GraphPtr>>(&attribute.value);
    return many ? std::span<GraphPtr>(*many) : std::span<GraphPtr>();
}

bool Attributes::holdGraphs() const {
    return std::any_of(m_items.begin(), m_items.end(), [](const Attribute& each) { return !graphsOf(each).empty(); });
}

const std::vector<std::int64_t>* Attributes::integers(std::string_view name) const {
    return valueOf<std::vector<std::int64_t>>(*this, name);
}

const std::vector<float>* Attributes::reals(std::string_view name) const { return valueOf<std::vector<float>>(*this, name); }

const std::vector<std::string>* Attributes::texts(std::string_view name) const { return valueOf<std::vector<std::string>>(*this, name); }

TensorPtr Attributes::tensor(std::string_view name) const {
    const auto* found = valueOf<TensorPtr>(*this, name);
    return found ? *found : nullptr;
}

GraphPtr Attributes::graph(std::string_view name) const {
    const auto* found = valueOf<GraphPtr>(*this, name);
    return found ? *found : nullptr;
}

void Attributes::set(std::string name, Attribute::Value value) {
    for (Attribute& item : m_items) {
        if (item.name != name) continue;
        item.value = std::move(value);
        item.reference.clear();
        return;
    }
    m_items.push_back({std::move(name), std::move(value), {}});
}

void Attributes::erase(std::string_view name) {
    std::erase_if(m_items, [&](const Attribute& item) { return item.name == name; });
}

namespace {

/// Prints a value as the text form has it; what it has no form for is named in angle brackets.
struct ValuePrinter {
    std::string operator()(std::monostate) const { return "<none>"; }
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(float number) const {
        std::string text = formatNumber(number, 9);
        return text.find_first_of(".in") == std::string::npos ? text + ".0" : text;
    }
    std::string operator()(const std::string& text) const { return '"' + text + '"'; }
    std::string operator()(const TensorPtr& tensor) const {
        return tensor ? '<' + std::string(shortName(tensor->type)) + ' ' + formatDims(tensor->dims) + '>' : "<none>";
    }
    std::string operator()(const GraphPtr& graph) const {
        return graph ? "<graph of " + std::to_string(graph->nodes().size()) + " nodes>" : "<none>";
    }
    std::string operator()(const RawAttribute&) const { return "<data>"; }
    template <class T>
    std::string operator()(const std::vector<T>& items) const {
        constexpr std::size_t shown = 64;
        std::string text = "[";
        for (std::size_t i = 0; i < items.size() && i < shown; ++i) text += (i ? "," : "") + (*this)(items[i]);
        return text + (items.size() > shown ? ",…]" : "]");
    }
};

} // namespace

std::string describe(const Attributes& attributes) {
    std::string text;
    for (const Attribute& item : attributes.items()) {
        if (!text.empty()) text += ", ";
        text += item.name + '=' + (item.reference.empty() ? std::visit(ValuePrinter(), item.value) : '@' + item.reference);
    }
    return text;
}

} // namespace triptych
