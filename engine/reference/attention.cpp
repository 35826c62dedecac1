// Scaled dot product attention: ai.onnx Attention (opset 23 to 25), ai.onnx.preview FlexAttention, PyTorch's own.
// Source: the ONNX operator specification and its function body.

#include "reference/attention.h"

#include "graph/torch_operator.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace triptych {

namespace {

constexpr double lowest = -std::numeric_limits<double>::infinity();

/// One number as it would be after a step in that type.
double rounded(double number, DataType type) {
    if (type == DataType::float64) return number;
    HostTensor one = HostTensor::ofFloats({}, {static_cast<float>(number)}, type);
    one.normalise();
    return one.floats()[0];
}

/// Softmax of one row and a logit beside it; what is hidden everywhere becomes 0 or NaN.
void softmaxRow(std::vector<double>& row, double sink, bool emptyIsZero) {
    double most = sink, sum = 0;
    for (const double each : row) most = std::max(most, each);
    const bool empty = most == lowest;
    for (double& each : row) {
        each = empty ? 0 : std::exp(each - most);
        sum += each;
    }
    if (!empty) sum += std::exp(sink - most);
    for (double& each : row) each = empty ? (emptyIsZero ? 0 : std::numeric_limits<double>::quiet_NaN()) : each / sum;
}

/// Elements of a tensor of any floating type, for loops that must not ask for the storage each time.
std::vector<double> numbers(const HostTensor& from) {
    std::vector<double> all;
    all.reserve(static_cast<std::size_t>(from.count()));
    std::visit([&](const auto& values) { for (const auto each : values) all.push_back(static_cast<double>(each)); }, from.values);
    return all;
}

} // namespace

CoreOutput attentionCore(const KernelCall& call, const CoreCall& core) {
    if (core.q.dims.size() != 4 || core.k.dims.size() != 4 || core.v.dims.size() != 4) refuse("its inputs can't be split into heads");
    if (core.q.isInteger() || core.k.isInteger() || core.v.isInteger()) refuse("its inputs are not of floats");
    const std::int64_t batch = core.q.dims[0], heads = core.q.dims[1], queries = core.q.dims[2], size = core.q.dims[3];
    const std::int64_t kvHeads = core.k.dims[1], keys = core.k.dims[2], width = core.v.dims[3];
    if (kvHeads < 1 || heads % kvHeads != 0 || core.k.dims != Dims{batch, kvHeads, keys, size} || core.v.dims != Dims{batch, kvHeads, keys, width})
        refuse("its query, key and value don't fit together");
    const DataType type = core.q.type, softmaxType = core.softmaxType == DataType::undefined ? type : core.softmaxType;
    const std::vector<double> allQ = numbers(core.q), allK = numbers(core.k), allV = numbers(core.v);
    CoreOutput out{make(call, type, {batch, heads, queries, width}), make(call, type, {batch, heads, queries, keys})};
    std::vector<double> row(static_cast<std::size_t>(keys));
    for (std::int64_t line = 0; line < batch * heads * queries; ++line) {
        const std::int64_t i = line % queries, n = line / queries % heads, b = line / queries / heads;
        const std::int64_t group = b * kvHeads + n / (heads / kvHeads);
        const double* q = allQ.data() + line * size;
        for (std::int64_t j = 0; j < keys; ++j) {
            const double* k = allK.data() + (group * keys + j) * size;
            double sum = 0;
            for (std::int64_t d = 0; d < size; ++d) sum += q[d] * k[d];
            sum *= core.scale;
            double kept = sum;
            if (core.softcap != 0) sum = core.softcap * std::tanh(sum / core.softcap);
            if (core.keep == 1) kept = sum;
            if (core.bias) sum += core.bias(b, n, i, j);
            if (core.keep == 2) kept = sum;
            setElement(out.kept, static_cast<std::size_t>(line * keys + j), kept);
            row[static_cast<std::size_t>(j)] = rounded(rounded(sum, type), softmaxType);
        }
        softmaxRow(row, core.sinks.empty() ? lowest : core.sinks[static_cast<std::size_t>(n)], core.emptyRowIsZero);
        std::vector<double> sums(static_cast<std::size_t>(width));
        for (std::int64_t j = 0; j < keys; ++j) {
            const double weight = rounded(rounded(row[static_cast<std::size_t>(j)], softmaxType), type);
            if (core.keep == 3) setElement(out.kept, static_cast<std::size_t>(line * keys + j), weight);
            const double* v = allV.data() + (group * keys + j) * width;
            for (std::int64_t d = 0; d < width; ++d) sums[static_cast<std::size_t>(d)] += weight * v[d];
        }
        for (std::int64_t d = 0; d < width; ++d) setElement(out.context, static_cast<std::size_t>(line * width + d), sums[static_cast<std::size_t>(d)]);
    }
    return out;
}

