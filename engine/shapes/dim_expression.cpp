#include "shapes/dim_expression.h"

#include <algorithm>
#include <cctype>
#include <vector>

namespace triptych {

namespace {

constexpr std::size_t longestText = 512;
constexpr int deepest = 32;
constexpr std::int64_t largest = std::int64_t(1) << 40;

using Size = std::optional<std::int64_t>;

bool isNameCharacter(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.'; }

/// Recursive descent; an empty size once something is wrong.
class Reader {
public:
    Reader(std::string_view text, const std::function<Size(std::string_view)>& sizeOf) : m_text(text), m_sizeOf(sizeOf) {}

    Size run() {
        const Size size = sum(0);
        skip();
        return size && m_at == m_text.size() && *size >= 0 ? size : Size();
    }

private:
    void skip() {
        while (m_at < m_text.size() && m_text[m_at] == ' ') ++m_at;
    }

    bool take(std::string_view what) {
        skip();
        if (m_text.substr(m_at, what.size()) != what) return false;
        m_at += what.size();
        return true;
    }

    static Size within(Size size) { return size && *size >= -largest && *size <= largest ? size : Size(); }

    Size sum(int depth) {
        Size left = product(depth);
        while (left) {
            const bool plus = take("+");
            if (!plus && !take("-")) return left;
            const Size right = product(depth);
            if (!right) return {};
            left = within(plus ? *left + *right : *left - *right);
        }
        return left;
    }

    Size product(int depth) {
        Size left = one(depth);
        while (left) {
            skip();
            if (m_text.substr(m_at).starts_with("**")) return {};
            const bool times = take("*"), rest = !times && take("%");
            if (!times && !rest && !take("//") && !take("/")) return left;
            const Size right = one(depth);
            if (!right || (!times && *right <= 0)) return {};
            left = times ? multiplied(*left, *right) : rest ? Size((*left % *right + *right) % *right) : Size(divided(*left, *right));
        }
        return left;
    }

    static Size multiplied(std::int64_t a, std::int64_t b) { return b != 0 && std::abs(a) > largest / std::abs(b) ? Size() : Size(a * b); }
    /// Rounded down, or up inside of ceiling().
    std::int64_t divided(std::int64_t a, std::int64_t b) const {
        const std::int64_t down = a >= 0 ? a / b : -((-a + b - 1) / b);
        return m_up && down * b != a ? down + 1 : down;
    }

    /// One factor, raised to a power perhaps.
    Size one(int depth) {
        const Size base = factor(depth);
        if (!base || !take("**")) return base;
        const Size exponent = factor(depth);
        if (!exponent || *exponent < 0 || *exponent > 40) return {};
        Size power = 1;
        for (std::int64_t i = 0; i < *exponent && power; ++i) power = multiplied(*power, *base);
        return power;
    }

    Size factor(int depth) {
        if (depth > deepest) return {};
        if (take("(")) {
            const Size inner = sum(depth + 1);
            return take(")") ? inner : Size();
        }
        skip();
        const std::size_t begin = m_at;
        while (m_at < m_text.size() && isNameCharacter(m_text[m_at])) ++m_at;
        const std::string_view name = m_text.substr(begin, m_at - begin);
        if (name.empty()) return {};
        if (take("(")) return call(name, depth);
        if (!std::all_of(name.begin(), name.end(), [](char c) { return std::isdigit(static_cast<unsigned char>(c)); })) return within(m_sizeOf(name));
        std::int64_t number = 0;
        for (const char digit : name) {
            number = number * 10 + (digit - '0');
            if (number > largest) return {};
        }
        return number;
    }

    Size call(std::string_view name, int depth) {
        const bool up = name == "ceiling" || name == "ceil", was = m_up;
        m_up = up || (m_up && name != "floor");
        std::vector<std::int64_t> all;
        do {
            const Size next = sum(depth + 1);
            if (!next) return {};
            all.push_back(*next);
        } while (take(","));
        m_up = was;
        if (!take(")")) return {};
        if (name == "Max" || name == "max") return *std::max_element(all.begin(), all.end());
        if (name == "Min" || name == "min") return *std::min_element(all.begin(), all.end());
        if (all.size() == 1 && (up || name == "floor")) return all[0];
        if (all.size() != 2 || all[1] <= 0) return {};
        const std::int64_t down = all[0] >= 0 ? all[0] / all[1] : -((-all[0] + all[1] - 1) / all[1]);
        if (name == "Mod") return all[0] - down * all[1];
        return name == "FloorDiv" ? Size(down) : Size();
    }

    std::string_view m_text;
    const std::function<Size(std::string_view)>& m_sizeOf;
    std::size_t m_at = 0;
    bool m_up = false;
};

} // namespace

bool isDimExpression(std::string_view text) { return text.size() <= longestText && text.find_first_of("+-*/%(") != std::string_view::npos; }

std::optional<std::int64_t> evaluateDim(std::string_view text, const std::function<std::optional<std::int64_t>(std::string_view)>& sizeOf) {
    return text.size() > longestText ? std::nullopt : Reader(text, sizeOf).run();
}

} // namespace triptych
