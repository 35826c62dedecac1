#pragma once
// Our types to ONNX messages. Private to onnx_io.
// A message is a list of pieces: text that is in memory, and payloads that are copied from their file when it is written.

#include "onnx_io/export.h"

namespace triptych {

/// A protobuf message under construction; its size is known before any payload is read.
class Message {
public:
    struct Piece {
        std::string text;
        TensorPtr payload; ///< written behind `text`
        std::uint64_t length = 0; ///< of the payload
    };
    void integer(std::uint32_t field, std::int64_t value);
    void real(std::uint32_t field, float value);
    void text(std::uint32_t field, std::string_view value);
    void message(std::uint32_t field, Message inner);
    void payload(std::uint32_t field, TensorPtr tensor, std::uint64_t length);
    /// Fields that are encoded already.
    void raw(std::string_view fields);
    std::uint64_t size() const { return m_size; }
    const std::vector<Piece>& pieces() const { return m_pieces; }

private:
    std::string& tail();
    void tag(std::uint32_t field, unsigned kind);
    void varint(std::uint64_t value);
    std::vector<Piece> m_pieces;
    std::uint64_t m_size = 0;
};

/// Where large payloads go when they don't stay in the model's file.
struct ExternalFile {
    std::string name; ///< as tensors refer to it; empty: payloads stay inside
    std::uint64_t size = 0;
    std::vector<std::pair<TensorPtr, std::uint64_t>> tensors; ///< with their offsets
};

class Encoder {
public:
    explicit Encoder(ExternalFile& external) : m_external(external) {}
    Message tensor(const TensorPtr& tensor, const std::string& name);
    /// @param sourceNames  names of the source file's nodes that each SourceId stands for, for provenance; empty: none is written
    Message graph(const Graph& graph, const std::vector<std::vector<std::string>>& sourceNames);
    Message function(const Function& function);

private:
    Message attribute(const Attribute& attribute);
    Message node(const Graph& graph, NodeId id, const std::vector<std::vector<std::string>>& sourceNames);
    ExternalFile& m_external;
};

Message encodeValueInfo(const std::string& name, const DeclaredType& type);
Message encodePair(const std::string& key, const std::string& value);
Message encodeOpset(const std::string& domain, std::int64_t version);

} // namespace triptych
