// Functions of one element, some with attributes or a slope for each channel.

#include "reference/kernels.h"

#include <algorithm>
#include <cmath>

namespace triptych {

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double geluErf(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
double geluTanh(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x))); }

Kernel unary(double (*function)(double)) {
    return [function](const KernelCall& call) -> Outputs { return {eachElement(need(call, 0), function)}; };
}

/// A function of one element and attributes.
template <class Prepare>
Kernel shaped(Prepare prepare) {
    return [prepare](const KernelCall& call) -> Outputs { return {eachElement(need(call, 0), prepare(call.node.attributes))}; };
}

Kernel afterBias(double (*function)(double)) {
    return [function](const KernelCall& call) -> Outputs {
        const HostTensor sum = call.input(1) ? combined(call, need(call, 0), *call.input(1), [](double a, double b) { return a + b; }) : need(call, 0);
        return {eachElement(sum, function)};
    };
}

/// 1 where the largest element lies, its first one; before opset 13 over everything from the axis on.
Outputs hardmax(const KernelCall& call) {
    const HostTensor& x = need(call, 0);
    const bool flattens = call.opset < 13;
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", flattens ? 1 : -1), x.dims.size());
    std::size_t size = 1, inner = 1;
    for (std::size_t i = axis; i < x.dims.size(); ++i) (flattens || i == axis ? size : inner) *= static_cast<std::size_t>(x.dims[i]);
    HostTensor out = make(call, x.type, x.dims);
    for (std::size_t line = 0; size > 0 && line < static_cast<std::size_t>(x.count()) / size; ++line) {
        const std::size_t first = line / inner * inner * size + line % inner;
        std::size_t best = first;
        for (std::size_t n = 1; n < size; ++n)
            if (x.at(first + n * inner) > x.at(best)) best = first + n * inner;
        setElement(out, best, 1);
    }
    return {std::move(out)};
}

Outputs isInfinite(const KernelCall& call) {
    const HostTensor& x = need(call, 0);
    const bool negative = call.node.attributes.integer("detect_negative", 1) != 0, positive = call.node.attributes.integer("detect_positive", 1) != 0;
    HostTensor out = make(call, DataType::boolean, x.dims);
    for (std::size_t i = 0; i < out.integers().size(); ++i) out.integers()[i] = std::isinf(x.at(i)) && (x.at(i) < 0 ? negative : positive);
    return {std::move(out)};
}

/// In training it is random: only what keeps everything can be run again.
Outputs dropout(const KernelCall& call) {
    const bool training = call.input(2) && call.input(2)->count() == 1 && call.input(2)->at(0) != 0;
    const double ratio = call.input(1) && call.input(1)->count() == 1 ? call.input(1)->at(0) : 0.5;
    if (training && ratio != 0) refuse("it drops at random");
    Outputs out{need(call, 0)};
    if (call.node.outputs.size() > 1) {
        // Before opset 10 the mask had the type of the input.
        out.push_back(make(call, call.opset >= 10 ? DataType::boolean : need(call, 0).type, need(call, 0).dims));
        std::visit([](auto& all) { std::fill(all.begin(), all.end(), 1); }, out[1].values);
    }
    return out;
}

void addPlain(KernelTable& table) {
    table["Not"] = unary([](double x) { return x == 0 ? 1.0 : 0.0; });
    table["Neg"] = unary([](double x) { return -x; });
    table["Abs"] = unary(std::fabs);
    table["Sqrt"] = unary(std::sqrt);
    table["Exp"] = unary(std::exp);
    table["Log"] = unary(std::log);
    table["Erf"] = unary(std::erf);
    table["Tanh"] = unary(std::tanh);
    table["Sin"] = unary(std::sin);
    table["Cos"] = unary(std::cos);
    table["Tan"] = unary(std::tan);
    table["Asin"] = unary(std::asin);
    table["Acos"] = unary(std::acos);
    table["Atan"] = unary(std::atan);
    table["Sinh"] = unary(std::sinh);
    table["Cosh"] = unary(std::cosh);
    table["Asinh"] = unary(std::asinh);
    table["Acosh"] = unary(std::acosh);
    table["Atanh"] = unary(std::atanh);
    table["Floor"] = unary(std::floor);
    table["Ceil"] = unary(std::ceil);
    table["Round"] = unary(std::nearbyint);
    table["Reciprocal"] = unary([](double x) { return 1 / x; });
    table["Sigmoid"] = unary(sigmoid);
    table["Relu"] = unary([](double x) { return x < 0 ? 0.0 : x; });
    table["Softplus"] = unary([](double x) { return x > 30 ? x : std::log1p(std::exp(x)); });
    table["Softsign"] = unary([](double x) { return x / (1 + std::fabs(x)); });
    table["Sign"] = unary([](double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0; });
    table["HardSwish"] = unary([](double x) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); });
    table["Mish"] = unary([](double x) { return x * std::tanh(std::log1p(std::exp(x))); });
    table["com.microsoft::Gelu"] = unary(geluErf);
    table["com.microsoft::FastGelu"] = afterBias(geluTanh);
    table["com.microsoft::BiasGelu"] = afterBias(geluErf);
}

