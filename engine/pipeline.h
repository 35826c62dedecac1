#pragma once
// The stages in order: open -> import -> shapes -> attention -> decompose -> fuse -> measure. Each result is immutable;
// what did not change since an earlier run is shared with it.

#include "attention/nested_attention.h"
#include "branches.h"
#include "cost/metrics.h"
#include "fusion/partition.h"

namespace triptych {

/// What the user chose.
struct AnalysisOptions {
    Bindings bindings;                   ///< overrides of the defaults
    std::string hardware = "h200";
    std::string runtime = "pytorch-eager";
    Precision precision = Precision::file;
    std::string preset = "default";      ///< names joined by commas
    std::vector<std::string> enable, disable; ///< pattern ids, after the preset
    std::vector<std::string> patternFiles;
    bool forFile = false;                ///< the decomposed graph will be written or run: it must hold for all sizes
    std::vector<std::filesystem::path> allowedFolders; ///< external data may lie there, besides the model's own folder
};

/// One of the four graphs, as the user sees it.
struct Projected {
    std::string key; ///< "unfused", "baseline", "decomposed", "enhanced"
    GraphPtr graph;
    ShapesPtr shapes;
    std::shared_ptr<const NodeClasses> classes;
    PartitionPtr partition;
    MetricsPtr metrics;
};

/// Which nodes of two graphs stand for the same of the file. Many to many, so it is worked out when it is asked for: all nodes of
/// one call have that call as their source.
class Counterparts {
public:
    Counterparts() = default;
    Counterparts(GraphPtr baseline, GraphPtr enhanced);
    /// Nodes of the enhanced graph that share a source with a node of the baseline, in order.
    std::vector<NodeId> inEnhanced(NodeId baseline) const;
    std::vector<NodeId> inBaseline(NodeId enhanced) const;

private:
    using Places = std::unordered_map<SourceId, std::vector<NodeId>>;
    static std::vector<NodeId> sharing(const Graph& from, NodeId node, const Places& places);
    GraphPtr m_baseline, m_enhanced;
    Places m_inBaseline, m_inEnhanced;
};

/// What switching one pattern off would lose (positive: it helps).
struct Marginal {
    std::int64_t launches = 0, bytes = 0;
    double timeUs = 0;
};

/// Milliseconds each stage took; of graphs that are fused and measured at once, the sum.
struct StageTimes {
    double read = 0, import = 0, shapes = 0, attention = 0, fusion = 0, cost = 0;
    void add(const StageTimes& more);
};

/// Everything that is known of a model under given options. Shared, never edited.
struct Analysis {
    AnalysisOptions options;
    ModelPtr model;
    Bindings bindings;          ///< all, resolved
    LibraryPtr library;
    PatternSet enabled;
    HardwareProfile hardware;
    RuntimeRules runtime;
    GraphPtr inlined;           ///< the file's graph with function calls and taken branches inlined: attention was found here
    ShapesPtr inlinedShapes;
    std::vector<TakenBranches> taken;
    bool listsUndone = false;   ///< `inlined` reads tensors where the file picks them out of lists
    Attentions attentions;      ///< what was not recognised in bodies too, as "NODE/body/OTHER"
    std::vector<NestedAttention> nested; ///< in bodies that stay: neither fused nor measured
    std::shared_ptr<const Decomposition> unfusedForm, decomposition;
    Projected unfused, baseline, decomposed, enhanced;
    Counterparts counterparts;
    std::vector<Marginal> marginals; ///< for each pattern of the library; zero where off
    double visibility = 0;           ///< operators visible in decomposed / in the file
    std::vector<std::string> warnings;
    StageTimes times;
};
using AnalysisPtr = std::shared_ptr<const Analysis>;

/// Of the graph and its bodies.
std::size_t attentionCount(const Analysis& analysis);

/// All stages from a file.
Result<AnalysisPtr> analyze(const std::filesystem::path& path, const AnalysisOptions& options, const Job& job = {});
/// All stages from an imported model.
Result<AnalysisPtr> analyze(ModelPtr model, const AnalysisOptions& options, const Job& job = {});
/// As analyze(), reusing of `earlier` what the changed options leave as it is: a toggled pattern re-partitions `enhanced` alone.
Result<AnalysisPtr> reanalyze(const AnalysisPtr& earlier, const AnalysisOptions& options, const Job& job = {});
/// The marginal effect of every enabled pattern: one fusion and one measuring each. Costly, so not part of analyze().
std::vector<Marginal> marginalEffects(const Analysis& analysis, const Job& job = {});

} // namespace triptych
