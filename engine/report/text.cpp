#include "report/text.h"

#include "support/excerpt.h"
#include "support/numbers.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

/// Columns of a table, as wide as their widest cell; figures to the right.
class Table {
public:
    explicit Table(std::vector<std::string> head) { add(std::move(head)); }
    void add(std::vector<std::string> cells) { m_rows.push_back(std::move(cells)); }

    std::string plain() const {
        std::string text;
        const auto widths = columnWidths();
        for (const auto& row : m_rows) {
            std::string line;
            for (std::size_t i = 0; i < row.size(); ++i) {
                const std::string gap(widths[i] - shown(row[i]), ' ');
                line += (i ? "  " : "") + (i ? gap + row[i] : row[i] + gap);
            }
            line.erase(line.find_last_not_of(' ') + 1);
            text += line + '\n';
        }
        return text;
    }
    std::string markdown() const {
        std::string text;
        for (std::size_t r = 0; r < m_rows.size(); ++r) {
            for (const std::string& cell : m_rows[r]) text += "| " + cell + ' ';
            text += "|\n";
            if (r > 0) continue;
            for (std::size_t i = 0; i < m_rows[0].size(); ++i) text += i ? "|---:" : "|---";
            text += "|\n";
        }
        return text;
    }

private:
    /// Characters, not bytes.
    static std::size_t shown(const std::string& text) {
        return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
    }
    std::vector<std::size_t> columnWidths() const {
        std::vector<std::size_t> widths;
        for (const auto& row : m_rows) {
            widths.resize(std::max(widths.size(), row.size()));
            for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], shown(row[i]));
        }
        return widths;
    }
    std::vector<std::vector<std::string>> m_rows;
};

std::array<const Projected*, 4> projections(const Analysis& analysis) { return {&analysis.unfused, &analysis.baseline, &analysis.decomposed, &analysis.enhanced}; }

Table graphTable(const Analysis& analysis) {
    Table table({"", "unfused", "baseline", "decomposed", "enhanced"});
    const auto row = [&](std::string name, const auto& figure) {
        std::vector<std::string> cells{std::move(name)};
        for (const Projected* each : projections(analysis)) cells.push_back(figure(*each->metrics));
        table.add(std::move(cells));
    };
    row("operators (compute)", [](const GraphMetrics& m) { return grouped(m.computeNodes); });
    row("views", [](const GraphMetrics& m) { return grouped(m.viewNodes); });
    row("groups", [](const GraphMetrics& m) { return grouped(m.groups); });
    row("operators a group", [](const GraphMetrics& m) { return formatNumber(m.opsPerGroup); });
    row("launches", [](const GraphMetrics& m) { return grouped(m.launches); });
    row("work", [](const GraphMetrics& m) { return formatFlops(m.flops); });
    row("bytes moved", [](const GraphMetrics& m) { return formatBytes(static_cast<double>(m.bytes)); });
    row("of them weights", [](const GraphMetrics& m) { return formatBytes(static_cast<double>(m.weightBytes)); });
    row("kept inside groups", [](const GraphMetrics& m) { return formatBytes(static_cast<double>(m.internalBytes)); });
    row("peak activations", [](const GraphMetrics& m) { return formatBytes(static_cast<double>(m.peakActivationBytes)); });
    row("GPU time, modelled", [](const GraphMetrics& m) { return formatMicroseconds(m.timeUs); });
    row("graph replay, modelled", [](const GraphMetrics& m) { return formatMicroseconds(m.replayUs); });
    row("eager, modelled", [](const GraphMetrics& m) { return formatMicroseconds(m.eagerUs); });
    return table;
}

std::string settings(const Analysis& analysis) {
    static constexpr std::array precisions{"as in the file", "fp32", "fp16", "bf16"};
    std::string text = "preset " + analysis.options.preset + ", " + analysis.hardware.name + (analysis.hardware.measured ? "" : " (datasheet: an estimate)") +
                       ", " + analysis.runtime.name + ", precision " + precisions[static_cast<std::size_t>(analysis.options.precision)];
    for (const auto& [name, size] : analysis.bindings) text += ", " + excerpt(name) + " = " + std::to_string(size);
    return text;
}

