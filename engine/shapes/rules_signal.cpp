// Windows, Fourier transforms and random draws.
// Sources: the ONNX operator specification (opset 7 to 25); ONNX Runtime's ContribOperators.md.

#include "shapes/rules.h"

#include <algorithm>

namespace triptych {

namespace {

Dim sizeOf(std::optional<std::int64_t> given) { return std::max(given.value_or(unknownDim), unknownDim); }

/// As many frequencies as tell all of a real signal.
Dim half(Dim length) { return length < 0 ? unknownDim : length / 2 + 1; }

DataType typeAttribute(const RuleCall& call, std::string_view name, DataType absent) {
    return static_cast<DataType>(call.node.attributes.integer(name, static_cast<std::int64_t>(absent)));
}

void window(RuleCall& call) { call.set(0, typeAttribute(call, "output_datatype", DataType::float32), {sizeOf(call.integer(0))}); }

/// Signal with real numbers (1) or complex ones (2) along its last axis.
void fourier(RuleCall& call) {
    const ValueShape& in = call.in(0);
    if (!in.ranked || in.dims.empty()) return call.setType(0, in.type);
    const bool old = call.opset < 20; // the axis was an attribute
    const auto axis = old ? call.node.attributes.integer("axis", 1) : call.has(2) ? call.integer(2) : std::optional<std::int64_t>(-2);
    const auto at = axis ? axisIn(*axis, in.dims.size()) : std::nullopt;
    const bool oneSided = call.node.attributes.integer("onesided", 0) != 0, back = call.node.attributes.integer("inverse", 0) != 0;
    Dims dims = in.dims;
    dims.back() = oneSided && back ? 1 : 2;
    if (!at) std::fill(dims.begin(), dims.end() - 1, unknownDim);
    else {
        Dim& along = dims[at.value_or(0)];
        Dim length = call.has(1) ? sizeOf(call.integer(1)) : along;
        // Half of a spectrum is that of a signal of even length, unless told otherwise.
        if (oneSided && back && !call.has(1)) length = length < 1 ? unknownDim : times(2, length - 1);
        along = oneSided && !back ? half(length) : length;
    }
    call.set(0, in.type, std::move(dims));
}

/// Batch, frames, frequencies, real and imaginary part.
void shortFourier(RuleCall& call) {
    const ValueShape &in = call.in(0), &shape = call.in(2);
    const auto step = call.integer(1);
    Dim frame = call.has(3) ? sizeOf(call.integer(3)) : shape.ranked && shape.dims.size() == 1 ? shape.dims[0] : unknownDim;
    const Dim length = in.ranked && in.dims.size() >= 2 ? in.dims[1] : unknownDim;
    const bool known = step && *step > 0 && frame >= 0 && length >= frame;
    const Dim frames = known ? (length - frame) / *step + 1 : unknownDim;
    if (call.node.attributes.integer("onesided", 1) != 0) frame = half(frame);
    call.set(0, in.type, {in.ranked && !in.dims.empty() ? in.dims[0] : unknownDim, frames, frame, 2});
}

void melWeights(RuleCall& call) {
    call.set(0, typeAttribute(call, "output_datatype", DataType::float32), {half(sizeOf(call.integer(1))), sizeOf(call.integer(0))});
}

/// com.microsoft: the last axis becomes half a spectrum with two numbers each, and back.
void oldFourier(RuleCall& call) {
    ValueShape out = call.in(0);
    const bool back = call.node.op == "Irfft";
    if (!out.ranked || out.dims.size() < (back ? 2 : 1)) return call.setType(0, out.type);
    if (back) {
        out.dims.pop_back();
        out.dims.back() = out.dims.back() < 1 ? unknownDim : times(2, out.dims.back() - 1);
    } else {
        out.dims.back() = half(out.dims.back());
        out.dims.push_back(2);
    }
    call.set(0, out);
}

void multinomial(RuleCall& call) {
    const ValueShape& in = call.in(0);
    call.set(0, typeAttribute(call, "dtype", DataType::int32), {in.ranked && !in.dims.empty() ? in.dims[0] : unknownDim, call.node.attributes.integer("sample_size", 1)});
}

void random(RuleCall& call) {
    const auto* shape = call.node.attributes.integers("shape");
    if (shape) return call.set(0, typeAttribute(call, "dtype", DataType::float32), *shape);
    ValueShape out = call.in(0);
    out.type = typeAttribute(call, "dtype", out.type);
    call.set(0, out);
}

} // namespace

void addSignalRules(RuleTable& table) {
    for (const char* op : {"BlackmanWindow", "HammingWindow", "HannWindow"}) table[op] = window;
    table["DFT"] = fourier;
    table["STFT"] = shortFourier;
    table["MelWeightMatrix"] = melWeights;
    table["com.microsoft::Rfft"] = table["com.microsoft::Irfft"] = oldFourier;
    table["Multinomial"] = multinomial;
    for (const char* op : {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli"}) table[op] = random;
}

} // namespace triptych
