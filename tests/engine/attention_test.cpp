// Attention is found by dataflow, whatever its form, and by nothing else.

#include "attention/decompose.h"
#include "branches.h"
#include "graph/text.h"

#include <QElapsedTimer>
#include <QTest>

using namespace triptych;

namespace {

struct Found {
    Model model;
    GraphPtr graph;
    ShapesPtr shapes;
    Attentions attentions;
};

Found find(const std::string& text) {
    Found found;
    const auto graph = parseText(text);
    if (!graph) qFatal("%s", graph.error().message().c_str());
    found.graph = *graph;
    found.model.graph = *graph;
    found.model.opsets[""] = 17;
    found.shapes = *inferShapes(found.model, **graph, {});
    found.attentions = findAttention(found.model, **graph, *found.shapes);
    return found;
}

/// "self, 4 heads of 16 (kv 4), separate, causal no, scale 0.25 at scores"
QString summary(const Found& found) {
    QStringList all;
    for (const AttentionSpec& spec : found.attentions.found)
        all << QStringLiteral("%1, %2 heads of %3 (kv %4), %5, causal %6, scale %7 at %8")
                   .arg(QString::fromUtf8(toString(spec.kind).data()), QString::number(spec.heads), QString::number(spec.headDim), QString::number(spec.kvHeads), QString::fromUtf8(toString(spec.projections).data()),
                        !spec.causal ? "unknown" : *spec.causal ? "yes" : "no", spec.scale ? QString::number(*spec.scale) : "none", QString::fromUtf8(toString(spec.scaleAt).data()));
    return all.join("; ");
}

const std::string separate = R"(
    x: f32[1,8,64]
    q = Transpose(Reshape(Add(bq: f32[64], MatMul(x, wq: f32[64,64])), {1,8,4,16}), perm=[0,2,1,3])
    k = Transpose(Reshape(Add(MatMul(x, wk: f32[64,64]), bk: f32[64]), {1,8,4,16}), perm=[0,2,3,1])
    v = Transpose(Reshape(Add(MatMul(x, wv: f32[64,64]), bv: f32[64]), {1,8,4,16}), perm=[0,2,1,3])
)";
const std::string tail = R"(
    merged = Reshape(Transpose(context, perm=[0,2,1,3]), {1,8,64})
    y = MatMul(merged, wo: f32[64,64])
    return y
)";
const QString plain = "self, 4 heads of 16 (kv 4), separate, causal no, scale 0.25 at scores";

} // namespace

class AttentionTest : public QObject {
    Q_OBJECT
private slots:
    void forms_data();
    void forms();
    void masks_data();
    void masks();
    void unknownOperatorsAreNamed();
    void operatorsOfOthersAreNamed();
    void softmaxOverSeveralAxesIsNamed();
    void functionsOfScoresAreNoSoftmax();
    void normalisersOfManyWaysAreReadOnce();
    void wideJoinsAreAskedLittle();
    void sharedKeysAreAskedLittle();
    void longListsAreReadOnce();
    void headsOfNothing();
    void headsThatNothingTells();
    void packedIsTakenApart();
    void opaqueIsWrittenOut();
    void longMasksAreRead();
    void partsOfLongBuffersAreRead();
};

