#pragma once
// Files: read-only mappings, and writes that leave either the whole new file or the old one.

#include "support/result.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace triptych {

class MappingGuard;

/// What tells one version of a file from the next; size -1 where there is no such file.
struct FileStamp {
    std::int64_t size = -1; ///< bytes
    std::int64_t written = 0; ///< nanoseconds since 1970
    bool operator==(const FileStamp&) const = default;
};
FileStamp stampOf(const std::filesystem::path& path);

/// A file read-only: copied where it is small, so that whoever rewrites it meanwhile can't hurt, else mapped, whose pages
/// cost nothing until they are touched. Pages that are gone because somebody shortened the file read as zeros.
class MappedFile {
public:
    /// Fails, with advice, on what is missing, unreadable, empty or not a regular file.
    static Result<std::shared_ptr<const MappedFile>> open(const std::filesystem::path& path);
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    ~MappedFile();
    std::span<const std::byte> bytes() const { return m_bytes; }
    const std::filesystem::path& path() const { return m_path; }
    /// Whether somebody wrote into the file, or shortened it, after it was mapped: what `bytes` shows is neither the old
    /// file nor surely the new one. Never so for a copy.
    bool altered() const;

    static constexpr std::size_t copiedBytes = std::size_t(8) << 20;

private:
    MappedFile(std::filesystem::path path, std::vector<std::byte> copy);
    MappedFile(std::filesystem::path path, std::unique_ptr<MappingGuard> mapping);
    std::filesystem::path m_path;
    std::vector<std::byte> m_copy;
    std::unique_ptr<MappingGuard> m_mapping;
    std::span<const std::byte> m_bytes;
};

/// Receives the content of a file piece by piece; false once the disk is full.
using FileSink = std::function<bool(std::string_view piece)>;

/// Writes through a temporary file beside `path` and renames it at the end; an existing target that is not a regular
/// file (/dev/null, a pipe) is written directly. `content` returns false to give up: nothing is left behind then.
Result<void> writeFile(const std::filesystem::path& path, const std::function<bool(const FileSink&)>& content);
Result<void> writeFile(const std::filesystem::path& path, std::string_view content);

} // namespace triptych
