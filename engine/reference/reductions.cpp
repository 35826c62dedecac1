// Reductions along axes, running sums, softmax.

#include "reference/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace triptych {

namespace {

/// Which axes a reduction removes.
std::vector<bool> reducedAxes(const KernelCall& call, std::size_t rank) {
    const auto axes = call.list(1, "axes");
    const bool none = axes.empty() && call.node.attributes.integer("noop_with_empty_axes", 0) != 0;
    std::vector<bool> reduced(rank, axes.empty() && !none);
    for (const std::int64_t axis : axes) reduced[axisOf(axis, rank)] = true;
    return reduced;
}

struct Reduction {
    double start = 0;
    double (*step)(double sum, double x) = nullptr;
    double (*finish)(double sum, double count) = nullptr;
};

Kernel reduction(Reduction rule) {
    return [rule](const KernelCall& call) -> Outputs {
        const HostTensor& data = need(call, 0);
        const auto reduced = reducedAxes(call, data.dims.size());
        Dims kept = data.dims, squeezed;
        double count = 1;
        for (std::size_t i = 0; i < kept.size(); ++i) {
            if (!reduced[i]) squeezed.push_back(kept[i]);
            else count *= static_cast<double>(kept[i]), kept[i] = 1;
        }
        HostTensor out = make(call, data.type, kept);
        std::vector<double> sums(static_cast<std::size_t>(out.count()), rule.start);
        const auto strides = stridesFor(kept, data.dims);
        walk(data.dims, strides, strides, [&](std::size_t i, std::size_t at, std::size_t) { sums[at] = rule.step(sums[at], data.at(i)); });
        std::visit(
            [&](auto& all) {
                for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<typename std::decay_t<decltype(all)>::value_type>(rule.finish ? rule.finish(sums[i], count) : sums[i]);
            },
            out.values);
        if (call.node.attributes.integer("keepdims", 1) == 0) out.dims = squeezed;
        return {std::move(out)};
    };
}

double keep(double sum, double) { return sum; }

Kernel argument(bool largest) {
    return [largest](const KernelCall& call) -> Outputs {
        const HostTensor& data = need(call, 0);
        const std::size_t axis = axisOf(call.node.attributes.integer("axis", 0), data.dims.size());
        const bool last = call.node.attributes.integer("select_last_index", 0) != 0;
        Dims kept = data.dims;
        kept[axis] = 1;
        HostTensor out = make(call, DataType::int64, kept);
        std::vector<double> best(static_cast<std::size_t>(out.count()), largest ? -INFINITY : INFINITY);
        const auto strides = stridesFor(kept, data.dims);
        std::int64_t inner = 1;
        for (std::size_t i = axis + 1; i < data.dims.size(); ++i) inner *= data.dims[i];
        walk(data.dims, strides, strides, [&](std::size_t i, std::size_t at, std::size_t) {
            const double x = data.at(i);
            const bool better = largest ? x > best[at] : x < best[at];
            if (!better && !(last && x == best[at])) return;
            best[at] = x;
            out.integers()[at] = static_cast<std::int64_t>(i) / inner % data.dims[axis];
        });
        if (call.node.attributes.integer("keepdims", 1) == 0) out.dims.erase(out.dims.begin() + static_cast<std::ptrdiff_t>(axis));
        return {std::move(out)};
    };
}

Outputs cumulativeSum(const KernelCall& call) {
    HostTensor out = need(call, 0);
    const std::size_t axis = axisOf(static_cast<std::int64_t>(need(call, 1).at(0)), out.dims.size());
    const bool exclusive = call.node.attributes.integer("exclusive", 0) != 0, backwards = call.node.attributes.integer("reverse", 0) != 0;
    std::size_t inner = 1;
    for (std::size_t i = axis + 1; i < out.dims.size(); ++i) inner *= static_cast<std::size_t>(out.dims[i]);
    const auto size = static_cast<std::size_t>(out.dims[axis]);
    std::visit(
        [&](auto& all) {
            for (std::size_t line = 0; size > 0 && line < all.size() / size; ++line) {
                const std::size_t first = line / inner * inner * size + line % inner;
                typename std::decay_t<decltype(all)>::value_type sum = 0;
                for (std::size_t n = 0; n < size; ++n) {
                    auto& each = all[first + (backwards ? size - 1 - n : n) * inner];
                    const auto x = each;
                    if (exclusive) each = sum;
                    sum += x;
                    if (!exclusive) each = sum;
                }
            }
        },
        out.values);
    return {std::move(out)};
}

/// Softmax along one axis, or over everything from the axis on.
Outputs softmax(const KernelCall& call, HostTensor out, bool flattens, bool logarithm) {
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", flattens ? 1 : -1), out.dims.size());
    std::size_t size = 1, inner = 1;
    for (std::size_t i = axis; i < out.dims.size(); ++i) (flattens || i == axis ? size : inner) *= static_cast<std::size_t>(out.dims[i]);
    std::visit(
        [&](auto& all) {
            using T = typename std::decay_t<decltype(all)>::value_type;
            for (std::size_t line = 0; size > 0 && line < all.size() / size; ++line) {
                const std::size_t first = line / inner * inner * size + line % inner;
                T most = -std::numeric_limits<T>::infinity();
                for (std::size_t n = 0; n < size; ++n) most = std::max(most, all[first + n * inner]);
                T sum = 0;
                for (std::size_t n = 0; n < size; ++n) sum += std::exp(all[first + n * inner] - most);
                for (std::size_t n = 0; n < size; ++n) {
                    T& each = all[first + n * inner];
                    each = logarithm ? each - most - std::log(sum) : std::exp(each - most) / sum;
                }
            }
        },
        out.values);
    if (out.isInteger()) refuse("it works on floating point only");
    return {std::move(out)};
}

} // namespace

