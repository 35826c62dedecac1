// Partitions: what single patterns join, what presets save on a block, and that every subset of patterns is legal.

#include "fusion_bench.h"

#include <random>

using namespace triptych;

namespace {

// A transformer block as decomposition leaves it: named Q, K, V, one scale on the scores, views explicit.
const char* const blockText = R"(
    x: f32[1,16,32]
    eps: f32[] = {0.125}
    r: f32[] = {1.4142135}
    one: f32[] = {1.0}
    half: f32[] = {0.5}
    @ln1 n1 = LayerNormalization(x, g1: f32[32], b1: f32[32], axis=-1)
    @qm q0 = MatMul(n1, wq: f32[32,32])
    @qa q1 = Add(q0, bq: f32[32])
    @km k0 = MatMul(n1, wk: f32[32,32])
    @ka k1 = Add(k0, bk: f32[32])
    @vm v0 = MatMul(n1, wv: f32[32,32])
    @va v1 = Add(v0, bv: f32[32])
    @qr q2 = Reshape(q1, {1,16,4,8})
    @kr k2 = Reshape(k1, {1,16,4,8})
    @vr v2 = Reshape(v1, {1,16,4,8})
    @qt q3 = Transpose(q2, perm=[0,2,1,3])
    @kt k3 = Transpose(k2, perm=[0,2,3,1])
    @vt v3 = Transpose(v2, perm=[0,2,1,3])
    @scores s0 = MatMul(q3, k3)
    @scale s1 = Mul(s0, f: f32[] = {0.35})
    @softmax s2 = Softmax(s1, axis=-1)
    @context c0 = MatMul(s2, v3)
    @ct c1 = Transpose(c0, perm=[0,2,1,3])
    @cr c2 = Reshape(c1, {1,16,32})
    @om o0 = MatMul(c2, wo: f32[32,32])
    @oa o1 = Add(o0, bo: f32[32])
    @add1 a1 = Add(x, o1)
    @ln2 n2 = LayerNormalization(a1, g2: f32[32], b2: f32[32], axis=-1)
    @fm f0 = MatMul(n2, w1: f32[32,128])
    @fa f1 = Add(f0, bf: f32[128])
    @g1 h0 = Div(f1, r)
    @g2 h1 = Erf(h0)
    @g3 h2 = Add(h1, one)
    @g4 h3 = Mul(f1, h2)
    @g5 h4 = Mul(h3, half)
    @pm p0 = MatMul(h4, w2: f32[128,32])
    @pa p1 = Add(p0, bp: f32[32])
    @add2 y = Add(a1, p1)
    return y)";

Bench block() {
    Bench bench(blockText);
    DecomposedAttention& attention = bench.attention({"qm", "qa"}, {"km", "ka"}, {"vm", "va"}, "n1");
    attention.nodes = bench.named({"qm", "qa", "km",     "ka",    "vm",      "va",      "qr", "kr", "vr", "qt",
                                   "kt", "vt", "scores", "scale", "softmax", "context", "ct", "cr", "om", "oa"});
    attention.scores = bench.node("scores");
    attention.softmax = bench.node("softmax");
    attention.context = bench.node("context");
    attention.wasPacked = true;
    return bench;
}

} // namespace

class PartitionTest : public QObject {
    Q_OBJECT
private slots:
    void nothingFusesWithoutPatterns() {
        const Bench bench = block();
        const Partition partition = bench.preset("none");
        QCOMPARE(bench.groups(partition), QString("ln1 qm+qa(Linear) km+ka(Linear) vm+va(Linear) qr kr vr qt kt vt "
                                                  "scores scale softmax context ct cr om+oa(Linear) add1 ln2 "
                                                  "fm+fa(Linear) g1+g2+g3+g4+g5(GELU) pm+pa(Linear) add2"));
    }

