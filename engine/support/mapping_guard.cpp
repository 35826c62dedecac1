#include "support/mapping_guard.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <fcntl.h>
#include <mutex>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace triptych {

/// Where a mapping lies, for the signal handler, which may neither lock nor allocate. Places are never freed: they are
/// taken again, and there are as many as mappings were open at once.
struct MappingPlace {
    std::atomic<std::uintptr_t> begin{0};
    std::atomic<std::size_t> size{0}; ///< 0: free
    std::atomic<bool> lost{false};    ///< pages were replaced by zeros
    MappingPlace* next = nullptr;
};

namespace {

std::atomic<MappingPlace*> places{nullptr};
std::mutex takingPlaces;
struct sigaction before {};
std::uintptr_t pageBytes = 4096;

/// Puts zeros where the lost page and all behind it were; false where the address is in none of our mappings.
bool replaceLostPages(std::uintptr_t address) {
    for (MappingPlace* place = places.load(); place != nullptr; place = place->next) {
        const std::uintptr_t begin = place->begin.load(), end = begin + place->size.load();
        if (address < begin || address >= end) continue;
        const std::uintptr_t page = address & ~(pageBytes - 1);
        // A system call, and so safe in a handler where mmap is nothing else (Linux).
        void* zeros = ::mmap(reinterpret_cast<void*>(page), end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        place->lost.store(true);
        return zeros != MAP_FAILED;
    }
    return false;
}

void onBusError(int signal, siginfo_t* info, void* context) {
    const int kept = errno;
    const bool replaced = replaceLostPages(reinterpret_cast<std::uintptr_t>(info->si_addr));
    errno = kept;
    if (replaced) return;
    if ((before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(signal, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
    } else {
        ::sigaction(signal, &before, nullptr); // the access is tried again, and ends the program as it would have
    }
}

MappingPlace* takePlace(std::span<const std::byte> bytes) {
    const std::lock_guard lock(takingPlaces);
    MappingPlace* place = places.load();
    if (place == nullptr) {
        pageBytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
        struct sigaction ours {};
        ours.sa_sigaction = onBusError;
        ours.sa_flags = SA_SIGINFO;
        sigemptyset(&ours.sa_mask);
        ::sigaction(SIGBUS, &ours, &before);
    }
    while (place != nullptr && place->size.load() != 0) place = place->next;
    if (place == nullptr) {
        place = new MappingPlace; // lives as long as the program: see MappingPlace
        place->next = places.load();
        places.store(place);
    }
    place->lost.store(false);
    place->begin.store(reinterpret_cast<std::uintptr_t>(bytes.data()));
    place->size.store(bytes.size());
    return place;
}

} // namespace

std::unique_ptr<MappingGuard> MappingGuard::map(int descriptor, std::size_t size) {
    struct stat status {};
    if (::fstat(descriptor, &status) != 0) return nullptr;
    const int own = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return nullptr;
    void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, own, 0);
    if (memory == MAP_FAILED) {
        const int why = errno;
        ::close(own);
        errno = why;
        return nullptr;
    }
    const std::span bytes(static_cast<const std::byte*>(memory), size);
    return std::unique_ptr<MappingGuard>(new MappingGuard(bytes, takePlace(bytes), own, status.st_mtim));
}

MappingGuard::MappingGuard(std::span<const std::byte> bytes, MappingPlace* place, int descriptor, std::timespec written)
    : m_bytes(bytes), m_place(place), m_descriptor(descriptor), m_written(written) {}

MappingGuard::~MappingGuard() {
    m_place->size.store(0);
    ::munmap(const_cast<std::byte*>(m_bytes.data()), m_bytes.size());
    ::close(m_descriptor);
}

bool MappingGuard::altered() const {
    struct stat now {};
    if (m_place->lost.load() || ::fstat(m_descriptor, &now) != 0) return true;
    return static_cast<std::size_t>(now.st_size) != m_bytes.size() || now.st_mtim.tv_sec != m_written.tv_sec || now.st_mtim.tv_nsec != m_written.tv_nsec;
}

} // namespace triptych
