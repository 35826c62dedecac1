// Operators on single elements, with broadcasting.

#include "reference/kernels.h"

#include <algorithm>
#include <cmath>

namespace triptych {

namespace {

template <class Function>
HostTensor binary(const KernelCall& call, const HostTensor& a, const HostTensor& b, DataType type, const Function& function) {
    const Dims dims = broadcastDims(a.dims, b.dims);
    HostTensor out = make(call, type, dims);
    const auto stepsA = stridesFor(a.dims, dims), stepsB = stridesFor(b.dims, dims);
    std::visit(
        [&](auto& to) {
            using Out = typename std::decay_t<decltype(to)>::value_type;
            if (a.values.index() != b.values.index()) refuse("its inputs are of different types");
            std::visit(
                [&](const auto& from) {
                    const auto& other = std::get<std::decay_t<decltype(from)>>(b.values);
                    walk(dims, stepsA, stepsB, [&](std::size_t i, std::size_t x, std::size_t y) { to[i] = static_cast<Out>(function(from[x], other[y])); });
                },
                a.values);
        },
        out.values);
    return out;
}

std::int64_t wholePower(std::int64_t base, std::int64_t exponent) {
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    std::uint64_t result = 1, factor = static_cast<std::uint64_t>(base);
    for (; exponent; exponent >>= 1, factor *= factor)
        if (exponent & 1) result *= factor;
    return static_cast<std::int64_t>(result);
}

struct Add {
    template <class T> T operator()(T a, T b) const { return a + b; }
    std::int64_t operator()(std::int64_t a, std::int64_t b) const { return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b)); }
};
struct Subtract {
    template <class T> T operator()(T a, T b) const { return a - b; }
    std::int64_t operator()(std::int64_t a, std::int64_t b) const { return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b)); }
};
struct Multiply {
    template <class T> T operator()(T a, T b) const { return a * b; }
    std::int64_t operator()(std::int64_t a, std::int64_t b) const { return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b)); }
};
struct Divide {
    template <class T> T operator()(T a, T b) const { return a / b; }
    std::int64_t operator()(std::int64_t a, std::int64_t b) const {
        if (b == 0) refuse("it divides by zero");
        return b == -1 ? static_cast<std::int64_t>(0 - static_cast<std::uint64_t>(a)) : a / b;
    }
};
struct Power {
    template <class T> T operator()(T a, T b) const { return static_cast<T>(std::pow(a, b)); }
    std::int64_t operator()(std::int64_t a, std::int64_t b) const { return wholePower(a, b); }
};
struct Maximum {
    template <class T> T operator()(T a, T b) const { return a != a ? a : b != b ? b : std::max(a, b); }
};
struct Minimum {
    template <class T> T operator()(T a, T b) const { return a != a ? a : b != b ? b : std::min(a, b); }
};

template <class Function>
Kernel arithmetic(Function function) {
    return [function](const KernelCall& call) -> Outputs {
        HostTensor sum = need(call, 0);
        for (std::size_t i = 1; i < call.inputs.size(); ++i) {
            sum = binary(call, sum, need(call, i), sum.type, function);
            sum.normalise();
        }
        return {std::move(sum)};
    };
}

Kernel bitwise(std::int64_t (*function)(std::int64_t, std::int64_t)) {
    return [function](const KernelCall& call) -> Outputs {
        return {binary(call, need(call, 0), need(call, 1), need(call, 0).type, [function](auto a, auto b) -> decltype(a) {
            if constexpr (std::is_integral_v<decltype(a)>) return function(a, b);
            else refuse("it works on integers only");
        })};
    };
}

template <class Function>
Kernel comparison(Function function) {
    return [function](const KernelCall& call) -> Outputs { return {binary(call, need(call, 0), need(call, 1), DataType::boolean, function)}; };
}

HostTensor cast(const KernelCall& call, const HostTensor& from, DataType type) {
    HostTensor out = make(call, type, from.dims);
    std::visit(
        [&](auto& to) {
            using Out = typename std::decay_t<decltype(to)>::value_type;
            std::visit(
                [&](const auto& in) {
                    using In = typename std::decay_t<decltype(in)>::value_type;
                    for (std::size_t i = 0; i < in.size(); ++i) {
                        if constexpr (std::is_floating_point_v<In> && !std::is_floating_point_v<Out>) {
                            // Out of range is undefined in the standard and in C++: clamp, as saturating hardware does.
                            constexpr double most = 9223372036854774784.0;
                            to[i] = type == DataType::boolean ? in[i] != 0 : in[i] != in[i] ? 0 : static_cast<Out>(std::clamp<double>(in[i], -most, most));
                        } else {
                            to[i] = static_cast<Out>(in[i]);
                        }
                    }
                },
                from.values);
        },
        out.values);
    return out;
}

Outputs where(const KernelCall& call) {
    const HostTensor &condition = need(call, 0), &yes = need(call, 1), &no = need(call, 2);
    const Dims dims = broadcastDims(broadcastDims(condition.dims, yes.dims), no.dims);
    if (yes.values.index() != no.values.index()) refuse("its branches are of different types");
    HostTensor out = make(call, yes.type, dims);
    const auto& flags = condition.integers();
    const auto stepsC = stridesFor(condition.dims, dims), stepsY = stridesFor(yes.dims, dims), stepsN = stridesFor(no.dims, dims);
    std::vector<bool> chosen(static_cast<std::size_t>(out.count()));
    walk(dims, stepsC, stepsC, [&](std::size_t i, std::size_t at, std::size_t) { chosen[i] = flags[at] != 0; });
    std::visit(
        [&](auto& to) {
            const auto& a = std::get<std::decay_t<decltype(to)>>(yes.values);
            const auto& b = std::get<std::decay_t<decltype(to)>>(no.values);
            walk(dims, stepsY, stepsN, [&](std::size_t i, std::size_t x, std::size_t y) { to[i] = chosen[i] ? a[x] : b[y]; });
        },
        out.values);
    return {std::move(out)};
}

