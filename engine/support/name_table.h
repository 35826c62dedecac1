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
        return m_slots.empty() ? Id() : m_slots[slotOf(name, hashOf(name), nameOf)].id;
    }
    /// The index that has this name, else none: then `next`, which must not be in the table, has it from now on.
    template <class NameOf>
    Id findOrInsert(std::string_view name, Id next, const NameOf& nameOf) {
        reserve(m_count + 1);
        const std::uint32_t hash = hashOf(name);
        Slot& slot = m_slots[slotOf(name, hash, nameOf)];
        if (slot.id) return slot.id;
        slot = {hash, next};
        ++m_count;
        return {};
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
    /// Where this name lies, else the free place that it would take.
    template <class NameOf>
    std::size_t slotOf(std::string_view name, std::uint32_t hash, const NameOf& nameOf) const {
        std::size_t at = hash & mask();
        while (m_slots[at].id && !(m_slots[at].hash == hash && nameOf(m_slots[at].id) == name)) at = (at + 1) & mask();
        return at;
    }
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
