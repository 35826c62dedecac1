#pragma once
// What the attention kernels of com.microsoft share. Private to engine/reference.

#include "reference/attention.h"

#include <tuple>

namespace triptych {

/// Columns [begin, begin + width) of a tensor's last axis.
HostTensor columns(const HostTensor& from, std::int64_t begin, std::int64_t width);
/// A bias added along the last axis, from its element `begin` on.
HostTensor biased(HostTensor to, const HostTensor* bias, std::int64_t begin);
/// One of the tensors that [B, S, N, parts, H] packs, as [B, N, S, H].
HostTensor unpacked(const HostTensor& from, std::int64_t part);
/// The attribute, or one over the root of the head size.
double scaleOf(const KernelCall& call, const HostTensor& q);
/// Damaged graphs give operands of any rank.
void needAxes(const KernelCall& call, std::initializer_list<std::size_t> inputs, std::size_t least);

/// All that are given, of the type of the first.
void needOneType(const KernelCall& call, std::initializer_list<std::size_t> inputs);

/// Q, K and V [B, N, S, D] of the first three inputs: an input each, or side by side in one.
std::tuple<HostTensor, HostTensor, HostTensor> groupedHeads(const KernelCall& call, std::int64_t heads, std::int64_t kvHeads);

/// A context and, where they are asked for, the keys and values that the next call takes as its past.
Outputs withPresent(const KernelCall& call, HostTensor context, HostTensor keys, HostTensor values);

/// x over the root of its mean square along the last axis, times a weight.
HostTensor rootNormalised(const HostTensor& x, const HostTensor& weight, double epsilon);
/// Places that rise by one from each of `first` on: [sequences, count].
HostTensor countedFrom(const std::vector<std::int64_t>& first, std::int64_t count);

/// How a cache of keys or values [B, K, T, D] holds its numbers: as they are, as float8, or as integers of 8 bits, or of 4: two of them in
/// a byte, the first one low and each 8 more than it is. In floats, as the operators round.
struct QuantisedCache {
    const HostTensor* scale = nullptr; ///< null: as they are
    std::int64_t bits = 8;
    bool isFloat8 = false;
    float inverseOfZero = 1; ///< what a scale of 0 is replaced by

    HostTensor from(const KernelCall& call, const HostTensor& x) const;
    HostTensor back(const KernelCall& call, const HostTensor& codes, DataType type) const;

private:
    float scaleAt(const Dims& dims, std::int64_t i) const;
};

void addBandedAttention(KernelTable& table);
void addDecoderAttention(KernelTable& table);
void addGroupedAttention(KernelTable& table);
void addPackedAttention(KernelTable& table);
void addPagedAttention(KernelTable& table);
void addPositionBias(KernelTable& table);
void addSparseAttention(KernelTable& table);

} // namespace triptych