Outputs clip(const KernelCall& call) {
    HostTensor out = need(call, 0);
    const auto bound = [&](std::size_t index, const char* attribute, double absent) {
        if (const HostTensor* given = call.input(index); given && given->count() == 1) return given->at(0);
        return static_cast<double>(call.node.attributes.real(attribute, static_cast<float>(absent)));
    };
    const double low = bound(1, "min", -INFINITY), high = bound(2, "max", INFINITY);
    std::visit(
        [&](auto& all) {
            using T = typename std::decay_t<decltype(all)>::value_type;
            for (T& each : all) {
                if (static_cast<double>(each) < low) each = static_cast<T>(low);
                if (static_cast<double>(each) > high) each = static_cast<T>(high);
            }
        },
        out.values);
    return {std::move(out)};
}

Outputs modulo(const KernelCall& call) {
    const bool truncated = call.node.attributes.integer("fmod", 0) != 0;
    return {binary(call, need(call, 0), need(call, 1), need(call, 0).type, [&](auto a, auto b) -> decltype(a) {
        if constexpr (std::is_integral_v<decltype(a)>) {
            if (b == 0) refuse("it divides by zero");
            if (b == -1) return 0;
            const auto rest = a % b;
            return truncated || rest == 0 || (rest < 0) == (b < 0) ? rest : rest + b;
        } else {
            return static_cast<decltype(a)>(std::fmod(a, b));
        }
    })};
}

} // namespace

HostTensor combined(const KernelCall& call, const HostTensor& a, const HostTensor& b, double (*function)(double, double)) {
    return binary(call, a, b, a.type, [function](auto x, auto y) { return function(static_cast<double>(x), static_cast<double>(y)); });
}

void addElementwise(KernelTable& table) {
    table["Add"] = arithmetic(Add());
    table["Sum"] = arithmetic(Add());
    table["Sub"] = arithmetic(Subtract());
    table["Mul"] = arithmetic(Multiply());
    table["Div"] = arithmetic(Divide());
    table["Max"] = arithmetic(Maximum());
    table["Min"] = arithmetic(Minimum());
    table["Pow"] = [](const KernelCall& call) -> Outputs {
        const HostTensor& base = need(call, 0);
        const HostTensor exponent = cast(call, need(call, 1), base.type);
        return {binary(call, base, exponent, base.type, Power())};
    };
    table["Mod"] = modulo;
    table["Equal"] = comparison([](auto a, auto b) { return a == b; });
    table["Less"] = comparison([](auto a, auto b) { return a < b; });
    table["LessOrEqual"] = comparison([](auto a, auto b) { return a <= b; });
    table["Greater"] = comparison([](auto a, auto b) { return a > b; });
    table["GreaterOrEqual"] = comparison([](auto a, auto b) { return a >= b; });
    table["And"] = comparison([](auto a, auto b) { return a != 0 && b != 0; });
    table["Or"] = comparison([](auto a, auto b) { return a != 0 || b != 0; });
    table["Xor"] = comparison([](auto a, auto b) { return (a != 0) != (b != 0); });
    table["Mean"] = [](const KernelCall& call) -> Outputs {
        const HostTensor sum = arithmetic(Add())(call)[0];
        const auto count = static_cast<double>(call.inputs.size());
        return {eachElement(sum, [count](double x) { return x / count; })};
    };
    table["BitShift"] = [](const KernelCall& call) -> Outputs {
        const bool left = call.node.attributes.text("direction", "LEFT") == "LEFT";
        return {binary(call, need(call, 0), need(call, 1), need(call, 0).type, [left](auto a, auto b) -> decltype(a) {
            if constexpr (std::is_integral_v<decltype(a)>) {
                if (b < 0 || b > 63) return 0;
                const auto bits = static_cast<std::uint64_t>(a);
                return static_cast<std::int64_t>(left ? bits << b : bits >> b);
            } else {
                refuse("it works on integers only");
            }
        })};
    };
    table["BitwiseAnd"] = bitwise([](std::int64_t a, std::int64_t b) { return a & b; });
    table["BitwiseOr"] = bitwise([](std::int64_t a, std::int64_t b) { return a | b; });
    table["BitwiseXor"] = bitwise([](std::int64_t a, std::int64_t b) { return a ^ b; });
    table["BitwiseNot"] = [](const KernelCall& call) -> Outputs {
        HostTensor out = need(call, 0);
        for (std::int64_t& each : out.integers()) each = ~each;
        return {std::move(out)};
    };
    table["Cast"] = [](const KernelCall& call) -> Outputs { return {cast(call, need(call, 0), static_cast<DataType>(call.node.attributes.integer("to", 1)))}; };
    table["CastLike"] = [](const KernelCall& call) -> Outputs { return {cast(call, need(call, 0), need(call, 1).type)}; };
    table["Where"] = where;
    table["Clip"] = clip;
}

} // namespace triptych
