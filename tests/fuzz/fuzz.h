#pragma once
// What the fuzz targets share: bytes as a model file, and the stages up to the one in question.

#include "pipeline.h"

#include <cstdint>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

namespace triptych::fuzz {

/// Bytes as a file that can be mapped; gone with the object.
class MemoryFile {
public:
    MemoryFile(const std::uint8_t* bytes, std::size_t size) : m_number(::memfd_create("model.onnx", 0)) {
        for (std::size_t at = 0; m_number >= 0 && at < size;) {
            const auto written = ::write(m_number, bytes + at, size - at);
            if (written <= 0) break;
            at += static_cast<std::size_t>(written);
        }
    }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;
    ~MemoryFile() { ::close(m_number); }
    std::string path() const { return "/proc/self/fd/" + std::to_string(m_number); }

private:
    int m_number;
};

enum class Depth { import, shapes, analysis };

/// Every outcome but a crash is right.
inline void run(const std::uint8_t* bytes, std::size_t size, Depth depth) {
    const MemoryFile file(bytes, size);
    const auto model = importModel(file.path());
    if (!model || depth == Depth::analysis) {
        if (model) (void)analyze(*model, AnalysisOptions());
        return;
    }
    const auto inlined = inlineFunctions(**model, *(*model)->graph, {});
    if (!inlined || depth == Depth::import) return;
    const auto bindings = resolveBindings(**inlined, {});
    if (bindings) (void)inferShapes(**model, **inlined, *bindings);
}

} // namespace triptych::fuzz