    // The research's pass: the chain of four is one group (3 saved), Q, K, V are one (2 saved), and nothing else moves.
    void seedSavesFiveGroupsABlock() {
        Bench bench = block();
        const Partition standard = bench.preset("standard");
        bench.viewsStayApart = true;
        const Partition seed = bench.preset("seed");
        QCOMPARE(bench.computeGroups(standard) - bench.computeGroups(seed), std::size_t(5));
        QCOMPARE(bench.groups(seed),
                 QString("ln1 qm+qa+km+ka+vm+va[parallel.qkv] qr kr vr qt kt vt "
                         "scores+scale+softmax+context[attention.matmul_mul] ct cr om+oa(Linear) add1 "
                         "ln2+fm+fa+g1+g2+g3+g4+g5[linear.linear_bias_gelu] pm+pa(Linear) add2"));
        QCOMPARE(bench.groups(standard),
                 QString("ln1 qm+qa(Linear) km+ka(Linear) vm+va(Linear) qr kr vr qt kt vt scores scale softmax context "
                         "ct cr om+oa(Linear) add1 "
                         "ln2+fm+fa+g1+g2+g3+g4+g5[linear.linear_bias_gelu] pm+pa(Linear) add2"));
        QCOMPARE(bench.matches(seed, "attention.matmul_mul"), 1);
        QCOMPARE(bench.matches(seed, "attention.mul_softmax"), 1);
        QCOMPARE(bench.matches(seed, "attention.softmax_matmul"), 1);
        QCOMPARE(bench.matches(seed, "attention.linear_reshape"), 0);
    }
    void seedNamesAllRulesThatContributed() {
        Bench bench = block();
        bench.viewsStayApart = true;
        const Partition seed = bench.preset("seed");
        const Group& group = seed.groups[seed.groupOf[bench.node("softmax")].position()];
        QStringList ids;
        for (const PatternId id : group.patterns) ids << QString::fromStdString((*shippedPatterns())[id].id);
        QCOMPARE(ids.join(' '), QString("attention.matmul_mul attention.mul_softmax attention.softmax_matmul"));
        QVERIFY(QString::fromStdString(group.why).contains("attention.mul_softmax joins scale with softmax"));
    }
    void defaultTakesViewsIn() {
        const Bench bench = block();
        const Partition partition = bench.preset("default");
        QCOMPARE(bench.groups(partition),
                 QString("ln1 qm+qa+km+ka+vm+va+qr+kr+vr+qt+kt+vt[parallel.qkv] "
                         "scores+scale+softmax+context+ct+cr[attention.matmul_mul] "
                         "om+oa+add1[linear.linear_add] ln2+fm+fa+g1+g2+g3+g4+g5[linear.linear_bias_gelu] "
                         "pm+pa+add2[linear.linear_add]"));
    }
    void flashTakesTheCoreWithItsViews() {
        const Bench bench = block();
        const Partition partition = bench.preset("flash");
        QCOMPARE(bench.groups(partition),
                 QString("ln1 qm+qa(Linear) km+ka(Linear) vm+va(Linear) "
                         "qr+kr+vr+qt+kt+vt+scores+scale+softmax+context+ct+cr[region.flash] "
                         "om+oa(Linear) add1 ln2 fm+fa(Linear) g1+g2+g3+g4+g5(GELU) pm+pa(Linear) add2"));
    }
    void flashGoesBeforePairs() {
        const Bench bench = block();
        const Partition partition = bench.preset("all");
        QCOMPARE(bench.matches(partition, "region.flash"), 1);
        QCOMPARE(bench.matches(partition, "attention.matmul_mul"), 0);
        QCOMPARE(bench.matches(partition, "parallel.qkv"), 1);
    }

