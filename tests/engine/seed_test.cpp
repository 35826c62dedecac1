// The research's figures on a real export, and legality of partitions on the samples that ship.

#include "fusion/partition.h"

#include <QtTest>

#include <random>

using namespace triptych;

namespace {

/// A sample, decomposed.
struct Decomposed {
    Decomposition decomposition;
    ShapesPtr shapes;
    NodeClasses classes;

    explicit Decomposed(const QString& sample) {
        const auto model = importModel((QStringLiteral(PROJECT_ROOT "/resources/samples/") + sample).toStdString());
        if (!model) qFatal("%s", model.error().message().c_str());
        const auto inlined = inlineFunctions(**model, *(*model)->graph, [](const Graph&, NodeId) { return false; });
        const Bindings bindings = resolveBindings(*(*model)->graph, {}).value();
        const auto before = inferShapes(**model, **inlined, bindings);
        const Attentions attentions = findAttention(**model, **inlined, **before);
        auto written = decompose(**model, **inlined, **before, attentions, Expansion::canonical);
        if (!written) qFatal("%s", written.error().message().c_str());
        decomposition = std::move(*written);
        shapes = inferShapes(**model, *decomposition.graph, bindings).value();
        classes = classify(*decomposition.graph, *shapes);
    }
    Partition fuse(const PatternSet& enabled, bool viewsStayApart) const {
        const FusionInput input{*decomposition.graph, *shapes, classes, &decomposition, viewsStayApart};
        return triptych::fuse(input, *shippedPatterns(), enabled).value();
    }
    Partition preset(const char* name, bool viewsStayApart = false) const {
        return fuse(*presetPatterns(*shippedPatterns(), name), viewsStayApart);
    }
    /// Groups that hold a compute operator.
    int groups(const Partition& partition) const {
        return static_cast<int>(
            std::count_if(partition.groups.begin(), partition.groups.end(), [&](const Group& group) {
                return std::any_of(group.nodes.begin(), group.nodes.end(),
                                   [&](NodeId node) { return classes.of[node] == NodeClass::compute; });
            }));
    }
};

} // namespace

class SeedTest : public QObject {
    Q_OBJECT
private slots:
    void theResearchsPassSavesFiveGroupsALayer() {
        const Decomposed vit("vit_b_16.fn.onnx");
        const Partition standard = vit.preset("standard");
        const Partition seed = vit.preset("seed", true);
        QCOMPARE(vit.groups(standard) - vit.groups(seed), 60);
        QCOMPARE(seed.parallel.size(), std::size_t(12));
        std::int64_t bytes = 0, launches = 0;
        for (const ParallelGroup& group : seed.parallel) {
            QCOMPARE(group.sharedInputBytes, 605184);
            QVERIFY(group.alreadyMerged && group.group);
            bytes += group.bytesSaved;
            launches += group.launchesSaved;
        }
        QCOMPARE(bytes, 14524416);
        QCOMPARE(launches, 24);
        // Outside of attention nothing differs from the standard patterns.
        std::set<NodeId> attention;
        for (const DecomposedAttention& each : vit.decomposition.attentions)
            attention.insert(each.nodes.begin(), each.nodes.end());
        std::set<std::vector<NodeId>> outside, wanted;
        for (const Group& group : seed.groups)
            if (!attention.contains(group.nodes.front())) outside.insert(group.nodes);
        for (const Group& group : standard.groups)
            if (!attention.contains(group.nodes.front())) wanted.insert(group.nodes);
        QVERIFY(outside == wanted && !wanted.empty());
    }
    void flashIsOneGroupAnAttention() {
        const Decomposed vit("vit_b_16.fn.onnx");
        const Partition partition = vit.preset("flash");
        QCOMPARE(partition.matches[shippedPatterns()->find("region.flash").position()], 12);
        QCOMPARE(vit.groups(vit.preset("none")) - vit.groups(partition), 36);
    }
    void everySubsetOfPatternsIsLegal_data() {
        QTest::addColumn<QString>("sample");
        for (const char* name : {"vit_b_16.fn.onnx", "vit_b.separate.onnx", "bert_base.onnx", "attention_block.onnx"})
            QTest::newRow(name) << QString(name);
    }
    void everySubsetOfPatternsIsLegal() {
        QFETCH(QString, sample);
        const Decomposed model(sample);
        std::mt19937 random(5);
        for (int run = 0; run < 40; ++run) {
            PatternSet enabled;
            for (std::size_t i = 0; i < shippedPatterns()->patterns.size(); ++i)
                if (random() % 8 < 1u + static_cast<unsigned>(run % 7)) enabled.insert(PatternId(i));
            const Partition partition = model.fuse(enabled, run % 3 == 0);
            QCOMPARE(illegal(*model.decomposition.graph, model.classes, partition), std::string());
        }
    }
};

QTEST_APPLESS_MAIN(SeedTest)
#include "seed_test.moc"
