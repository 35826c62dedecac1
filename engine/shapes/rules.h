#pragma once
// What the shape rules of operators share. Private to engine/shapes.

#include "shapes/shapes.h"

#include <functional>

namespace triptych {

/// One node under inference: what is known of its inputs, and where its outputs go.
class RuleCall {
public:
    RuleCall(const Node& node, std::int64_t opset, const std::function<const ValueShape&(ValueId)>& shapeOf,
             const std::function<const HostTensor*(ValueId)>& constantOf)
        : node(node), opset(opset), m_shapeOf(shapeOf), m_constantOf(constantOf), m_outputs(node.outputs.size()) {}

    const Node& node;
    std::int64_t opset;

    bool has(std::size_t index) const { return node.input(index).valid(); }
    /// Unknown where left out.
    const ValueShape& in(std::size_t index) const;
    const HostTensor* constant(std::size_t index) const { return has(index) ? m_constantOf(node.input(index)) : nullptr; }
    /// Integers of a constant input or, where there is no such input, of the attribute; empty optional where unknown.
    std::optional<std::vector<std::int64_t>> list(std::size_t index, std::string_view attribute) const;
    std::size_t inputCount() const { return node.inputs.size(); }

    void set(std::size_t index, DataType type, Dims dims);
    /// Type known, rank not.
    void setType(std::size_t index, DataType type);
    void set(std::size_t index, const ValueShape& shape);
    std::vector<ValueShape>& outputs() { return m_outputs; }
    /// Why an output's shape can't follow: its data decide.
    std::string dataDependent;

private:
    const std::function<const ValueShape&(ValueId)>& m_shapeOf;
    const std::function<const HostTensor*(ValueId)>& m_constantOf;
    std::vector<ValueShape> m_outputs;
};

using Rule = void (*)(RuleCall&);
using RuleTable = std::unordered_map<std::string_view, Rule>;

/// Axis from the front; empty where it doesn't fit.
std::optional<std::size_t> axisIn(std::int64_t axis, std::size_t rank);
/// NumPy's rule, unknown sizes kept; sizes that don't go together become unknown.
Dims broadcast(const Dims& a, const Dims& b);
/// Sum and product of sizes that may be unknown.
Dim plus(Dim a, Dim b);
Dim times(Dim a, Dim b);

void addPlainRules(RuleTable& table);
void addViewRules(RuleTable& table);
void addProductRules(RuleTable& table);
void addAttentionRules(RuleTable& table);

} // namespace triptych
