// Classes of nodes and composites, form by form.

#include "fusion_bench.h"

using namespace triptych;

class ClassesTest : public QObject {
    Q_OBJECT

    static QString classesOf(const Bench& bench) {
        QStringList all;
        for (std::size_t i = 0; i < bench.graph->nodes().size(); ++i)
            all << QString::fromStdString(bench.graph->node(NodeId(i)).name) + ':' +
                       QString::fromUtf8(toString(bench.classes.of[NodeId(i)]).data());
        return all.join(' ');
    }
    static QString composites(const Bench& bench) {
        QStringList all;
        for (const Composite& composite : bench.classes.composites)
            all << QString("%1 of %2").arg(QString::fromStdString(composite.kind)).arg(composite.nodes.size());
        return all.join(", ");
    }

private slots:
    void arithmeticOnDimensionsIsNoLaunch() {
        const Bench bench(R"(
            x: f32[1,8,64]
            @shape s = Shape(x)
            @pick b = Gather(s, {0}, axis=0)
            @dims d = Concat(b, {8, 4, 16}, axis=0)
            @split y = Reshape(x, d)
            @turn z = Transpose(y, perm=[0,2,1,3])
            @table c = Transpose(w: f32[64,32], perm=[1,0])
            @cut h = Gather(x, {0}, axis=1)
            @rows e = Gather(t: f32[100,16], ids: i64[3])
            @relu r = Relu(z)
            return r, h, e, c)");
        const QString classes = classesOf(bench);
        for (const char* wanted : {"shape:shape", "pick:shape", "dims:shape", "split:view", "turn:view",
                                   "table:constant", "cut:view", "relu:compute"})
            QVERIFY2(classes.split(' ').contains(wanted), qPrintable(QString(wanted) + " in " + classes));
    }
    void castToTheTypeItHasIsAView() {
        const Bench bench("x: f32[4]\n@void a = Cast(x, to=1)\n@half b = Cast(a, to=10)\nreturn b");
        QCOMPARE(classesOf(bench), QString("void:view half:compute"));
    }
    void dropoutIsAViewUnlessItTrains() {
        const Bench bench(R"(
            x: f32[4]
            p: f32[] = {0.5}
            yes: bool[] = {1}
            @idle a = Dropout(x, p)
            @busy b = Dropout(a, p, yes)
            return b)");
        QCOMPARE(classesOf(bench), QString("idle:view busy:compute"));
    }

    void composite_data() {
        QTest::addColumn<QString>("text");
        QTest::addColumn<QString>("found");
        const auto row = [](const char* name, const char* text, const char* found) {
            QTest::newRow(name) << QString(text) << QString(found);
        };
        row("layer norm", R"(x: f32[2,8,16]
            two: f32[] = {2.0}
            eps: f32[] = {0.00001}
            d = Sub(x, ReduceMean(x, axes=[-1]))
            y = Add(Mul(Div(d, Sqrt(Add(ReduceMean(Pow(d, two), axes=[-1]), eps))), g: f32[16]), b: f32[16]))",
            "LayerNorm of 9");
        row("layer norm, scale first", R"(x: f32[2,8,16]
            two: f32[] = {2.0}
            eps: f32[] = {0.00001}
            d = Sub(x, ReduceMean(x, axes=[2]))
            y = Add(b: f32[16], Mul(g: f32[16], Div(d, Sqrt(Add(eps, ReduceMean(Pow(d, two), axes=[2])))))))",
            "LayerNorm of 9");
        row("instance norm is no layer norm", R"(x: f32[2,8,16]
            two: f32[] = {2.0}
            eps: f32[] = {0.00001}
            d = Sub(x, ReduceMean(x, axes=[1]))
            y = Div(d, Sqrt(Add(ReduceMean(Pow(d, two), axes=[1]), eps))))",
            "");
        row("RMS norm", R"(x: f32[2,8,16]
            two: f32[] = {2.0}
            eps: f32[] = {0.00001}
            one: f32[] = {1.0}
            y = Mul(g: f32[16], Mul(x, Div(one, Sqrt(Add(ReduceMean(Pow(x, two), axes=[-1]), eps))))))",
            "RMSNorm of 7");
        row("RMS norm by division", R"(x: f32[2,8,16]
            two: f32[] = {2.0}
            eps: f32[] = {0.00001}
            y = Mul(Div(x, Sqrt(Add(ReduceMean(Pow(x, two), axes=[-1]), eps))), g: f32[16]))",
            "RMSNorm of 6");
        row("GELU, erf", R"(x: f32[4]
            r: f32[] = {1.4142135}
            one: f32[] = {1.0}
            half: f32[] = {0.5}
            y = Mul(Mul(x, Add(Erf(Div(x, r)), one)), half))",
            "GELU of 5");
        row("GELU, erf, half first", R"(x: f32[4]
            r: f32[] = {0.70710677}
            one: f32[] = {1.0}
            half: f32[] = {0.5}
            y = Mul(Mul(half, x), Add(one, Erf(Mul(x, r)))))",
            "GELU of 5");
        row("GELU, tanh", R"(x: f32[4]
            three: f32[] = {3.0}
            c: f32[] = {0.044715}
            r: f32[] = {0.7978845}
            one: f32[] = {1.0}
            half: f32[] = {0.5}
            y = Mul(Mul(half, x), Add(one, Tanh(Mul(r, Add(x, Mul(c, Pow(x, three))))))))",
            "GELU of 8");
        row("GELU, quick", "x: f32[4]\nk: f32[] = {1.702}\ny = Mul(x, Sigmoid(Mul(x, k)))", "GELU of 3");
        row("SiLU", "x: f32[4]\ny = Mul(Sigmoid(x), x)", "SiLU of 2");
        row("softmax with its guard",
            "x: f32[4]\nzero: f32[] = {0.0}\ns = Softmax(x, axis=-1)\ny = Where(IsNaN(s), zero, s)", "Softmax of 3");
        row("linear", "x: f32[2,8]\ny = Add(b: f32[4], MatMul(x, w: f32[8,4]))", "Linear of 2");
        row("a residual is no bias", "x: f32[2,8]\nz: f32[2,4]\ny = Add(z, MatMul(x, w: f32[8,4]))\nreturn y", "");
        row("read twice: not one operator", "x: f32[4]\ns = Sigmoid(x)\ny = Mul(x, s)\nz = Neg(s)", "");
    }
    void composite() {
        QFETCH(QString, text);
        QFETCH(QString, found);
        const Bench bench(text.toUtf8().constData());
        QCOMPARE(composites(bench), found);
    }
};

QTEST_APPLESS_MAIN(ClassesTest)
#include "classes_test.moc"
