#pragma once
// What the values of a mask leave visible. Private to engine/attention.

#include "attention/attention.h"

namespace triptych {

struct MaskPattern {
    bool causal = false;      ///< no query sees a key after it
    bool window = false;      ///< nor one far from it, perhaps but for the first keys or for places that see and are seen by all
    bool blockSparse = false; ///< blocks, strides, or what repeats along the diagonal: sparse in a pattern that is no window
};

/// Rows are queries, columns are keys; of a mask with more axes the first matrix counts. Cost: linear in its elements for each divisor of
/// its size.
MaskPattern patternOf(const HostTensor& mask, Dim rows, Dim columns);

/// A row of numbers between 0 and 1 that shrink by one factor, as slopes of heads do. Where the heads are no power of two, the second
/// half is a row of its own. Source: Press, Smith, Lewis: Train short, test long (2022).
bool areSlopes(const std::vector<double>& row);
/// A constant of .. x H x S x T, or with one row for all queries: slopes of heads times the distance of query and key; hidden places don't count.
bool isFoldedAlibi(const HostTensor& bias);

} // namespace triptych