void addReductions(KernelTable& table) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    table["ReduceSum"] = reduction({0, [](double sum, double x) { return sum + x; }, keep});
    table["ReduceMean"] = reduction({0, [](double sum, double x) { return sum + x; }, [](double sum, double count) { return sum / count; }});
    table["ReduceProd"] = reduction({1, [](double sum, double x) { return sum * x; }, keep});
    table["ReduceMax"] = reduction({-infinity, [](double sum, double x) { return x != x ? x : std::max(sum, x); }, keep});
    table["ReduceMin"] = reduction({infinity, [](double sum, double x) { return x != x ? x : std::min(sum, x); }, keep});
    table["ReduceSumSquare"] = reduction({0, [](double sum, double x) { return sum + x * x; }, keep});
    table["ReduceL1"] = reduction({0, [](double sum, double x) { return sum + std::fabs(x); }, keep});
    table["ReduceL2"] = reduction({0, [](double sum, double x) { return sum + x * x; }, [](double sum, double) { return std::sqrt(sum); }});
    table["ReduceLogSum"] = reduction({0, [](double sum, double x) { return sum + x; }, [](double sum, double) { return std::log(sum); }});
    table["ReduceLogSumExp"] = reduction({-infinity, [](double sum, double x) {
        // The logarithm of the sum so far: exponents of large numbers don't fit.
        const double most = std::max(sum, x);
        return std::isinf(most) ? most : most + std::log(std::exp(sum - most) + std::exp(x - most));
    }, keep});
    table["ArgMax"] = argument(true);
    table["ArgMin"] = argument(false);
    table["CumSum"] = cumulativeSum;
    constexpr std::int64_t alongAnAxis = 13; // before that opset over everything from it on
    table["Softmax"] = [](const KernelCall& call) { return softmax(call, need(call, 0), call.opset < alongAnAxis, false); };
    table["LogSoftmax"] = [](const KernelCall& call) { return softmax(call, need(call, 0), call.opset < alongAnAxis, true); };
    // Its attribute `opset` says which Softmax it is. Source: ContribOperators.md.
    table["com.microsoft::QLinearSoftmax"] = [](const KernelCall& call) -> Outputs {
        Outputs made = softmax(call, fromIntegers(call, need(call, 0), need(call, 1), call.input(2)), call.node.attributes.integer("opset", alongAnAxis) < alongAnAxis, false);
        return {toIntegers(call, made[0], need(call, 3), call.input(4))};
    };
    // Which axes stretch the bias is told by its shape; an attribute says so once more. Source: ContribOperators.md.
    table["com.microsoft::BiasSoftmax"] = [](const KernelCall& call) {
        HostTensor sum = combined(call, need(call, 0), need(call, 1), [](double a, double b) { return a + b; });
        if (sum.dims != need(call, 0).dims) refuse("its bias is larger than its data");
        return softmax(call, std::move(sum), true, false);
    };
}

} // namespace triptych
