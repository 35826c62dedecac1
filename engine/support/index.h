#pragma once
// Typed indices: a NodeId can't be passed where a ValueId is meant.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace triptych {

/// Position in a sequence of things of one kind, told from other kinds by Tag. Default-constructed: none.
template <class Tag>
class Index {
public:
    constexpr Index() = default;
    constexpr explicit Index(std::size_t position) : m_position(static_cast<std::uint32_t>(position)) {}
    constexpr bool valid() const { return m_position != none; }
    constexpr explicit operator bool() const { return valid(); }
    constexpr std::size_t position() const { return m_position; }
    friend constexpr auto operator<=>(Index, Index) = default;

private:
    static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();
    std::uint32_t m_position = none;
};

/// A vector that only its own kind of index reaches.
template <class Id, class T>
class IndexVector {
public:
    IndexVector() = default;
    explicit IndexVector(std::size_t size, T value = T()) : m_items(size, value) {}
    typename std::vector<T>::reference operator[](Id id) { return m_items[id.position()]; }
    typename std::vector<T>::const_reference operator[](Id id) const { return m_items[id.position()]; }
    Id push_back(T item) {
        m_items.push_back(std::move(item));
        return Id(m_items.size() - 1);
    }
    void resize(std::size_t size) { m_items.resize(size); }
    void reserve(std::size_t size) { m_items.reserve(size); }
    std::size_t size() const { return m_items.size(); }
    bool empty() const { return m_items.empty(); }
    bool contains(Id id) const { return id.valid() && id.position() < m_items.size(); }
    auto begin() { return m_items.begin(); }
    auto end() { return m_items.end(); }
    auto begin() const { return m_items.begin(); }
    auto end() const { return m_items.end(); }
    const std::vector<T>& items() const { return m_items; }

private:
    std::vector<T> m_items;
};

} // namespace triptych

template <class Tag>
struct std::hash<triptych::Index<Tag>> {
    std::size_t operator()(triptych::Index<Tag> id) const noexcept { return std::hash<std::size_t>()(id.position()); }
};
