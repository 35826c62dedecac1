#pragma once
// Writes a graph as an ONNX file.

#include "onnx_io/model.h"

namespace triptych {

/// Key of a node's metadata_props: a JSON list of the names of the nodes of the source file that it stands for.
inline constexpr std::string_view sourcesKey = "triptych.sources";

/// Domain of the functions that fused groups become: pieces of a model, not operators that somebody defined.
inline constexpr std::string_view fusedDomain = "triptych";

struct ExportRequest {
    const Model& source;              ///< its header, and where payloads lie
    const Graph& graph;               ///< what is written
    std::vector<Function> functions;  ///< model-local functions that it calls
    Metadata metadata;                ///< added to the source's, or in place of what has the same key there
    /// Weights above this, all together, go to OUT.data beside the file; so they do where the source keeps them outside.
    std::uint64_t mostInside = 1'500'000'000;
};

/// Atomic: OUT appears whole or not at all. Weights are copied piece by piece from their file.
/// Fails with stage "weights" where bytes are promised but absent, with stage "write" where OUT can't be written.
Result<void> exportModel(const ExportRequest& request, const std::filesystem::path& out, const Job& job = {});

} // namespace triptych