    void parallelGroupsExistWhetherOnOrOff() {
        const Bench bench = block();
        for (const char* preset : {"none", "parallel"}) {
            const Partition partition = bench.preset(preset);
            QCOMPARE(partition.parallel.size(), std::size_t(1));
            const ParallelGroup& group = partition.parallel.front();
            QCOMPARE(group.roles, (std::vector<std::string>{"q", "k", "v"}));
            QCOMPARE(group.sharedInputBytes, 16 * 32 * 4);
            QCOMPARE(group.bytesSaved, 2 * 16 * 32 * 4);
            QCOMPARE(group.launchesSaved, 2);
            QVERIFY(group.alreadyMerged);
            QCOMPARE(group.group.valid(), std::string(preset) == "parallel");
        }
    }
    void keysAndValuesOfAnotherInputMergeAlone() {
        Bench bench = block();
        bench.decomposition->attentions.front().inputQ = bench.graph->findValue("x");
        const Partition partition = bench.preset("parallel");
        QCOMPARE(partition.parallel.front().roles, (std::vector<std::string>{"k", "v"}));
        QCOMPARE(partition.groupOf[bench.node("km")], partition.groupOf[bench.node("vm")]);
        QVERIFY(partition.groupOf[bench.node("km")] != partition.groupOf[bench.node("qm")]);
    }
    void joinedSequencesMergeOneByOne() {
        Bench bench(R"(
            x: f32[1,4,8]
            t: f32[1,3,8]
            @qx q = MatMul(x, wq: f32[8,8])
            @kx k0 = MatMul(x, wk: f32[8,8])
            @vx v0 = MatMul(x, wv: f32[8,8])
            @kt k1 = MatMul(t, uk: f32[8,8])
            @vt v1 = MatMul(t, uv: f32[8,8])
            @kc k = Concat(k0, k1, axis=1)
            @vc v = Concat(v0, v1, axis=1)
            return q, k, v)");
        DecomposedStream text;
        text.k = bench.named({"kt"});
        text.v = bench.named({"vt"});
        text.inputK = text.inputV = bench.graph->findValue("t");
        bench.attention({"qx"}, {"kx"}, {"vx"}, "x").joined.push_back(std::move(text));
        const Partition partition = bench.preset("parallel");
        QCOMPARE(partition.parallel.size(), std::size_t(2));
        QCOMPARE(bench.groups(partition), QString("qx+kx+vx[parallel.qkv] kt+vt[parallel.kv] kc vc"));
        QCOMPARE(partition.parallel[1].attention, std::vector<std::size_t>{0});
    }
    // Heads that attend apart have the same projections.
    void attentionsOfTheSameProjectionsShareAGroup() {
        Bench bench(R"(
            x: f32[1,4,8]
            @qx q = MatMul(x, wq: f32[8,8])
            @kx k = MatMul(x, wk: f32[8,8])
            @vx v = MatMul(x, wv: f32[8,8])
            return q, k, v)");
        bench.attention({"qx"}, {"kx"}, {"vx"}, "x");
        bench.attention({"qx"}, {"kx"}, {"vx"}, "x");
        const Partition partition = bench.preset("parallel");
        QCOMPARE(partition.parallel.size(), std::size_t(1));
        QCOMPARE(partition.parallel[0].attention, (std::vector<std::size_t>{0, 1}));
    }
    // As behind the padding and the windows of HaloNet: queries share the input, but no product is left to merge.
    void keysAndValuesThatStayOneProductAreMerged() {
        Bench bench(R"(
            x: f32[1,4,8]
            @qx q = MatMul(x, wq: f32[8,8])
            @kv kv0 = MatMul(x, wkv: f32[8,16])
            @sp k, v = Split(kv0, {8,8}, axis=-1)
            return q, k, v)");
        bench.attention({"qx"}, {"kv"}, {"kv"}, "x").wasPacked = true;
        const Partition partition = bench.preset("parallel");
        QCOMPARE(partition.parallel.size(), std::size_t(1));
        const ParallelGroup& group = partition.parallel.front();
        QCOMPARE(group.roles, (std::vector<std::string>{"k", "v"}));
        QCOMPARE(group.launchesSaved, 0);
        QCOMPARE(group.bytesSaved, 0);
        QVERIFY(group.alreadyMerged);
        QCOMPARE(bench.groups(partition), QString("qx kv sp"));
    }
    // Blocks of queries that are computed apart are a kernel's work each.
    void everyPartOfAnAttentionIsARegion() {
        Bench bench(R"(
            q: f32[2,4,8]
            k: f32[2,8,6]
            v: f32[2,6,8]
            @early q0, q1 = Split(q, {2,2}, axis=1)
            @s0 a = MatMul(q0, k)
            @p0 b = Softmax(a, axis=-1)
            @c0 c = MatMul(b, v)
            @s1 d = MatMul(q1, k)
            @p1 e = Softmax(d, axis=-1)
            @c1 f = MatMul(e, v)
            @joined y = Concat(c, f, axis=1)
            return y)");
        DecomposedAttention& attention = bench.attention({}, {}, {}, "q");
        static_cast<AttentionPart&>(attention) = {bench.node("s0"), bench.node("p0"), bench.node("c0")};
        attention.parts = {{bench.node("s1"), bench.node("p1"), bench.node("c1")}};
        const Partition partition = bench.preset("flash");
        QCOMPARE(bench.matches(partition, "region.flash"), 2);
        QCOMPARE(partition.groupOf[bench.node("s1")], partition.groupOf[bench.node("c1")]);
        QVERIFY(partition.groupOf[bench.node("c0")] != partition.groupOf[bench.node("c1")]);
    }
    void differentlyQuantisedProjectionsStayApart() {
        Bench bench(R"(
            x: f32[4,8]
            @xq a = QuantizeLinear(x, s: f32[] = {0.05}, z: i8[])
            @q q0 = com.microsoft::QGemm(a, s, z, wq: i8[8,8], sw: f32[8], zw: i8[8], _, so: f32[] = {0.5}, z)
            @k k0 = com.microsoft::QGemm(a, s, z, wk: i8[8,8], sw, zw, _, so, z)
            @v v0 = com.microsoft::QGemm(a, s, z, wv: i8[8,8], sw, zw, _, sv: f32[] = {0.25}, z)
            return q0, k0, v0)");
        bench.attention({"q"}, {"k"}, {"v"}, "a");
        const Partition partition = bench.preset("parallel");
        QCOMPARE(partition.parallel.size(), std::size_t(1));
        QCOMPARE(partition.parallel.front().roles, (std::vector<std::string>{"q", "k"}));
        QCOMPARE(bench.nearMiss(partition, "parallel.qkv"), QString("quantised differently at v"));
    }
    // What a written file can't merge is told before it is written.
    void quantisedWeightsThatDontJoinAreNearMisses() {
        Bench bench(R"(
            x: f32[4,8]
            @q q0 = MatMul(x, DequantizeLinear(wq: i8[8,8], sq: f32[8], axis=1))
            @k k0 = MatMul(x, DequantizeLinear(wk: i8[8,8], sk: f32[8], axis=1))
            @v v0 = MatMul(x, DequantizeLinear(wv: i8[8,8], sv: f32[8,2], axis=1, block_size=4))
            return q0, k0, v0)");
        bench.attention({"q"}, {"k"}, {"v"}, "x");
        const Partition partition = bench.preset("parallel");
        QCOMPARE(partition.parallel.size(), std::size_t(1));
        QCOMPARE(bench.nearMiss(partition, "parallel.qkv"), QString("weights don't join at v"));
    }
    void gateAndUpMerge() {
        Bench bench(R"(
            x: f32[1,4,8]
            @gate g = MatMul(x, wg: f32[8,32])
            @up u = MatMul(x, wu: f32[8,32])
            @sig s = Sigmoid(g)
            @silu a = Mul(g, s)
            @mul m = Mul(a, u)
            @down y = MatMul(m, wd: f32[32,8])
            return y)");
        bench.decomposition = Decomposition{bench.graph, {}, {}};
        QCOMPARE(bench.groups(bench.preset("parallel")), QString("gate+up[parallel.gate_up] sig+silu(SiLU) mul down"));
        QCOMPARE(bench.groups(bench.fuse({"gated.swiglu"})), QString("gate+up+sig+silu+mul[gated.swiglu] down"));
        QCOMPARE(bench.groups(bench.fuse({"gated.silu_mul"})), QString("gate up sig+silu+mul[gated.silu_mul] down"));
    }
    void ropeIsOneGroup() {
        const Bench bench(R"(
            x: f32[1,2,4,8]
            cos: f32[4,8]
            sin: f32[4,8]
            @lo a = Slice(x, {0}, {4}, {3})
            @hi b = Slice(x, {4}, {8}, {3})
            @neg n = Neg(b)
            @cat c = Concat(n, a, axis=-1)
            @ms d = Mul(c, sin)
            @mc e = Mul(x, cos)
            @sum y = Add(e, d)
            return y)");
        QCOMPARE(bench.groups(bench.fuse({"attention.rope"})), QString("lo+hi+neg+cat+ms+mc+sum[attention.rope]"));
    }

