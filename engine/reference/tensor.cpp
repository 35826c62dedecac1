#include "reference/tensor.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace triptych {

namespace {

float halfToFloat(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16;
    const std::uint32_t exponent = (half >> 10) & 31, mantissa = half & 1023;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | (mantissa << 13));
    if (exponent == 0) {
        const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
        return sign ? -magnitude : magnitude;
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

/// Rounds to the nearest, ties to even; beyond the range becomes infinite.
std::uint16_t floatToHalf(float number) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(number);
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
    const std::uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return static_cast<std::uint16_t>(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return static_cast<std::uint16_t>(sign | 0x7c00);
    if (magnitude < 0x38800000) {
        const float scaled = std::ldexp(std::fabs(number), 24);
        return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyint(scaled)));
    }
    const std::uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

float bfloatToFloat(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

std::uint16_t floatToBfloat(float number) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(number);
    if (std::isnan(number)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
    return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <class Stored>
void decodeIntegers(std::span<const std::byte> bytes, std::vector<std::int64_t>& out) {
    for (std::size_t i = 0; i < out.size(); ++i) {
        Stored stored;
        std::memcpy(&stored, bytes.data() + i * sizeof stored, sizeof stored);
        out[i] = static_cast<std::int64_t>(stored);
    }
}

template <class Stored>
void encodeIntegers(const std::vector<std::int64_t>& in, std::vector<std::byte>& bytes) {
    bytes.resize(in.size() * sizeof(Stored));
    for (std::size_t i = 0; i < in.size(); ++i) {
        const auto stored = static_cast<Stored>(in[i]);
        std::memcpy(bytes.data() + i * sizeof stored, &stored, sizeof stored);
    }
}

bool isFloatStored(DataType type) { return isFloating(type) && type != DataType::float64; }

} // namespace

std::int64_t HostTensor::count() const { return elementCount(dims).value_or(0); }

std::int64_t HostTensor::held() const {
    std::int64_t all = count();
    if (list)
        for (const HostTensor& each : *list) all += each.held();
    return all;
}

double HostTensor::at(std::size_t index) const {
    return std::visit([&](const auto& all) { return static_cast<double>(all.at(index)); }, values); // damaged graphs ask for elements that aren't there
}

HostTensor HostTensor::zeros(DataType type, Dims dims) {
    HostTensor made;
    made.type = type;
    made.dims = std::move(dims);
    const auto count = static_cast<std::size_t>(made.count());
    if (isFloatStored(type)) made.values = std::vector<float>(count);
    else if (type == DataType::float64) made.values = std::vector<double>(count);
    else made.values = std::vector<std::int64_t>(count);
    return made;
}

HostTensor HostTensor::ofIntegers(Dims dims, std::vector<std::int64_t> values, DataType type) {
    return {type, std::move(dims), std::move(values)};
}

HostTensor HostTensor::ofFloats(Dims dims, std::vector<float> values, DataType type) { return {type, std::move(dims), std::move(values)}; }

void HostTensor::normalise() {
    if (isFloat()) {
        if (type == DataType::float16)
            for (float& each : floats()) each = halfToFloat(floatToHalf(each));
        if (type == DataType::bfloat16)
            for (float& each : floats()) each = bfloatToFloat(floatToBfloat(each));
        return;
    }
    if (!isInteger()) return;
    for (std::int64_t& each : integers()) {
        switch (type) {
        case DataType::boolean: each = each != 0; break;
        case DataType::int8: each = static_cast<std::int8_t>(each); break;
        case DataType::uint8: each = static_cast<std::uint8_t>(each); break;
        case DataType::int16: each = static_cast<std::int16_t>(each); break;
        case DataType::uint16: each = static_cast<std::uint16_t>(each); break;
        case DataType::int32: each = static_cast<std::int32_t>(each); break;
        case DataType::uint32: each = static_cast<std::uint32_t>(each); break;
        default: return;
        }
    }
}

HostTensor decodeTensor(DataType type, const Dims& dims, std::span<const std::byte> bytes) {
    HostTensor made = HostTensor::zeros(type, dims);
    if (made.isFloat()) {
        auto& out = made.floats();
        for (std::size_t i = 0; i < out.size(); ++i) {
            std::uint16_t half = 0;
            if (type == DataType::float32) std::memcpy(&out[i], bytes.data() + 4 * i, 4);
            else if (bitsOf(type) == 16) {
                std::memcpy(&half, bytes.data() + 2 * i, 2);
                out[i] = type == DataType::float16 ? halfToFloat(half) : bfloatToFloat(half);
            }
        }
        return made;
    }
    if (made.isDouble()) {
        if (!bytes.empty()) std::memcpy(made.doubles().data(), bytes.data(), made.doubles().size() * 8);
        return made;
    }
    auto& out = made.integers();
    switch (type) {
    case DataType::int64:
    case DataType::uint64: decodeIntegers<std::int64_t>(bytes, out); break;
    case DataType::int32: decodeIntegers<std::int32_t>(bytes, out); break;
    case DataType::uint32: decodeIntegers<std::uint32_t>(bytes, out); break;
    case DataType::int16: decodeIntegers<std::int16_t>(bytes, out); break;
    case DataType::uint16: decodeIntegers<std::uint16_t>(bytes, out); break;
    case DataType::int8: decodeIntegers<std::int8_t>(bytes, out); break;
    case DataType::uint8:
    case DataType::boolean: decodeIntegers<std::uint8_t>(bytes, out); break;
    case DataType::int4:
    case DataType::uint4:
        for (std::size_t i = 0; i < out.size(); ++i) {
            const auto pair = static_cast<std::uint8_t>(bytes[i / 2]);
            const int nibble = i % 2 ? pair >> 4 : pair & 15;
            out[i] = type == DataType::int4 && nibble > 7 ? nibble - 16 : nibble;
        }
        break;
    default: break;
    }
    return made;
}

std::vector<std::byte> encodeTensor(const HostTensor& tensor) {
    std::vector<std::byte> bytes;
    if (tensor.isFloat()) {
        const auto& in = tensor.floats();
        const std::size_t width = static_cast<std::size_t>(bitsOf(tensor.type)) / 8;
        bytes.resize(in.size() * width);
        for (std::size_t i = 0; i < in.size(); ++i) {
            const std::uint16_t half = tensor.type == DataType::float16 ? floatToHalf(in[i]) : floatToBfloat(in[i]);
            if (width == 4) std::memcpy(bytes.data() + 4 * i, &in[i], 4);
            else if (width == 2) std::memcpy(bytes.data() + 2 * i, &half, 2);
        }
        return bytes;
    }
    if (tensor.isDouble()) {
        bytes.resize(tensor.doubles().size() * 8);
        std::memcpy(bytes.data(), tensor.doubles().data(), bytes.size());
        return bytes;
    }
    switch (bitsOf(tensor.type)) {
    case 64: encodeIntegers<std::int64_t>(tensor.integers(), bytes); break;
    case 32: encodeIntegers<std::int32_t>(tensor.integers(), bytes); break;
    case 16: encodeIntegers<std::int16_t>(tensor.integers(), bytes); break;
    case 4: // two a byte, the lower half first
        bytes.resize((tensor.integers().size() + 1) / 2);
        for (std::size_t i = 0; i < tensor.integers().size(); ++i) bytes[i / 2] |= static_cast<std::byte>((tensor.integers()[i] & 15) << (i % 2 * 4));
        break;
    default: encodeIntegers<std::int8_t>(tensor.integers(), bytes); break;
    }
    return bytes;
}

TensorPtr tensorOf(const HostTensor& tensor, std::string name) {
    auto made = std::make_shared<Tensor>();
    made->name = std::move(name);
    made->type = tensor.type;
    made->dims = tensor.dims;
    made->payload.place = Payload::Place::memory;
    made->payload.bytes = std::make_shared<const std::vector<std::byte>>(encodeTensor(tensor));
    made->payload.length = made->payload.bytes->size();
    return made;
}

} // namespace triptych
