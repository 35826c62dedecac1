#include "onnx_io/versions.h"

#include <algorithm>

namespace triptych {

bool differsBetween(const Node& node, std::int64_t one, std::int64_t other) {
    /// The version from which on an operator is another.
    static const std::map<std::string_view, std::int64_t> changes{
        {"BatchNormalization", 14}, {"Clip", 11}, {"Dropout", 12}, {"GroupNormalization", 21}, {"Hardmax", 13},
        {"LogSoftmax", 13}, {"Pad", 11}, {"ReduceL1", 18}, {"ReduceL2", 18}, {"ReduceLogSum", 18},
        {"ReduceLogSumExp", 18}, {"ReduceMax", 18}, {"ReduceMean", 18}, {"ReduceMin", 18}, {"ReduceProd", 18},
        {"ReduceSum", 13}, {"ReduceSumSquare", 18}, {"Resize", 11}, {"Scan", 9}, {"Slice", 10},
        {"Softmax", 13}, {"Split", 13}, {"Squeeze", 13}, {"TopK", 10}, {"Unsqueeze", 13}, {"Upsample", 9}};
    if (!node.domain.empty()) return false;
    const auto change = changes.find(node.op);
    return change != changes.end() && std::min(one, other) < change->second && change->second <= std::max(one, other);
}

} // namespace triptych
