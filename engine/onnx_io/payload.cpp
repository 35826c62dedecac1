// The bytes of tensors, read when they are wanted.

#include "onnx_io/model.h"

#include <algorithm>
#include <cstring>

namespace triptych {

namespace {

tl::unexpected<Failure> absent(const Tensor& tensor) {
    const std::string& why = tensor.payload.missing;
    return fail("weights", "the weights of " + tensor.name + " are absent" + (why.empty() ? "" : ": " + why), "put the weights beside the model", tensor.name);
}

Result<std::vector<std::byte>> part(const MappedFile& file, const Tensor& tensor) {
    const auto bytes = file.bytes();
    const Payload& payload = tensor.payload;
    if (payload.offset > bytes.size() || payload.length > bytes.size() - payload.offset)
        return fail("weights", "the weights of " + tensor.name + " lie beyond the end of " + file.path().filename().string(), "copy or export the file again", tensor.name);
    const auto cut = bytes.subspan(payload.offset, payload.length);
    return std::vector<std::byte>(cut.begin(), cut.end());
}

/// `parts` of matrices and vectors joined along an axis.
Result<std::vector<std::byte>> derived(const Model& model, const Tensor& tensor) {
    const auto size = tensor.byteSize();
    const std::size_t width = static_cast<std::size_t>(bitsOf(tensor.type)) / 8;
    if (!size || width == 0) return fail("weights", "its type can't be cut", "keep it packed", tensor.name);
    const auto axis = static_cast<std::size_t>(tensor.payload.axis);
    std::size_t outer = 1, inner = width;
    for (std::size_t i = 0; i < tensor.dims.size(); ++i) {
        if (i < axis) outer *= static_cast<std::size_t>(tensor.dims[i]);
        if (i > axis) inner *= static_cast<std::size_t>(tensor.dims[i]);
    }
    const std::size_t rowBytes = static_cast<std::size_t>(tensor.dims[axis]) * inner;
    std::vector<std::byte> whole(*size);
    std::size_t column = 0;
    // Parts often come from one base: read it once.
    TensorPtr readBase;
    std::vector<std::byte> base;
    for (const TensorPart& each : tensor.payload.parts) {
        if (each.base != readBase) {
            auto read = readPayload(model, *each.base);
            if (!read) return tl::unexpected(read.error());
            base = std::move(*read);
            readBase = each.base;
        }
        Dims dims = each.base->dims;
        if (each.transposed) std::reverse(dims.begin(), dims.end());
        // A vector cut out of a matrix's columns, or a tensor of the same rank.
        const std::size_t along = static_cast<std::size_t>(dims.at(axis));
        const std::size_t first = static_cast<std::size_t>(each.begin), count = static_cast<std::size_t>(each.length);
        if (first > along || count > along - first || (column + count) * inner > rowBytes || base.size() < outer * along * inner)
            return fail("weights", "a part lies outside of " + each.base->name, "export the model again", tensor.name);
        for (std::size_t row = 0; row < outer; ++row) {
            std::byte* to = whole.data() + row * rowBytes + column * inner;
            if (!each.transposed) {
                std::memcpy(to, base.data() + (row * along + first) * inner, count * inner);
                continue;
            }
            // axis 0: rows of the result are columns of the base; axis 1: the other way round.
            const std::size_t rows = static_cast<std::size_t>(dims[0]), columns = static_cast<std::size_t>(dims[1]);
            if (axis == 1) {
                for (std::size_t i = 0; i < count; ++i) std::memcpy(to + i * width, base.data() + ((first + i) * rows + row) * width, width);
            } else {
                for (std::size_t i = 0; i < count; ++i)
                    for (std::size_t j = 0; j < columns; ++j) std::memcpy(to + (i * columns + j) * width, base.data() + (j * rows + first + i) * width, width);
            }
        }
        column += count;
    }
    return whole;
}

} // namespace

Result<std::vector<std::byte>> readPayload(const Model& model, const Tensor& tensor) {
    const Payload& payload = tensor.payload;
    switch (payload.place) {
    case Payload::Place::memory: return *payload.bytes;
    case Payload::Place::model:
        if (!model.file) return absent(tensor);
        return part(*model.file, tensor);
    case Payload::Place::external: {
        const auto file = MappedFile::open(model.path.parent_path() / payload.file);
        if (!file) return absent(tensor);
        return part(**file, tensor);
    }
    case Payload::Place::derived: return derived(model, tensor);
    case Payload::Place::absent: break;
    }
    return absent(tensor);
}

} // namespace triptych
