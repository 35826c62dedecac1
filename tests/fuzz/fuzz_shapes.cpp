#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    triptych::fuzz::run(bytes, size, triptych::fuzz::Depth::shapes);
    return 0;
}
