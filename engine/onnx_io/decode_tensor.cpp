// TensorProto, and where its bytes are.

#include "onnx_io/decode.h"
#include "support/excerpt.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>

namespace triptych {

namespace {

/// Payloads up to this size are kept; larger ones are left in the file.
constexpr std::size_t keptBytes = 1024;

enum TensorField : std::uint32_t {
    dims = 1, dataType = 2, floatData = 4, int32Data = 5, stringData = 6, int64Data = 7, name = 8, rawData = 9, doubleData = 10,
    uint64Data = 11, externalData = 13, dataLocation = 14,
};

void append(std::vector<std::byte>& bytes, std::uint64_t number, std::size_t size) {
    const std::size_t at = bytes.size();
    bytes.resize(at + size);
    // A type may have no width, or more than a number of this field has.
    if (size > 0) std::memcpy(bytes.data() + at, &number, std::min(size, sizeof number));
}

/// Whether the varints of a field are many, and may be as many as the tensor has elements: they are counted when they are read.
bool leftPacked(const Tensor& tensor, const WireField& field) {
    constexpr std::uint64_t longestVarint = 10;
    const auto count = elementCount(tensor.dims);
    const bool fixed = field.number == TensorField::floatData || field.number == TensorField::doubleData;
    if (fixed || field.kind != WireField::Kind::bytes || field.bytes.size() <= keptBytes || !count || bitsOf(tensor.type) < 8 || bitsOf(tensor.type) > 64) return false;
    return field.bytes.size() >= static_cast<std::uint64_t>(*count) && field.bytes.size() / longestVarint <= static_cast<std::uint64_t>(*count);
}

/// Numbers of a repeated field, packed or one by one, each cut to `size` bytes.
bool appendNumbers(std::vector<std::byte>& bytes, const WireField& field, std::size_t wireSize, std::size_t size) {
    if (field.kind != WireField::Kind::bytes) {
        append(bytes, field.integer, size);
        return true;
    }
    if (wireSize != 0) { // fixed32 and fixed64 are packed as they lie in memory
        if (field.bytes.size() % wireSize != 0) return false;
        bytes.insert(bytes.end(), field.bytes.begin(), field.bytes.end());
        return true;
    }
    WireReader packed(field.bytes);
    std::uint64_t number = 0;
    while (!packed.atEnd()) {
        if (!packed.varint(number)) return false;
        append(bytes, number, size);
    }
    return true;
}

/// Sizes, packed or one by one: as many as a tensor may have, and one more where there are too many.
void appendDims(Dims& dims, const WireField& field) {
    if (field.kind != WireField::Kind::bytes) {
        if (dims.size() <= highestRank) dims.push_back(field.whole());
        return;
    }
    WireReader packed(field.bytes);
    for (std::uint64_t size = 0; dims.size() <= highestRank && !packed.atEnd() && packed.varint(size);) dims.push_back(static_cast<Dim>(size));
}

/// Why no tensor has such sizes; "" where one may.
std::string oddDims(const Dims& dims) {
    if (dims.size() > highestRank) return "more than " + std::to_string(highestRank) + " axes";
    return std::any_of(dims.begin(), dims.end(), [](Dim dim) { return dim < 0; }) ? "a negative dimension" : "";
}

/// Digits and nothing else.
std::optional<std::uint64_t> number(const std::string& text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

/// A path as Windows writes one that begins at a drive or a server, or climbs out of its folder: here it would be a strange name,
/// but the file may be opened there next.
bool leavesOnWindows(const std::string& path) {
    const bool drive = path.size() > 2 && std::isalpha(static_cast<unsigned char>(path[0])) && path[1] == ':' && (path[2] == '\\' || path[2] == '/');
    return drive || path.starts_with('\\') || path.starts_with("..\\") || path.find("\\..\\") != std::string::npos;
}

} // namespace

bool isKnown(DataType type) { return type == DataType::string || bitsOf(type) > 0; }

DataType typeNumbered(std::uint64_t number) { return number <= UINT8_MAX ? static_cast<DataType>(number) : DataType::undefined; }

Decoder::Location Decoder::lookAt(const std::filesystem::path& file, const std::string& tensor) {
    const auto folder = m_file->path().parent_path();
    const std::string shown = excerpt(cleanText(file.string()));
    std::error_code error, unresolved;
    const auto whole = std::filesystem::weakly_canonical(std::filesystem::absolute(folder / file, error), unresolved);
    const auto within = [&](const std::filesystem::path& root) {
        const auto relative = whole.lexically_relative(std::filesystem::weakly_canonical(root.empty() ? "." : root, error));
        return !relative.empty() && *relative.begin() != "..";
    };
    const bool upward = file.empty() || file.is_absolute() || std::find(file.begin(), file.end(), "..") != file.end();
    // A name with a zero in it would be cut there; one that can't be resolved (too long, a link in a circle) lies nowhere.
    const bool noName = file.string().find('\0') != std::string::npos;
    const auto unusable = [&](const std::string& why) {
        warn("external data '" + shown + "' of " + tensor + " can't be used: " + why);
        return Location{why, {}};
    };
    const auto refused = [&](const std::string& why) {
        warn("external data '" + shown + "' of " + tensor + " is refused: " + why);
        return Location{why, {}};
    };
    if (leavesOnWindows(file.string())) return refused("its path leaves the model's folder where Windows reads it");
    if (!upward && (noName || unresolved)) return unusable(noName ? "its name has a zero in it" : unresolved.message());
    if ((upward || !within(folder)) && (file.empty() || std::none_of(m_allowed.begin(), m_allowed.end(), within))) {
        if (!file.empty()) m_refused.insert(whole.parent_path());
        return refused(file.empty() ? "it names no file" : upward ? "its path leaves the model's folder" : "it is a link that leaves the model's folder");
    }
    // ONNX Runtime's sign for weights that it holds itself: a file that it wrote out of a session.
    if (file == "*/_ORT_MEM_ADDR_/*") return unusable("they lie in the memory of the program that wrote the file; write it with its weights");
    const FileStamp stamp = stampOf(whole);
    if (stamp.size < 0 && std::filesystem::exists(whole, error)) return unusable("it is no regular file");
    return {stamp.size < 0 ? "the file " + shown + " is not beside the model" : "", {whole, stamp}};
}

std::map<std::filesystem::path, DataFile> Decoder::dataFiles() const {
    std::map<std::filesystem::path, DataFile> found;
    for (const auto& [name, location] : m_locations)
        if (!location.file.place.empty()) found.emplace(name, location.file);
    return found;
}

void Decoder::externalData(Tensor& tensor, const std::vector<std::pair<std::string, std::string>>& entries) {
    Payload& payload = tensor.payload;
    std::optional<std::uint64_t> offset = 0, length = tensor.byteSize().value_or(0);
    for (const auto& [key, value] : entries) {
        if (key == "location") payload.file = value;
        if (key == "offset") offset = number(value);
        if (key == "length") length = number(value);
    }
    payload.offset = offset.value_or(0);
    payload.length = length.value_or(0);
    if (!m_file) return void(payload.missing = "the model was not read from a file");
    const auto [known, fresh] = m_locations.try_emplace(payload.file.string());
    if (fresh) known->second = lookAt(payload.file, tensor.name);
    const auto refuse = [&](const std::string& why) {
        warn("the external data of " + tensor.name + " can't be used: " + why);
        payload.missing = why;
    };
    if (!known->second.missing.empty()) return void(payload.missing = known->second.missing);
    if (!offset || !length) return refuse("its offset or length is no number");
    if (!tensor.byteSize() && bitsOf(tensor.type) > 0) return refuse("its shape needs more bytes than can be counted");
    const auto size = static_cast<std::uint64_t>(known->second.file.stamp.size);
    const std::string there = cleanText(payload.file.string()) + ", which has " + std::to_string(size);
    if (*offset > size) return refuse("it begins " + std::to_string(*offset) + " bytes into " + there);
    if (*length > size - *offset) return refuse("it is " + std::to_string(*length) + " bytes from byte " + std::to_string(*offset) + " of " + there);
    if (tensor.byteSize() && *length != *tensor.byteSize() && tensor.type != DataType::string)
        return refuse("it has " + std::to_string(*length) + " bytes, its shape needs " + std::to_string(*tensor.byteSize()));
    payload.place = Payload::Place::external;
}

Result<TensorPtr> Decoder::tensor(std::span<const std::byte> message) {
    if ((++m_decoded & 1023) == 0 && m_job.stopped()) return fail("import", "stopped");
    auto tensor = std::make_shared<Tensor>();
    auto bytes = std::make_shared<std::vector<std::byte>>();
    std::vector<std::pair<std::string, std::string>> external;
    std::span<const std::byte> raw;
    std::vector<WireField> typed;
    bool hasRaw = false, isExternal = false;
    std::uint64_t stranger = 0; ///< an element type that isn't known
    WireReader reader(message);
    for (WireField field; reader.next(field);) {
        const bool isBytes = field.kind == WireField::Kind::bytes;
        switch (field.number) {
        case TensorField::dims: appendDims(tensor->dims, field); break;
        case TensorField::dataType:
            tensor->type = typeNumbered(field.integer);
            stranger = isKnown(tensor->type) || field.integer == 0 ? 0 : field.integer;
            break;
        case TensorField::name:
            if (isBytes) tensor->name = cleanText(field.text());
            break;
        case TensorField::rawData:
            if (isBytes) raw = field.bytes;
            hasRaw = true;
            break;
        case TensorField::stringData:
            if (isBytes) tensor->strings.emplace_back(field.text());
            break;
        case TensorField::externalData:
            if (isBytes) external.push_back(textPair(field.bytes, true));
            break;
        case TensorField::dataLocation: isExternal = field.integer == 1; break;
        case TensorField::floatData:
        case TensorField::int32Data:
        case TensorField::int64Data:
        case TensorField::doubleData:
        case TensorField::uint64Data: typed.push_back(field); break;
        default: break;
        }
    }
    if (reader.bad()) return damaged("the tensor " + tensor->name);
    if (stranger != 0) warn("the tensor " + tensor->name + " has the element type " + std::to_string(stranger) + ", which is unknown");
    if (const std::string odd = oddDims(tensor->dims); !odd.empty()) return fail("import", "the tensor has " + odd, "export the model again", tensor->name);
    if (isExternal) {
        externalData(*tensor, external);
        return tensor;
    }
    Payload& payload = tensor->payload;
    // Packed numbers of a fixed width lie in the file as raw bytes do.
    const bool fixedWidth = typed.size() == 1 && typed[0].kind == WireField::Kind::bytes &&
                            ((typed[0].number == TensorField::floatData && tensor->type == DataType::float32) || (typed[0].number == TensorField::doubleData && tensor->type == DataType::float64));
    if (!hasRaw && fixedWidth) {
        raw = typed[0].bytes;
        hasRaw = true;
        typed.clear();
    }
    if (hasRaw && raw.size() > keptBytes && m_file) {
        payload.place = Payload::Place::model;
        payload.offset = static_cast<std::uint64_t>(raw.data() - m_file->bytes().data());
        payload.length = raw.size();
    } else if (m_file && !hasRaw && typed.size() == 1 && leftPacked(*tensor, typed[0])) {
        payload.place = Payload::Place::model;
        payload.offset = static_cast<std::uint64_t>(typed[0].bytes.data() - m_file->bytes().data());
        payload.length = typed[0].bytes.size();
        payload.varints = true;
        return tensor;
    } else {
        const std::size_t width = static_cast<std::size_t>(bitsOf(tensor->type) + 7) / 8;
        if (hasRaw) bytes->assign(raw.begin(), raw.end());
        for (const WireField& field : typed) {
            const bool fixed = field.number == TensorField::floatData || field.number == TensorField::doubleData;
            const std::size_t wire = field.number == TensorField::floatData ? 4 : fixed ? 8 : 0;
            if (!appendNumbers(*bytes, field, wire, fixed ? wire : width)) return damaged("the tensor " + tensor->name);
        }
        payload.place = Payload::Place::memory;
        payload.length = bytes->size();
        payload.bytes = std::move(bytes);
    }
    const auto wanted = tensor->byteSize();
    const bool endless = !wanted && bitsOf(tensor->type) > 0;
    if (tensor->type != DataType::string && (endless || (wanted && *wanted != payload.length))) {
        if (payload.length != 0 || endless || *wanted != 0)
            warn("the tensor " + tensor->name + " holds " + std::to_string(payload.length) + " bytes, its shape needs " + (endless ? "more than can be counted" : std::to_string(*wanted)));
        payload = {};
        payload.missing = "its data doesn't fill its shape";
    }
    return tensor;
}

Result<TensorPtr> Decoder::sparseTensor(std::span<const std::byte> message) {
    TensorPtr values, indices;
    auto dense = std::make_shared<Tensor>();
    WireReader reader(message);
    for (WireField field; reader.next(field);) {
        const bool isBytes = field.kind == WireField::Kind::bytes;
        if (field.number <= 2 && isBytes) {
            auto part = tensor(field.bytes);
            if (!part) return part;
            (field.number == 1 ? values : indices) = *part;
        } else if (field.number == 3) {
            appendDims(dense->dims, field);
        }
    }
    if (reader.bad() || !values || !indices) return damaged("a sparse initializer");
    dense->name = values->name;
    dense->type = values->type;
    if (const std::string odd = oddDims(dense->dims); !odd.empty()) return fail("import", "the sparse initializer has " + odd, "export the model again", dense->name);
    dense->payload.missing = "it is sparse, and too large or too damaged to be written out";
    const auto content = filled(*dense, *values, *indices);
    if (!content) {
        if (++m_sparseLeft <= 10) warn("the sparse initializer " + dense->name + " is shown without its content");
        return dense;
    }
    dense->payload = {};
    dense->payload.place = Payload::Place::memory;
    dense->payload.length = content->size();
    dense->payload.bytes = content;
    return dense;
}

/// None where they lie in another file, or don't fill the shape.
std::optional<std::span<const std::byte>> Decoder::bytesOf(const Tensor& tensor) const {
    const Payload& payload = tensor.payload;
    if (payload.place == Payload::Place::memory && payload.bytes) return *payload.bytes;
    if (payload.place == Payload::Place::model && m_file) return m_file->bytes().subspan(payload.offset, payload.length);
    return std::nullopt;
}

/// Zeros with the values at their places: one flat index each, or one for each axis. Null where they don't fit.
std::shared_ptr<const std::vector<std::byte>> Decoder::filled(const Tensor& dense, const Tensor& values, const Tensor& indices) {
    // What is in the file bounds what is made of it.
    constexpr std::uint64_t always = 1 << 20, times = 32;
    const std::uint64_t most = always + times * (m_file ? m_file->bytes().size() : 0);
    const auto size = dense.byteSize();
    const auto count = elementCount(dense.dims);
    const std::size_t width = static_cast<std::size_t>(bitsOf(dense.type)) / 8;
    if (!size || !count || width == 0 || bitsOf(dense.type) % 8 != 0 || *size > most || m_writtenOut > most - *size || indices.type != DataType::int64) return nullptr;
    const auto given = bytesOf(values), where = bytesOf(indices);
    if (!given || !where) return nullptr;
    const auto numbers = *given, places = *where;
    const std::size_t filled = numbers.size() / width, each = dense.dims.size();
    const bool flat = indices.dims.size() == 1;
    if (numbers.size() % width != 0 || places.size() != filled * 8 * (flat ? 1 : each)) return nullptr;
    m_writtenOut += *size;
    auto made = std::make_shared<std::vector<std::byte>>(*size);
    for (std::size_t i = 0; i < filled; ++i) {
        std::int64_t at = 0;
        for (std::size_t axis = 0; axis < (flat ? 1 : each); ++axis) {
            std::int64_t index = 0;
            std::memcpy(&index, places.data() + (i * (flat ? 1 : each) + axis) * 8, 8);
            if (index < 0 || index >= (flat ? *count : dense.dims[axis])) return nullptr;
            at = flat ? index : at * dense.dims[axis] + index;
        }
        std::memcpy(made->data() + static_cast<std::size_t>(at) * width, numbers.data() + i * width, width);
    }
    return made;
}

} // namespace triptych
