#include "pattern_model.h"

#include "support/numbers.h"

#include <algorithm>

namespace triptych {

void PatternModel::setAnalysis(AnalysisPtr analysis) {
    const bool sameRows = m_analysis && analysis && m_analysis->library == analysis->library && m_analysis->model == analysis->model;
    if (sameRows) {
        m_analysis = std::move(analysis);
        m_effects.clear();
        emit dataChanged(index(0, 0), index(rowCount() - 1, ColumnCount - 1));
        return;
    }
    beginResetModel();
    m_analysis = std::move(analysis);
    m_effects.clear();
    m_rows.clear();
    if (m_analysis) {
        for (std::size_t i = 0; i < m_analysis->library->patterns.size(); ++i) m_rows.emplace_back(i);
        const auto matches = [&](PatternId id) { return m_analysis->enhanced.partition->matches[id.position()] > 0; };
        std::stable_sort(m_rows.begin(), m_rows.end(), [&](PatternId a, PatternId b) { return matches(a) > matches(b); });
    }
    endResetModel();
}

void PatternModel::setEffects(std::vector<Marginal> effects) {
    m_effects = std::move(effects);
    if (!m_rows.empty()) emit dataChanged(index(0, LaunchesColumn), index(rowCount() - 1, TimeColumn));
}

int PatternModel::rowOf(PatternId pattern) const {
    const auto found = std::find(m_rows.begin(), m_rows.end(), pattern);
    return found == m_rows.end() ? -1 : static_cast<int>(found - m_rows.begin());
}

int PatternModel::rowCount(const QModelIndex& parent) const { return parent.isValid() ? 0 : static_cast<int>(m_rows.size()); }
int PatternModel::columnCount(const QModelIndex& parent) const { return parent.isValid() ? 0 : ColumnCount; }

/// Five characters at most: a longer number would lose its first digits at the column's edge.
static std::string narrow(double size) {
    if (size < 0.0005) return "0.000";
    if (size >= 99999.5) return formatNumber(size / 1000, 4) + "k";
    return formatNumber(size, size < 0.01 ? 1 : size < 0.1 ? 2 : 3);
}

QVariant PatternModel::text(PatternId id, int column) const {
    const Pattern& pattern = (*m_analysis->library)[id];
    const std::int64_t places = m_analysis->enhanced.partition->matches[id.position()];
    if (column == TitleColumn) return QString::fromStdString(pattern.title);
    if (column == PlacesColumn) return places > 0 ? QStringLiteral("× %1").arg(places) : QString();
    if (!m_analysis->enabled.contains(id) || places == 0) return {};
    if (m_effects.empty()) return QStringLiteral("…");
    const Marginal& effect = m_effects[id.position()];
    const auto signedText = [](double gain, const std::string& size) { return QString::fromStdString(gain == 0 ? "0" : (gain > 0 ? "−" : "+") + size); };
    if (column == LaunchesColumn) return signedText(double(effect.launches), grouped(std::abs(effect.launches)));
    if (column == BytesColumn) return signedText(double(effect.bytes), narrow(std::abs(double(effect.bytes)) / 1e6));
    return signedText(effect.timeUs, narrow(std::abs(effect.timeUs)));
}

QVariant PatternModel::data(const QModelIndex& index, int role) const {
    if (!index.isValid() || !m_analysis || index.row() >= rowCount()) return {};
    const PatternId id = patternAt(index.row());
    const Pattern& pattern = (*m_analysis->library)[id];
    switch (role) {
    case Qt::DisplayRole: return text(id, index.column());
    case Qt::CheckStateRole: return index.column() == TitleColumn ? QVariant(m_analysis->enabled.contains(id) ? Qt::Checked : Qt::Unchecked) : QVariant();
    case Qt::ToolTipRole: return QString::fromStdString(pattern.id + "\n\n" + pattern.sketch + "\n\n" + pattern.why);
    case Qt::TextAlignmentRole: return index.column() == TitleColumn ? QVariant(int(Qt::AlignLeft | Qt::AlignVCenter)) : QVariant(int(Qt::AlignRight | Qt::AlignVCenter));
    case PatternRole: return QString::fromStdString(pattern.id);
    case FamilyRole: return static_cast<int>(pattern.colour);
    case GainRole:
        if (m_effects.empty() || index.column() < LaunchesColumn) return {};
        return index.column() == LaunchesColumn ? double(m_effects[id.position()].launches) : index.column() == BytesColumn ? double(m_effects[id.position()].bytes) : m_effects[id.position()].timeUs;
    default: return {};
    }
}

QVariant PatternModel::headerData(int section, Qt::Orientation orientation, int role) const {
    if (orientation != Qt::Horizontal) return {};
    if (role == Qt::TextAlignmentRole) return int((section == TitleColumn ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
    if (role == Qt::ToolTipRole) return section >= LaunchesColumn ? tr("What the model would have more of (−: saved) without this pattern, all else as it is") : QString();
    if (role != Qt::DisplayRole) return {};
    switch (section) {
    case TitleColumn: return tr("PATTERNS");
    case PlacesColumn: return tr("places");
    case LaunchesColumn: return tr("launches");
    case BytesColumn: return tr("MB");
    default: return tr("µs");
    }
}

Qt::ItemFlags PatternModel::flags(const QModelIndex& index) const {
    const Qt::ItemFlags flags = QAbstractTableModel::flags(index);
    return index.column() == TitleColumn ? flags | Qt::ItemIsUserCheckable : flags;
}

bool PatternModel::setData(const QModelIndex& index, const QVariant& value, int role) {
    if (role != Qt::CheckStateRole || !index.isValid() || index.column() != TitleColumn) return false;
    emit patternToggled(index.data(PatternRole).toString(), value.toInt() == Qt::Checked);
    return true;
}

} // namespace triptych
