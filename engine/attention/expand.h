#pragma once
// Opaque attention under expansion. Private to engine/attention.

#include "attention/opaque_inputs.h"
#include "attention/rewrite.h"
#include "attention/sizes.h"

#include <array>

namespace triptych {

/// What the expansion of one operator shares.
struct OpaqueCall {
    const Graph& graph;
    const Shapes& shapes;
    const AttentionSpec& spec;
    const Node& node;
    Expansion expansion;
    const Sizes& sizes;
    const InputApart& apart;

    bool microsoft() const { return node.domain == "com.microsoft"; }
    bool standard() const { return node.is("Attention"); }
    std::optional<BareAttention> bare() const { return bareAttention(node, shapes); }
    /// Keys and values have heads of their own, and each sequence a number of keys.
    bool grouped() const { return microsoft() && node.input(inputsOf(node).lengths); }
    std::size_t rankOf(ValueId value) const { return value ? shapes.of(value).dims.size() : 0; }
    /// An output that something reads or that the graph gives out.
    ValueId wanted(std::size_t output) const {
        const ValueId value = node.output(output);
        return value && (!graph.readers(value).empty() || graph.isOutput(value)) ? value : ValueId();
    }
};

/// Operators over a growing expansion, by the version of ai.onnx that the file imports.
class OpaqueEmitter {
public:
    OpaqueEmitter(Emitter& emit, const OpaqueCall& call) : m_emit(emit), m_call(call) {}

    Emitter& base() { return m_emit; }
    ValueId op(const std::string& role, const char* type, std::vector<ValueId> inputs, std::vector<Attribute> attributes = {}, ValueId output = {}) {
        return m_emit.op(role, type, std::move(inputs), std::move(attributes), output);
    }
    ValueId list(const std::string& name, std::vector<std::int64_t> values) { return m_emit.integers(m_emit.prefix() + "/" + name, std::move(values)); }
    ValueId number(const std::string& name, DataType type, double value) { return m_emit.scalar(m_emit.prefix() + "/" + name, type, value); }
    ValueId cast(const std::string& role, ValueId value, DataType type);
    ValueId slice(const std::string& role, ValueId value, std::int64_t axis, std::int64_t begin, std::int64_t end, std::int64_t step = 1);
    ValueId gather(const std::string& role, ValueId value, std::int64_t axis, std::int64_t index);
    ValueId unsqueeze(const std::string& role, ValueId value, std::int64_t axis);
    /// Of each row along the last axis, kept as an axis of size 1: by ReduceMax, ReduceMean or ReduceSum.
    ValueId reduced(const std::string& role, const char* type, ValueId value);
    /// [n]: the size of a value along an axis.
    ValueId sizeOf(const std::string& role, ValueId value, std::int64_t axis);
    /// 0, 1, ... as far as a size [n] says, as int64 [n].
    ValueId upTo(const std::string& role, ValueId size);
    /// Part of a constant or of a computed value along an axis.
    ValueId part(const std::string& role, ValueId value, std::int64_t axis, std::int64_t begin, std::int64_t length, const std::string& name);

private:
    Emitter& m_emit;
    const OpaqueCall& m_call;
};

/// What hides keys and what is added to scores.
class MaskExpansion {
public:
    /// @param keys    positions of keys [B,1,1,T]; none where they count from 0
    /// @param filled  which places of keys hold one [B,1,1,T]; none where that follows from their number
    MaskExpansion(OpaqueEmitter& emit, const OpaqueCall& call, DataType type, ValueId keys, ValueId filled) : m_emit(emit), m_call(call), m_type(type), m_keys(keys), m_filled(filled) {}
    /// @param past    value that holds past keys [B,N,P,D]; none where there is none
    /// @param before  how many keys came before, where that isn't the length of `past`: [1], for grouped queries [B,1,1,1]
    /// @returns masked scores
    ValueId apply(ValueId scores, ValueId past, ValueId before);
    /// Whether a row may hide all its keys.
    bool mayHideAll() const { return m_mayHideAll; }
    /// An option that isn't known; empty where all are.
    static std::string unknown(const OpaqueCall& call);

private:
    ValueId hide(ValueId scores, ValueId shown, const char* role);
    ValueId causal(ValueId scores, ValueId offset);
    ValueId windows(ValueId scores, ValueId offset);
    ValueId standard(ValueId scores, ValueId past);
    bool shorterThanKeys(ValueId mask) const;
    /// `fill` for the keys that a mask leaves out; `floats` is the mask as what is added to scores.
    ValueId padded(ValueId floats, ValueId mask, ValueId scores, ValueId fill);
    ValueId bare(ValueId scores, const BareAttention& options);
    ValueId classic(ValueId scores, ValueId past, ValueId before);
    /// Packed tokens: keys within the length of their own sequence.
    ValueId ownSequence(ValueId scores);
    ValueId filtered(ValueId scores, ValueId shown);
    ValueId ranged(ValueId scores, ValueId list, Dim length);
    ValueId atKeys(ValueId bias, ValueId scores);
    ValueId groupedQuery(ValueId scores, ValueId before);
    ValueId blocks(ValueId scores, ValueId before);
    ValueId tableOfBlocks();
    ValueId banded(ValueId scores);
    ValueId rows(ValueId scores, ValueId offset);
    ValueId columns(ValueId scores);

    OpaqueEmitter& m_emit;
    const OpaqueCall& m_call;
    DataType m_type;
    ValueId m_keys, m_filled;
    bool m_mayHideAll = false;
};

} // namespace triptych
