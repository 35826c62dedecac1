#pragma once
// Sizes that a file gives as an expression of other sizes: "past_sequence_length + sequence_length", "2*s0", "(s1 + 1)//2".

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

namespace triptych {

/// Whether it is more than a name or a number.
bool isDimExpression(std::string_view text);

/// Integers, names, + - * / // % **, parentheses, Max, Min, Mod, FloorDiv, floor and ceiling. / is exact; what is no whole number at the end is cut. Empty where it is anything else, where a
/// name has no size, or where the size doesn't fit.
std::optional<std::int64_t> evaluateDim(std::string_view text, const std::function<std::optional<std::int64_t>(std::string_view)>& sizeOf);

} // namespace triptych
