#include "onnx_io/versions.h"

#include <algorithm>

namespace triptych {

std::int64_t standardVersion(const std::map<std::string, std::int64_t>& imports) {
    const auto found = imports.find("");
    return found == imports.end() ? 0 : found->second;
}

bool differsUnder(const std::map<std::string, std::int64_t>& imports, const Node& node) {
    /// The version from which on an operator is another.
    static const std::map<std::string_view, std::int64_t> changes{
        {"BatchNormalization", 14}, {"Clip", 11}, {"DFT", 20}, {"Dropout", 12}, {"GroupNormalization", 21}, {"Hardmax", 13},
        {"LogSoftmax", 13}, {"Pad", 11}, {"ReduceL1", 18}, {"ReduceL2", 18}, {"ReduceLogSum", 18},
        {"ReduceLogSumExp", 18}, {"ReduceMax", 18}, {"ReduceMean", 18}, {"ReduceMin", 18}, {"ReduceProd", 18},
        {"ReduceSum", 13}, {"ReduceSumSquare", 18}, {"Resize", 11}, {"Scan", 9}, {"Slice", 10},
        {"Softmax", 13}, {"Split", 13}, {"Squeeze", 13}, {"TopK", 10}, {"Unsqueeze", 13}, {"Upsample", 9}};
    if (!node.domain.empty() || node.ownVersion == 0) return false;
    const auto change = changes.find(node.op);
    const auto imported = imports.find("");
    if (change == changes.end() || imported == imports.end()) return false;
    const auto [earlier, later] = std::minmax(node.ownVersion, imported->second);
    return earlier < change->second && change->second <= later;
}

} // namespace triptych
