#pragma once
// Numbers as people read them. The same text everywhere: window, report, diagram.

#include <cstdint>
#include <span>
#include <string>

namespace triptych {

/// "605,184"
std::string grouped(std::int64_t number);
/// Three significant figures with a decimal unit: "605 kB", "14.5 MB".
std::string formatBytes(double bytes);
/// "742 µs", "5.25 ms"
std::string formatMicroseconds(double microseconds);
/// "35.1 GFLOP"
std::string formatFlops(double flops);
/// "1×197×768"; unknown sizes are "?", a scalar is "scalar".
std::string formatDims(std::span<const std::int64_t> dims);
/// At most `digits` significant figures, no trailing zeros.
std::string formatNumber(double number, int digits = 3);

} // namespace triptych