void AttentionTest::forms_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<QString>("expected");
    const auto row = [](const char* name, const std::string& text, const QString& expected) { QTest::newRow(name) << QString::fromStdString(text) << expected; };
    row("biasMayComeFirstInTheAdd", separate + "s = Mul(MatMul(q, k), c: f32[] = {0.25})\n context = MatMul(Softmax(s, axis=-1), v)\n" + tail, plain);
    row("scaleMayComeFirstInTheMul", separate + "s = Mul(c: f32[] = {0.25}, MatMul(q, k))\n context = MatMul(Softmax(s, axis=-1), v)\n" + tail, plain);
    row("copiesAndCastsChangeNothing", separate + "s = Mul(Identity(MatMul(Identity(q), k)), c: f32[] = {0.25})\n context = MatMul(Cast(Identity(Softmax(s, axis=-1)), to=1), v)\n" + tail, plain);
    row("divisionIsAScaleToo", separate + "s = Div(MatMul(q, k), c: f32[] = {4.0})\n context = MatMul(Softmax(s, axis=-1), v)\n" + tail, plain);
    row("scaleOnQ", separate + "s = MatMul(Mul(q, c: f32[] = {0.25}), k)\n context = MatMul(Softmax(s, axis=-1), v)\n" + tail, "self, 4 heads of 16 (kv 4), separate, causal no, scale 0.25 at q");
    row("softmaxSpelledOut", separate + "s = Mul(MatMul(q, k), c: f32[] = {0.25})\n e = Exp(Sub(s, ReduceMax(s, axes=[-1])))\n p = Div(e, ReduceSum(e, axes=[-1]))\n context = MatMul(p, v)\n" + tail, plain);
    for (const auto* sum : {"Add(Neg(Log(Neg(Log(u)))), t)", "Add(t, Neg(Log(Neg(Log(u)))))"})
        row("noiseOnEitherSide", separate + "t = Mul(MatMul(q, k), c: f32[] = {0.25})\n u = RandomUniformLike(t, low=0.1)\n context = MatMul(Softmax(" + sum + ", axis=-1), v)\n" + tail, plain);
    row("causalMaskFromARange", separate + "r = Range({0}, {8}, {1})\n keep = LessOrEqual(Reshape(r, {1,8}), Reshape(r, {8,1}))\n s = Where(keep, Mul(MatMul(q, k), c: f32[] = {0.25}), low: f32[] = {-1e30})\n context = MatMul(Softmax(s, axis=-1), v)\n" + tail,
        "self, 4 heads of 16 (kv 4), separate, causal yes, scale 0.25 at scores");
    row("strippedMaskIsUnknown", separate + "s = Add(Mul(MatMul(q, k), c: f32[] = {0.25}), mask: f32[1,1,8,8])\n context = MatMul(Softmax(s, axis=-1), v)\n" + tail, "self, 4 heads of 16 (kv 4), separate, causal unknown, scale 0.25 at scores");
    const auto unknownProjections = [&](const std::string& keys) {
        return "x: f32[1,8,64]\n m: f32[1,8,64]\n"
               " q = Transpose(Reshape(my::Linear(x, wq: f32[64,64]), {1,8,4,16}), perm=[0,2,1,3])\n"
               " k = Transpose(Reshape(my::Linear(" + keys + ", wk: f32[64,64]), {1,8,4,16}), perm=[0,2,3,1])\n"
               " v = Transpose(Reshape(my::Linear(" + keys + ", wv: f32[64,64]), {1,8,4,16}), perm=[0,2,1,3])\n"
               " context = MatMul(Softmax(Mul(MatMul(q, k), c: f32[] = {0.25}), axis=-1), v)\n" + tail;
    };
    row("unknownProjectionsOfOneValue", unknownProjections("x"), "self, 4 heads of 16 (kv 4), none, causal no, scale 0.25 at scores");
    row("unknownProjectionsOfTwoValues", unknownProjections("m"), "cross, 4 heads of 16 (kv 4), none, causal no, scale 0.25 at scores");
    row("packedBySplit", R"(
        x: f32[1,8,64]
        a, b, d = Split(Add(MatMul(x, w: f32[64,192]), bias: f32[192]), axis=-1, num_outputs=3)
        q = Transpose(Reshape(a, {1,8,4,16}), perm=[0,2,1,3])
        k = Transpose(Reshape(b, {1,8,4,16}), perm=[0,2,3,1])
        v = Transpose(Reshape(d, {1,8,4,16}), perm=[0,2,1,3])
        context = MatMul(Softmax(Mul(MatMul(q, k), c: f32[] = {0.25}), axis=-1), v)
    )" + tail, "self, 4 heads of 16 (kv 4), packed, causal no, scale 0.25 at scores");
    row("packedByHeadIsInterleaved", R"(
        x: f32[1,8,64]
        h = Reshape(MatMul(x, w: f32[64,192]), {1,8,4,3,16})
        q = Transpose(Gather(h, i0: i64[] = {0}, axis=3), perm=[0,2,1,3])
        k = Transpose(Gather(h, i1: i64[] = {1}, axis=3), perm=[0,2,3,1])
        v = Transpose(Gather(h, i2: i64[] = {2}, axis=3), perm=[0,2,1,3])
        context = MatMul(Softmax(Mul(MatMul(q, k), c: f32[] = {0.25}), axis=-1), v)
    )" + tail, "self, 4 heads of 16 (kv 4), packed_interleaved, causal no, scale 0.25 at scores");
    row("crossAttention", R"(
        x: f32[1,8,64]
        m: f32[1,5,64]
        q = Transpose(Reshape(MatMul(x, wq: f32[64,64]), {1,8,4,16}), perm=[0,2,1,3])
        k = Transpose(Reshape(MatMul(m, wk: f32[64,64]), {1,5,4,16}), perm=[0,2,3,1])
        v = Transpose(Reshape(MatMul(m, wv: f32[64,64]), {1,5,4,16}), perm=[0,2,1,3])
        context = MatMul(Softmax(Mul(MatMul(q, k), c: f32[] = {0.25}), axis=-1), v)
    )" + tail, "cross, 4 heads of 16 (kv 4), separate, causal no, scale 0.25 at scores");
    row("operatorOfOpset23", R"(
        x: f32[1,8,64]
        y = Attention(MatMul(x, wq: f32[64,64]), MatMul(x, wk: f32[64,32]), MatMul(x, wv: f32[64,32]), q_num_heads=4, kv_num_heads=2, is_causal=1)
        return y
    )", "self, 4 heads of 16 (kv 2), separate, causal yes, scale 0.25 at inside");
    row("aClassifierIsNoAttention", "x: f32[1,64]\n y = Softmax(MatMul(x, w: f32[64,10]), axis=-1)\n return y\n", "");
    row("aRouterIsNoAttention", "x: f32[1,8,64]\n r = Softmax(MatMul(x, w: f32[64,4]), axis=-1)\n y = MatMul(r, e: f32[4,64])\n return y\n", "");
}

