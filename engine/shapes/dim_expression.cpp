#include "shapes/dim_expression.h"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <vector>

namespace triptych {

namespace {

constexpr std::size_t longestText = 512;
constexpr int deepest = 32;
constexpr std::int64_t largest = std::int64_t(1) << 40;

/// A size on its way: halves may cancel out before the end. In lowest terms, the denominator above 0.
struct Ratio {
    std::int64_t over = 0, under = 1;
};
using Size = std::optional<Ratio>;

Size ratio(std::int64_t over, std::int64_t under) {
    if (under == 0) return {};
    if (under < 0) over = -over, under = -under;
    const std::int64_t common = std::max<std::int64_t>(std::gcd(over, under), 1);
    const Ratio made{over / common, under / common};
    constexpr std::int64_t finest = 1 << 20;
    return std::abs(made.over) <= largest && made.under <= finest ? Size(made) : Size();
}

std::int64_t floorOf(const Ratio& size) { return size.over >= 0 ? size.over / size.under : -((-size.over + size.under - 1) / size.under); }
std::int64_t ceilingOf(const Ratio& size) { return -floorOf({-size.over, size.under}); }
Size whole(std::int64_t number) { return ratio(number, 1); }
// Numerators stay below 2^40 and denominators below 2^20: no product of two overflows.
Size sumOf(const Ratio& a, const Ratio& b, int sign) { return ratio(a.over * b.under + sign * b.over * a.under, a.under * b.under); }
Size productOf(const Ratio& a, const Ratio& b) { return a.over != 0 && std::abs(b.over) > (std::int64_t(1) << 62) / std::abs(a.over) ? Size() : ratio(a.over * b.over, a.under * b.under); }
Size quotientOf(const Ratio& a, const Ratio& b) { return b.over == 0 ? Size() : productOf(a, {b.over < 0 ? -b.under : b.under, std::abs(b.over)}); }

bool isNameCharacter(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.'; }

/// Recursive descent; an empty size once something is wrong.
class Reader {
public:
    Reader(std::string_view text, const std::function<std::optional<std::int64_t>(std::string_view)>& sizeOf) : m_text(text), m_sizeOf(sizeOf) {}

    std::optional<std::int64_t> run() {
        const Size size = sum(0);
        skip();
        // What is left of a half is no place: sizes are cut to whole ones.
        return size && m_at == m_text.size() && size->over >= 0 ? std::optional(floorOf(*size)) : std::nullopt;
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

    Size sum(int depth) {
        Size left = product(depth);
        while (left) {
            const bool plus = take("+");
            if (!plus && !take("-")) return left;
            const Size right = product(depth);
            left = right ? sumOf(*left, *right, plus ? 1 : -1) : Size();
        }
        return left;
    }

    Size product(int depth) {
        Size left = power(depth);
        while (left) {
            const bool times = take("*"), rest = !times && take("%"), down = !times && !rest && take("//");
            if (!times && !rest && !down && !take("/")) return left;
            const Size right = power(depth);
            if (!right) return {};
            left = times ? productOf(*left, *right) : rest ? call("Mod", {*left, *right}) : down ? call("FloorDiv", {*left, *right}) : quotientOf(*left, *right);
        }
        return left;
    }

    /// One factor, raised to a power perhaps, and its sign.
    Size power(int depth) {
        if (take("-")) {
            const Size size = depth > deepest ? Size() : power(depth + 1);
            return size ? ratio(-size->over, size->under) : Size();
        }
        const Size base = factor(depth);
        if (!base || !take("**")) return base;
        const Size exponent = factor(depth);
        if (!exponent || exponent->under != 1 || exponent->over < 0 || exponent->over > 40) return {};
        Size made = whole(1);
        for (std::int64_t i = 0; i < exponent->over && made; ++i) made = productOf(*made, *base);
        return made;
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
        if (take("(")) {
            const auto all = arguments(depth);
            return all.empty() ? Size() : call(name, all);
        }
        if (std::all_of(name.begin(), name.end(), [](char c) { return std::isdigit(static_cast<unsigned char>(c)); })) {
            std::int64_t number = 0;
            for (const char digit : name) {
                number = number * 10 + (digit - '0');
                if (number > largest) return {};
            }
            return whole(number);
        }
        const auto known = m_sizeOf(name);
        return known ? whole(*known) : Size();
    }

    /// None where one can't be told.
    std::vector<Ratio> arguments(int depth) {
        std::vector<Ratio> all;
        do {
            const Size next = sum(depth + 1);
            if (!next) return {};
            all.push_back(*next);
        } while (take(","));
        return take(")") ? all : std::vector<Ratio>();
    }

    static Size call(std::string_view name, const std::vector<Ratio>& all) {
        const auto less = [](const Ratio& a, const Ratio& b) { return a.over * b.under < b.over * a.under; };
        if (name == "Max" || name == "max") return *std::max_element(all.begin(), all.end(), less);
        if (name == "Min" || name == "min") return *std::min_element(all.begin(), all.end(), less);
        if (all.size() == 1 && (name == "floor" || name == "FloorToInt")) return whole(floorOf(all[0]));
        if (all.size() == 1 && (name == "ceiling" || name == "ceil" || name == "CeilToInt")) return whole(ceilingOf(all[0]));
        if (all.size() != 2 || all[1].over <= 0) return {};
        const Size parts = quotientOf(all[0], all[1]);
        if (name == "IntTrueDiv" || name == "FloatTrueDiv") return parts;
        if (!parts || (name != "Mod" && name != "PythonMod" && name != "FloorDiv" && name != "CeilDiv")) return {};
        if (name == "FloorDiv") return whole(floorOf(*parts));
        if (name == "CeilDiv") return whole(ceilingOf(*parts));
        const Size taken = productOf({floorOf(*parts), 1}, all[1]);
        return taken ? sumOf(all[0], *taken, -1) : Size();
    }

    std::string_view m_text;
    const std::function<std::optional<std::int64_t>(std::string_view)>& m_sizeOf;
    std::size_t m_at = 0;
};

} // namespace

bool isDimExpression(std::string_view text) { return text.size() <= longestText && text.find_first_of("+-*/%(") != std::string_view::npos; }

std::optional<std::int64_t> evaluateDim(std::string_view text, const std::function<std::optional<std::int64_t>(std::string_view)>& sizeOf) {
    return text.size() > longestText ? std::nullopt : Reader(text, sizeOf).run();
}

} // namespace triptych
