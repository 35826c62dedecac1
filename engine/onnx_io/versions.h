#pragma once
// Operators of ai.onnx that came to mean something else. Private to onnx_io.

#include "graph/graph.h"

namespace triptych {

/// Whether a node written for one version of ai.onnx computes something else, or can't be read, under the other: forms that
/// only grew (more types, new attributes with a default) are no difference. Source: ONNX, docs/Changelog.md, opset 7 to 25.
bool differsBetween(const Node& node, std::int64_t one, std::int64_t other);

} // namespace triptych