void AttentionTest::forms() {
    QFETCH(QString, text);
    QFETCH(QString, expected);
    const Found found = find(text.toStdString());
    QCOMPARE(summary(found), expected);
    for (const AttentionSpec& spec : found.attentions.found) QVERIFY(spec.evidence.size() >= 3);
}

void AttentionTest::masks_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<QString>("expected"); // form: masks | extras
    const auto row = [](const char* name, const std::string& text, const QString& expected) { QTest::newRow(name) << QString::fromStdString(text) << expected; };
    const std::string qkv = "q: f32[2,1,16]\nm: i32[2,7]\np: f32[2,2,6,8]\nl: i32[1]\n", weights = "x: f32[2,7,16]\nm: i32[2,7]\np: f32[2,2,2,6,8]\nl: i32[1]\nw: f32[16,48]\nb: f32[48]\n";
    row("windowOfOpset25", "q: f32[2,4,3,8]\ny = Attention(q, q, q, left_window_size=2, right_window_size=1)\nreturn y", "ai.onnx.Attention: window |");
    row("decoderMaskedHeads", qkv + "y = com.microsoft::DecoderMaskedMultiHeadAttention(q, q, q, m, _, p, p, l, num_heads=2)\nreturn y", "com.microsoft.DecoderMaskedMultiHeadAttention: additive padding | kv_cache");
    row("decoderMaskedSelf", weights + "y, z = com.microsoft::DecoderMaskedSelfAttention(x, w, b, m, p, _, l, num_heads=2)\nreturn y", "com.microsoft.DecoderMaskedSelfAttention: additive padding | kv_cache");
    row("packedTokens", "x: f32[9,16]\no: i32[2,7]\nc: i32[3]\ny = com.microsoft::PackedAttention(x, w: f32[16,48], b: f32[48], o, c, num_heads=2)\nreturn y", "com.microsoft.PackedAttention: padding |");
    row("packedTokensOfHeads", "x: f32[9,16]\no: i32[2,7]\nc: i32[3]\na: f32[2,2,7,7]\ny = com.microsoft::PackedMultiHeadAttention(x, x, x, _, o, c, a, num_heads=2)\nreturn y", "com.microsoft.PackedMultiHeadAttention: additive padding |");
    row("sparse", "q: f32[2,16,64]\nr: i32[1,3]\nt: i32[]\nn: i32[2]\np: f32[2,2,32,16]\ny = com.microsoft::SparseAttention(q, k: f32[2,16,32], v: f32[2,16,32], p, p, r, c: i32[1,3], t, n, num_heads=4, kv_num_heads=2, sparse_block_size=16)\nreturn y", "com.microsoft.SparseAttention: block_sparse causal padding | kv_cache kv_repeat");
    row("paged", "q: f32[9,64]\np: f32[4,16,2,16]\nc: i32[3]\ny = com.microsoft::PagedAttention(q, k: f32[9,32], v: f32[9,32], p, p, c, n: i32[2], t: i32[2,2], num_heads=4, kv_num_heads=2, local_window_size=5)\nreturn y", "com.microsoft.PagedAttention: causal padding window | kv_cache kv_repeat");
    row("banded", "x: f32[2,32,64]\nm: f32[2,32]\ny = com.microsoft::LongformerAttention(x, w: f32[64,192], b: f32[192], m, gw: f32[64,192], gb: f32[192], g: i32[2,32], num_heads=4, window=8)\nreturn y", "com.microsoft.LongformerAttention: additive padding window | banded");
    row("positionBias", "q: f32[2,6,32]\ny = com.microsoft::MultiHeadAttention(q, q, q, _, _, com.microsoft::RelativePositionBias(t: f32[32,4], n: i64[] = {6}, m: i64[] = {6}, max_distance=128), num_heads=4)\nreturn y", "com.microsoft.MultiHeadAttention: additive bias | relative_bias");
    row("gatedPositionBias", "q: f32[2,6,32]\nr: f32[1,4,6,6]\ny = com.microsoft::MultiHeadAttention(q, q, q, _, _, com.microsoft::GatedRelativePositionBias(q, b: f32[32], r, w: f32[8,8], c: f32[8], e: f32[1,4,1,1], num_heads=4), num_heads=4)\nreturn y", "com.microsoft.MultiHeadAttention: additive bias | relative_bias");
    row("quantised", "x: i8[2,7,16]\nm: i32[2,7]\ny = com.microsoft::QAttention(x, w: i8[16,48], b: f32[48], s: f32[], t: f32[], m, num_heads=2)\nreturn y", "com.microsoft.QAttention: additive padding |");
}

