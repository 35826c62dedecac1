// What com.microsoft's operators add to scores: RelativePositionBias (T5) and GatedRelativePositionBias (WavLM).
// Source: ONNX Runtime's ContribOperators.md and what its CUDA implementation does.

#include "reference/attention_microsoft.h"

#include <algorithm>
#include <cmath>

namespace triptych {

namespace {

/// Which number of a table a distance of keys from queries has: small ones have their own, larger ones share one by their logarithm.
std::int64_t bucketOf(std::int64_t distance, std::int64_t buckets, bool bothWays, std::int64_t longest) {
    std::int64_t first = 0;
    if (bothWays) {
        buckets /= 2;
        if (distance > 0) first = buckets;
    }
    distance = std::abs(distance);
    const std::int64_t exact = buckets / 2;
    if (distance < exact || exact < 1) return first + std::min(distance, std::max<std::int64_t>(buckets - 1, 0));
    const float share = std::log(static_cast<float>(distance) / static_cast<float>(exact)) / std::log(static_cast<float>(longest) / static_cast<float>(exact));
    return first + std::min(exact + static_cast<std::int64_t>(share * static_cast<float>(buckets - exact)), buckets - 1);
}

/// The table says that it is [buckets, heads]; its numbers lie head by head.
Outputs relativePositionBias(const KernelCall& call) {
    const HostTensor &table = need(call, 0), &queries = need(call, 1), &keys = need(call, 2);
    const Attributes& a = call.node.attributes;
    const std::int64_t longest = a.integer("max_distance", 0);
    const bool bothWays = a.integer("is_bidirectional", 0) != 0;
    if (table.dims.size() != 2 || !table.isFloat() || queries.count() != 1 || keys.count() != 1 || !queries.isInteger() || !keys.isInteger()) refuse("its table or its lengths are of another shape");
    const std::int64_t buckets = table.dims[0], heads = table.dims[1], rows = queries.integers()[0], columns = keys.integers()[0];
    if (rows < 0 || columns < 0 || buckets < 1 || longest <= (bothWays ? buckets / 4 : buckets / 2)) refuse("its lengths don't fit its table");
    HostTensor out = make(call, table.type, {1, heads, rows, columns});
    for (std::int64_t i = 0; i < out.count(); ++i)
        copyElement(table, static_cast<std::size_t>(i / columns / rows * buckets + bucketOf(i % columns - i / columns % rows, buckets, bothWays, longest)), out, static_cast<std::size_t>(i));
    return {std::move(out)};
}

/// The sigmoid of the sum of a gate's columns [begin, end), for one token of a head.
double gate(const HostTensor& x, std::int64_t at, const HostTensor& weight, const HostTensor& bias, std::int64_t begin, std::int64_t end) {
    const std::int64_t size = weight.dims[0], columns = weight.dims[1];
    double sum = 0;
    for (std::int64_t j = begin; j < end; ++j) {
        sum += bias.at(static_cast<std::size_t>(j));
        for (std::int64_t d = 0; d < size; ++d) sum += x.at(static_cast<std::size_t>(at + d)) * weight.at(static_cast<std::size_t>(d * columns + j));
    }
    return 1 / (1 + std::exp(-sum));
}

/// rel_pos [1,N,S,S] times what the queries with their bias make of it: u (r a - 1) + 2.
Outputs gatedPositionBias(const KernelCall& call) {
    if (call.input(6)) refuse("its packed tokens aren't known");
    needAxes(call, {0}, 3);
    needOneType(call, {0, 1, 2, 3, 4, 5});
    const std::int64_t heads = call.node.attributes.integer("num_heads", 0);
    const HostTensor x = splitHeads(biased(need(call, 0), &need(call, 1), 0), heads), &positions = need(call, 2), &weight = need(call, 3), &bias = need(call, 4), &slope = need(call, 5);
    const std::int64_t rows = x.dims[2], size = x.dims[3];
    if (positions.dims != Dims{1, heads, rows, rows} || weight.dims.size() != 2 || weight.dims[0] != size || bias.count() != weight.dims[1] || slope.count() != heads) refuse("its gate doesn't fit its queries");
    HostTensor out = make(call, x.type, {x.dims[0], heads, rows, rows});
    for (std::int64_t line = 0; line < x.dims[0] * heads * rows; ++line) {
        const std::int64_t n = line / rows % heads, half = weight.dims[1] / 2;
        const double u = gate(x, line * size, weight, bias, 0, half), r = gate(x, line * size, weight, bias, half, 2 * half), factor = u * (r * slope.at(static_cast<std::size_t>(n)) - 1) + 2;
        for (std::int64_t j = 0; j < rows; ++j) setElement(out, static_cast<std::size_t>(line * rows + j), factor * positions.at(static_cast<std::size_t>(line % (heads * rows) * rows + j)));
    }
    out.normalise();
    return {std::move(out)};
}

} // namespace

void addPositionBias(KernelTable& table) {
    table["com.microsoft::RelativePositionBias"] = relativePositionBias;
    table["com.microsoft::GatedRelativePositionBias"] = gatedPositionBias;
}

} // namespace triptych
