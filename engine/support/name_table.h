#pragma once
// Names to indices in one flat array: a graph of 100,000 nodes has as many names, and maps of strings would cost more
// than reading its file.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

namespace triptych {

/// Finds an index by its name. Holds no name: whoever asks says which name an index has. Open addressing, linear probing.
template <class Id>
class NameTable {
public:
    void clear() { *this = NameTable(); }
    void reserve(std::size_t names) {
        std::size_t slots = 16;
        while (slots < 2 * names) slots *= 2;
        if (slots > m_slots.size()) rehash(slots);
    }
    /// None where no index has this name. `nameOf` takes an Id and gives a std::string_view.
    template <class NameOf>
    Id find(std::string_view name, const NameOf& nameOf) const {
        if (m_slots.empty()) return {};
        const std::uint32_t hash = hashOf(name);
        for (std::size_t at = hash & mask(); m_slots[at].id; at = (at + 1) & mask())
            if (m_slots[at].hash == hash && nameOf(m_slots[at].id) == name) return m_slots[at].id;
        return {};
    }
    /// The name must be new.
    void insert(std::string_view name, Id id) {
        reserve(++m_count);
        place({hashOf(name), id});
    }
    /// After the indices have been put into another order.
    template <class NewId>
    void renumber(const NewId& newId) {
        for (Slot& slot : m_slots)
            if (slot.id) slot.id = newId(slot.id);
    }

private:
    struct Slot {
        std::uint32_t hash = 0;
        Id id;
    };
    static std::uint32_t hashOf(std::string_view name) { return static_cast<std::uint32_t>(std::hash<std::string_view>()(name)); }
    std::size_t mask() const { return m_slots.size() - 1; }
    void place(Slot slot) {
        std::size_t at = slot.hash & mask();
        while (m_slots[at].id) at = (at + 1) & mask();
        m_slots[at] = slot;
    }
    void rehash(std::size_t slots) {
        const std::vector<Slot> before = std::exchange(m_slots, std::vector<Slot>(slots));
        for (const Slot& slot : before)
            if (slot.id) place(slot);
    }
    std::vector<Slot> m_slots; ///< a power of two of them, at most half of them taken
    std::size_t m_count = 0;
};

} // namespace triptych
