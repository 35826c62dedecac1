#pragma once
// ONNX messages to our types. Private to onnx_io.

#include "onnx_io/model.h"
#include "onnx_io/wire.h"

#include <set>

namespace triptych {

/// A type as the file numbers it; undefined for a number that can be none.
DataType typeNumbered(std::uint64_t number);
bool isKnown(DataType type);

/// An OperatorSetIdProto: domain ("" for ai.onnx) and version.
std::pair<std::string, std::int64_t> opsetImport(std::span<const std::byte> message);

/// A StringStringEntryProto, made printable; as it stands in the file where `raw` (paths).
std::pair<std::string, std::string> textPair(std::span<const std::byte> message, bool raw = false);

/// What decoding shares: where the bytes lie, what was odd.
class Decoder {
public:
    /// @param file  the whole model file, so that payloads become offsets; null for messages in memory
    /// @param allowed  folders besides the model's that external data may lie in
    Decoder(std::shared_ptr<const MappedFile> file, const Job& job, std::vector<std::filesystem::path> allowed = {})
        : m_file(std::move(file)), m_job(job), m_allowed(std::move(allowed)) {}

    Result<TensorPtr> tensor(std::span<const std::byte> message);
    /// Written out, where that is no more than what the file's size lets expect.
    Result<TensorPtr> sparseTensor(std::span<const std::byte> message);
    Result<Attribute> attribute(std::span<const std::byte> message, int depth);
    /// A GraphProto. Values that nothing in it gives are left without producer.
    Result<GraphPtr> graph(std::span<const std::byte> message, int depth);
    /// @param imported  the model's own imports
    Result<Function> function(std::span<const std::byte> message, const std::map<std::string, std::int64_t>& imported);
    /// A ValueInfoProto: name and type.
    std::pair<std::string, DeclaredType> valueInfo(std::span<const std::byte> message);

    void warn(std::string text);
    std::vector<std::string>& warnings() { return m_warnings; }
    /// Where external data lies that was refused for leaving the model's folder.
    const std::set<std::filesystem::path>& refusedFolders() const { return m_refused; }
    /// Files of external data by the name that the model gives them; size -1 for those that are not where it says.
    std::map<std::filesystem::path, DataFile> dataFiles() const;

private:
    /// @param index  its place in the file, for messages
    Result<Node> node(std::span<const std::byte> message, std::size_t index, GraphBuilder& builder, int depth);
    void externalData(Tensor& tensor, const std::vector<std::pair<std::string, std::string>>& entries);
    /// A file of external data, and why it is not to be had; "" where it is. No place: it must not be looked at.
    struct Location {
        std::string missing;
        DataFile file;
    };
    Location lookAt(const std::filesystem::path& file, const std::string& tensor);
    DeclaredType type(std::span<const std::byte> message);
    void tensorType(std::span<const std::byte> message, DeclaredType& declared);
    void elementType(std::span<const std::byte> message, DeclaredType& declared);
    /// Warns where an input is declared otherwise than its initializer is.
    void contradicts(const DeclaredType& declared, const Tensor& initializer);
    std::optional<std::span<const std::byte>> bytesOf(const Tensor& tensor) const;
    std::shared_ptr<const std::vector<std::byte>> filled(const Tensor& dense, const Tensor& values, const Tensor& indices);
    tl::unexpected<Failure> damaged(std::string_view what) const;

    std::shared_ptr<const MappedFile> m_file;
    const Job& m_job;
    std::vector<std::string> m_warnings;
    std::map<std::string, std::int64_t> m_ownVersions; ///< that the function that is being decoded imports, and the model otherwise
    std::set<std::string> m_odd; ///< in the type that is being decoded
    std::vector<std::filesystem::path> m_allowed;
    std::set<std::filesystem::path> m_refused;
    std::map<std::string, Location> m_locations;
    std::size_t m_decoded = 0, m_messages = 0, m_writtenOut = 0, m_sparseLeft = 0;
};

/// Any bytes as valid UTF-8: what is not becomes "\xNN". Different bytes become different texts.
std::string cleanText(std::string_view bytes);

/// {"encoder", "layer", "0"} joined by dots, from metadata or a path-like name; "" where there is none.
std::string moduleScope(const Metadata& metadata, std::string_view nodeName);

} // namespace triptych