HostTensor splitHeads(const HostTensor& from, std::int64_t heads) {
    if (from.dims.size() == 4) return from;
    if (from.dims.size() != 3 || heads < 1 || from.dims[2] % heads != 0) refuse("its heads don't divide the width of an input");
    return transposed(reshaped(from, {from.dims[0], from.dims[1], heads, from.dims[2] / heads}), {0, 2, 1, 3});
}

HostTensor mergeHeads(const HostTensor& from) {
    return reshaped(transposed(from, {0, 2, 1, 3}), {from.dims[0], from.dims[2], from.dims[1] * from.dims[3]});
}

HostTensor appended(const HostTensor* past, const HostTensor& now) {
    if (!past) return now;
    if (past->type != now.type || past->dims.size() != 4 || past->dims[0] != now.dims[0] || past->dims[1] != now.dims[1] || past->dims[3] != now.dims[3]) refuse("its past doesn't fit its key or value");
    Dims dims = now.dims;
    dims[2] += past->dims[2];
    HostTensor out = HostTensor::zeros(now.type, dims);
    const auto before = static_cast<std::size_t>(past->dims[2] * past->dims[3]), after = static_cast<std::size_t>(now.dims[2] * now.dims[3]);
    for (std::size_t line = 0; line < static_cast<std::size_t>(dims[0] * dims[1]); ++line) {
        for (std::size_t i = 0; i < before; ++i) copyElement(*past, line * before + i, out, line * (before + after) + i);
        for (std::size_t i = 0; i < after; ++i) copyElement(now, line * after + i, out, line * (before + after) + before + i);
    }
    return out;
}

double broadcastAt(const HostTensor& from, std::int64_t b, std::int64_t n, std::int64_t s, std::int64_t t) {
    const std::array<std::int64_t, 4> index{b, n, s, t};
    const std::size_t rank = from.dims.size();
    if (rank > 4) refuse("its mask has more than four axes");
    std::int64_t at = 0;
    for (std::size_t i = 0; i < rank; ++i) {
        const std::int64_t size = from.dims[i], wanted = size == 1 ? 0 : index[4 - rank + i];
        if (wanted >= size) refuse("its mask is smaller than the scores");
        at = at * size + wanted;
    }
    return from.at(static_cast<std::size_t>(at));
}

namespace {

/// What hides keys from queries in ai.onnx Attention.
struct StandardMask {
    const HostTensor* mask = nullptr;
    const HostTensor* lengths = nullptr; ///< nonpad_kv_seqlen, one for each batch
    bool causal = false;
    std::int64_t left = -1, right = -1, past = 0, queries = 0;
    /// Opset 24 and later: a mask that is shorter than the keys hides the rest, even one of a single column.
    bool padded = false;
    DataType type = DataType::float32; ///< of the query: a mask of another type is cast to it

