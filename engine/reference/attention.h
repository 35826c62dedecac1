#pragma once
// Scaled dot product attention on tensors in memory. Private to engine/reference.

#include "reference/kernels.h"

namespace triptych {

/// What is added to a score, minus infinity where the key is hidden: f(batch, head, query, key).
using ScoreBias = std::function<double(std::int64_t, std::int64_t, std::int64_t, std::int64_t)>;

struct CoreCall {
    const HostTensor& q; ///< [B, N, S, D]
    const HostTensor& k; ///< [B, K, T, D], N a multiple of K
    const HostTensor& v; ///< [B, K, T, E]
    double scale = 1;
    double softcap = 0;  ///< 0: none
    ScoreBias bias = {}; ///< null: none
    std::vector<double> sinks = {}; ///< a logit for each head beside those of the keys; empty: none
    DataType softmaxType = DataType::undefined; ///< undefined: the query's
    /// A row whose keys are all hidden gives 0, as ai.onnx Attention says; else NaN.
    bool emptyRowIsZero = false;
    /// Which scores are kept: 0 the product, 1 after the soft cap, 2 after the bias, 3 after the softmax.
    int keep = 0;
};

struct CoreOutput {
    HostTensor context; ///< [B, N, S, E]
    HostTensor kept;    ///< [B, N, S, T]
};

/// softmax(cap(q k^T scale) + bias) v. Source: the ONNX operator specification, Attention.
CoreOutput attentionCore(const KernelCall& call, const CoreCall& core);

/// [B, S, N*D] to [B, N, S, D]; what has four axes stays.
HostTensor splitHeads(const HostTensor& from, std::int64_t heads);
/// [B, N, S, D] to [B, S, N*D].
HostTensor mergeHeads(const HostTensor& from);
/// Two tensors of four axes joined along axis 2; `past` null: `now` alone.
HostTensor appended(const HostTensor* past, const HostTensor& now);
/// Element of a tensor that is broadcast to [B, N, S, T].
double broadcastAt(const HostTensor& from, std::int64_t b, std::int64_t n, std::int64_t s, std::int64_t t);

} // namespace triptych
