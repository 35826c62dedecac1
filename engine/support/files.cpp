#include "support/files.h"
#include "support/mapping_guard.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace triptych {

namespace {

/// Closes a descriptor at the end of its scope.
class Descriptor {
public:
    explicit Descriptor(int number) : m_number(number) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (m_number >= 0) ::close(m_number);
    }
    int number() const { return m_number; }

private:
    int m_number;
};

tl::unexpected<Failure> cannotWrite(const std::filesystem::path& path) {
    return fail("write", "cannot write " + path.string() + ": " + std::strerror(errno),
                "choose a folder that exists and that you may write to");
}

bool writeAll(int descriptor, std::string_view piece) {
    while (!piece.empty()) {
        const ssize_t written = ::write(descriptor, piece.data(), piece.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        piece.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

} // namespace

FileStamp stampOf(const std::filesystem::path& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
    constexpr std::int64_t second = 1'000'000'000;
    return {status.st_size, std::int64_t(status.st_mtim.tv_sec) * second + status.st_mtim.tv_nsec};
}

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::filesystem::path& path) {
    // O_NONBLOCK: a pipe without a writer must not hang the program.
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.number() < 0) {
        const std::string what = errno == ENOENT   ? "there is no such file"
                                 : errno == EACCES ? "the file may not be read"
                                                   : std::strerror(errno);
        return fail("open", what, errno == EACCES ? "check its permissions" : "check the path");
    }
    struct stat status {};
    if (::fstat(file.number(), &status) != 0) return fail("open", std::strerror(errno), "check the path");
    if (S_ISDIR(status.st_mode)) return fail("open", "this is a folder", "name an .onnx file in it");
    if (!S_ISREG(status.st_mode)) return fail("open", "this is not a regular file", "name an .onnx file");
    if (status.st_size == 0) return fail("open", "the file is empty", "export the model again");
    const auto size = static_cast<std::size_t>(status.st_size);
    if (size <= copiedBytes) {
        std::vector<std::byte> copy(size);
        std::size_t at = 0;
        while (at < size) {
            const ssize_t got = ::read(file.number(), copy.data() + at, size - at);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return fail("open", std::string("cannot read the file: ") + std::strerror(errno), "check the disk or the network that it lies on");
            if (got == 0) break;
            at += static_cast<std::size_t>(got);
        }
        copy.resize(at); // shorter where somebody truncates it meanwhile
        return std::shared_ptr<const MappedFile>(new MappedFile(path, std::move(copy)));
    }
    auto mapping = MappingGuard::map(file.number(), size);
    if (!mapping) return fail("open", std::string("cannot map the file: ") + std::strerror(errno));
    return std::shared_ptr<const MappedFile>(new MappedFile(path, std::move(mapping)));
}

MappedFile::MappedFile(std::filesystem::path path, std::vector<std::byte> copy) : m_path(std::move(path)), m_copy(std::move(copy)), m_bytes(m_copy) {}

MappedFile::MappedFile(std::filesystem::path path, std::unique_ptr<MappingGuard> mapping)
    : m_path(std::move(path)), m_mapping(std::move(mapping)), m_bytes(m_mapping->bytes()) {}

MappedFile::~MappedFile() = default;

bool MappedFile::altered() const { return m_mapping && m_mapping->altered(); }

Result<void> writeFile(const std::filesystem::path& path, const std::function<bool(const FileSink&)>& content) {
    struct stat status {};
    const bool direct = ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
    if (direct && S_ISDIR(status.st_mode)) {
        errno = EISDIR;
        return cannotWrite(path);
    }
    std::string temporary = path.string();
    if (!direct) temporary += ".part" + std::to_string(::getpid());
    bool written = false;
    int problem = 0;
    {
        const Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
        if (file.number() < 0) return cannotWrite(path);
        written = content([&](std::string_view piece) { return writeAll(file.number(), piece); });
        problem = errno;
    }
    if (written && (direct || ::rename(temporary.c_str(), path.c_str()) == 0)) return {};
    if (written) problem = errno;
    if (!direct) ::unlink(temporary.c_str());
    errno = problem;
    return cannotWrite(path);
}

Result<void> writeFile(const std::filesystem::path& path, std::string_view content) {
    return writeFile(path, [&](const FileSink& sink) { return sink(content); });
}

} // namespace triptych
