#pragma once
// What the shape rules of operators share. Private to engine/shapes.

#include "shapes/shapes.h"

#include <functional>

namespace triptych {

/// What rules ask of values; a function each.
struct Known {
    const std::function<const ValueShape&(ValueId)>& shape;
    const std::function<const HostTensor*(ValueId)>& constant;     ///< null where its content is unknown
};

/// One node under inference: what is known of its inputs, and where its outputs go.
class RuleCall {
public:
    RuleCall(const Node& node, std::int64_t opset, const Known& known) : node(node), opset(opset), m_known(known), m_outputs(node.outputs.size()) {}

    const Node& node;
    std::int64_t opset;

    bool has(std::size_t index) const { return node.input(index).valid(); }
    /// Unknown where left out.
    const ValueShape& in(std::size_t index) const;
    const HostTensor* constant(std::size_t index) const;
    /// The first input whose content was asked for in vain; no value where none was.
    ValueId wanting() const { return m_wanting; }
    /// Null where it is none, or nothing is known of it.
    const SequenceShape* sequence(std::size_t index) const { return in(index).sequence.get(); }
    /// Integers of a constant input or, where there is no such input, of the attribute; empty optional where unknown.
    std::optional<std::vector<std::int64_t>> list(std::size_t index, std::string_view attribute) const;
    /// The only element of a constant input, cut to an integer; empty where unknown or left out.
    std::optional<std::int64_t> integer(std::size_t index) const;
    std::size_t inputCount() const { return node.inputs.size(); }

    /// Where there are more than highestRank axes, the type alone is known.
    void set(std::size_t index, DataType type, Dims dims);
    /// Type known, rank not.
    void setType(std::size_t index, DataType type);
    void set(std::size_t index, ValueShape shape);
    /// The output is a sequence, and no tensor.
    void setSequence(std::size_t index, SequenceShape sequence);
    std::vector<ValueShape>& outputs() { return m_outputs; }
    /// Why an output's shape can't follow: its data decide.
    std::string dataDependent;
    /// What doesn't go together in its inputs' sizes: the model is broken, or sizes are bound that don't fit each other.
    std::string misfit;

private:
    Known m_known;
    mutable ValueId m_wanting;
    std::vector<ValueShape> m_outputs;
};

using Rule = void (*)(RuleCall&);
using RuleTable = std::unordered_map<std::string_view, Rule>;

/// Axis from the front; empty where it doesn't fit.
std::optional<std::size_t> axisIn(std::int64_t axis, std::size_t rank);
/// NumPy's rule, unknown sizes kept; sizes that don't go together become unknown.
Dims broadcast(const Dims& a, const Dims& b);
/// Whether NumPy's rule lets two shapes go together, as far as they are known.
bool goTogether(const Dims& a, const Dims& b);
/// Sum and product of sizes that may be unknown.
Dim plus(Dim a, Dim b);
Dim times(Dim a, Dim b);
/// A size that grows, or (by < 0) shrinks: not below 0.
Dim resized(Dim size, std::int64_t by);
/// Unknown where there is no such axis.
Dim sizeAt(const ValueShape& shape, std::size_t axis);
/// One of a list attribute that may be absent (null) or too short.
std::int64_t entry(const std::vector<std::int64_t>* list, std::size_t index, std::int64_t absent);
/// The same within ±2^31, so that sums and products of two can't overflow: for pads, strides and the like of damaged files.
std::int64_t modest(const std::vector<std::int64_t>* list, std::size_t index, std::int64_t absent);
/// What holds whichever of the two a value, or a sequence, has.
ValueShape common(const ValueShape& a, const ValueShape& b);
SequenceShape common(const SequenceShape& a, const SequenceShape& b);
/// A sequence of which this is known.
ValueShape sequenceOf(SequenceShape known);
/// Of some tensors, one by one: what holds for all.
ValueShape commonOf(const std::vector<ValueShape>& items);

/// As numpy.matmul.
ValueShape multiplied(const ValueShape& a, const ValueShape& b, DataType type);
/// Two matrices, each turned where transA and transB say so.
ValueShape general(const RuleCall& call, const ValueShape& a, const ValueShape& b, DataType type);
/// By strides, dilations, pads and auto_pad of the node; the weights are M x C x sizes wherever the channels of the input are.
ValueShape convolved(const RuleCall& call, const ValueShape& in, const ValueShape& weight, DataType type, bool channelsLast);
ValueShape pooled(const RuleCall& call, bool channelsLast);

void addPlainRules(RuleTable& table);
void addViewRules(RuleTable& table);
void addProductRules(RuleTable& table);
void addAttentionRules(RuleTable& table);
void addSequenceRules(RuleTable& table);
void addSignalRules(RuleTable& table);
void addImageRules(RuleTable& table);
void addTrainingRules(RuleTable& table);
void addTextRules(RuleTable& table);
void addMlRules(RuleTable& table);
void addQuantizedRules(RuleTable& table);
void addMicrosoftRules(RuleTable& table);
void addMicrosoftAttentionRules(RuleTable& table);

} // namespace triptych
