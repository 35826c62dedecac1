// Names as files have them, made safe to show; module paths from metadata or names.

#include "onnx_io/decode.h"

#include <algorithm>

namespace triptych {

namespace {

/// Bytes of the UTF-8 sequence at the beginning of `text`; 0 where it is none or a control character.
std::size_t sequenceLength(std::string_view text) {
    const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const unsigned first = at(0);
    if (first < 0x20 || first == 0x7f) return 0;
    if (first < 0x80) return 1;
    const std::size_t length = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
    if (length == 0 || first >= 0xf5) return 0;
    for (std::size_t i = 1; i < length; ++i)
        if ((at(i) & 0xc0) != 0x80) return 0;
    if (first == 0xe0 && at(1) < 0xa0) return 0;                    // overlong
    if (first == 0xed && at(1) >= 0xa0) return 0;                   // surrogates
    if (first == 0xf0 && at(1) < 0x90) return 0;                    // overlong
    if (first == 0xf4 && at(1) >= 0x90) return 0;                   // beyond U+10FFFF
    if (first == 0xef && at(1) == 0xbf && at(2) >= 0xbe) return 0;  // no characters in XML
    return length;
}

/// The strings of a list as Python prints it: "['', 'encoder', 'encoder.layer']".
std::vector<std::string> pythonList(std::string_view text) {
    std::vector<std::string> items;
    for (std::size_t at = 0; at < text.size(); ++at) {
        const char quote = text[at];
        if (quote != '\'' && quote != '"') continue;
        const std::size_t end = text.find(quote, at + 1);
        if (end == std::string_view::npos) break;
        items.emplace_back(text.substr(at + 1, end - at - 1));
        at = end;
    }
    return items;
}

/// A backslash that stands as one of ours would: it becomes \x5c itself, so that two texts never become one.
bool looksCleaned(std::string_view bytes) {
    const auto digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    return bytes.size() >= 4 && bytes[0] == '\\' && bytes[1] == 'x' && digit(bytes[2]) && digit(bytes[3]);
}

} // namespace

std::string cleanText(std::string_view bytes) {
    const auto plain = [](char c) { return c >= 0x20 && c < 0x7f && c != '\\'; };
    if (std::all_of(bytes.begin(), bytes.end(), plain)) return std::string(bytes); // nearly all are
    std::string text;
    text.reserve(bytes.size());
    for (std::size_t at = 0; at < bytes.size();) {
        if (const std::size_t length = sequenceLength(bytes.substr(at)); length != 0 && !looksCleaned(bytes.substr(at))) {
            text.append(bytes, at, length);
            at += length;
            continue;
        }
        static constexpr std::string_view digits = "0123456789abcdef";
        const auto byte = static_cast<unsigned char>(bytes[at++]);
        text += "\\x";
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

std::string moduleScope(const Metadata& metadata, std::string_view nodeName) {
    for (const auto& [key, value] : metadata) {
        if (key != "pkg.torch.onnx.name_scopes") continue;
        const auto scopes = pythonList(value); // the last one is the node itself
        if (scopes.size() < 2) return {};
        const std::string& scope = scopes[scopes.size() - 2];
        return scope.starts_with('_') ? std::string() : scope;
    }
    // TorchScript writes the path into the name: "/decoder/block.0/attention/MatMul".
    if (!nodeName.starts_with('/')) return {};
    const std::size_t last = nodeName.rfind('/');
    std::string scope(nodeName.substr(1, last == 0 ? 0 : last - 1));
    for (char& c : scope)
        if (c == '/') c = '.';
    return scope;
}

} // namespace triptych
