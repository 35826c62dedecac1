#pragma once
// What the kernels of the reference evaluator share. Private to engine/reference.

#include "reference/evaluate.h"

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace triptych {

/// One call of a kernel.
struct KernelCall {
    const Node& node;
    std::span<const HostTensor* const> inputs;
    std::int64_t opset;
    std::int64_t maximumElements;

    /// Null where left out.
    const HostTensor* input(std::size_t index) const { return index < inputs.size() ? inputs[index] : nullptr; }
    /// Integers of an input if it is given, else of the attribute, else empty.
    std::vector<std::int64_t> list(std::size_t index, std::string_view attribute) const;
};

/// Thrown by kernels, caught in evaluateNode only: keeps kernels readable.
struct KernelError {
    std::string what;
};
[[noreturn]] void refuse(std::string what);

using Outputs = std::vector<HostTensor>;
using Kernel = std::function<Outputs(const KernelCall&)>;
using KernelTable = std::unordered_map<std::string_view, Kernel>;

/// The input, or an error where it is left out.
const HostTensor& need(const KernelCall& call, std::size_t index);
/// An element of an attribute's list, or `absent` where the list is left out or shorter.
inline std::int64_t listed(const std::vector<std::int64_t>* list, std::size_t index, std::int64_t absent) { return list && index < list->size() ? (*list)[index] : absent; }
/// A fresh tensor whose size was checked.
HostTensor make(const KernelCall& call, DataType type, Dims dims);
/// Axis counted from the front, checked; `rank` itself is allowed where `oneMore`.
std::size_t axisOf(std::int64_t axis, std::size_t rank, bool oneMore = false);
/// NumPy's rule, or an error.
Dims broadcastDims(const Dims& a, const Dims& b);
/// Row-major strides in elements; 0 where a size of 1 is stretched to `target`.
std::vector<std::int64_t> stridesFor(const Dims& dims, const Dims& target);
/// Visits every index of `dims` in order with the offsets that two stride sets give.
template <class Visit>
void walk(const Dims& dims, const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b, const Visit& visit) {
    const std::int64_t total = elementCount(dims).value_or(0);
    std::vector<std::int64_t> index(dims.size(), 0);
    std::int64_t atA = 0, atB = 0;
    for (std::int64_t i = 0; i < total; ++i) {
        visit(static_cast<std::size_t>(i), static_cast<std::size_t>(atA), static_cast<std::size_t>(atB));
        for (std::size_t axis = dims.size(); axis-- > 0;) {
            atA += a[axis];
            atB += b[axis];
            if (++index[axis] < dims[axis]) break;
            atA -= a[axis] * dims[axis];
            atB -= b[axis] * dims[axis];
            index[axis] = 0;
        }
    }
}
/// Sets one element, whatever the storage.
void setElement(HostTensor& to, std::size_t index, double value);
/// A function of each element, in the tensor's type.
template <class Function>
HostTensor eachElement(const HostTensor& from, const Function& function) {
    HostTensor out = from;
    std::visit([&](auto& all) { for (auto& each : all) each = static_cast<std::decay_t<decltype(each)>>(function(static_cast<double>(each))); }, out.values);
    return out;
}
/// A function of two elements, with broadcasting, in the type of `a`.
HostTensor combined(const KernelCall& call, const HostTensor& a, const HostTensor& b, double (*function)(double, double));
/// Elements before, at and after an axis: x[outer][size][inner].
struct Split {
    std::size_t outer = 1, size = 1, inner = 1;
    Split(const Dims& dims, std::size_t axis);
};
/// An index counted from the front, checked.
std::size_t indexIn(std::int64_t index, std::size_t size);
/// Offset of the slice that one index tuple names, from the axis `first` on.
std::size_t tupleOffset(const Dims& dims, std::size_t first, const std::int64_t* tuple, std::size_t length, std::size_t inner);
/// A copy with other sizes and the same elements.
HostTensor reshaped(const HostTensor& from, Dims dims);
/// A copy with axes in another order.
HostTensor transposed(const HostTensor& from, const std::vector<std::int64_t>& perm);
/// Copies element `from[i]` to `to[j]`; both have the same storage.
void copyElement(const HostTensor& from, std::size_t i, HostTensor& to, std::size_t j);

/// Concat of the call's inputs along the node's axis.
Outputs concatenated(const KernelCall& call);
/// Pieces of those sizes along an axis.
Outputs parted(const KernelCall& call, const HostTensor& data, std::size_t axis, const std::vector<std::int64_t>& sizes);
/// numpy.matmul, in the type of the first operand.
HostTensor product(const KernelCall& call, const HostTensor& a, const HostTensor& b);
/// Conv with the node's attributes, of other tensors than its inputs; `bias` may be null. In the type of `x`.
HostTensor convolved(const KernelCall& call, const HostTensor& x, const HostTensor& w, const HostTensor* bias);
/// Less a zero point: one for all, or one for each row (of a first operand) or column (of a second). As int32.
HostTensor lessZero(HostTensor from, const HostTensor* zero, bool rows);
/// What integers stand for, with one scale and zero point; and back, rounded as QuantizeLinear rounds.
HostTensor fromIntegers(const KernelCall& call, const HostTensor& codes, const HostTensor& scale, const HostTensor* zero);
HostTensor toIntegers(const KernelCall& call, const HostTensor& numbers, const HostTensor& scale, const HostTensor* zero);
/// Rotary position embedding of [B, N, S, D]. `positions` is [B, S], one offset, or empty; caches end in half of the
/// rotated width; `rotary` 0: as wide as the caches say.
HostTensor rotated(const KernelCall& call, const HostTensor& x, const HostTensor& positions, const HostTensor& cosines, const HostTensor& sines, bool interleaved,
                   std::int64_t rotary);

/// Kernels by "OP" or "DOMAIN::OP".
void addElementwise(KernelTable& table);
void addActivations(KernelTable& table);
void addIndexing(KernelTable& table);
void addShaping(KernelTable& table);
void addReductions(KernelTable& table);
void addProducts(KernelTable& table);
void addNormalisations(KernelTable& table);
void addSequences(KernelTable& table);
void addScattering(KernelTable& table);
void addRecurrent(KernelTable& table);
void addImages(KernelTable& table);
void addSampling(KernelTable& table);
void addQuantised(KernelTable& table);
void addRotary(KernelTable& table);
void addAttention(KernelTable& table);
void addMicrosoftAttention(KernelTable& table);

} // namespace triptych
