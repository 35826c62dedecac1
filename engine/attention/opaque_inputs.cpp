#include "attention/opaque_inputs.h"
#include "graph/torch_operator.h"

#include <algorithm>
#include <array>

namespace triptych {

OpaqueInputs inputsOf(const Node& node) {
    const std::string& op = node.op;
    if (node.domain != "com.microsoft") return {};
    if (op == "GroupQueryAttention") return {.attentionBias = 10, .past = 3, .scales = 12, .norms = 14, .sink = 11, .lengths = 5, .total = 6, .cosines = 7, .positions = 9};
    if (op == "SparseAttention") return {.past = 3, .lengths = 8, .total = 7, .cosines = 9, .blocks = 5};
    if (op == "PagedAttention") return {.past = 3, .scales = 14, .norms = 12, .sink = 11, .lengths = 6, .cosines = 8, .pages = 7, .slots = 10, .sums = 5};
    if (op == "DecoderAttention") return {.bias = 4, .past = 6};
    if (op == "LongformerAttention") return {.bias = 2, .mask = 3, .global = 6};
    if (op == "MultiHeadAttention") return {.bias = 3, .mask = 4, .attentionBias = 5, .past = 6, .pastLength = 8, .beams = 9};
    if (op == "DecoderMaskedMultiHeadAttention") return {.bias = 10, .mask = 3, .attentionBias = 4, .past = 5, .pastLength = 7, .beams = 9};
    // What is packed has no mask: lengths tell its sequences apart.
    if (op == "PackedMultiHeadAttention") return {.bias = 3, .attentionBias = 6, .tokens = 4};
    if (op == "PackedAttention") return {.bias = 2, .attentionBias = 5, .tokens = 3};
    if (op == "QAttention") return {.bias = 2, .mask = 5, .past = 8};
    if (op == "DecoderMaskedSelfAttention") return {.bias = 2, .mask = 3, .attentionBias = 5, .past = 4, .pastLength = 6, .beams = 8};
    return {.bias = 2, .mask = 3, .attentionBias = 5, .past = 4, .pastLength = 6}; // Attention
}

bool hasPackedWeight(const Node& node) {
    return node.domain == "com.microsoft" && (node.op == "Attention" || node.op == "QAttention" || node.op == "DecoderMaskedSelfAttention" || node.op == "PackedAttention" || node.op == "LongformerAttention");
}

bool hasProjectedInputs(const Node& node) {
    return node.domain == "com.microsoft" && (node.op == "MultiHeadAttention" || node.op == "GroupQueryAttention" || node.op == "SparseAttention" || node.op == "PagedAttention" || node.op == "DecoderMaskedMultiHeadAttention" || node.op == "PackedMultiHeadAttention");
}

std::optional<DecoderSwitches> decoderSwitches(const Node& node, const Shapes& shapes) {
    if (!node.is("com.microsoft", "DecoderAttention")) return std::nullopt;
    std::array<bool, 4> given{};
    for (std::size_t i = 0; i < given.size(); ++i) {
        const auto value = node.input(8 + i) ? shapes.scalar(node.input(8 + i)) : std::nullopt;
        if (!value) return std::nullopt;
        given[i] = *value != 0;
    }
    const auto [cross, reads, keeps, padding] = given;
    if (reads != (reads && keeps) || (reads && (!node.input(6) || !node.input(7))) || (padding && !node.input(5))) return std::nullopt;
    return DecoderSwitches{cross, reads, padding};
}

std::string fullName(const Node& node) {
    const std::string called = calledOperator(node);
    return (node.domain.empty() ? "ai.onnx" : node.domain) + "." + (called.empty() ? node.op : called);
}

std::optional<BareAttention> bareAttention(const Node& node, const Shapes& shapes) {
    const bool flexible = node.is("ai.onnx.preview", "FlexAttention");
    if (!flexible && !isTorchAttention(node)) return std::nullopt;
    for (std::size_t i = 0; i < 3; ++i)
        if (!node.input(i) || shapes.of(node.input(i)).dims.size() != 4) return std::nullopt;
    if (flexible) {
        const auto precision = static_cast<DataType>(node.attributes.integer("softmax_precision", static_cast<std::int64_t>(DataType::float32)));
        if (node.attributes.holdGraphs() || precision != DataType::float32) return std::nullopt;
        return BareAttention{{}, false, node.attributes.has("scale") ? std::optional<double>(node.attributes.real("scale", 1)) : std::nullopt};
    }
    // Query, key, value, mask, dropout, whether causal, scale, whether keys have fewer heads.
    const auto given = [&](std::size_t index, double absent) { return node.input(index) ? shapes.scalar(node.input(index)) : std::optional(absent); };
    if (given(4, 0) != 0.0 || !given(5, 0) || !given(6, 0)) return std::nullopt;
    return BareAttention{node.input(3), *given(5, 0) != 0, node.input(6) ? given(6, 0) : std::nullopt};
}

bool sharesPast(const Node& node) {
    const OpaqueInputs inputs = inputsOf(node);
    const bool shares = node.op == "MultiHeadAttention" || node.attributes.integer("past_present_share_buffer", 0) != 0;
    return shares && node.input(inputs.past) && node.input(inputs.pastLength);
}

std::int64_t boundPast(const Node& node, const Shapes& shapes) {
    const OpaqueInputs inputs = inputsOf(node);
    const auto dimsOf = [&](std::size_t index) { return shapes.of(node.input(index)).dims; };
    const Dims mask = dimsOf(inputs.mask), bias = dimsOf(inputs.attentionBias), past = dimsOf(inputs.past);
    const Dims now = dimsOf(hasProjectedInputs(node) && node.input(1) ? 1 : 0);
    if (past.size() < 4 || now.size() < 2) return 0;
    const Dim room = past[past.size() - 2], total = !bias.empty() ? bias.back() : mask.size() == 2 || mask.size() == 3 ? mask.back() : room;
    return std::max<Dim>(std::min(total, room) - now[1], 0);
}

bool hidesLaterKeys(const Node& node) { return node.attributes.integer(node.op == "PagedAttention" ? "is_causal" : "causal", 1) != 0; }

bool hasSink(const Node& node) {
    return node.input(inputsOf(node).sink) || (node.is("com.microsoft", "GroupQueryAttention") && node.attributes.integer("smooth_softmax", 0) > 0);
}

} // namespace triptych
