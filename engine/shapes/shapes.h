#pragma once
// Concrete shapes and types of every value under given bindings, and the constants that follow from them.

#include "onnx_io/model.h"
#include "reference/tensor.h"

#include <map>
#include <memory>

namespace triptych {

/// Sizes of symbolic dimensions of the inputs, by name: {"batch": 8}.
using Bindings = std::map<std::string, std::int64_t>;

/// A symbolic dimension of an input that a user can bind; or a choice: an input of one element that an If asks, by its name.
/// A switch is 0 or 1 (merged decoders have one for "with past keys"), a value is compared with a constant (a sample rate).
struct SymbolicDim {
    std::string name;             ///< as the file names it; unnamed ones are INPUT_dim_AXIS
    std::int64_t defaultSize = 1; ///< by use: batch 1, sequence and past length 128, image 224 or what the table of positions fits, samples 16000, channels and features what the
                                  ///< weight says, a switch 0, a value what it is compared with, else 1
    std::string use;              ///< as above, or "other"; "derived": an expression of others
    bool isChoice() const { return use == "switch" || use == "value"; }
    std::vector<std::string> inputs; ///< "input_ids[1]"
};

/// Those of the graph's inputs, in the order of first use.
std::vector<SymbolicDim> symbolicDims(const Graph& graph);

/// Gives every derived dimension the size that follows from the others.
void deriveSizes(const std::vector<SymbolicDim>& dims, Bindings& bindings);

/// Defaults overridden by `wanted`; derived ones follow where they are not wanted otherwise. Fails (stage "shapes") on an unknown name, listing the known ones, and on sizes < 0.
Result<Bindings> resolveBindings(const Graph& graph, const Bindings& wanted);

struct SequenceShape;

/// What is known of one value.
struct ValueShape {
    DataType type = DataType::undefined;
    bool ranked = false; ///< dims has the right length
    Dims dims;           ///< unknownDim where unknown
    std::shared_ptr<const SequenceShape> sequence = nullptr; ///< what is known of the tensors of a sequence; such a value has no rank
    bool known() const;  ///< ranked and every size known
    std::int64_t count() const; ///< product of the sizes; only where known()
};

struct SequenceShape {
    ValueShape each;                              ///< what holds for all of them
    std::optional<std::vector<ValueShape>> items; ///< one by one, where their number is known
};

/// A value whose declared sizes are not what its producer gives under the bindings.
struct DeclaredOtherwise {
    ValueId value;
    NodeId producer;
    Dims declared;
};

/// The same of a value in a body of a node.
struct DeclaredInside {
    NodeId holder;               ///< the outermost node that the body is in
    std::string value, producer; ///< as messages name them
    Dims declared, ours;
};

/// Shapes, types and folded constants of one graph. Immutable.
class Shapes {
public:
    /// Unknown for an optional value that is left out.
    const ValueShape& of(ValueId value) const {
        static const ValueShape nothing;
        return value ? m_shapes[value] : nothing;
    }
    /// Content of the value where it follows from constants and bound shapes alone and has at most `foldLimit` elements; else null.
    const HostTensor* constant(ValueId value) const;
    /// Its only element, as a double; empty unless constant with one element.
    std::optional<double> scalar(ValueId value) const;
    /// Depends on initializers, Constant nodes and shapes only, though its content may be absent or too large to fold.
    bool isConstant(ValueId value) const { return value && m_constant[value]; }
    /// Constant whatever sizes are bound: depends on initializers and Constant nodes only, not on shapes of what is fed in.
    bool isFixed(ValueId value) const { return value && m_fixed[value]; }
    /// Why the shape isn't known: "depends on the data of NonZero_12"; empty where it is.
    std::string reasonUnknown(ValueId value) const;
    const Bindings& bindings() const { return m_bindings; }
    const std::vector<std::string>& warnings() const { return m_warnings; }
    const std::vector<DeclaredOtherwise>& declaredOtherwise() const { return m_declaredOtherwise; }
    const std::vector<DeclaredInside>& declaredInside() const { return m_declaredInside; }
    std::size_t unknownCount() const;
    /// Values whose shape isn't known, and why.
    const std::map<ValueId, std::string>& unknown() const { return m_reasons; }

    static constexpr std::int64_t foldLimit = 4096;

private:
    friend class ShapeInference;
    IndexVector<ValueId, ValueShape> m_shapes;
    IndexVector<ValueId, bool> m_constant, m_fixed;
    std::unordered_map<ValueId, std::shared_ptr<const HostTensor>> m_constants;
    std::map<ValueId, std::string> m_reasons;
    Bindings m_bindings;
    std::vector<std::string> m_warnings;
    std::vector<DeclaredOtherwise> m_declaredOtherwise;
    std::vector<DeclaredInside> m_declaredInside;
};
using ShapesPtr = std::shared_ptr<const Shapes>;

/// Operator by operator in topological order. Cost: linear in nodes. `model` gives opsets and payload bytes of small
/// initializers; `graph` may be any graph derived from the model's. Fails only when stopped.
Result<ShapesPtr> inferShapes(const Model& model, const Graph& graph, const Bindings& bindings, const Job& job = {});

/// Warnings about what `shapes.declaredOtherwise()` and `declaredInside()` list and no other sizes of the inputs could mend. A file traced at one
/// size declares that size everywhere, so that its declarations are void, and no contradiction, once inputs have others.
/// Infers the shapes again, under several sizes, where there is anything to tell apart. Fails only when stopped.
Result<std::vector<std::string>> contradictions(const Model& model, const Graph& graph, const Shapes& shapes, const Job& job = {});

} // namespace triptych