void addShaped(KernelTable& table) {
    table["Gelu"] = shaped([](const Attributes& a) { return a.text("approximate", "none") == "tanh" ? geluTanh : geluErf; });
    table["com.microsoft::QuickGelu"] = shaped([](const Attributes& a) { return [alpha = double(a.real("alpha", 1.702F))](double x) { return x * sigmoid(alpha * x); }; });
    table["Swish"] = shaped([](const Attributes& a) { return [alpha = double(a.real("alpha", 1))](double x) { return x * sigmoid(alpha * x); }; });
    table["LeakyRelu"] = shaped([](const Attributes& a) { return [alpha = double(a.real("alpha", 0.01F))](double x) { return x < 0 ? alpha * x : x; }; });
    table["Elu"] = shaped([](const Attributes& a) { return [alpha = double(a.real("alpha", 1))](double x) { return x < 0 ? alpha * std::expm1(x) : x; }; });
    table["Celu"] = shaped([](const Attributes& a) { return [alpha = double(a.real("alpha", 1))](double x) { return x < 0 ? alpha * std::expm1(x / alpha) : x; }; });
    table["Selu"] = shaped([](const Attributes& a) {
        return [alpha = double(a.real("alpha", 1.67326319217681884765625F)), gamma = double(a.real("gamma", 1.05070102214813232421875F))](double x) { return gamma * (x <= 0 ? alpha * std::expm1(x) : x); };
    });
    table["ThresholdedRelu"] = shaped([](const Attributes& a) { return [alpha = double(a.real("alpha", 1))](double x) { return x > alpha ? x : 0.0; }; });
    table["Shrink"] = shaped([](const Attributes& a) {
        return [bias = double(a.real("bias", 0)), limit = double(a.real("lambd", 0.5F))](double x) { return x < -limit ? x + bias : x > limit ? x - bias : 0.0; };
    });
    table["HardSigmoid"] = shaped([](const Attributes& a) {
        return [alpha = double(a.real("alpha", 0.2F)), beta = double(a.real("beta", 0.5F))](double x) { return std::clamp(alpha * x + beta, 0.0, 1.0); };
    });
}

} // namespace

void addActivations(KernelTable& table) {
    addPlain(table);
    addShaped(table);
    table["PRelu"] = [](const KernelCall& call) -> Outputs {
        HostTensor slope = need(call, 1);
        const std::size_t rank = need(call, 0).dims.size();
        // Before opset 7 one slope for each channel, which is the second axis.
        if (call.opset < 7 && slope.dims.size() == 1 && rank > 2) slope.dims.resize(rank - 1, 1);
        return {combined(call, need(call, 0), slope, [](double x, double by) { return x < 0 ? by * x : x; })};
    };
    table["Hardmax"] = hardmax;
    table["IsInf"] = isInfinite;
    table["IsNaN"] = [](const KernelCall& call) -> Outputs {
        HostTensor out = make(call, DataType::boolean, need(call, 0).dims);
        for (std::size_t i = 0; i < out.integers().size(); ++i) out.integers()[i] = std::isnan(need(call, 0).at(i));
        return {std::move(out)};
    };
    table["Identity"] = [](const KernelCall& call) -> Outputs { return {need(call, 0)}; };
    table["Dropout"] = dropout;
}

} // namespace triptych