std::string causality(const std::optional<bool>& causal) { return !causal ? "mask not in the file" : *causal ? "causal" : "not causal"; }

Table attentionTable(const Analysis& analysis) {
    Table table({"attention", "kind", "form", "heads", "kv heads", "head size", "projections", "mask"});
    const auto add = [&](const AttentionSpec& spec, const std::string& place) {
        table.add({place + (spec.scope.empty() ? spec.id : spec.scope), std::string(toString(spec.kind)), spec.form, std::to_string(spec.heads), std::to_string(spec.kvHeads),
                   std::to_string(spec.headDim), std::string(toString(spec.projections)), causality(spec.causal)});
    };
    for (const AttentionSpec& spec : analysis.attentions.found) add(spec, "");
    for (const NestedAttention& nested : analysis.nested)
        for (const AttentionSpec& spec : nested.attentions.found) add(spec, nested.place + "/");
    return table;
}

std::string parallelText(const Analysis& analysis) {
    std::string text;
    std::map<std::pair<std::string, bool>, std::array<std::int64_t, 3>> sums;
    for (const ParallelGroup& each : analysis.enhanced.partition->parallel) {
        auto& sum = sums[{(*analysis.library)[each.pattern].id, each.alreadyMerged}];
        ++sum[0];
        sum[1] += each.launchesSaved;
        sum[2] += each.bytesSaved;
    }
    for (const auto& [key, sum] : sums)
        text += key.first + ": " + std::to_string(sum[0]) + " groups, " + std::to_string(sum[1]) + " launches and " + grouped(sum[2]) + " bytes saved by merging" +
                (key.second ? " (against the projections taken apart; the file packs them already)" : "") + "\n";
    return text.empty() ? "none\n" : text;
}

std::string header(const Analysis& analysis) {
    const Model& model = *analysis.model;
    std::string text = model.path.filename().string() + ": " + grouped(static_cast<std::int64_t>(model.graph->nodes().size())) + " nodes";
    if (!model.producer.empty()) text += ", written by " + excerpt(model.producer);
    for (const auto& [domain, version] : model.opsets) text += ", " + (domain.empty() ? "ai.onnx" : excerpt(domain)) + " " + std::to_string(version);
    return text + "\n" + settings(analysis) + "\n";
}

std::string visibilityText(const Analysis& analysis) {
    const auto seen = [](const GraphMetrics& m) { return grouped(m.computeNodes + m.viewNodes); };
    return "operators visible: " + seen(*analysis.baseline.metrics) + " in the file, " + seen(*analysis.decomposed.metrics) + " decomposed (" + formatNumber(analysis.visibility) + "x)\n";
}

std::string csvCell(const std::string& text) {
    if (text.find_first_of(",\"\n") == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return quoted + '"';
}

} // namespace

std::string analysisTable(const Analysis& analysis) {
    std::string text = header(analysis) + "\n";
    text += attentionCount(analysis) == 0 ? std::string("no attention found\n") : attentionTable(analysis).plain();
    for (const Unrecognised& each : analysis.attentions.unrecognised) text += "unrecognised: " + each.at + " looks like " + each.looksLike + ": " + each.reason + "\n";
    text += "\n" + graphTable(analysis).plain() + "\n" + visibilityText(analysis);
    text += "\nparallel projections\n" + parallelText(analysis);
    const auto& unknown = analysis.inlinedShapes->unknown();
    constexpr std::size_t most = 10;
    std::size_t shown = 0;
    for (const auto& [value, reason] : unknown)
        if (shown++ < most) text += "unknown shape: " + excerpt(analysis.inlined->value(value).name) + ": " + reason + "\n";
    if (unknown.size() > most) text += "unknown shape: " + std::to_string(unknown.size() - most) + " more values (--json lists them)\n";
    for (const std::string& warning : analysis.warnings) text += "warning: " + excerpt(warning, 2000) + "\n";
    return text;
}

