#include "verify/verify.h"

#include <algorithm>
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
    double largest = 0;
    std::size_t worst = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(expected.count()); ++i) {
        const double a = got.at(i), b = expected.at(i);
        if (std::isfinite(b)) largest = std::max(largest, std::fabs(b));
        const bool same = a == b || (std::isnan(a) && std::isnan(b));
        const double apart = same ? 0 : std::isfinite(a) && std::isfinite(b) ? std::fabs(a - b) : infinity;
        if (apart <= made.absolute) continue;
        made.absolute = apart;
        worst = i;
    }
    const Tolerance standard = defaultTolerance(expected.type);
    made.relative = made.absolute == 0 ? 0 : largest > 0 ? made.absolute / largest : infinity;
    made.allowed = absolute.value_or(standard.absolute) + relative.value_or(standard.relative) * largest;
    made.holds = made.absolute <= made.allowed;
    if (made.absolute > 0) made.at = indexText(worst, expected.dims);
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
