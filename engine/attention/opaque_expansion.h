#pragma once
// One opaque attention under way to explicit operators. Private to engine/attention.

#include "attention/expand.h"

namespace triptych {

class OpaqueExpansion {
public:
    OpaqueExpansion(Emitter& emit, const OpaqueCall& call) : m_emit(emit, call), m_call(call), m_node(call.node), m_spec(call.spec), m_inputs(inputsOf(call.node)) {}
    Result<NamedAttention> run();

private:
    // expand_opaque.cpp
    std::string unknownOption() const;
    std::string newerAttribute() const;
    bool cutsByData() const;
    std::string unknownOfGrouped() const;
    std::string unknownOfPaged() const;
    ValueId constant(const char* name, double value) { return m_emit.number(name, m_type, value); }
    /// A weight or bias whose parts can be cut out: given, and its content at hand where a file is written.
    bool cuttable(ValueId value) const;
    void core();
    void merge(ValueId context);
    /// Scores as the operator hands them out after a step: 0 the product, 1 soft cap, 2 masks, 3 softmax.
    void show(std::int64_t step, ValueId value);
    ValueId softmax(ValueId scores, bool guarded);
    ValueId withSink(ValueId scores);

    // expand_inputs.cpp
    void inputs();
    void packedWeight();
    std::vector<ValueId> rolesOf(ValueId weight, ValueId bias, const std::vector<ValueId>& quantisation, const std::string& prefix, const std::array<std::vector<std::string>*, 3>& names);
    ValueId projected(const std::string& role, ValueId weight, ValueId bias, const std::vector<ValueId>& quantisation);
    void heads(const std::vector<ValueId>& parts, const std::array<std::size_t, 3>& ranks);
    void partsOf(ValueId packed, std::int64_t axis, const std::vector<std::pair<const char*, ValueId*>>& roles);
    void addBias(ValueId& q, ValueId& k, ValueId& v);
    ValueId splitHeads(const std::string& role, ValueId value, std::int64_t heads, std::int64_t size, std::size_t rank);
    ValueId repeatHeads(const std::string& role, ValueId value, std::int64_t size);
    ValueId places();
    ValueId padded(const std::string& role, ValueId tokens, std::int64_t heads, std::int64_t size);

    // expand_cache.cpp
    void past();
    ValueId pastLength();
    void sharedPast();
    ValueId ofBeams(const std::string& role, ValueId kept);
    std::pair<ValueId, ValueId> pastParts();
    void present(ValueId k, ValueId v);
    bool keysInBlocks() const;
    ValueId reordered(const std::string& role, ValueId buffer, bool back);

    // expand_grouped.cpp
    void groupedPast();
    bool bringsKeys() const;
    ValueId keysBefore(ValueId now, ValueId total);
    ValueId seenKeys();
    struct Counts {
        ValueId kept, added, total; ///< keys of each sequence that the past gives, new ones, and all of the longest sequence
    };
    ValueId joined(const std::string& role, ValueId past, ValueId value, const Counts& counts, ValueId present);
    ValueId cached(const std::string& role, ValueId past, ValueId value, const Counts& counts, ValueId present);
    ValueId picked(const std::string& role, ValueId past, ValueId value, ValueId index, ValueId present);
    ValueId residents(ValueId seen, ValueId places);
    void placeWindow(ValueId now);
    ValueId windowed(const std::string& role, ValueId past, ValueId value, ValueId now, ValueId present);

    // expand_codes.cpp
    /// How a cache holds keys or values [B,K,T,size]: as they are, or as codes with a scale.
    struct Codes {
        ValueId scale;
        DataType type = DataType::undefined; ///< of the cache: uint8 is two codes of 4 bits in a byte
        std::int64_t size = 0;               ///< of a head

        bool isFloat8() const { return type == DataType::float8e4m3fn; }
        bool inHalves() const { return scale && type == DataType::uint8; }
        std::int64_t width() const { return inHalves() ? size / 2 : size; } ///< of a head in the cache
    };
    /// Of keys (0) or values (1).
    Codes codesOf(std::size_t role) const;
    std::string unknownCodes(std::size_t role) const;
    ValueId quantised(const std::string& role, ValueId x, const Codes& codes);
    ValueId dequantised(const std::string& role, ValueId cache, const Codes& codes);
    ValueId opened(const std::string& role, ValueId cache, const Codes& codes);
    ValueId handedOn(const std::string& role, const Codes& codes, ValueId present);
    void close(const std::string& role, const Codes& codes, ValueId kept, ValueId present);

    // expand_decoder.cpp
    void decoder(const DecoderSwitches& does);
    ValueId projectedBy(const std::string& role, ValueId x, ValueId weight, ValueId bias, std::vector<std::string>& names);

    // expand_heads.cpp
    void turnHeads(ValueId positions);
    void turnByAngles();
    ValueId normalised(const std::string& role, ValueId x, ValueId weight);
    ValueId widened(const std::string& role, ValueId value);
    ValueId narrowed(const std::string& role, ValueId value);
    ValueId rotated(const std::string& role, ValueId x, ValueId positions, std::int64_t heads);
    ValueId turnedBy(const std::string& role, ValueId x, ValueId cosine, ValueId sine, std::int64_t half, std::int64_t heads, std::int64_t size);

    // expand_banded.cpp
    ValueId withGlobal(ValueId context);

    // expand_paged.cpp
    struct Tokens {
        ValueId sequence, place, position; ///< of each token: which it is of, how far it is in it, its position with the past where that is asked for [tokens]
    };
    void paged();
    bool isLatent() const;
    Tokens tokensOf(ValueId past);
    ValueId placesOfPage(const std::string& role);
    ValueId rowsOfPages(const std::string& role);
    ValueId slotsOf(const Tokens& tokens);
    ValueId rowsOfKeys(ValueId total);
    ValueId intoPages(const std::string& role, ValueId cache, ValueId tokens, ValueId slots, std::int64_t width, ValueId present);
    void padQueries(const Tokens& tokens, ValueId lengths);

    OpaqueEmitter m_emit;
    const OpaqueCall& m_call;
    const Node& m_node;
    const AttentionSpec& m_spec;
    const OpaqueInputs m_inputs;
    const std::int64_t m_kvHeads = m_spec.operandKvHeads > 0 ? m_spec.operandKvHeads : m_spec.kvHeads;
    NamedAttention m_named;
    ValueId m_q, m_k, m_v;
    ValueId m_past, m_before; ///< past keys; how many of them, where that is not all
    ValueId m_keys;           ///< positions of keys [B,1,1,T], where those of a window's cache aren't counted from 0
    ValueId m_filled;         ///< which places of keys hold one [B,1,1,T], where that doesn't follow from how many there are
    ValueId m_firstKept;      ///< position of the first key in it [B,1,1,1]
    ValueId m_places;         ///< of packed tokens among padding [tokens]
    DataType m_type = DataType::float32;
    bool m_fourAxes = false;
    std::int64_t m_opset = m_emit.base().opset();
};

} // namespace triptych
