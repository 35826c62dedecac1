#include "onnx_io/wire.h"

#include <bit>
#include <cstring>

namespace triptych {

static_assert(std::endian::native == std::endian::little, "payloads are mapped as they lie in the file");

float WireField::real() const { return std::bit_cast<float>(static_cast<std::uint32_t>(integer)); }

bool WireReader::varint(std::uint64_t& number) {
    number = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (m_at == m_end) break;
        const auto byte = static_cast<std::uint8_t>(*m_at++);
        number |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
        if (byte < 0x80) return true;
    }
    m_bad = true;
    return false;
}

bool WireReader::fixed(std::size_t size, std::uint64_t& number) {
    number = 0;
    if (static_cast<std::size_t>(m_end - m_at) < size) {
        m_bad = true;
        return false;
    }
    std::memcpy(&number, m_at, size);
    m_at += size;
    return true;
}

bool WireReader::next(WireField& field) {
    if (m_bad || m_at == m_end) return false;
    std::uint64_t key = 0;
    if (!varint(key)) return false;
    field.number = static_cast<std::uint32_t>(key >> 3);
    if (field.number == 0 || key >> 3 > 0x1fffffff) {
        m_bad = true;
        return false;
    }
    field.bytes = {}; // those of the field before are not this one's
    switch (key & 7) {
    case 0: field.kind = WireField::Kind::varint; return varint(field.integer);
    case 1: field.kind = WireField::Kind::fixed64; return fixed(8, field.integer);
    case 5: field.kind = WireField::Kind::fixed32; return fixed(4, field.integer);
    case 2: {
        std::uint64_t length = 0;
        if (!varint(length)) return false;
        if (length > static_cast<std::uint64_t>(m_end - m_at)) break;
        field.kind = WireField::Kind::bytes;
        field.bytes = {m_at, static_cast<std::size_t>(length)};
        m_at += length;
        return true;
    }
    default: break; // groups were never part of ONNX
    }
    m_bad = true;
    return false;
}

} // namespace triptych
