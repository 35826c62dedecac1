#include "support/numbers.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace triptych {

std::string grouped(std::int64_t number) {
    std::string digits = std::to_string(number);
    const std::size_t first = number < 0 ? 1 : 0;
    for (std::size_t at = digits.size(); at > first + 3;) {
        at -= 3;
        digits.insert(at, ",");
    }
    return digits;
}

std::string formatNumber(double number, int digits) {
    if (!std::isfinite(number)) return number > 0 ? "inf" : number < 0 ? "-inf" : "nan";
    if (number == 0) return "0";
    const int whole = static_cast<int>(std::floor(std::log10(std::fabs(number)))) + 1;
    const int decimals = whole >= digits ? 0 : digits - whole;
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.*f", decimals, number);
    std::string out = text.data();
    if (out.find('.') != std::string::npos) {
        while (out.back() == '0') out.pop_back();
        if (out.back() == '.') out.pop_back();
    }
    return out;
}

namespace {

std::string scaled(double amount, std::span<const char* const> units, double step) {
    std::size_t unit = 0;
    // 999.5 would round to 1000 of the smaller unit.
    while (std::fabs(amount) >= step * 0.9995 && unit + 1 < units.size()) {
        amount /= step;
        ++unit;
    }
    return formatNumber(amount) + " " + units[unit];
}

} // namespace

std::string formatBytes(double bytes) {
    static constexpr std::array units{"B", "kB", "MB", "GB", "TB"};
    return scaled(bytes, units, 1000);
}

std::string formatMicroseconds(double microseconds) {
    static constexpr std::array units{"µs", "ms", "s"};
    return scaled(microseconds, units, 1000);
}

std::string formatFlops(double flops) {
    static constexpr std::array units{"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"};
    return scaled(flops, units, 1000);
}

std::string formatDims(std::span<const std::int64_t> dims) {
    if (dims.empty()) return "scalar";
    std::string text;
    for (const std::int64_t dim : dims) {
        if (!text.empty()) text += "×";
        text += dim < 0 ? std::string("?") : std::to_string(dim);
    }
    return text;
}

} // namespace triptych