    void aMergeThatWouldMakeACycleIsRefused() {
        // a is read by d directly and through b and c, which no pattern joins: {a, d} would be left and entered again.
        const Bench bench(R"(
            x: f32[4]
            @a u = Add(x, x)
            @b v = CumSum(u, {0})
            @d y = LayerNormalization(z, g: f32[4], axis=-1)
            @c z = Add(u, v)
            return y)");
        const Partition partition = bench.fuse({"norm.add_layernorm"});
        QCOMPARE(bench.groups(partition), QString("a b c+d[norm.add_layernorm]"));
        const Bench cycle(R"(
            x: f32[4,4]
            @a u = LayerNormalization(x, g: f32[4], axis=-1)
            @b v = Neg(u)
            @c w = Softmax(v, axis=-1)
            @d z = Mul(u, w)
            return z)");
        QCOMPARE(cycle.groups(cycle.fuse({"norm.norm_scale", "pointwise.chain"})), QString("a b c d"));
    }
    void aSecondProductNeedsAKernelForIt() {
        const Bench bench(R"(
            x: f32[4,4]
            z: f32[4,4]
            @m u = MatMul(x, w: f32[4,4])
            @n v = MatMul(z, t: f32[4,4])
            @add y = Add(u, v)
            return y)");
        const Partition partition = bench.fuse({"linear.linear_add"});
        QCOMPARE(bench.groups(partition), QString("n m+add[linear.linear_add]"));
        QCOMPARE(bench.nearMiss(partition, "linear.linear_add"), QString());
        QVERIFY(partition.groupOf[bench.node("n")] != partition.groupOf[bench.node("m")]);
    }
    void nearMissesSayWhatIsInTheWay() {
        const Bench bench(R"(
            x: f32[2,4,4]
            k: f32[2,4,4]
            @m s = MatMul(x, k)
            @scale t = Mul(s, f: f32[] = {0.5})
            @softmax p = Softmax(t, axis=1)
            return p, s)");
        const Partition partition = bench.fuse({});
        QCOMPARE(bench.nearMiss(partition, "attention.matmul_mul"), QString("graph output at m"));
        QCOMPARE(bench.nearMiss(partition, "attention.mul_softmax"), QString("not last axis at softmax"));
    }
    // Files may leave operands and results out where operators need them.
    void missingOperandsAndResultsAreNoTrouble() {
        const Bench bench(R"(
            x: f32[4,4]
            @a a = Softmax(_, axis=-1)
            @b b = MatMul(a, x)
            @c c = ReduceMean(_, axes=[-1])
            @d d = Sub(x, c)
            @e e = Mul(_, d)
            @f f = Sigmoid()
            @g g = Mul(f, e)
            @h h = Add(_, g)
            @i _ = LayerNormalization(h, axis=-1)
            return b, h)");
        const Partition partition = bench.preset("all");
        QCOMPARE(partition.groupOf[bench.node("a")], partition.groupOf[bench.node("b")]);
    }
    void mutatedPartitionsAreCalledIllegal() {
        const Bench bench = block();
        const Partition legal = bench.preset("default");
        Partition twice = legal;
        twice.groups[1].nodes.push_back(bench.node("ln1"));
        QVERIFY(!illegal(*bench.graph, bench.classes, twice).empty());
        Partition swapped = legal;
        std::swap(swapped.groups[0], swapped.groups[1]);
        for (std::size_t g = 0; g < 2; ++g)
            for (const NodeId node : swapped.groups[g].nodes) swapped.groupOf[node] = GroupId(g);
        QVERIFY(illegal(*bench.graph, bench.classes, swapped).find("later group") != std::string::npos);
        Partition torn = legal;
        torn.groupOf[bench.node("g3")] = GroupId(0);
        QVERIFY(!illegal(*bench.graph, bench.classes, torn).empty());
    }

