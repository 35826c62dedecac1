#pragma once
// The window, from the command line's point of view.

#include "pipeline.h"

#include <optional>

namespace triptych {

struct OpenRequest {
    std::string file;       ///< "" for the empty window
    std::string screenshot; ///< PNG to save once both graphs are painted; then the program ends
    std::string timings;    ///< JSON with the milliseconds of each stage
    int width = 1600, height = 1000;
    std::string theme;      ///< "light", "dark", or "" for the system's
    std::string select;     ///< name of a node to select before the screenshot
    AnalysisOptions options;
};

/// Opens the window and runs until it is closed. @returns an exit status of the program.
int openWindow(int argc, char** argv, const OpenRequest& request);

} // namespace triptych