std::string analysisMarkdown(const Analysis& analysis) {
    std::string text = "# " + analysis.model->path.filename().string() + "\n\n" + header(analysis) + "\n## Attention\n\n";
    text += attentionCount(analysis) == 0 ? std::string("None found.\n") : attentionTable(analysis).markdown();
    for (const Unrecognised& each : analysis.attentions.unrecognised) text += "\n- unrecognised: `" + each.at + "` looks like " + each.looksLike + ": " + each.reason + " " + each.detail + "\n";
    text += "\n## Metrics\n\n" + graphTable(analysis).markdown() + "\n" + visibilityText(analysis) + "\n## Parallel projections\n\n" + parallelText(analysis) + "\n## Patterns that contribute\n\n";
    Table patterns({"pattern", "places", "launches saved", "bytes saved"});
    for (std::size_t i = 0; i < analysis.library->patterns.size(); ++i) {
        if (analysis.enhanced.partition->matches[i] == 0) continue;
        const Marginal& marginal = analysis.marginals[i];
        patterns.add({analysis.library->patterns[i].title, grouped(analysis.enhanced.partition->matches[i]), grouped(marginal.launches), grouped(marginal.bytes)});
    }
    text += patterns.markdown() + "\n## What nearly fused\n\n";
    std::map<std::pair<std::string, std::string>, std::int64_t> reasons;
    for (const NearMiss& each : analysis.enhanced.partition->nearMisses) ++reasons[{(*analysis.library)[each.pattern].title, each.reason}];
    for (const auto& [key, count] : reasons) text += "- " + key.first + ": " + key.second + " (" + std::to_string(count) + ")\n";
    if (!analysis.warnings.empty()) text += "\n## Warnings\n\n";
    for (const std::string& warning : analysis.warnings) text += "- " + warning + "\n";
    return text;
}

std::string partitionCsv(const Analysis& analysis, const Projected& projected) {
    std::string text = "graph,group,pattern,nodes,launches,flops,input_bytes,weight_bytes,output_bytes,internal_bytes,intensity,limited_by,time_us\n";
    for (std::size_t i = 0; i < projected.partition->groups.size(); ++i) {
        const Group& group = projected.partition->groups[i];
        const GroupMetrics& m = projected.metrics->byGroup[i];
        std::string nodes;
        for (const NodeId id : group.nodes) nodes += (nodes.empty() ? "" : " ") + projected.graph->node(id).name;
        const std::string pattern = group.pattern ? (*analysis.library)[group.pattern].id : group.composite;
        text += projected.key + "," + group.id + "," + pattern + "," + csvCell(nodes) + "," + std::to_string(m.launches) + "," + formatNumber(m.flops, 17) + "," +
                std::to_string(m.inputBytes) + "," + std::to_string(m.weightBytes) + "," + std::to_string(m.outputBytes) + "," + std::to_string(m.internalBytes) + "," +
                formatNumber(m.intensity, 6) + "," + std::string(toString(m.limitedBy)) + "," + formatNumber(m.timeUs, 6) + "\n";
    }
    return text;
}

std::string diagnosisText(const Analysis& analysis) {
    std::string text = std::to_string(attentionCount(analysis)) + " attentions recognised, " + std::to_string(analysis.attentions.unrecognised.size()) + " not\n";
    for (const Unrecognised& each : analysis.attentions.unrecognised)
        text += "unrecognised  " + each.at + "\n  looks like " + each.looksLike + ": " + each.reason + (each.detail.empty() ? "" : " (" + each.detail + ")") + "\n";
    for (const NearMiss& each : analysis.enhanced.partition->nearMisses)
        text += "near miss     " + (*analysis.library)[each.pattern].id + " at " + describe(*analysis.enhanced.graph, each.at) + "\n  " + each.reason +
                (each.detail.empty() ? "" : ": " + each.detail) + "\n";
    return text;
}

std::string patternsTable(const PatternLibrary& library) {
    Table table({"pattern", "kind", "title"});
    for (const Pattern& pattern : library.patterns) table.add({pattern.id, std::string(toString(pattern.kind)), pattern.title});
    return table.plain();
}

} // namespace triptych
