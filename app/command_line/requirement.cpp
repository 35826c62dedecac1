#include "command_line/requirement.h"

#include "support/numbers.h"

#include <cstdlib>

namespace triptych {

namespace {

const std::map<std::string, double (*)(const GraphMetrics&)>& figures() {
    static const std::map<std::string, double (*)(const GraphMetrics&)> table{
        {"nodes", [](const GraphMetrics& m) { return double(m.nodes); }},
        {"compute_nodes", [](const GraphMetrics& m) { return double(m.computeNodes); }},
        {"view_nodes", [](const GraphMetrics& m) { return double(m.viewNodes); }},
        {"groups", [](const GraphMetrics& m) { return double(m.groups); }},
        {"ops_per_group", [](const GraphMetrics& m) { return m.opsPerGroup; }},
        {"launches", [](const GraphMetrics& m) { return double(m.launches); }},
        {"flops", [](const GraphMetrics& m) { return m.flops; }},
        {"bytes", [](const GraphMetrics& m) { return double(m.bytes); }},
        {"weight_bytes", [](const GraphMetrics& m) { return double(m.weightBytes); }},
        {"read_bytes", [](const GraphMetrics& m) { return double(m.readBytes); }},
        {"write_bytes", [](const GraphMetrics& m) { return double(m.writeBytes); }},
        {"internal_bytes", [](const GraphMetrics& m) { return double(m.internalBytes); }},
        {"dram_bytes", [](const GraphMetrics& m) { return double(m.dramBytes); }},
        {"peak_activation_bytes", [](const GraphMetrics& m) { return double(m.peakActivationBytes); }},
        {"intensity", [](const GraphMetrics& m) { return m.intensity; }},
        {"time_us", [](const GraphMetrics& m) { return m.timeUs; }},
        {"replay_us", [](const GraphMetrics& m) { return m.replayUs; }},
        {"eager_us", [](const GraphMetrics& m) { return m.eagerUs; }},
        {"launch_overhead_us", [](const GraphMetrics& m) { return m.launchOverheadUs; }},
    };
    return table;
}

bool compare(double a, const std::string& op, double b) {
    if (op == "<=") return a <= b;
    if (op == "<") return a < b;
    if (op == ">=") return a >= b;
    if (op == ">") return a > b;
    if (op == "!=") return a != b;
    return a == b;
}

} // namespace

Result<Verdict> checkRequirement(const std::string& given, const Analysis& analysis) {
    std::string text = given;
    std::erase(text, ' ');
    const std::size_t begin = text.find_first_of("<>=!"), end = text.find_first_not_of("<>=!", begin);
    if (begin == std::string::npos || end == std::string::npos) return fail("options", "'" + given + "' is no requirement", "write KEY OP NUMBER, as launches<=180");
    std::string key = text.substr(0, begin);
    const std::string op = text.substr(begin, end - begin);
    char* rest = nullptr;
    const double number = std::strtod(text.c_str() + end, &rest);
    static const std::set<std::string> operators{"<=", "<", ">=", ">", "==", "=", "!="};
    if (*rest != '\0' || !operators.contains(op)) return fail("options", "'" + given + "' is no requirement", "write KEY OP NUMBER, as launches<=180");
    const Projected* projected = &analysis.enhanced;
    if (const std::size_t dot = key.find('.'); dot != std::string::npos) {
        const std::string name = key.substr(0, dot);
        projected = nullptr;
        for (const Projected* each : {&analysis.unfused, &analysis.baseline, &analysis.decomposed, &analysis.enhanced})
            if (each->key == name) projected = each;
        if (!projected) return fail("options", "there is no graph '" + name + "'", "use unfused, baseline, decomposed or enhanced");
        key.erase(0, dot + 1);
    }
    const auto figure = figures().find(key);
    if (figure == figures().end()) return fail("options", "there is no metric '" + key + "'", "docs/metrics.md lists them");
    const double actual = figure->second(*projected->metrics);
    return Verdict{compare(actual, op, number), formatNumber(actual, 12)};
}

} // namespace triptych
