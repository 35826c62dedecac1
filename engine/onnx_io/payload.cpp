// The bytes of tensors, read when they are wanted.

#include "onnx_io/decode.h"

#include <algorithm>
#include <cstring>
#include <fstream>

namespace triptych {

namespace {

tl::unexpected<Failure> absent(const Tensor& tensor) {
    const std::string& why = tensor.payload.missing;
    return fail("weights", "the weights of " + tensor.name + " are absent" + (why.empty() ? "" : ": " + why), "put the weights beside the model", tensor.name);
}

tl::unexpected<Failure> changedMeanwhile(const std::filesystem::path& file, const Tensor& tensor) {
    return fail("weights", file.filename().string() + " was written to since it was opened", "open it again once it is complete", tensor.name);
}

/// Where a tensor's external data lies. What was checked at import must still hold: a link that was put there since may
/// lead out of the folders that the model may read, and other bytes are not this model's.
Result<std::filesystem::path> externalPlace(const Model& model, const Tensor& tensor) {
    const auto known = model.dataFiles.find(tensor.payload.file);
    if (known == model.dataFiles.end()) return absent(tensor);
    const auto& [place, stamp] = known->second;
    std::error_code error;
    if (std::filesystem::canonical(place, error) != place || error || stampOf(place) != stamp) return changedMeanwhile(place, tensor);
    return place;
}

/// The payload's bytes in its file, untouched.
Result<std::span<const std::byte>> part(const MappedFile& file, const Tensor& tensor) {
    const auto bytes = file.bytes();
    const Payload& payload = tensor.payload;
    if (file.altered()) return changedMeanwhile(file.path(), tensor);
    if (payload.offset > bytes.size() || payload.length > bytes.size() - payload.offset)
        return fail("weights", "the weights of " + tensor.name + " lie beyond the end of " + file.path().filename().string(), "copy or export the file again", tensor.name);
    return bytes.subspan(payload.offset, payload.length);
}

/// Bytes that lie in memory or in a mapped file: either is held as long as the view.
struct View {
    std::shared_ptr<const void> holder;
    std::span<const std::byte> bytes;
    std::shared_ptr<const MappedFile> file; ///< null in memory
    bool altered() const { return file && file->altered(); }
};

/// A few bytes of a file, without mapping the rest: thousands of small tensors may lie in one.
Result<View> piece(const std::filesystem::path& path, const Tensor& tensor) {
    std::ifstream file(path, std::ios::binary);
    auto bytes = std::make_shared<std::vector<std::byte>>(tensor.payload.length);
    if (!file) return absent(tensor);
    file.seekg(static_cast<std::streamoff>(tensor.payload.offset));
    if (!file.read(reinterpret_cast<char*>(bytes->data()), static_cast<std::streamsize>(bytes->size())))
        return fail("weights", "the weights of " + tensor.name + " lie beyond the end of " + path.filename().string(), "copy or export the file again", tensor.name);
    return View{bytes, *bytes, nullptr};
}

/// One varint for each element, each cut to the width of the tensor's type.
Result<View> unpacked(const MappedFile& file, const Tensor& tensor, std::span<const std::byte> packed) {
    const std::size_t width = static_cast<std::size_t>(bitsOf(tensor.type)) / 8, size = tensor.byteSize().value_or(0);
    auto bytes = std::make_shared<std::vector<std::byte>>();
    bytes->reserve(std::min(size, packed.size() * width));
    WireReader reader(packed);
    for (std::uint64_t number = 0; bytes->size() < size && !reader.atEnd() && reader.varint(number);) {
        const auto* first = reinterpret_cast<const std::byte*>(&number);
        bytes->insert(bytes->end(), first, first + width);
    }
    if (file.altered()) return changedMeanwhile(file.path(), tensor);
    if (bytes->size() != size || !reader.atEnd()) return fail("weights", "its data doesn't fill its shape", "export the model again", tensor.name);
    return View{bytes, *bytes, nullptr};
}

Result<View> view(const Model& model, const Tensor& tensor) {
    constexpr std::uint64_t fewBytes = 64 << 10;
    const Payload& payload = tensor.payload;
    if (payload.place == Payload::Place::memory) return View{payload.bytes, *payload.bytes, nullptr};
    std::shared_ptr<const MappedFile> file = model.file;
    if (payload.place == Payload::Place::external) {
        auto place = externalPlace(model, tensor);
        if (!place) return tl::unexpected(place.error());
        if (payload.length <= fewBytes) return piece(*place, tensor);
        auto opened = MappedFile::open(*place);
        if (!opened) return absent(tensor);
        file = *opened;
    } else if (payload.place != Payload::Place::model) {
        return absent(tensor);
    }
    if (!file) return absent(tensor);
    auto bytes = part(*file, tensor);
    if (!bytes) return tl::unexpected(bytes.error());
    if (payload.varints) return unpacked(*file, tensor, *bytes);
    return View{nullptr, *bytes, file};
}

/// `parts` of matrices and vectors joined along an axis.
Result<std::vector<std::byte>> derived(const Model& model, const Tensor& tensor) {
    const auto size = tensor.byteSize();
    const auto bits = static_cast<std::size_t>(bitsOf(tensor.type));
    const std::size_t width = bits / 8;
    if (!size || bits == 0) return fail("weights", "its type can't be cut", "keep it packed", tensor.name);
    const auto axis = static_cast<std::size_t>(tensor.payload.axis);
    std::size_t outer = 1, innerBits = bits;
    for (std::size_t i = 0; i < tensor.dims.size(); ++i) {
        if (i < axis) outer *= static_cast<std::size_t>(tensor.dims[i]);
        if (i > axis) innerBits *= static_cast<std::size_t>(tensor.dims[i]);
    }
    // Numbers of less than a byte are counted in bytes, if they end with them.
    const bool narrow = innerBits % 8 != 0;
    const std::size_t inner = narrow ? 1 : innerBits / 8;
    const auto steps = [&](std::int64_t count) { return narrow ? static_cast<std::size_t>(count) * innerBits / 8 : static_cast<std::size_t>(count); };
    const auto fits = [&](std::int64_t count) { return !narrow || static_cast<std::size_t>(count) * innerBits % 8 == 0; };
    const std::size_t rowBytes = steps(tensor.dims[axis]) * inner;
    std::vector<std::byte> whole(*size);
    std::size_t column = 0;
    // Parts often come from one base: read it once.
    TensorPtr readBase;
    View held;
    std::vector<std::byte> computed; // a base that is itself cut
    std::span<const std::byte> base;
    for (const TensorPart& each : tensor.payload.parts) {
        if (each.base != readBase) {
            if (each.base->payload.place == Payload::Place::derived) {
                auto read = readPayload(model, *each.base);
                if (!read) return tl::unexpected(read.error());
                computed = std::move(*read);
                base = computed;
            } else {
                auto read = view(model, *each.base);
                if (!read) return tl::unexpected(read.error());
                held = std::move(*read);
                base = held.bytes;
            }
            readBase = each.base;
        }
        Dims dims = each.base->dims;
        if (each.transposed) std::reverse(dims.begin(), dims.end());
        // A vector cut out of a matrix's columns, or a tensor of the same rank.
        const std::size_t along = steps(dims.at(axis)), first = steps(each.begin), count = steps(each.length);
        const bool bytes = fits(tensor.dims[axis]) && fits(dims.at(axis)) && fits(each.begin) && fits(each.length);
        if (!bytes || (width == 0 && each.transposed)) return fail("weights", "its type can't be cut", "keep it packed", tensor.name);
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
        if (held.altered()) return changedMeanwhile(held.file->path(), *each.base);
    }
    return whole;
}

} // namespace

Result<std::vector<std::byte>> readPayload(const Model& model, const Tensor& tensor) {
    if (tensor.payload.place == Payload::Place::derived) return derived(model, tensor);
    auto found = view(model, tensor);
    if (!found) return tl::unexpected(found.error());
    std::vector<std::byte> bytes(found->bytes.begin(), found->bytes.end());
    if (found->altered()) return changedMeanwhile(found->file->path(), tensor);
    return bytes;
}

Result<bool> streamPayload(const Model& model, const Tensor& tensor, const FileSink& sink) {
    constexpr std::size_t step = std::size_t(4) << 20;
    std::vector<std::byte> computed;
    View held;
    if (tensor.payload.place == Payload::Place::derived) {
        auto made = derived(model, tensor);
        if (!made) return tl::unexpected(made.error());
        computed = std::move(*made);
        held.bytes = computed;
    } else {
        auto found = view(model, tensor);
        if (!found) return tl::unexpected(found.error());
        held = std::move(*found);
    }
    std::vector<std::byte> copy;
    for (std::size_t at = 0; at < held.bytes.size(); at += step) {
        auto piece = held.bytes.subspan(at, std::min(step, held.bytes.size() - at));
        if (held.file) { // not handed to write(2) itself, which would fail on lost pages with a reason of its own
            copy.assign(piece.begin(), piece.end());
            piece = copy;
        }
        if (!sink({reinterpret_cast<const char*>(piece.data()), piece.size()})) return false;
    }
    if (held.altered()) return changedMeanwhile(held.file->path(), tensor);
    return true;
}

Result<TensorPtr> readTensorFile(const std::filesystem::path& path) {
    auto file = MappedFile::open(path);
    if (!file) return tl::unexpected(file.error());
    const Job job;
    return Decoder(nullptr, job).tensor((*file)->bytes());
}

} // namespace triptych