void AttentionTest::masks() {
    QFETCH(QString, text);
    QFETCH(QString, expected);
    const Found found = find(text.toStdString());
    QCOMPARE(found.attentions.found.size(), std::size_t(1));
    const AttentionSpec& spec = found.attentions.found[0];
    QString got = QString::fromStdString(spec.form) + ": ";
    QStringList masks, extras;
    for (const std::string& each : spec.masks) masks << QString::fromStdString(each);
    for (const std::string& each : spec.extras) extras << QString::fromStdString(each);
    QCOMPARE((got + masks.join(' ') + " | " + extras.join(' ')).trimmed(), expected);
}

void AttentionTest::unknownOperatorsAreNamed() {
    // Whether keys of a DecoderAttention are new is an input here.
    const auto naming = [](const std::string& call, const std::string& name) {
        const Found found = find("x: f32[2,7,16]\ny = " + call + "\nreturn y");
        QCOMPARE(found.attentions.found.size(), std::size_t(0));
        QCOMPARE(found.attentions.unrecognised.size(), std::size_t(1));
        QVERIFY(found.attentions.unrecognised[0].reason.find(name) != std::string::npos);
    };
    for (const std::string op : {"DecoderAttention", "QOrderedAttention", "LinearAttention"}) naming("com.microsoft::" + op + "(x, x, x, num_heads=2)", "com.microsoft." + op);
    // What PyTorch's exporter can't write.
    naming("org.pytorch.aten::_scaled_dot_product_attention(x, x, x)", "org.pytorch.aten._scaled_dot_product_attention");
    naming("org.pytorch.aten::ATen(x, x, x, operator=\"_scaled_dot_product_attention\")", "org.pytorch.aten._scaled_dot_product_attention");
    QVERIFY(find("x: f32[2,7,16]\ny = org.pytorch.aten::ATen(x, operator=\"erfinv\")\nreturn y").attentions.unrecognised.empty());
}

