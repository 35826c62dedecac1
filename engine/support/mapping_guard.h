#pragma once
// A mapping that survives when its file is shortened by somebody else.

#include <cstddef>
#include <ctime>
#include <memory>
#include <span>

namespace triptych {

struct MappingPlace;

/// A private read-only mapping of a whole file. Touching a page that the file no longer has raises SIGBUS, which would end
/// the program; an exporter that writes its file in place does just that to everybody who has it open. The first mapping
/// installs a handler that puts zeros in the place of lost pages of these mappings, and hands every other SIGBUS on.
class MappingGuard {
public:
    /// Null, with errno set, where the file can't be mapped. The descriptor may be closed afterwards.
    static std::unique_ptr<MappingGuard> map(int descriptor, std::size_t size);
    MappingGuard(const MappingGuard&) = delete;
    MappingGuard& operator=(const MappingGuard&) = delete;
    ~MappingGuard();
    std::span<const std::byte> bytes() const { return m_bytes; }
    /// Whether pages were lost, or the file has another size or time of change than when it was mapped.
    bool altered() const;

private:
    MappingGuard(std::span<const std::byte> bytes, MappingPlace* place, int descriptor, std::timespec written);
    std::span<const std::byte> m_bytes;
    MappingPlace* m_place;
    int m_descriptor; ///< its own: tells whether the file was written to
    std::timespec m_written;
};

} // namespace triptych
