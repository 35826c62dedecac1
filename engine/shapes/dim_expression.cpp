#include "shapes/dim_expression.h"

#include <algorithm>
#include <cctype>

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
            const bool times = take("*");
            if (!times && !take("//") && !take("/")) return left;
            const Size right = one(depth);
            if (!right || (!times && *right <= 0)) return {};
            if (times) left = *right != 0 && std::abs(*left) > largest / std::abs(*right) ? Size() : Size(*left * *right);
            else left = *left >= 0 ? *left / *right : -((-*left + *right - 1) / *right);
        }
        return left;
    }

    Size one(int depth) {
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
        const bool most = name == "Max" || name == "max", least = name == "Min" || name == "min";
        Size result = sum(depth + 1);
        while (result && (most || least) && take(",")) {
            const Size other = sum(depth + 1);
            if (!other) return {};
            result = most ? std::max(*result, *other) : std::min(*result, *other);
        }
        return (most || least || name == "floor") && take(")") ? result : Size();
    }

    std::string_view m_text;
    const std::function<Size(std::string_view)>& m_sizeOf;
    std::size_t m_at = 0;
};

} // namespace

bool isDimExpression(std::string_view text) { return text.size() <= longestText && text.find_first_of("+-*/(") != std::string_view::npos; }

std::optional<std::int64_t> evaluateDim(std::string_view text, const std::function<std::optional<std::int64_t>(std::string_view)>& sizeOf) {
    return text.size() > longestText ? std::nullopt : Reader(text, sizeOf).run();
}

} // namespace triptych
