// Products, convolutions, pooling, recurrences.

#include "shapes/rules.h"

#include <algorithm>
#include <map>

namespace triptych {

namespace {

Dims product(Dims a, Dims b) {
    const bool row = a.size() == 1, column = b.size() == 1;
    if (row) a.insert(a.begin(), 1);
    if (column) b.push_back(1);
    Dims dims = broadcast(Dims(a.begin(), a.end() - 2), Dims(b.begin(), b.end() - 2));
    if (!row) dims.push_back(a[a.size() - 2]);
    if (!column) dims.push_back(b.back());
    return dims;
}

void matMul(RuleCall& call) {
    const ValueShape &a = call.in(0), &b = call.in(1);
    const bool integers = call.node.is("MatMulInteger");
    const DataType type = integers ? DataType::int32 : a.type == DataType::undefined ? b.type : a.type;
    if (!a.ranked || !b.ranked || a.dims.empty() || b.dims.empty()) return call.setType(0, type);
    Dims x = a.dims, y = b.dims;
    if (call.node.op == "FusedMatMul") {
        if (call.node.attributes.integer("transA", 0) != 0 && x.size() > 1) std::swap(x[x.size() - 1], x[x.size() - 2]);
        if (call.node.attributes.integer("transB", 0) != 0 && y.size() > 1) std::swap(y[y.size() - 1], y[y.size() - 2]);
    }
    call.set(0, type, product(std::move(x), std::move(y)));
}

void qLinearMatMul(RuleCall& call) {
    const ValueShape &a = call.in(0), &b = call.in(3);
    if (!a.ranked || !b.ranked || a.dims.empty() || b.dims.empty()) return call.setType(0, call.in(7).type);
    call.set(0, call.in(7).type, product(a.dims, b.dims));
}

void matMulNBits(RuleCall& call) {
    ValueShape out = call.in(0);
    if (out.ranked && !out.dims.empty()) out.dims.back() = call.node.attributes.integer("N", unknownDim);
    call.set(0, out);
}

void gemm(RuleCall& call) {
    const ValueShape &a = call.in(0), &b = call.in(1);
    if (!a.ranked || !b.ranked || a.dims.size() != 2 || b.dims.size() != 2) return call.setType(0, a.type);
    const bool turnA = call.node.attributes.integer("transA", 0) != 0, turnB = call.node.attributes.integer("transB", 0) != 0;
    call.set(0, a.type, {a.dims[turnA ? 1 : 0], b.dims[turnB ? 0 : 1]});
}

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

/// One spatial size of a convolution or a pool.
Dim window(const RuleCall& call, Dim in, Dim kernel, std::size_t axis, std::size_t spatial) {
    const auto at = [&](const char* name, std::size_t index, std::int64_t absent) {
        const auto* list = call.node.attributes.integers(name);
        return list && index < list->size() ? (*list)[index] : absent;
    };
    const std::int64_t stride = at("strides", axis, 1), dilation = at("dilations", axis, 1);
    if (in < 0 || kernel <= 0 || stride <= 0 || dilation <= 0 || kernel > (1LL << 31) || dilation > (1LL << 31)) return unknownDim;
    const std::string automatic = call.node.attributes.text("auto_pad", "NOTSET");
    if (automatic.starts_with("SAME")) return (in + stride - 1) / stride;
    const std::int64_t pads = automatic == "VALID" ? 0 : at("pads", axis, 0) + at("pads", axis + spatial, 0);
    const std::int64_t room = in + pads - ((kernel - 1) * dilation + 1);
    if (room < 0) return 0;
    return (call.node.attributes.integer("ceil_mode", 0) != 0 ? (room + stride - 1) / stride : room / stride) + 1;
}

void convolution(RuleCall& call) {
    const ValueShape &in = call.in(0), &weight = call.in(1);
    const DataType type = call.node.is("ConvInteger") ? DataType::int32 : in.type;
    if (!in.ranked || !weight.ranked || in.dims.size() < 3 || weight.dims.size() != in.dims.size()) return call.setType(0, type);
    const std::size_t spatial = in.dims.size() - 2;
    Dims dims{in.dims[0], weight.dims[0]};
    for (std::size_t i = 0; i < spatial; ++i) dims.push_back(window(call, in.dims[i + 2], weight.dims[i + 2], i, spatial));
    call.set(0, type, std::move(dims));
}

void transposedConvolution(RuleCall& call) {
    const ValueShape &in = call.in(0), &weight = call.in(1);
    if (!in.ranked || !weight.ranked || in.dims.size() < 3 || weight.dims.size() != in.dims.size()) return call.setType(0, in.type);
    const Attributes& attributes = call.node.attributes;
    const auto at = [&](const char* name, std::size_t index, std::int64_t absent) {
        const auto* list = attributes.integers(name);
        return list && index < list->size() ? (*list)[index] : absent;
    };
    const std::size_t spatial = in.dims.size() - 2;
    Dims dims{in.dims[0], times(weight.dims[1], attributes.integer("group", 1))};
    for (std::size_t i = 0; i < spatial; ++i) {
        const Dim given = at("output_shape", i, unknownDim), size = in.dims[i + 2], kernel = weight.dims[i + 2];
        const std::int64_t stride = at("strides", i, 1);
        if (given >= 0) dims.push_back(given);
        else if (size < 0 || kernel < 0) dims.push_back(unknownDim);
        else if (attributes.text("auto_pad", "NOTSET").starts_with("SAME")) dims.push_back(times(size, stride));
        else dims.push_back(plus(times(size - 1, stride), at("output_padding", i, 0) + (kernel - 1) * at("dilations", i, 1) + 1 - at("pads", i, 0) - at("pads", i + spatial, 0)));
    }
    call.set(0, in.type, std::move(dims));
}

void pool(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const auto* kernel = call.node.attributes.integers("kernel_shape");
    if (!in.ranked || in.dims.size() < 3 || !kernel || kernel->size() + 2 != in.dims.size()) return call.setType(0, in.type);
    Dims dims{in.dims[0], in.dims[1]};
    for (std::size_t i = 0; i < kernel->size(); ++i) dims.push_back(window(call, in.dims[i + 2], (*kernel)[i], i, kernel->size()));
    call.set(0, in.type, dims);
    call.set(1, DataType::int64, dims);
}

void globalPool(RuleCall& call) {
    ValueShape out = call.in(0);
    for (std::size_t i = 2; i < out.dims.size(); ++i) out.dims[i] = 1;
    call.set(0, out);
}

void resize(RuleCall& call) {
    const ValueShape& in = call.in(0);
    if (!in.ranked) return call.setType(0, in.type);
    const bool old = call.node.is("Upsample") || (call.inputCount() == 2 && call.opset < 11);
    const std::size_t scalesAt = old ? 1 : 2;
    Dims dims(in.dims.size(), unknownDim);
    std::vector<std::int64_t> axes;
    if (const auto* given = call.node.attributes.integers("axes")) axes = *given;
    else
        for (std::size_t i = 0; i < dims.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
    const HostTensor *sizes = old ? nullptr : call.constant(3), *scales = call.constant(scalesAt);
    if (!call.node.attributes.integers("axes")) {} else dims = in.dims;
    for (std::size_t i = 0; i < axes.size(); ++i) {
        const auto at = axisIn(axes[i], dims.size());
        if (!at) continue;
        if (sizes && sizes->isInteger() && i < sizes->integers().size()) dims[*at] = sizes->integers()[i];
        else if (scales && scales->count() == static_cast<std::int64_t>(axes.size()) && in.dims[*at] >= 0 && scales->at(i) < 1e6)
            dims[*at] = static_cast<Dim>(static_cast<double>(in.dims[*at]) * scales->at(i) + 1e-6);
    }
    call.set(0, in.type, std::move(dims));
}

/// LSTM, GRU and RNN: S x D x B x H, and the last states D x B x H.
void recurrence(RuleCall& call) {
    const ValueShape& in = call.in(0);
    const std::int64_t hidden = call.node.attributes.integer("hidden_size", unknownDim);
    const Dim directions = call.node.attributes.text("direction", "forward") == "bidirectional" ? 2 : 1;
    if (!in.ranked || in.dims.size() != 3) return call.setType(0, in.type);
    const bool batchFirst = call.node.attributes.integer("layout", 0) != 0;
    const Dim steps = in.dims[batchFirst ? 1 : 0], batch = in.dims[batchFirst ? 0 : 1];
    call.set(0, in.type, batchFirst ? Dims{batch, steps, directions, hidden} : Dims{steps, directions, batch, hidden});
    for (std::size_t i = 1; i < call.node.outputs.size(); ++i) call.set(i, in.type, batchFirst ? Dims{batch, directions, hidden} : Dims{directions, batch, hidden});
}

} // namespace

void addProductRules(RuleTable& table) {
    table["MatMul"] = table["MatMulInteger"] = table["com.microsoft::FusedMatMul"] = matMul;
    table["QLinearMatMul"] = qLinearMatMul;
    table["com.microsoft::MatMulNBits"] = matMulNBits;
    table["Gemm"] = gemm;
    table["Einsum"] = einsum;
    table["Conv"] = table["ConvInteger"] = table["com.microsoft::FusedConv"] = convolution;
    table["ConvTranspose"] = transposedConvolution;
    for (const char* op : {"MaxPool", "AveragePool", "LpPool"}) table[op] = pool;
    for (const char* op : {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}) table[op] = globalPool;
    table["Resize"] = table["Upsample"] = resize;
    for (const char* op : {"LSTM", "GRU", "RNN"}) table[op] = recurrence;
}

} // namespace triptych