    double operator()(std::int64_t b, std::int64_t n, std::int64_t i, std::int64_t j) const {
        const std::int64_t position = i + (lengths ? lengths->integers().at(static_cast<std::size_t>(b)) - queries : past);
        if (causal && j > position) return lowest;
        if (left >= 0 && position - j > left) return lowest;
        if (right >= 0 && j - position > right) return lowest;
        if (lengths && j >= lengths->integers().at(static_cast<std::size_t>(b))) return lowest;
        if (!mask) return 0;
        if (mask->dims.empty() || ((padded || mask->dims.back() != 1) && j >= mask->dims.back())) return lowest;
        const double value = broadcastAt(*mask, b, n, i, j);
        return mask->type == DataType::boolean ? (value != 0 ? 0 : lowest) : rounded(value, type);
    }
    bool any() const { return mask || lengths || causal || left >= 0 || right >= 0; }
};

Outputs standardAttention(const KernelCall& call) {
    const Attributes& a = call.node.attributes;
    const HostTensor &queryIn = need(call, 0), &keyIn = need(call, 1), &valueIn = need(call, 2);
    const HostTensor q = splitHeads(queryIn, a.integer("q_num_heads", 0));
    const HostTensor k = appended(call.input(4), splitHeads(keyIn, a.integer("kv_num_heads", 0)));
    const HostTensor v = appended(call.input(5), splitHeads(valueIn, a.integer("kv_num_heads", 0)));
    StandardMask mask{call.input(3), call.input(6), a.integer("is_causal", 0) != 0, a.integer("left_window_size", -1), a.integer("right_window_size", -1),
                      call.input(4) ? call.input(4)->dims[2] : 0, q.dims[2], call.opset >= 24, q.type};
    CoreCall core{q, k, v};
    core.scale = a.has("scale") ? a.real("scale", 1) : 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(q.dims[3], 1)));
    core.softcap = a.real("softcap", 0);
    if (mask.any()) core.bias = mask;
    core.softmaxType = static_cast<DataType>(a.integer("softmax_precision", 0));
    core.emptyRowIsZero = true;
    core.keep = static_cast<int>(a.integer("qk_matmul_output_mode", 0));
    CoreOutput made = attentionCore(call, core);
    Outputs outputs{queryIn.dims.size() == 4 ? std::move(made.context) : mergeHeads(made.context)};
    if (call.node.outputs.size() > 1) {
        outputs.push_back(k);
        outputs.push_back(v);
        outputs.push_back(std::move(made.kept));
        outputs.resize(call.node.outputs.size());
    }
    return outputs;
}

/// Q, K and V in four axes, and their mask. As PyTorch has it since 2.5: a query that sees no key gets 0.
Outputs fourAxesAttention(const KernelCall& call, const HostTensor* mask, bool causal, std::optional<double> scale) {
    CoreCall core{need(call, 0), need(call, 1), need(call, 2)};
    if (core.q.dims.size() != 4) refuse("its query has another rank than 4");
    core.scale = scale ? *scale : 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(core.q.dims[3], 1)));
    core.emptyRowIsZero = true;
    core.bias = [&](std::int64_t b, std::int64_t n, std::int64_t i, std::int64_t j) {
        if (causal && j > i) return lowest;
        const double value = mask ? broadcastAt(*mask, b, n, i, j) : 0;
        return mask && mask->type == DataType::boolean ? (value != 0 ? 0 : lowest) : value;
    };
    return {attentionCore(call, core).context};
}

/// PyTorch's scaled_dot_product_attention: query, key, value, mask, dropout, whether causal, scale.
Outputs torchAttention(const KernelCall& call) {
    if (!isTorchAttention(call.node)) refuse("PyTorch's operator '" + calledOperator(call.node) + "' isn't known");
    const auto number = [&](std::size_t index) { return call.input(index) && call.input(index)->count() == 1 ? std::optional<double>(call.input(index)->at(0)) : std::nullopt; };
    if (number(4).value_or(0) != 0) refuse("it drops at random");
    return fourAxesAttention(call, call.input(3), number(5).value_or(0) != 0, number(6));
}

Outputs flexAttention(const KernelCall& call) {
    if (call.node.attributes.holdGraphs()) refuse("what its graphs do to scores isn't known");
    const Attributes& given = call.node.attributes;
    return fourAxesAttention(call, nullptr, false, given.has("scale") ? std::optional<double>(given.real("scale", 1)) : std::nullopt);
}

} // namespace

void addAttention(KernelTable& table) {
    table["Attention"] = standardAttention;
    table["ai.onnx.preview::FlexAttention"] = flexAttention;
    table["org.pytorch.aten::ATen"] = torchAttention;
    table["aten::scaled_dot_product_attention"] = torchAttention;
}

} // namespace triptych
