// Causal masks, windows and sparse patterns, told from their values:
//
//   1 . . .     1 1 . .     1 . . .     1 1 . .     1 . . .
//   1 1 . .     1 1 1 .     1 1 . .     1 1 . .     . 1 . .
//   1 1 1 .     . 1 1 1     . 1 1 .     . . 1 1     1 . 1 .
//   1 1 1 1     . . 1 1     . . 1 1     . . 1 1     . 1 . 1
//   causal      window      both        blocks      causal, strided

#include "attention/mask_pattern.h"

#include <cmath>

namespace triptych {

namespace {

constexpr double hidden = -5000; // what is added to hide a key is far below any distance times a slope

/// Which keys each query sees, its own standing `shift` columns to the right of its row's number.
class Visible {
public:
    Visible(const HostTensor& mask, Dim rows, Dim columns, Dim shift) : m_rows(rows), m_columns(columns), m_shift(shift), m_seen(static_cast<std::size_t>(rows * columns)) {
        const double own = mask.at(static_cast<std::size_t>(shift)), last = mask.at(static_cast<std::size_t>(columns - 1));
        std::set<double> numbers;
        for (std::size_t i = 0; i < m_seen.size() && numbers.size() < 3; ++i) numbers.insert(mask.at(i));
        m_graded = numbers.size() > 2;
        // Of two numbers the query's own key has the one that shows; beside a bias only one number hides.
        for (std::size_t i = 0; i < m_seen.size(); ++i) m_seen[i] = m_graded ? mask.at(i) != last : mask.at(i) == own;
        m_masks = numbers.size() > 1 && (m_graded ? last < hidden : mask.isInteger() || own == *numbers.rbegin());
    }

    MaskPattern pattern() {
        MaskPattern found;
        if (!m_masks) return found;
        for (Dim row = 0; row < m_rows; ++row)
            if (!seen(row, row + m_shift)) return found;
        found.causal = true;
        for (Dim row = 0; row < m_rows && found.causal; ++row)
            for (Dim column = row + m_shift + 1; column < m_columns && found.causal; ++column) found.causal = !seen(row, column);
        m_causal = found.causal;
        found.window = window();
        if (!found.window) {
            findGlobal();
            found.window = window();
        }
        m_globalRow.clear();
        m_globalColumn.clear();
        found.blockSparse = !m_graded && !found.window && hidesAllowed() && sparse();
        return found;
    }

    /// A window with no keys or queries that see more.
    bool isBand() const {
        bool own = m_masks;
        for (Dim row = 0; row < m_rows; ++row) own = own && seen(row, row + m_shift);
        return own && window();
    }

private:
    bool seen(Dim row, Dim column) const { return m_seen[static_cast<std::size_t>(row * m_columns + column)] != 0; }
    /// Whether a place tells anything: what is causal hides the later keys whatever else it does.
    bool counts(Dim row, Dim column) const { return !m_causal || column <= row + m_shift; }
    bool global(Dim row, Dim column) const { return !m_globalRow.empty() && (m_globalRow[static_cast<std::size_t>(row)] || m_globalColumn[static_cast<std::size_t>(column)]); }

    /// The first keys, which all later queries see; where the order is free, any place that sees all or that all see.
    void findGlobal() {
        m_globalRow.assign(static_cast<std::size_t>(m_rows), false);
        m_globalColumn.assign(static_cast<std::size_t>(m_columns), false);
        for (Dim column = 0; column < m_columns; ++column) {
            bool all = true;
            for (Dim row = 0; row < m_rows && all; ++row) all = !counts(row, column) || seen(row, column);
            if (!all && m_causal) break;
            m_globalColumn[static_cast<std::size_t>(column)] = all;
        }
        for (Dim row = 0; row < m_rows && !m_causal; ++row) {
            bool all = true;
            for (Dim column = 0; column < m_columns && all; ++column) all = seen(row, column);
            m_globalRow[static_cast<std::size_t>(row)] = all;
        }
    }

    enum class Offset : char { none, shown, hidden, mixed };
    /// What all places at one distance of key and query have in common; the query's own key stands at m_rows - 1 + m_shift.
    std::vector<Offset> offsets() const {
        std::vector<Offset> found(static_cast<std::size_t>(m_rows + m_columns - 1), Offset::none);
        for (Dim row = 0; row < m_rows; ++row) {
            for (Dim column = 0; column < m_columns; ++column) {
                if (!counts(row, column) || global(row, column)) continue;
                Offset& at = found[static_cast<std::size_t>(column - row + m_rows - 1)];
                const Offset here = seen(row, column) ? Offset::shown : Offset::hidden;
                at = at == Offset::none || at == here ? here : Offset::mixed;
            }
        }
        return found;
    }

    /// Keys are seen up to a distance, at least to one side, and none beyond it. What only hides one side whole is no window.
    bool window() const {
        const auto all = offsets();
        const auto own = static_cast<std::size_t>(m_rows - 1 + m_shift);
        bool ends[2] = {false, false}, reaches[2] = {false, false};
        for (const std::size_t side : {0U, 1U}) {
            for (std::size_t distance = 1; side == 0 ? distance <= own : own + distance < all.size(); ++distance) {
                const Offset at = all[side == 0 ? own - distance : own + distance];
                if (at == Offset::mixed || (ends[side] && at == Offset::shown)) return false;
                ends[side] = ends[side] || at == Offset::hidden;
                reaches[side] = reaches[side] || at == Offset::shown;
            }
        }
        if (m_causal) return ends[0];
        return (ends[0] && ends[1]) || (ends[0] && reaches[0]) || (ends[1] && reaches[1]);
    }

