#include "graph/text.h"
#include "onnx_io/model.h"

#include <cstdio>

int main(int argc, char** argv) {
    const auto model = triptych::importModel(argc > 1 ? argv[1] : "");
    if (!model) {
        std::fprintf(stderr, "%s\n", model.error().message().c_str());
        return 1;
    }
    std::printf("%zu nodes\n", (*model)->graph->nodes().size());
    return 0;
}