    // Bench::fuse checks every partition with illegal().
    void randomSubsetsOfPatternsAreLegal() {
        std::mt19937 random(7);
        for (int run = 0; run < 300; ++run) {
            Bench bench = block();
            bench.viewsStayApart = run % 3 == 0;
            PatternSet enabled;
            for (std::size_t i = 0; i < shippedPatterns()->patterns.size(); ++i)
                if (random() % 100 < 20u + 10u * static_cast<unsigned>(run % 9)) enabled.insert(PatternId(i));
            bench.fuse(enabled);
        }
    }
    // Random graphs of pointwise operators, products and views with many joins: where greedy merging meets cycles.
    void randomGraphsArePartitionedLegally() {
        std::mt19937 random(11);
        const PatternSet all = *presetPatterns(*shippedPatterns(), "all");
        for (int run = 0; run < 60; ++run) {
            std::string text = "v0: f32[4,4]\n";
            const int count = 60;
            for (int i = 1; i <= count; ++i) {
                const auto pick = [&] {
                    return "v" + std::to_string(std::max(0, i - 1 - static_cast<int>(random() % 9)));
                };
                const std::array<std::string, 7> ops{"Add(" + pick() + ", " + pick() + ")",
                                                     "Mul(" + pick() + ", " + pick() + ")",
                                                     "Relu(" + pick() + ")",
                                                     "Softmax(" + pick() + ", axis=-1)",
                                                     "MatMul(" + pick() + ", " + pick() + ")",
                                                     "Transpose(" + pick() + ", perm=[1,0])",
                                                     "MatMul(" + pick() + ", w" + std::to_string(i) + ": f32[4,4])"};
                text += "v" + std::to_string(i) + " = " + ops[random() % ops.size()] + "\n";
            }
            const Bench bench(text.c_str());
            bench.fuse(all);
        }
    }
    void costGrowsLinearly() {
        // A toggle on ViT-L is 1,500 nodes: a few milliseconds. Ten blocks of the text are 370 nodes.
        std::string text = "v0: f32[4,4]\n";
        for (int i = 1; i <= 20000; ++i)
            text += "v" + std::to_string(i) + (i % 3 ? " = Relu(v" : " = Transpose(v") + std::to_string(i - 1) +
                    (i % 3 ? ")\n" : ", perm=[1,0])\n");
        const Bench bench(text.c_str());
        QElapsedTimer timer;
        timer.start();
        bench.preset("default");
        QVERIFY2(timer.elapsed() < 2000, qPrintable(QString::number(timer.elapsed())));
    }
};

QTEST_APPLESS_MAIN(PartitionTest)
#include "partition_test.moc"
