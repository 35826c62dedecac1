#pragma once
// Versions of ai.onnx that a model imports, and operators that came to mean something else.

#include "graph/graph.h"

namespace triptych {

/// The version of ai.onnx; 0 where none is imported.
std::int64_t standardVersion(const std::map<std::string, std::int64_t>& imports);

/// Whether a node that has a version of its own computes something else, or can't be read, under `imports`: forms that only
/// grew (more types, new attributes with a default) are no difference. Source: ONNX, docs/Changelog.md, opset 7 to 25.
bool differsUnder(const std::map<std::string, std::int64_t>& imports, const Node& node);

} // namespace triptych