    /// Whether anything is hidden that being causal doesn't hide.
    bool hidesAllowed() const {
        for (Dim row = 0; row < m_rows; ++row)
            for (Dim column = 0; column < m_columns; ++column)
                if (counts(row, column) && !seen(row, column)) return true;
        return false;
    }

    /// Strides where all diagonals are of one kind: distances that are seen behind nearer ones that aren't. Else blocks.
    bool sparse() const {
        bool strided = false, diagonals = true;
        const auto all = offsets();
        const auto own = static_cast<std::size_t>(m_rows - 1 + m_shift);
        for (const std::size_t side : {0U, 1U}) {
            bool nearer = false;
            for (std::size_t distance = 1; side == 0 ? distance <= own : own + distance < all.size(); ++distance) {
                const Offset at = all[side == 0 ? own - distance : own + distance];
                diagonals = diagonals && at != Offset::mixed;
                nearer = nearer || at == Offset::hidden;
                strided = strided || (nearer && at == Offset::shown);
            }
        }
        return diagonals ? strided : documents() || repeats();
    }

    /// Runs of places that see each other and nothing else, of any length.
    bool documents() const {
        if (m_rows != m_columns) return false;
        std::vector<Dim> run(static_cast<std::size_t>(m_rows), 0);
        for (std::size_t i = 1; i < run.size(); ++i) run[i] = run[i - 1] + (seen(static_cast<Dim>(i), static_cast<Dim>(i) - 1) ? 0 : 1);
        for (Dim row = 0; row < m_rows; ++row)
            for (Dim column = 0; column < m_columns; ++column)
                if (counts(row, column) && seen(row, column) != (run[static_cast<std::size_t>(row)] == run[static_cast<std::size_t>(column)])) return false;
        return true;
    }

    /// The same all over every block, or the same again one block further along the diagonal.
    bool repeats() const {
        for (Dim block = 2; block <= m_rows / 2; ++block)
            if (m_rows % block == 0 && m_columns % block == 0 && m_shift % block == 0 && (ofBlocks(block) || (block <= m_rows / 3 && periodic(block)))) return true;
        return false;
    }

    bool ofBlocks(Dim block) const {
        for (Dim row = 0; row < m_rows; ++row) {
            for (Dim column = 0; column < m_columns; ++column) {
                if (!counts(row, column)) continue;
                // The lower left place of a block counts wherever any of it does.
                const Dim low = row / block * block + block - 1, left = column / block * block;
                if (seen(row, column) != seen(low, left)) return false;
            }
        }
        return true;
    }

    bool periodic(Dim block) const {
        for (Dim row = 0; row + block < m_rows; ++row)
            for (Dim column = 0; column + block < m_columns; ++column)
                if (counts(row, column) && seen(row, column) != seen(row + block, column + block)) return false;
        return true;
    }

    Dim m_rows, m_columns, m_shift;
    std::vector<char> m_seen;
    bool m_graded = false, m_masks = false, m_causal = false;
    std::vector<bool> m_globalRow, m_globalColumn;
};

} // namespace

MaskPattern patternOf(const HostTensor& mask, Dim rows, Dim columns) {
    if (rows < 2 || columns < rows || mask.count() < rows * columns) return {};
    // The last query stands at the last key, or the first at the first: what one of them makes causal is.
    const MaskPattern last = Visible(mask, rows, columns, columns - rows).pattern();
    if (columns == rows || last.causal) return last;
    const MaskPattern first = Visible(mask, rows, columns, 0).pattern();
    // Or as many blocks of keys stand before a block of queries as behind it.
    if (const Dim before = (columns - rows) / 2; !first.causal && (columns - rows) % 2 == 0 && before % rows == 0 && Visible(mask, rows, columns, before).isBand()) return {false, true, false};
    return first.causal || !(last.window || last.blockSparse) ? first : last;
}

bool areSlopes(const std::vector<double>& row) {
    if (row.size() < 2 || row[0] <= 0 || row[0] > 1) return false;
    const double ratio = row[1] / row[0];
    bool geometric = ratio > 0 && ratio < 1;
    for (std::size_t i = 1; i < (row.size() + 1) / 2; ++i) geometric = geometric && std::fabs(row[i] / row[i - 1] - ratio) < 1e-3;
    return geometric;
}

bool isFoldedAlibi(const HostTensor& bias) {
    const std::size_t rank = bias.dims.size();
    if (rank < 3 || bias.isInteger()) return false;
    const Dim heads = bias.dims[rank - 3], rows = bias.dims[rank - 2], columns = bias.dims[rank - 1];
    if (heads < 2 || rows < 1 || columns < 3 || (rows > 1 && columns < rows)) return false;
    std::vector<double> slopes;
    for (Dim head = 0; head < heads; ++head) {
        const auto at = [&](Dim row, Dim column) { return bias.at(static_cast<std::size_t>((head * rows + row) * columns + column)); };
        // The last query sees all keys up to its own: from the first to it the bias grows by the slope each.
        const double slope = (at(rows - 1, columns - 1) - at(rows - 1, 0)) / static_cast<double>(columns - 1);
        slopes.push_back(slope);
        if (!(slope > 0)) return false;
        for (Dim row = 0; row < rows; ++row) {
            for (Dim column = 0; column + 1 < columns; ++column) {
                const double here = at(row, column), next = at(row, column + 1);
                if (here < hidden || next < hidden) continue;
                const double allowed = 0.05 * slope + 1e-3 * std::fabs(here); // what half precision leaves of a step
                const bool after = column >= row + columns - rows;
                if (std::fabs(next - here - slope) > allowed && !(after && std::fabs(next - here + slope) <= allowed)) return false;
            }
        }
    }
    return areSlopes(slopes);
}

} // namespace triptych
