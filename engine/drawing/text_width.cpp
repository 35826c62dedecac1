#include "drawing/draw.h"
#include "support/resources.h"

#include <array>
#include <nlohmann/json.hpp>

namespace triptych {

namespace {

/// Advance widths of ASCII 32 to 126, in thousandths of the font size; others count as the widest common letter.
struct WidthTable {
    std::array<float, 95> words{}, wordsBold{}, figures{};

    WidthTable() {
        for (const Resource& resource : resourcesUnder("fonts/widths.json")) {
            const auto json = nlohmann::json::parse(resource.content, nullptr, false);
            fill(json, "words", words);
            fill(json, "words_bold", wordsBold);
            fill(json, "figures", figures);
        }
    }
    static void fill(const nlohmann::json& json, const char* key, std::array<float, 95>& to) {
        for (std::size_t i = 0; i < to.size() && json.contains(key) && i < json[key].size(); ++i) to[i] = json[key][i].get<float>() / 1000;
    }
};

} // namespace

float textWidth(std::string_view utf8, float size, Font font, bool bold) {
    static const WidthTable table;
    const auto& widths = font == Font::figures ? table.figures : bold ? table.wordsBold : table.words;
    float width = 0;
    for (const char c : utf8) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte & 0xc0) == 0x80) continue; // the rest of a character that was counted
        width += byte >= 32 && byte < 127 ? widths[byte - 32U] : 0.62F;
    }
    return width * size;
}

} // namespace triptych
