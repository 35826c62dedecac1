#pragma once
// A body put into a graph in place of the node that holds or calls it. Private to engine/onnx_io.

#include "onnx_io/model.h"

#include <unordered_map>

namespace triptych {

/// An honest model has nothing near this, but a function may call another 2^30 times.
constexpr std::size_t mostInlinedNodes = 2'000'000;

/// Bytes of names and attributes that may be copied into what calls and branches become: a call of a long name costs it for
/// each node of the function, and a long list of a function's for each of its calls.
class CopyBudget {
public:
    /// By what is in the model's file.
    explicit CopyBudget(const Model& model);
    /// False once too much was copied.
    bool take(std::size_t bytes);
    bool take(const Node& node);
    bool take(const Value& value, const std::string& name);
    tl::unexpected<Failure> spent(const std::string& call) const;

private:
    std::size_t m_left;
};

struct Body {
    const Graph& graph;
    std::string prefix;  ///< of the names of what is put in; empty: names stay as they are where they are free
    std::string scope;   ///< module path of nodes that have none
    std::vector<SourceId> sources;
    bool seesOuter = false; ///< values that nothing in it gives are those of the same name in the graph that it is put into
    /// An attribute as it holds here; none where it is left out.
    std::function<std::optional<Attribute>(const Attribute&)> attribute;
    /// Takes a node that is not added as it is (a call of another function); false where it is.
    std::function<Result<bool>(const Node&)> take;
    CopyBudget& budget;
};

/// Adds a body's nodes. `actual` maps its values to those outside: inputs before the call; outputs are bound here to `outputs`,
/// with a copy where the body gives an input out or one value twice. Fails beyond mostInlinedNodes and the budget.
Result<void> splice(GraphBuilder& builder, const Body& body, std::unordered_map<ValueId, ValueId>& actual, const std::vector<ValueId>& outputs);

} // namespace triptych