void AttentionTest::operatorsOfOthersAreNamed() {
    const std::pair<const char*, const char*> rows[] = {{"trt.plugins::CustomQKVToContextPluginDynamic(x)", "trt.plugins.CustomQKVToContextPluginDynamic"},
                                                        {"MultiscaleDeformableAttnPlugin_TRT(x, x)", "ai.onnx.MultiscaleDeformableAttnPlugin_TRT"},
                                                        {"ai.onnx.preview::FlexAttention(x, x, x)", "ai.onnx.preview.FlexAttention"}, // not in four axes
                                                        {"org.pytorch.aten::ATen(x, x, x, operator=\"_scaled_dot_product_flash_attention\")", "org.pytorch.aten._scaled_dot_product_flash_attention"}};
    for (const auto& [call, name] : rows) {
        const Found found = find(std::string("x: f32[2,7,16]\ny = ") + call + "\nreturn y");
        QCOMPARE(found.attentions.found.size(), std::size_t(0));
        QCOMPARE(found.attentions.unrecognised.size(), std::size_t(1));
        QVERIFY2(found.attentions.unrecognised[0].reason.find(name) != std::string::npos, found.attentions.unrecognised[0].reason.c_str());
    }
    const Found gate = find("x: f32[2,7,16]\ny = com.microsoft::LinearAttentionGate(x)\nz = org.pytorch.aten::ATen(x, operator=\"embedding_bag\")\nreturn y, z");
    QVERIFY(gate.attentions.unrecognised.empty());
}

void AttentionTest::softmaxOverSeveralAxesIsNamed() {
    const Found found = find("q: f32[2,4,7,8]\ny = MatMul(com.microsoft::BiasSoftmax(MatMul(q, Transpose(q, perm=[0,1,3,2])), m: f32[2,1,7,7], axis=2, is_inner_broadcast=0), q)\nreturn y");
    QCOMPARE(found.attentions.found.size(), std::size_t(0));
    QCOMPARE(found.attentions.unrecognised.size(), std::size_t(1));
    QVERIFY2(found.attentions.unrecognised[0].reason.find("from 2 on") != std::string::npos, found.attentions.unrecognised[0].reason.c_str());
}

void AttentionTest::functionsOfScoresAreNoSoftmax() {
    for (const auto& [weights, softmax] : {std::pair("Sigmoid(s)", false), std::pair("Relu(s)", false), std::pair("Div(r, ReduceSum(r, {-1}))", false), std::pair("Softmax(s, axis=-1)", true)}) {
        const Found found = find(separate + "s = MatMul(q, k)\nr = Relu(s)\ncontext = MatMul(" + weights + ", v)\n" + tail);
        const auto written = decompose(found.model, *found.graph, *found.shapes, found.attentions, Expansion::canonical);
        QVERIFY(written && written->attentions.size() == 1);
        QCOMPARE(written->attentions[0].softmax.valid(), softmax); // flash attention is a kernel of softmaxes
    }
}

/// Each level reads the one below many times: every value is looked at once, not once for each way to it.
void AttentionTest::normalisersOfManyWaysAreReadOnce() {
    std::string text = separate + "inner = MatMul(Exp(k), v)\nouter = MatMul(Exp(q), inner)\nd0 = Tanh(q)\n";
    constexpr int levels = 12;
    for (int i = 0; i < levels; ++i) {
        const std::string below = "d" + std::to_string(i);
        text += "d" + std::to_string(i + 1) + " = Sum(" + below;
        for (int each = 1; each < 8; ++each) text += ", " + below;
        text += ")\n";
    }
    QElapsedTimer timer;
    timer.start();
    const Found found = find(text + "context = Div(outer, d" + std::to_string(levels) + ")\n" + tail);
    QVERIFY(found.attentions.found.empty());
    QVERIFY2(timer.elapsed() < 10000, qPrintable(QString::number(timer.elapsed())));
}

