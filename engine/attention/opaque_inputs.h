#pragma once
// Which input of an attention operator of com.microsoft is what.
// Source: ONNX Runtime's ContribOperators.md.

#include "shapes/shapes.h"

namespace triptych {

struct OpaqueInputs {
    static constexpr std::size_t absent = 99; ///< an input that no operator has

    std::size_t bias = absent;
    std::size_t mask = absent;          ///< hides keys: indices, lengths, or a place for each key
    std::size_t attentionBias = absent; ///< is added to scores
    std::size_t past = absent;          ///< past keys; both keys and values where the weights are packed
    std::size_t pastLength = absent;    ///< how much of a shared buffer of past keys is filled
    std::size_t beams = absent;         ///< which beam each past key came from
    std::size_t tokens = absent;        ///< places of packed tokens; the sums of their sequences' lengths follow
    std::size_t scales = absent;        ///< of quantised past keys; that of values follows
    std::size_t norms = absent;         ///< weight of the queries' norm; that of the keys follows
    std::size_t sink = absent;          ///< a logit for each head that takes attention away
    std::size_t lengths = absent;       ///< of each sequence's keys, as the operator counts them: with the new ones or without
    std::size_t total = absent;         ///< the longest sequence of keys
    std::size_t cosines = absent;       ///< of rotary embedding; the sines follow
    std::size_t positions = absent;     ///< of queries, where rotary embedding is told them
    std::size_t pages = absent;         ///< table of the pages in which each sequence's keys lie
    std::size_t slots = absent;         ///< where new keys go in the pages
    std::size_t sums = absent;          ///< of the lengths of sequences whose tokens follow each other
    std::size_t global = absent;        ///< which tokens see all others and are seen by all; their packed weight and its bias stand before
    std::size_t blocks = absent;        ///< where the list of blocks that a row of them sees begins; the blocks follow
};

/// All absent where the operator is none of com.microsoft.
OpaqueInputs inputsOf(const Node& node);

/// Input and packed weight E x (Dq + Dk + Dv), as com.microsoft Attention has them.
bool hasPackedWeight(const Node& node);
/// Q, K, V from the outside, as com.microsoft MultiHeadAttention has them.
bool hasProjectedInputs(const Node& node);
/// Whether past keys and values lie in a buffer that present ones share: a length says how much of it is filled.
bool sharesPast(const Node& node);

/// DecoderAttention, where the file says what it does: its switches are inputs.
struct DecoderSwitches {
    bool cross = false;   ///< keys and values are of another sequence than queries, and stay
    bool past = false;    ///< a cache is read: of a cross attention all keys and values, else past ones
    bool padding = false; ///< a mask names the keys that are padding
};
/// None where the node is no DecoderAttention or data decide.
std::optional<DecoderSwitches> decoderSwitches(const Node& node, const Shapes& shapes);

/// Attention of Q, K and V in four axes by an operator that is neither of ai.onnx nor of com.microsoft: ai.onnx.preview FlexAttention
/// without graphs of its own, and PyTorch's scaled_dot_product_attention.
struct BareAttention {
    ValueId mask; ///< added to scores, or of type bool: which keys are seen
    bool causal = false; ///< query i sees the first i + 1 keys
    std::optional<double> scale;
};
/// None where the node is neither, or where data decide its options.
std::optional<BareAttention> bareAttention(const Node& node, const Shapes& shapes);
/// "DOMAIN.OP"; of an operator of PyTorch that an attribute names, that name.
std::string fullName(const Node& node);

/// How many past keys a shared buffer holds where only sizes are known: as many as the mask has places for beside the new ones, else
/// all but the new ones.
std::int64_t boundPast(const Node& node, const Shapes& shapes);
/// Whether a query of an operator with a number of keys for each sequence sees none behind its own position.
bool hidesLaterKeys(const Node& node);
/// Whether a logit beside those of the keys takes attention away: given for each head, or 0 for all.
bool hasSink(const Node& node);

} // namespace triptych
