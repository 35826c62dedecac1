#pragma once
// The pattern library with what each pattern does to the present model. Check boxes are intents: nothing changes here.

#include "pipeline.h"

#include <QAbstractTableModel>

namespace triptych {

class PatternModel : public QAbstractTableModel {
    Q_OBJECT
public:
    enum Column { TitleColumn, PlacesColumn, LaunchesColumn, BytesColumn, TimeColumn, ColumnCount };
    enum ItemRole { PatternRole = Qt::UserRole, FamilyRole, GainRole }; ///< id; Family as int; double, positive where it helps

    using QAbstractTableModel::QAbstractTableModel;
    void setAnalysis(AnalysisPtr analysis);
    /// Measured later than the analysis: empty until known.
    void setEffects(std::vector<Marginal> effects);
    /// Row of a pattern, -1 where it isn't shown.
    int rowOf(PatternId pattern) const;
    PatternId patternAt(int row) const { return m_rows[static_cast<std::size_t>(row)]; }

    int rowCount(const QModelIndex& parent = {}) const override;
    int columnCount(const QModelIndex& parent = {}) const override;
    QVariant data(const QModelIndex& index, int role) const override;
    QVariant headerData(int section, Qt::Orientation orientation, int role) const override;
    Qt::ItemFlags flags(const QModelIndex& index) const override;
    bool setData(const QModelIndex& index, const QVariant& value, int role) override;

signals:
    void patternToggled(const QString& id, bool on);

private:
    QVariant text(PatternId pattern, int column) const;
    AnalysisPtr m_analysis;
    std::vector<Marginal> m_effects;
    std::vector<PatternId> m_rows; ///< those that match first, then by order of the library
};

} // namespace triptych