/// Thousands of softmaxes over what thousands of values were joined to: each looks at a few of them.
void AttentionTest::wideJoinsAreAskedLittle() {
    constexpr int many = 12000;
    std::string text = "x: f32[1,8,8]\n", pieces, ends;
    for (int i = 0; i < many; ++i) {
        const std::string number = std::to_string(i);
        text += "p" + number + " = Neg(x)\n";
        pieces += (i == 0 ? "p" : ", p") + number;
        ends += (i == 0 ? "return y" : ", y") + number;
    }
    text += "joined = Slice(Concat(" + pieces + ", axis=-1), a: i64[1] = {0}, b: i64[1] = {8}, c: i64[1] = {2})\n";
    for (int i = 0; i < many; ++i) {
        const std::string number = std::to_string(i);
        text += "y" + number + " = MatMul(Softmax(Tanh(joined), axis=-1), x)\n";
    }
    QElapsedTimer timer;
    timer.start();
    const Found found = find(text + ends);
    QVERIFY(found.attentions.found.empty());
    QVERIFY2(timer.elapsed() < 10000, qPrintable(QString::number(timer.elapsed())));
}

/// Thousands of softmaxes over one product with a table: none looks at all that read it.
void AttentionTest::sharedKeysAreAskedLittle() {
    constexpr int many = 60000;
    std::string text = "x: f32[1,8,8]\ns = MatMul(x, keys: f32[8,4])\n", ends;
    for (int i = 0; i < many; ++i) {
        const std::string number = std::to_string(i);
        text += "y" + number + " = MatMul(Softmax(s, axis=-1), values" + (i == 0 ? ": f32[4,8])\n" : ")\n");
        ends += (i == 0 ? "return y" : ", y") + number;
    }
    QElapsedTimer timer;
    timer.start();
    QCOMPARE(find(text + ends).attentions.unrecognised.size(), std::size_t(many));
    QVERIFY2(timer.elapsed() < 10000, qPrintable(QString::number(timer.elapsed())));
}

/// Thousands of joins of a list that is put together one by one: its tensors are read once for each, not again for every place.
void AttentionTest::longListsAreReadOnce() {
    constexpr int many = 30000, length = 60;
    std::string text = "x: f32[1,8]\nlist0 = SequenceEmpty()\n", ends;
    for (int i = 1; i < length; ++i) text += "list" + std::to_string(i) + " = SequenceInsert(list" + std::to_string(i - 1) + ", x)\n";
    for (int i = 0; i < many; ++i) {
        const std::string number = std::to_string(i);
        text += "y" + number + " = ConcatFromSequence(list" + std::to_string(length - 1) + ", axis=0)\n";
        ends += (i == 0 ? "return y" : ", y") + number;
    }
    Model model;
    model.graph = *parseText(text + ends);
    model.opsets[""] = 17;
    QElapsedTimer timer;
    timer.start();
    const auto flat = flatten(model, {}, false);
    QVERIFY(flat && flat->listsUndone);
    QVERIFY2(timer.elapsed() < 10000, qPrintable(QString::number(timer.elapsed())));
}

/// A picture that is smaller than a window has none of them: their axis is no axis of heads, and none is left to be read.
void AttentionTest::headsOfNothing() {
    const std::string picture = "x: f32[1,1,1,64]\n", windows = R"(
        s = MatMul(q, Transpose(k, perm=[0,1,2,4,3]))
        context = MatMul(Softmax(s, axis=-1), v)
        return context)";
    const Found packed = find(picture + R"(
        a = Reshape(Transpose(Reshape(MatMul(x, w: f32[64,192]), {1,0,7,0,7,3,4,16}, allowzero=1), perm=[5,0,6,1,3,2,4,7]), {3,1,4,0,49,16}, allowzero=1)
        q = Gather(a, i: i64[] = {0}, axis=0)
        k = Gather(a, j: i64[] = {1}, axis=0)
        v = Gather(a, l: i64[] = {2}, axis=0))" + windows);
    QCOMPARE(packed.attentions.found.size(), 1U);
    QCOMPARE(packed.attentions.found[0].heads, 4);
    const Found fed = find("q: f32[1,4,0,49,16]\nk: f32[1,4,0,49,16]\nv: f32[1,4,0,49,16]" + windows);
    QCOMPARE(fed.attentions.found.size(), 1U);
    const auto written = decompose(fed.model, *fed.graph, *fed.shapes, fed.attentions, Expansion::canonical);
    QVERIFY(written.has_value());
    QCOMPARE(written->warnings.size(), 1U);
    QVERIFY2(written->warnings[0].find("attention_0: how many heads MatMul") == 0, written->warnings[0].c_str());
}

