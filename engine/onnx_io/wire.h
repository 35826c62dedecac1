#pragma once
// Protobuf's wire format, read in place: bounded, without allocation, at any file size.
// Source: https://protobuf.dev/programming-guides/encoding

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace triptych {

/// One field of a message.
struct WireField {
    std::uint32_t number = 0;
    enum class Kind : std::uint8_t { varint, fixed64, bytes, fixed32 } kind = Kind::varint;
    std::uint64_t integer = 0;            ///< of varint, fixed32 and fixed64
    std::span<const std::byte> bytes;     ///< of length-delimited fields: a view into the message; else empty

    std::string_view text() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
    std::int64_t whole() const { return static_cast<std::int64_t>(integer); }
    float real() const; ///< of a fixed32
};

/// Steps through the fields of one message. What is malformed or runs past the end stops it with `bad`.
class WireReader {
public:
    explicit WireReader(std::span<const std::byte> message) : m_at(message.data()), m_end(message.data() + message.size()) {}
    /// False at the end and on a malformed field.
    bool next(WireField& field);
    /// One bare varint, as packed fields hold them.
    bool varint(std::uint64_t& number);
    bool bad() const { return m_bad; }
    bool atEnd() const { return m_at == m_end; }

private:
    bool fixed(std::size_t size, std::uint64_t& number);
    const std::byte* m_at;
    const std::byte* m_end;
    bool m_bad = false;
};

} // namespace triptych
