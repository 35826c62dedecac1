#pragma once
// The four graphs' figures as small bars. Shows a snapshot; computes nothing.

#include "drawing/draw.h"

#include <QWidget>

namespace triptych {

class MetricsPanel : public QWidget {
    Q_OBJECT
public:
    explicit MetricsPanel(QWidget* parent = nullptr);
    void setTheme(const Theme& theme);
    /// Figures that changed since the last snapshot flash once.
    void setAnalysis(AnalysisPtr analysis);
    /// What a row shows, for screen readers and tests: "launches" and "enhanced" give "113".
    QString shown(const QString& figure, const QString& graph) const;
    QSize sizeHint() const override;

protected:
    void paintEvent(QPaintEvent*) override;
    void timerEvent(QTimerEvent*) override;

private:
    struct Bar { QString graph, text; double part = 0; bool changed = false; };
    struct Figure { QString name, unit; std::vector<Bar> bars; };
    AnalysisPtr m_analysis;
    const Theme* m_theme;
    std::vector<Figure> m_figures;
    int m_flash = 0;
};

} // namespace triptych