void AttentionTest::headsThatNothingTells() {
    const std::string middle = R"(
        x: f32[1,8,64]
        a = Transpose(Reshape(custom::Mystery(x), {1,8,3,-1,16}), perm=[2,0,3,1,4])
        q = Gather(a, i: i64[] = {0}, axis=0)
        k = Gather(a, j: i64[] = {1}, axis=0)
        v = Gather(a, l: i64[] = {2}, axis=0)
        context = MatMul(Softmax(MatMul(q, Transpose(k, perm=[0,1,3,2])), axis=-1), v))";
    const auto warned = [](const Found& found) {
        const auto written = decompose(found.model, *found.graph, *found.shapes, found.attentions, Expansion::canonical);
        return written && !written->warnings.empty() ? QString::fromStdString(written->warnings[0]) : QString();
    };
    const Found unknown = find(middle + "\nreturn context");
    QCOMPARE(unknown.attentions.found.size(), 1U);
    QVERIFY2(warned(unknown).contains("no shape rule for custom.Mystery"), qPrintable(warned(unknown)));
    const Found projected = find(middle + tail); // what the output projection reads tells
    QCOMPARE(projected.attentions.found.size(), 1U);
    QCOMPARE(projected.attentions.found[0].heads, 4);
    QCOMPARE(warned(projected), QString());
}

void AttentionTest::packedIsTakenApart() {
    Found found = find(R"(
        x: f32[1,8,64]
        a, b, d = Split(MatMul(x, w: f32[64,192]), axis=-1, num_outputs=3)
        q = Transpose(Reshape(a, {1,8,4,16}), perm=[0,2,1,3])
        k = Transpose(Reshape(b, {1,8,4,16}), perm=[0,2,3,1])
        v = Transpose(Reshape(d, {1,8,4,16}), perm=[0,2,1,3])
        context = MatMul(Softmax(Mul(MatMul(q, k), c: f32[] = {0.25}), axis=-1), v)
    )" + tail);
    const auto apart = decompose(found.model, *found.graph, *found.shapes, found.attentions, Expansion::canonical);
    QVERIFY2(apart.has_value(), apart ? "" : apart.error().message().c_str());
    const Graph& graph = *apart->graph;
    int linear = 0;
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        QVERIFY(graph.nodes()[i].op != "Split");
        QVERIFY(!graph.sources(NodeId(i)).empty());
        if (graph.nodes()[i].op != "MatMul") continue;
        const TensorPtr& weight = graph.value(graph.nodes()[i].inputs[1]).initializer;
        if (weight && weight->dims == Dims{64, 64} && weight->name != "wo") ++linear;
    }
    QCOMPARE(linear, 3);
    QCOMPARE(apart->attentions[0].q.size(), 1U);
    QVERIFY(apart->attentions[0].wasPacked);
    for (const char* name : {"w.q_weight", "w.k_weight", "w.v_weight"}) QVERIFY2(graph.findValue(name).valid(), name);
    QVERIFY(graph.findValue("y").valid());
    // What was written out has the shapes that the packed form had.
    const ShapesPtr shapes = *inferShapes(found.model, graph, {});
    QCOMPARE(shapes->unknownCount(), 0U);
    QVERIFY(shapes->of(graph.findValue("y")).dims == (Dims{1, 8, 64}));
}

