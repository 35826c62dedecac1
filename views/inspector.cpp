#include "inspector.h"

#include "nested.h"
#include "painter.h"
#include "support/excerpt.h"
#include "support/numbers.h"

namespace triptych {

namespace {

/// As HTML. Cut where nobody reads on: laying out a name of a million characters takes minutes.
QString text(const std::string& given) { return QString::fromStdString(excerpt(given, 2000)).toHtmlEscaped(); }

QString bytes(std::int64_t count) { return text(formatBytes(static_cast<double>(count))); }

} // namespace

Inspector::Inspector(QWidget* parent) : QTextBrowser(parent), m_theme(&lightTheme()) {
    setFrameShape(QFrame::NoFrame);
    setAccessibleName(tr("Inspector"));
}

void Inspector::setTheme(const Theme& theme) { m_theme = &theme; }

void Inspector::show(const QString& heading, const QString& detail, const Rows& rows) {
    const auto colour = [](std::uint32_t rgb) { return toColour(rgb).name(); };
    QString html = QStringLiteral("<div style='font-family:Inter;font-size:12px;color:%1'><p style='margin:2px 0 6px 0'><b style='font-size:13px'>%2</b> <span style='color:%3;font-family:JetBrains Mono;font-size:11px'>%4</span></p><table cellspacing='0' cellpadding='2'>")
                       .arg(colour(m_theme->ink), heading, colour(m_theme->dim), detail);
    for (const auto& [name, value] : rows)
        if (!value.isEmpty()) html += QStringLiteral("<tr><td style='color:%1;padding-right:10px'>%2</td><td>%3</td></tr>").arg(colour(m_theme->dim), name, value);
    setHtml(html + QStringLiteral("</table></div>"));
}

void Inspector::showNothing(const Analysis* analysis) {
    if (!analysis) return setHtml({});
    Rows rows;
    rows.emplace_back(tr("attention"), tr("%1 found, %2 not recognised").arg(attentionCount(*analysis)).arg(analysis->attentions.unrecognised.size()));
    rows.emplace_back(tr("near misses"), QString::number(analysis->enhanced.partition->nearMisses.size()));
    for (const Unrecognised& each : analysis->attentions.unrecognised) {
        rows.emplace_back(tr("unrecognised"), text(each.at + ": " + each.reason));
        if (rows.size() > 8) break;
    }
    for (const std::string& warning : analysis->warnings) {
        rows.emplace_back(tr("warning"), text(warning));
        if (rows.size() > 12) break;
    }
    show(text(analysis->model->path.filename().string()), tr("select a node or a group"), rows);
}

Inspector::Rows Inspector::groupRows(const Analysis& analysis, const Projected& projected, GroupId id) const {
    Rows rows;
    const Group& group = projected.partition->groups[id.position()];
    const GroupMetrics& m = projected.metrics->byGroup[id.position()];
    if (group.pattern) {
        QString names;
        for (const PatternId pattern : group.patterns) names += (names.isEmpty() ? "" : ", ") + text((*analysis.library)[pattern].title);
        rows.emplace_back(tr("fused by"), names);
        rows.emplace_back(tr("why"), text((*analysis.library)[group.pattern].why));
    }
    rows.emplace_back(tr("launches"), QString::number(m.launches));
    rows.emplace_back(tr("reads"), tr("%1 and %2 of weights").arg(bytes(m.inputBytes), bytes(m.weightBytes)));
    rows.emplace_back(tr("writes"), bytes(m.outputBytes));
    rows.emplace_back(tr("kept inside"), m.internalBytes > 0 ? bytes(m.internalBytes) : QString());
    rows.emplace_back(tr("work"), text(formatFlops(m.flops)));
    rows.emplace_back(tr("time"), m.launches > 0 ? tr("%1, limited by %2 (modelled)").arg(text(formatMicroseconds(m.timeUs)), text(std::string(toString(m.limitedBy)))) : QString());
    for (const ParallelGroup& parallel : projected.partition->parallel)
        if (parallel.group == id)
            rows.emplace_back(tr("merging"), tr("%1 launches and %2 fewer%3").arg(parallel.launchesSaved).arg(bytes(parallel.bytesSaved), parallel.alreadyMerged ? tr("; the file packs them already") : QString()));
    return rows;
}

void Inspector::showGroup(const Analysis& analysis, const Projected& projected, GroupId id) {
    const Group& group = projected.partition->groups[id.position()];
    const std::string heading = group.pattern ? (*analysis.library)[group.pattern].title : group.composite;
    Rows rows = groupRows(analysis, projected, id);
    QString nodes;
    for (const NodeId node : group.nodes) nodes += (nodes.isEmpty() ? "" : ", ") + text(projected.graph->node(node).op);
    rows.emplace_back(tr("holds"), nodes);
    show(text(heading), text(group.id), rows);
}

void Inspector::showNode(const Analysis& analysis, const Projected& projected, NodeId id) {
    const Graph& graph = *projected.graph;
    const Node& node = graph.node(id);
    Rows rows;
    const auto shapes = [&](const std::vector<ValueId>& values) {
        QString all;
        for (const ValueId value : values) {
            if (!value) continue;
            const ValueShape& shape = projected.shapes->of(value);
            if (!all.isEmpty()) all += QStringLiteral(", ");
            all += text((shape.ranked ? formatDims(shape.dims) : "?") + " " + std::string(shortName(shape.type)));
        }
        return all;
    };
    rows.emplace_back(tr("name"), text(node.name));
    rows.emplace_back(tr("module"), text(node.scope));
    rows.emplace_back(tr("inputs"), shapes(node.inputs));
    rows.emplace_back(tr("outputs"), shapes(node.outputs));
    rows.emplace_back(tr("attributes"), text(describe(node.attributes)));
    if (const ValueShape& made = projected.shapes->of(node.output()); node.output() && !made.known()) rows.emplace_back(tr("shape unknown"), text(projected.shapes->reasonUnknown(node.output())));
    QString held;
    for (const NestedGraph& nested : nestedGraphs(*analysis.model, node)) held += (held.isEmpty() ? "" : ", ") + tr("%1 (%2 nodes)").arg(text(nested.name)).arg(nested.graph->nodes().size());
    if (!held.isEmpty()) rows.emplace_back(tr("holds"), tr("%1; Enter or a double click goes in").arg(held));
    for (const AttentionSpec& spec : analysis.attentions.found) {
        if (!projected.metrics) break; // of whole graphs only
        const bool here = spec.opaque ? analysis.inlined->node(spec.opaque).name == node.name : !spec.core.empty() && spec.form.starts_with("function:") && analysis.model->function(node) && analysis.inlined->sources(spec.core[0])[0] == graph.sources(id)[0];
        if (!here) continue;
        rows.emplace_back(tr("is"), tr("%1 attention, %2 heads of %3, %4").arg(text(std::string(toString(spec.kind)))).arg(spec.heads).arg(spec.headDim).arg(text(spec.form)));
        rows.emplace_back(tr("projections"), text(std::string(toString(spec.projections))));
        rows.emplace_back(tr("became"), tr("%1 operators").arg(analysis.decomposition->attentions[static_cast<std::size_t>(&spec - analysis.attentions.found.data())].nodes.size()));
        for (const Evidence& each : spec.evidence) rows.emplace_back(text(each.role), text(each.node + " " + each.why));
    }
    if (const GroupId group = projected.partition->groupOf[id]; group && projected.metrics) {
        const Rows more = groupRows(analysis, projected, group);
        rows.insert(rows.end(), more.begin(), more.end());
    }
    for (const NearMiss& miss : projected.partition->nearMisses)
        if (miss.at == id) rows.emplace_back(tr("not fused"), text((*analysis.library)[miss.pattern].title + ": " + miss.reason + (miss.detail.empty() ? "" : " (" + miss.detail + ")")));
    QString sources;
    for (const SourceId source : graph.sources(id))
        for (std::size_t i = 0; i < analysis.model->graph->nodes().size() && sources.size() < 400; ++i)
            if (analysis.model->graph->sources(NodeId(i))[0] == source) sources += (sources.isEmpty() ? "" : ", ") + text(analysis.model->graph->nodes()[i].name);
    rows.emplace_back(tr("in the file"), sources);
    show(text(drawnOperator(*projected.classes, graph, id)), text(projected.key), rows);
}

} // namespace triptych
