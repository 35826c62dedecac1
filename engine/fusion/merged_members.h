#pragma once
// Projections of one parallel group as one product: what of each is joined with the others' along its columns.

#include "attention/weights.h"
#include "fusion/partition.h"

namespace triptych {

/// An operand that has something for each column.
struct HeldOperand {
    std::size_t input = 0;
    std::size_t axis = 0; ///< of the columns in it
    WeightSource source;
    std::string name; ///< "weight", "weight_scale", ...
};

/// One projection of a merged group, as plain as merging needs it.
struct MergedMember {
    NodeId product, bias, dequantised; ///< the Add behind it and the DequantizeLinear of its weight, or none
    std::vector<HeldOperand> held;     ///< of the DequantizeLinear where there is one, else of the product
    std::optional<WeightSource> biasSource;
    std::int64_t width = 0;
    ValueId input, output;

    NodeId holder() const { return dequantised ? dequantised : product; }
};

/// What keeps members apart: the product whose condition fails, and which it is.
struct MergeObstacle {
    NodeId at;
    std::string reason;
    bool quantised = false; ///< the product, or its weight: joined it would compute other numbers
};

/// All members, or why they can't be joined. A scale or zero point for all columns becomes one for each.
/// @param opset  of ai.onnx; before 13 DequantizeLinear has one scale only. 0: not known
tl::expected<std::vector<MergedMember>, MergeObstacle> mergedMembers(const Graph& graph, const Shapes& shapes, const ParallelGroup& parallel, std::int64_t opset);

/// The tensors of all members one behind the other along an axis.
TensorPtr joinedTensor(std::string name, const std::vector<WeightSource>& sources, std::size_t axis);

} // namespace triptych
