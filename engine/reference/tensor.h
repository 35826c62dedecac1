#pragma once
// Tensors with their values in memory, for constant folding and for the reference evaluator.

#include "graph/types.h"

#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace triptych {

/// Values of a tensor, row-major. float32, float16 and bfloat16 (and float8) are held as float, already rounded to the
/// type; float64 as double; every integer type and bool as int64 (uint64 by its bits).
struct HostTensor {
    using Values = std::variant<std::vector<float>, std::vector<double>, std::vector<std::int64_t>>;
    DataType type = DataType::undefined;
    Dims dims;
    Values values;
    /// The tensors of a list (an ONNX sequence), which has no elements of its own; null for a tensor.
    std::shared_ptr<const std::vector<HostTensor>> list = nullptr;

    std::int64_t count() const;
    std::int64_t held() const; ///< elements, those of a list's tensors
    bool isFloat() const { return std::holds_alternative<std::vector<float>>(values); }
    bool isDouble() const { return std::holds_alternative<std::vector<double>>(values); }
    bool isInteger() const { return std::holds_alternative<std::vector<std::int64_t>>(values); }
    std::vector<float>& floats() { return std::get<std::vector<float>>(values); }
    const std::vector<float>& floats() const { return std::get<std::vector<float>>(values); }
    std::vector<double>& doubles() { return std::get<std::vector<double>>(values); }
    const std::vector<double>& doubles() const { return std::get<std::vector<double>>(values); }
    std::vector<std::int64_t>& integers() { return std::get<std::vector<std::int64_t>>(values); }
    const std::vector<std::int64_t>& integers() const { return std::get<std::vector<std::int64_t>>(values); }
    /// Element as a double, whatever the storage.
    double at(std::size_t index) const;

    /// Zeros of a type and shape.
    static HostTensor zeros(DataType type, Dims dims);
    static HostTensor ofIntegers(Dims dims, std::vector<std::int64_t> values, DataType type = DataType::int64);
    static HostTensor ofFloats(Dims dims, std::vector<float> values, DataType type = DataType::float32);
    /// Rounds float storage to `type` where that is float16, bfloat16 or float8; wraps integers to their width.
    void normalise();
};

/// Little-endian bytes, as ONNX raw_data has them, to values and back. `bytes` must have the right size (asserted by the
/// caller through Tensor::byteSize).
HostTensor decodeTensor(DataType type, const Dims& dims, std::span<const std::byte> bytes);
std::vector<std::byte> encodeTensor(const HostTensor& tensor);
/// As a tensor of a model, with its bytes in memory.
TensorPtr tensorOf(const HostTensor& tensor, std::string name);

} // namespace triptych