void AttentionTest::opaqueIsWrittenOut() {
    Found found = find(R"(
        x: f32[1,8,64]
        m: bool[8,8]
        y = Attention(MatMul(x, wq: f32[64,64]), MatMul(x, wk: f32[64,32]), MatMul(x, wv: f32[64,32]), m, q_num_heads=4, kv_num_heads=2, is_causal=1, softcap=20.0)
        return y
    )");
    const auto apart = decompose(found.model, *found.graph, *found.shapes, found.attentions, Expansion::canonical);
    QVERIFY(apart.has_value());
    std::map<std::string, int> ops;
    for (const Node& node : apart->graph->nodes()) ++ops[node.op];
    QCOMPARE(ops["Attention"], 0);
    QCOMPARE(ops["Softmax"], 1);
    QCOMPARE(ops["Tanh"], 1);
    QCOMPARE(ops["Trilu"], 1);
    QCOMPARE(ops["Expand"], 2); // K and V heads repeated
    QCOMPARE(ops["Where"], 2);  // causal, boolean mask
    const ShapesPtr shapes = *inferShapes(found.model, *apart->graph, {});
    QVERIFY(shapes->of(apart->graph->findValue("y")).dims == (Dims{1, 8, 64}));
}

void AttentionTest::longMasksAreRead() {
    // 128 x 128 is more than is folded for shapes: the mask reader evaluates it on demand.
    const Found found = find(R"(
        x: f32[1,128,64]
        q = Transpose(Reshape(MatMul(x, wq: f32[64,64]), {1,128,4,16}), perm=[0,2,1,3])
        k = Transpose(Reshape(MatMul(x, wk: f32[64,64]), {1,128,4,16}), perm=[0,2,3,1])
        v = Transpose(Reshape(MatMul(x, wv: f32[64,64]), {1,128,4,16}), perm=[0,2,1,3])
        ones = ConstantOfShape({128,128})
        upper = Trilu(Sub(ones, big: f32[] = {1e9}), {1}, upper=1)
        context = MatMul(Softmax(Add(MatMul(q, k), upper), axis=-1), v)
        return context
    )");
    QCOMPARE(found.attentions.found.size(), 1U);
    QVERIFY(found.attentions.found[0].causal.value_or(false));
}

void AttentionTest::partsOfLongBuffersAreRead() {
    // A triangle of all positions that a model may have, cut to those that there are.
    constexpr std::int64_t most = 2048;
    const auto parsed = parseText(R"(
        x: f32[1,8,64]
        q = Transpose(Reshape(MatMul(x, wq: f32[64,64]), {1,8,4,16}), perm=[0,2,1,3])
        k = Transpose(Reshape(MatMul(x, wk: f32[64,64]), {1,8,4,16}), perm=[0,2,3,1])
        v = Transpose(Reshape(MatMul(x, wv: f32[64,64]), {1,8,4,16}), perm=[0,2,1,3])
        rows = Slice(all: bool[1,1,2048,2048], {0}, {8}, {2}, {1})
        keep = Slice(rows, {0}, {8}, {3}, {1})
        context = MatMul(Softmax(Where(keep, MatMul(q, k), low: f32[] = {-1e9}), axis=-1), v)
        return context
    )");
    QVERIFY2(parsed, parsed ? "" : parsed.error().message().c_str());
    GraphBuilder builder;
    builder.adoptValues(**parsed);
    for (std::size_t i = 0; i < (*parsed)->nodes().size(); ++i) builder.adoptNode(**parsed, NodeId(i));
    auto bytes = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(most * most));
    for (std::int64_t row = 0; row < most; ++row)
        for (std::int64_t column = 0; column <= row; ++column) (*bytes)[static_cast<std::size_t>(row * most + column)] = std::byte(1);
    const ValueId all = builder.findValue("all");
    auto triangle = std::make_shared<Tensor>(*builder.peek(all).initializer);
    triangle->payload.place = Payload::Place::memory;
    triangle->payload.length = bytes->size();
    triangle->payload.bytes = std::move(bytes);
    builder.edit(all).initializer = std::move(triangle);
    Model model;
    model.graph = *builder.finish();
    model.opsets = {{"", 17}};
    const ShapesPtr shapes = *inferShapes(model, *model.graph, {});
    const Attentions found = findAttention(model, *model.graph, *shapes);
    QCOMPARE(found.found.size(), 1U);
    QVERIFY(found.found[0].causal.value_or(false));
    QVERIFY(found.found[0].masks.contains("causal"));
}

QTEST_APPLESS_MAIN(AttentionTest)
#include "attention_test.moc"
