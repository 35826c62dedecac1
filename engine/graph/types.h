#pragma once
// Element types and tensors as a file describes them: where their bytes lie, not the bytes themselves.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace triptych {

/// Numbers as in onnx.TensorProto.DataType, so that newer ones pass through.
enum class DataType : std::uint8_t {
    undefined = 0, float32 = 1, uint8 = 2, int8 = 3, uint16 = 4, int16 = 5, int32 = 6, int64 = 7, string = 8, boolean = 9,
    float16 = 10, float64 = 11, uint32 = 12, uint64 = 13, complex64 = 14, complex128 = 15, bfloat16 = 16,
    float8e4m3fn = 17, float8e4m3fnuz = 18, float8e5m2 = 19, float8e5m2fnuz = 20, uint4 = 21, int4 = 22, float4e2m1 = 23,
    float8e8m0 = 24, uint2 = 25, int2 = 26,
};

/// "f32", "i64", "bf16", "bool"; "?" for undefined.
std::string_view shortName(DataType type);
/// Reverse of shortName; undefined where unknown.
DataType dataTypeNamed(std::string_view shortName);
/// Bits of one element, 0 for string and undefined. (4-bit types are packed two a byte.)
int bitsOf(DataType type);
bool isFloating(DataType type);
bool isInteger(DataType type); ///< bool is none

/// A size along an axis; unknownDim where nothing is known.
using Dim = std::int64_t;
inline constexpr Dim unknownDim = -1;
using Dims = std::vector<Dim>;

/// Product of the sizes; empty where one is unknown or the product overflows 2^62.
std::optional<std::int64_t> elementCount(const Dims& dims);

struct Tensor;
using TensorPtr = std::shared_ptr<const Tensor>;

/// A run of indices along one axis of another tensor.
struct TensorPart {
    TensorPtr base;
    bool transposed = false; ///< base is a matrix and is read transposed
    std::int64_t begin = 0, length = 0;
};

/// Where the bytes of a tensor lie, little-endian, row-major.
struct Payload {
    enum class Place : std::uint8_t {
        absent,  ///< nowhere: weights stripped
        memory,  ///< in `bytes`
        model,   ///< `length` bytes at `offset` of the model file
        external, ///< `length` bytes at `offset` of `file`
        derived   ///< cut from and joined of other tensors, as `parts` says; computed when read
    };
    Place place = Place::absent;
    std::shared_ptr<const std::vector<std::byte>> bytes;
    std::filesystem::path file; ///< external: as the model names it, checked to stay in the model's folder; model: empty
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    bool varints = false; ///< model: one protobuf varint for each element, as packed int32_data, int64_data and uint64_data are
    std::vector<TensorPart> parts; ///< derived: joined in this order along `axis`
    int axis = 0;
    /// Why the bytes can't be had, where place is absent although the file promised them.
    std::string missing;
};

struct Tensor {
    std::string name;
    DataType type = DataType::undefined;
    Dims dims;
    Payload payload;
    std::vector<std::string> strings; ///< content where type is string
    /// Bytes of all elements, rounded up; empty on overflow or unknown type.
    std::optional<std::uint64_t> byteSize() const;
};

/// "1x?x64": unknown sizes are question marks; "scalar" where there are no axes.
std::string dimsText(const Dims& dims);
/// A tensor of int64 in memory.
TensorPtr makeTensor(std::string name, Dims dims, const std::vector<std::int64_t>& values);
/// A float32 tensor in memory.
TensorPtr makeTensor(std::string name, Dims dims, const std::vector<float>& values);

} // namespace triptych
