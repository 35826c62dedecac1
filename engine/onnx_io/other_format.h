#pragma once
// What a file is that isn't ONNX. Private to onnx_io.

#include <cstddef>
#include <span>
#include <string>

namespace triptych {

/// "this is a gzip archive; unpack it first": what it is, and what to do. "" where its bytes tell nothing.
/// Only to be asked of what could not be read as a model: some of these are alike.
std::string otherFormat(std::span<const std::byte> bytes);

} // namespace triptych
