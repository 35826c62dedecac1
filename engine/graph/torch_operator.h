#pragma once
// Operators that PyTorch's exporter leaves as PyTorch's: under their own name, or as ATen with the name in an attribute.

#include "graph/graph.h"

namespace triptych {

/// The name of what a node calls; empty for an ATen that names nothing.
inline std::string calledOperator(const Node& node) { return node.op == "ATen" ? node.attributes.text("operator") : node.op; }

/// PyTorch's scaled_dot_product_attention(query, key, value, mask, dropout, is_causal, scale, enable_gqa).
inline bool isTorchAttention(const Node& node) {
    constexpr std::string_view name = "scaled_dot_product_attention";
    if (node.is("aten", name)) return true;
    if (!node.is("org.pytorch.aten", "ATen")) return false;
    const std::string own = calledOperator(node);
    return own == name || own == "aten::" + std::string(name);
}

} // namespace triptych
