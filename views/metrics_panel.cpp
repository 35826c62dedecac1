#include "metrics_panel.h"

#include "painter.h"
#include "support/numbers.h"

#include <QPainter>
#include <QTimerEvent>

namespace triptych {

namespace {

constexpr int rowHeight = 15, titleHeight = 19, topHeight = 26;

struct FigureRule {
    const char* name;
    double (*value)(const GraphMetrics&);
    std::string (*text)(double);
};

std::string whole(double value) { return grouped(static_cast<std::int64_t>(value)); }

const FigureRule rules[]{
    {QT_TRANSLATE_NOOP("MetricsPanel", "launches"), [](const GraphMetrics& m) { return double(m.launches); }, whole},
    {QT_TRANSLATE_NOOP("MetricsPanel", "groups"), [](const GraphMetrics& m) { return double(m.groups); }, whole},
    {QT_TRANSLATE_NOOP("MetricsPanel", "GPU time"), [](const GraphMetrics& m) { return m.timeUs; }, formatMicroseconds},
    {QT_TRANSLATE_NOOP("MetricsPanel", "memory traffic"), [](const GraphMetrics& m) { return double(m.bytes); }, formatBytes},
    {QT_TRANSLATE_NOOP("MetricsPanel", "peak activations"), [](const GraphMetrics& m) { return double(m.peakActivationBytes); }, formatBytes},
};

} // namespace

MetricsPanel::MetricsPanel(QWidget* parent) : QWidget(parent), m_theme(&lightTheme()) { setAccessibleName(tr("Metrics")); }

void MetricsPanel::setTheme(const Theme& theme) {
    m_theme = &theme;
    update();
}

void MetricsPanel::setAnalysis(AnalysisPtr analysis) {
    const std::vector<Figure> before = std::move(m_figures);
    m_figures.clear();
    m_analysis = std::move(analysis);
    if (m_analysis) {
        for (const FigureRule& rule : rules) {
            Figure figure{tr(rule.name), {}, {}};
            double most = 0;
            for (const Projected* each : {&m_analysis->unfused, &m_analysis->baseline, &m_analysis->decomposed, &m_analysis->enhanced}) {
                const double value = rule.value(*each->metrics);
                most = std::max(most, value);
                figure.bars.push_back({QString::fromStdString(each->key), QString::fromStdString(rule.text(value)), value, false});
            }
            for (Bar& bar : figure.bars) bar.part = most > 0 ? bar.part / most : 0;
            m_figures.push_back(std::move(figure));
        }
        for (std::size_t f = 0; f < m_figures.size() && f < before.size(); ++f)
            for (std::size_t b = 0; b < m_figures[f].bars.size(); ++b) m_figures[f].bars[b].changed = before[f].bars[b].text != m_figures[f].bars[b].text;
        if (!before.empty()) m_flash = startTimer(700);
    }
    updateGeometry();
    update();
}

QString MetricsPanel::shown(const QString& figure, const QString& graph) const {
    for (const Figure& each : m_figures)
        for (const Bar& bar : each.bars)
            if (each.name == figure && bar.graph == graph) return bar.text;
    return {};
}

QSize MetricsPanel::sizeHint() const { return {340, topHeight + static_cast<int>(m_figures.size()) * (titleHeight + 4 * rowHeight) + 42}; }

void MetricsPanel::timerEvent(QTimerEvent* event) {
    killTimer(event->timerId());
    if (event->timerId() != m_flash) return;
    for (Figure& figure : m_figures)
        for (Bar& bar : figure.bars) bar.changed = false;
    update();
}

void MetricsPanel::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    painter.fillRect(rect(), toColour(m_theme->panel));
    if (!m_analysis) return;
    const int left = 16, right = width() - 16, barLeft = left + 84, barRight = right - 74;
    painter.setFont(shippedFont(Font::words, 10.5F, true));
    painter.setPen(toColour(m_theme->dim));
    painter.drawText(left, 16, tr("METRICS"));
    painter.setFont(shippedFont(Font::words, 10.5F, false));
    const QString source = tr("modelled · %1 · %2").arg(QString::fromStdString(m_analysis->hardware.name), m_analysis->hardware.measured ? tr("partly measured") : tr("datasheet"));
    painter.drawText(QRect(left + 70, 2, right - left - 70, 20), Qt::AlignRight | Qt::AlignVCenter, source);
    int y = topHeight;
    for (const Figure& figure : m_figures) {
        painter.setFont(shippedFont(Font::words, 12, true));
        painter.setPen(toColour(m_theme->ink));
        painter.drawText(left, y + 13, figure.name);
        y += titleHeight;
        for (const Bar& bar : figure.bars) {
            const bool last = bar.graph == QLatin1String("enhanced");
            painter.setFont(shippedFont(Font::words, 10.5F, false));
            painter.setPen(toColour(m_theme->dim));
            painter.drawText(left, y + 11, bar.graph);
            painter.setPen(Qt::NoPen);
            painter.setBrush(toColour(last ? m_theme->selection : m_theme->nodeLine));
            painter.drawRoundedRect(QRectF(barLeft, y + 4, std::max(1.0, bar.part * (barRight - barLeft)), 8), 2, 2);
            if (bar.changed) painter.fillRect(QRect(barRight + 6, y, right - barRight - 2, rowHeight), toColour(m_theme->hover));
            painter.setFont(shippedFont(Font::figures, 11, false));
            painter.setPen(toColour(last ? m_theme->ink : m_theme->dim));
            painter.drawText(QRect(barRight, y, right - barRight, rowHeight), Qt::AlignRight | Qt::AlignVCenter, bar.text);
            y += rowHeight;
        }
    }
    painter.setFont(shippedFont(Font::words, 11, false));
    painter.setPen(toColour(m_theme->ink));
    const auto seen = [](const GraphMetrics& m) { return QString::fromStdString(grouped(m.computeNodes + m.viewNodes)); };
    painter.drawText(left, y + 20, tr("operators visible %1 → %2 (%3×)").arg(seen(*m_analysis->baseline.metrics), seen(*m_analysis->decomposed.metrics), QString::fromStdString(formatNumber(m_analysis->visibility))));
}

} // namespace triptych
