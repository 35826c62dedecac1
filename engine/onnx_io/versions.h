#pragma once
// Operators of ai.onnx that came to mean something else. Private to onnx_io.

#include "graph/graph.h"

namespace triptych {

/// Whether a node that has a version of its own computes something else, or can't be read, under `imports`: forms that only
/// grew (more types, new attributes with a default) are no difference. Source: ONNX, docs/Changelog.md, opset 7 to 25.
bool differsUnder(const std::map<std::string, std::int64_t>& imports, const Node& node);

} // namespace triptych
