#include "graph/types.h"

#include <array>
#include <cstring>

namespace triptych {

namespace {

struct TypeFacts {
    DataType type;
    std::string_view name;
    int bits;
};

constexpr std::array typeFacts{
    TypeFacts{DataType::float32, "f32", 32},           TypeFacts{DataType::uint8, "u8", 8},
    TypeFacts{DataType::int8, "i8", 8},                TypeFacts{DataType::uint16, "u16", 16},
    TypeFacts{DataType::int16, "i16", 16},             TypeFacts{DataType::int32, "i32", 32},
    TypeFacts{DataType::int64, "i64", 64},             TypeFacts{DataType::string, "string", 0},
    TypeFacts{DataType::boolean, "bool", 8},           TypeFacts{DataType::float16, "f16", 16},
    TypeFacts{DataType::float64, "f64", 64},           TypeFacts{DataType::uint32, "u32", 32},
    TypeFacts{DataType::uint64, "u64", 64},            TypeFacts{DataType::complex64, "c64", 64},
    TypeFacts{DataType::complex128, "c128", 128},      TypeFacts{DataType::bfloat16, "bf16", 16},
    TypeFacts{DataType::float8e4m3fn, "f8e4m3fn", 8},  TypeFacts{DataType::float8e4m3fnuz, "f8e4m3fnuz", 8},
    TypeFacts{DataType::float8e5m2, "f8e5m2", 8},      TypeFacts{DataType::float8e5m2fnuz, "f8e5m2fnuz", 8},
    TypeFacts{DataType::uint4, "u4", 4},               TypeFacts{DataType::int4, "i4", 4},
    TypeFacts{DataType::float4e2m1, "f4e2m1", 4},      TypeFacts{DataType::float8e8m0, "f8e8m0", 8},
    TypeFacts{DataType::uint2, "u2", 2},               TypeFacts{DataType::int2, "i2", 2},
};

const TypeFacts* factsOf(DataType type) {
    for (const TypeFacts& facts : typeFacts)
        if (facts.type == type) return &facts;
    return nullptr;
}

} // namespace

std::string_view shortName(DataType type) {
    const TypeFacts* facts = factsOf(type);
    return facts ? facts->name : "?";
}

DataType dataTypeNamed(std::string_view name) {
    for (const TypeFacts& facts : typeFacts)
        if (facts.name == name) return facts.type;
    return DataType::undefined;
}

int bitsOf(DataType type) {
    const TypeFacts* facts = factsOf(type);
    return facts ? facts->bits : 0;
}

bool isFloating(DataType type) {
    const std::string_view name = shortName(type);
    return name.starts_with('f') || name == "bf16";
}

bool isInteger(DataType type) {
    const std::string_view name = shortName(type);
    return name.starts_with('i') || name.starts_with('u');
}

std::optional<std::int64_t> elementCount(const Dims& dims) {
    constexpr std::int64_t limit = std::int64_t(1) << 62;
    std::int64_t count = 1;
    bool empty = false;
    for (const Dim dim : dims) {
        if (dim < 0) return std::nullopt;
        if (dim == 0) {
            empty = true;
            continue;
        }
        if (count > limit / dim) return std::nullopt;
        count *= dim;
    }
    return empty ? 0 : count;
}

std::optional<std::uint64_t> Tensor::byteSize() const {
    const int bits = bitsOf(type);
    const auto count = elementCount(dims);
    if (bits == 0 || !count || *count > (std::int64_t(1) << 56)) return std::nullopt;
    return (static_cast<std::uint64_t>(*count) * static_cast<std::uint64_t>(bits) + 7) / 8;
}

namespace {

template <class Number>
TensorPtr tensorOf(std::string name, DataType type, Dims dims, const std::vector<Number>& values) {
    auto bytes = std::make_shared<std::vector<std::byte>>(values.size() * sizeof(Number));
    if (!values.empty()) std::memcpy(bytes->data(), values.data(), bytes->size());
    auto tensor = std::make_shared<Tensor>();
    tensor->name = std::move(name);
    tensor->type = type;
    tensor->dims = std::move(dims);
    tensor->payload.place = Payload::Place::memory;
    tensor->payload.length = bytes->size();
    tensor->payload.bytes = std::move(bytes);
    return tensor;
}

} // namespace

std::string dimsText(const Dims& dims) {
    std::string all;
    for (const Dim dim : dims) all += (all.empty() ? "" : "x") + (dim < 0 ? std::string("?") : std::to_string(dim));
    return all.empty() ? "scalar" : all;
}

TensorPtr makeTensor(std::string name, Dims dims, const std::vector<std::int64_t>& values) {
    return tensorOf(std::move(name), DataType::int64, std::move(dims), values);
}

TensorPtr makeTensor(std::string name, Dims dims, const std::vector<float>& values) {
    return tensorOf(std::move(name), DataType::float32, std::move(dims), values);
}

} // namespace triptych
