#include "graph/text.h"

#include "support/numbers.h"

#include <cstring>

namespace triptych {

namespace {

bool isPlainName(std::string_view name) {
    for (const char c : name)
        if (!std::isalnum(static_cast<unsigned char>(c)) && std::string_view("_./-:").find(c) == std::string_view::npos) return false;
    return !name.empty() && !std::isdigit(static_cast<unsigned char>(name[0])) && name != "_" && name.find("::") == std::string_view::npos;
}

std::string nameText(std::string_view name) { return isPlainName(name) ? std::string(name) : '`' + std::string(name) + '`'; }

std::string typeText(const DeclaredType& type) {
    std::string text(shortName(type.type));
    if (!type.hasShape) return text;
    text += '[';
    for (std::size_t i = 0; i < type.dims.size(); ++i) {
        if (i) text += ',';
        const bool symbolic = i < type.symbols.size() && !type.symbols[i].empty();
        text += symbolic ? type.symbols[i] : type.dims[i] < 0 ? std::string("?") : std::to_string(type.dims[i]);
    }
    return text + ']';
}

template <class Number>
void printNumbers(std::string& text, const std::vector<std::byte>& bytes) {
    for (std::size_t at = 0; at + sizeof(Number) <= bytes.size(); at += sizeof(Number)) {
        Number number;
        std::memcpy(&number, bytes.data() + at, sizeof number);
        if (at) text += ',';
        if constexpr (std::is_floating_point_v<Number>) {
            const std::string digits = formatNumber(number, 9);
            text += digits.find_first_of(".in") == std::string::npos ? digits + ".0" : digits;
        } else {
            text += std::to_string(number);
        }
    }
}

std::string dataText(const Tensor& tensor) {
    constexpr std::size_t most = 256;
    if (tensor.payload.place != Payload::Place::memory || !tensor.payload.bytes || tensor.payload.bytes->size() > most) return {};
    std::string text;
    if (tensor.type == DataType::int64) printNumbers<std::int64_t>(text, *tensor.payload.bytes);
    else if (tensor.type == DataType::float32) printNumbers<float>(text, *tensor.payload.bytes);
    else return {};
    return " = {" + text + '}';
}

} // namespace

std::string printText(const Graph& graph) {
    std::string text;
    for (const ValueId id : graph.inputs()) text += nameText(graph.value(id).name) + ": " + typeText(graph.value(id).declared) + '\n';
    for (const Value& value : graph.values()) {
        if (!value.initializer) continue;
        const std::string data = dataText(*value.initializer);
        text += nameText(value.name) + ": " + typeText(value.declared) + (data.empty() ? " = absent" : data) + '\n';
    }
    for (const Node& node : graph.nodes()) {
        text += '@' + nameText(node.name) + ' ';
        for (std::size_t i = 0; i < node.outputs.size(); ++i)
            text += (i ? ", " : "") + (node.outputs[i] ? nameText(graph.value(node.outputs[i]).name) : std::string("_"));
        text += " = " + (node.domain.empty() ? "" : node.domain + "::") + node.op + '(';
        for (std::size_t i = 0; i < node.inputs.size(); ++i)
            text += (i ? ", " : "") + (node.inputs[i] ? nameText(graph.value(node.inputs[i]).name) : std::string("_"));
        const std::string attributes = describe(node.attributes);
        text += (node.inputs.empty() || attributes.empty() ? "" : ", ") + attributes + ")\n";
    }
    text += "return ";
    for (std::size_t i = 0; i < graph.outputs().size(); ++i) text += (i ? ", " : "") + nameText(graph.value(graph.outputs()[i]).name);
    return text + '\n';
}

} // namespace triptych
