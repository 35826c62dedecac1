#include "verify/verify.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>
#include <fmt/format.h>
#include <limits>

namespace triptych {

namespace {

std::string indexText(std::size_t flat, const Dims& dims) {
    std::vector<std::int64_t> index(dims.size());
    for (std::size_t i = dims.size(); i-- > 0;) {
        index[i] = static_cast<std::int64_t>(flat) % dims[i];
        flat /= static_cast<std::size_t>(dims[i]);
    }
    return fmt::format("[{}]", fmt::join(index, ","));
}

/// Values of an attention that both graphs compute, in the file's order.
std::vector<std::string> sharedValues(const Graph& file, const Graph& decomposed, const AttentionSpec& spec) {
    std::vector<std::string> names;
    for (const NodeId id : spec.nodes) {
        for (const ValueId value : file.node(id).outputs) {
            if (!value) continue;
            const ValueId other = decomposed.findValue(file.value(value).name);
            if (other && decomposed.producer(other)) names.push_back(file.value(value).name);
        }
    }
    return names;
}

/// What a difference of one element is measured against is the largest value; masks in an output (-3.4e38 where a score is hidden) would allow any. Where
/// values end and masks begin: a power of two with nothing in the ten below it; infinity where there are none.
double beginOfMasks(const HostTensor& values) {
    constexpr int lowest = 13, empty = 10; // no mask is below 8192
    constexpr int smallest = -1074, all = 2098; // powers of two of a double
    std::bitset<all> powers;
    for (std::size_t i = 0; i < static_cast<std::size_t>(values.count()); ++i)
        if (const double value = values.at(i); std::isfinite(value) && value != 0) powers.set(static_cast<std::size_t>(std::ilogb(value) - smallest));
    int before = all;
    for (int power = smallest; power < smallest + all; ++power) {
        if (!powers.test(static_cast<std::size_t>(power - smallest))) continue;
        if (power >= lowest && power - before > empty) return std::ldexp(1.0, power);
        before = power;
    }
    return std::numeric_limits<double>::infinity();
}

/// The worst element of those that are measured alike.
struct Worst {
    double largest = 0, apart = 0;
    std::size_t at = 0;
};

} // namespace

Tolerance defaultTolerance(DataType type) {
    const double relative = type == DataType::float32 ? 1e-5 : type == DataType::float16 ? 2e-3 : type == DataType::bfloat16 ? 2e-2 : type == DataType::float64 ? 1e-10 : 0;
    // Where everything is near zero, rounding of what was summed is all that is left.
    return {relative, relative * 1e-2};
}

Difference compare(const std::string& output, const HostTensor& got, const HostTensor& expected, std::optional<double> relative, std::optional<double> absolute) {
    Difference made;
    made.output = output;
    const double infinity = std::numeric_limits<double>::infinity();
    if (got.type != expected.type) {
        made.absolute = made.relative = infinity;
        made.at = fmt::format("type {} instead of {}", shortName(got.type), shortName(expected.type));
        made.holds = false;
        return made;
    }
    if (got.dims != expected.dims) {
        made.absolute = made.relative = infinity;
        made.at = fmt::format("shape [{}] instead of [{}]", fmt::join(got.dims, ","), fmt::join(expected.dims, ","));
        made.holds = false;
        return made;
    }
    const double masks = beginOfMasks(expected);
    std::array<Worst, 2> groups;
    for (std::size_t i = 0; i < static_cast<std::size_t>(expected.count()); ++i) {
        const double a = got.at(i), b = expected.at(i);
        Worst& group = groups[std::isfinite(b) && std::fabs(b) >= masks ? 1 : 0];
        if (std::isfinite(b)) group.largest = std::max(group.largest, std::fabs(b));
        const bool same = a == b || (std::isnan(a) && std::isnan(b));
        const double apart = same ? 0 : std::isfinite(a) && std::isfinite(b) ? std::fabs(a - b) : infinity;
        if (apart > group.apart) group.apart = apart, group.at = i;
    }
    const Tolerance standard = defaultTolerance(expected.type);
    const auto allowed = [&](const Worst& group) { return absolute.value_or(standard.absolute) + relative.value_or(standard.relative) * group.largest; };
    const Worst& worst = groups[groups[1].apart > allowed(groups[1]) && groups[0].apart <= allowed(groups[0]) ? 1 : 0];
    made.absolute = worst.apart;
    made.relative = worst.apart == 0 ? 0 : worst.largest > 0 ? worst.apart / worst.largest : infinity;
    made.allowed = allowed(worst);
    made.holds = made.absolute <= made.allowed;
    if (made.absolute > 0) made.at = indexText(worst.at, expected.dims);
    return made;
}

Result<std::string> firstAttentionThatDiffers(const Graph& file, const Graph& decomposed, const Attentions& attentions, const NamedTensors& inputs,
                                              const RunOptions& options, const Job& job) {
    RunOptions keeping = options;
    std::vector<std::vector<std::string>> names;
    for (const AttentionSpec& spec : attentions.found) {
        names.push_back(sharedValues(file, decomposed, spec));
        keeping.keep.insert(names.back().begin(), names.back().end());
    }
    const auto a = runGraph(file, inputs, keeping, job), b = runGraph(decomposed, inputs, keeping, job);
    if (!a) return tl::unexpected(a.error());
    if (!b) return tl::unexpected(b.error());
    for (std::size_t i = 0; i < names.size(); ++i) {
        for (const std::string& name : names[i]) {
            const auto was = a->find(name), is = b->find(name);
            if (was == a->end() || is == b->end()) continue;
            const Difference difference = compare(name, is->second, was->second, std::nullopt, std::nullopt);
            if (!difference.holds) return fmt::format("{}: value {} ({}, largest difference {:.2g})", attentions.found[i].id, name, difference.at, difference.absolute);
        }
    }
    return std::string();
}

} // namespace triptych
