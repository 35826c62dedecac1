// Products, convolutions, pooling, recurrences.

#include "shapes/rules.h"

#include <algorithm>
#include <map>

namespace triptych {

namespace {

void matMul(RuleCall& call) {
    const ValueShape &a = call.in(0), &b = call.in(1);
    const bool integers = call.node.is("MatMulInteger");
    const Dim along = a.ranked && !a.dims.empty() ? a.dims.back() : unknownDim;
    const Dim against = b.ranked && !b.dims.empty() ? b.dims[b.dims.size() - std::min<std::size_t>(2, b.dims.size())] : unknownDim;
    if (along >= 0 && against >= 0 && along != against) call.misfit = "it multiplies " + dimsText(a.dims) + " by " + dimsText(b.dims) + ": " + std::to_string(along) + " columns meet " + std::to_string(against) + " rows";
    call.set(0, multiplied(a, b, integers ? DataType::int32 : a.type == DataType::undefined ? b.type : a.type));
}

void qLinearMatMul(RuleCall& call) { call.set(0, multiplied(call.in(0), call.in(3), call.in(7).type)); }

void gemm(RuleCall& call) { call.set(0, general(call, call.in(0), call.in(1), call.in(0).type)); }

/// "bhid,bhjd->bhij", with an ellipsis for leading axes, and with the output left out.
void einsum(RuleCall& call) {
    std::string equation = call.node.attributes.text("equation");
    std::erase(equation, ' ');
    const DataType type = call.in(0).type;
    const std::size_t arrow = equation.find("->");
    std::vector<std::string> terms(1);
    for (const char c : equation.substr(0, arrow)) {
        if (c == ',') terms.emplace_back();
        else terms.back() += c;
    }
    if (terms.size() != call.inputCount()) return call.setType(0, type);
    std::map<char, Dim> size;
    std::map<char, int> uses;
    Dims leading;
    for (std::size_t i = 0; i < terms.size(); ++i) {
        const ValueShape& in = call.in(i);
        if (!in.ranked) return call.setType(0, type);
        const std::size_t dots = terms[i].find("...");
        const std::size_t named = terms[i].size() - (dots == std::string::npos ? 0 : 3);
        if (named > in.dims.size() || (dots == std::string::npos && named != in.dims.size())) return call.setType(0, type);
        const std::size_t extra = in.dims.size() - named;
        std::size_t axis = 0;
        for (std::size_t c = 0; c < terms[i].size(); ++c) {
            if (c == dots) {
                leading = broadcast(leading, Dims(in.dims.begin() + static_cast<std::ptrdiff_t>(axis), in.dims.begin() + static_cast<std::ptrdiff_t>(axis + extra)));
                axis += extra;
                c += 2;
                continue;
            }
            const auto [at, fresh] = size.try_emplace(terms[i][c], in.dims[axis]);
            if (!fresh && at->second <= 1) at->second = in.dims[axis];
            ++uses[terms[i][c]];
            ++axis;
        }
    }
    std::string output;
    if (arrow != std::string::npos) output = equation.substr(arrow + 2);
    else {
        output = "...";
        for (const auto& [label, count] : uses)
            if (count == 1) output += label;
    }
    Dims dims;
    for (std::size_t c = 0; c < output.size(); ++c) {
        if (output.compare(c, 3, "...") == 0) {
            dims.insert(dims.end(), leading.begin(), leading.end());
            c += 2;
            continue;
        }
        const auto found = size.find(output[c]);
        dims.push_back(found == size.end() ? unknownDim : found->second);
    }
    call.set(0, type, std::move(dims));
}

void convolution(RuleCall& call) {
    const ValueShape& in = call.in(0);
    call.set(0, convolved(call, in, call.in(1), call.node.is("ConvInteger") ? DataType::int32 : in.type, false));
}

void transposedConvolution(RuleCall& call) {
    const ValueShape &in = call.in(0), &weight = call.in(1);
    if (!in.ranked || !weight.ranked || in.dims.size() < 3 || weight.dims.size() != in.dims.size()) return call.setType(0, in.type);
    const Attributes& attributes = call.node.attributes;
    const auto at = [&](const char* name, std::size_t index, std::int64_t absent) { return modest(attributes.integers(name), index, absent); };
    const bool padsGiven = call.node.op == "ConvTransposeWithDynamicPads" && call.has(2);
    const auto given = padsGiven ? call.list(2, "") : std::nullopt;
    const auto* pads = given ? &*given : attributes.integers("pads");
    const std::size_t spatial = in.dims.size() - 2;
    Dims dims{in.dims[0], times(weight.dims[1], attributes.integer("group", 1))};
    for (std::size_t i = 0; i < spatial; ++i) {
        const Dim told = entry(attributes.integers("output_shape"), i, unknownDim), size = in.dims[i + 2], kernel = weight.dims[i + 2];
        const std::int64_t stride = at("strides", i, 1);
        if (told >= 0) dims.push_back(told);
        else if (size < 0 || kernel < 0 || kernel > (1LL << 31) || (padsGiven && !given)) dims.push_back(unknownDim);
        else if (attributes.text("auto_pad", "NOTSET").starts_with("SAME")) dims.push_back(times(size, stride));
        else dims.push_back(resized(times(size - 1, stride), at("output_padding", i, 0) + (kernel - 1) * at("dilations", i, 1) + 1 - modest(pads, i, 0) - modest(pads, i + spatial, 0)));
    }
    call.set(0, in.type, std::move(dims));
}

void pool(RuleCall& call) {
    ValueShape out = pooled(call, false);
    call.set(0, out);
    out.type = DataType::int64;
    call.set(1, out);
}

void globalPool(RuleCall& call) {
    ValueShape out = call.in(0);
    for (std::size_t i = 2; i < out.dims.size(); ++i) out.dims[i] = 1;
    call.set(0, out);
}

/// LSTM, GRU and RNN: S x D x B x H, and the last states D x B x H.
void recurrence(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const std::int64_t hidden = call.node.attributes.integer("hidden_size", unknownDim);
    const Dim directions = call.node.attributes.text("direction", "forward") == "bidirectional" ? 2 : 1;
    if (in.ranked && in.dims.size() != 3) call.misfit = "it reads " + dimsText(in.dims) + ", not steps, batch and features";
    if (!in.ranked || in.dims.size() != 3) return call.setType(0, in.type);
    const bool batchFirst = call.node.attributes.integer("layout", 0) != 0;
    const Dim steps = in.dims[batchFirst ? 1 : 0], batch = in.dims[batchFirst ? 0 : 1];
    call.set(0, in.type, batchFirst ? Dims{batch, steps, directions, hidden} : Dims{steps, directions, batch, hidden});
    for (std::size_t i = 1; i < call.node.outputs.size(); ++i) call.set(i, in.type, batchFirst ? Dims{batch, directions, hidden} : Dims{directions, batch, hidden});
}

} // namespace

void addProductRules(RuleTable& table) {
    table["MatMul"] = table["MatMulInteger"] = matMul;
    table["QLinearMatMul"] = qLinearMatMul;
    table["Gemm"] = table["com.microsoft::FusedGemm"] = gemm;
    table["Einsum"] = einsum;
    table["Conv"] = table["ConvInteger"] = table["DeformConv"] = table["com.microsoft::FusedConv"] = convolution;
    table["ConvTranspose"] = table["com.microsoft::ConvTransposeWithDynamicPads"] = transposedConvolution;
    for (const char* op : {"MaxPool", "AveragePool", "LpPool", "com.microsoft::MaxpoolWithMask"}) table[op] = pool;
    for (const char* op : {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}) table[op] = globalPool;
    for (const char* op : {"LSTM", "GRU", "RNN", "com.microsoft::AttnLSTM", "com.microsoft::DynamicQuantizeLSTM"}) table[op] = recurrence;
}

} // namespace triptych
