// Packed projections against their parts, and calls of model-local functions against their canonical form, at other sizes than
// they were analysed for.

#include "proof.h"

#include <QTest>

using namespace triptych;

class TakeApartTest : public QObject {
    Q_OBJECT
private slots:
    void joinedWithAnInputStaysPacked();
    void equalConstantsMayBeKeysAndValues();
    void repeatedColumnsStayPacked();
    void whatElseAPackedProductHoldsIsStillCutFromIt();
    void whatOnlyACutReadGoesWithIt();
    void packed_data();
    void packed();
    void call_data();
    void call();
    void absentWeightsStayPacked();
};

void TakeApartTest::joinedWithAnInputStaysPacked() {
    // Nothing says what Q, K and V of the other places are projected by.
    const Proof proof = decomposed("x: f32[2,6,8]\nother: f32[2,5,3,2,4]\np = Transpose(Concat(Reshape(MatMul(x, w: f32[8,24]), {2,6,3,2,4}), Add(other, Reshape(MatMul(other, u: f32[4,4]), {2,5,3,2,4})), axis=1), perm=[2,0,3,1,4])\n"
                                   "q = Gather(p, a: i64[] = {0}, axis=0)\nk = Transpose(Gather(p, b: i64[] = {1}, axis=0), perm=[0,1,3,2])\nv = Gather(p, c: i64[] = {2}, axis=0)\ny = MatMul(Softmax(MatMul(q, k), axis=-1), v)\nreturn y",
                                   17);
    QCOMPARE(proof.decomposition.warnings.size(), std::size_t(1));
    QCOMPARE(difference(proof), QString());
}

void TakeApartTest::equalConstantsMayBeKeysAndValues() {
    const std::string numbers = " = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16})\n";
    const Proof proof = decomposed("x: f32[1,3,8]\nk = Identity(a: f32[1,2,8]" + numbers + "v = Identity(b: f32[1,2,8]" + numbers + "y = com.microsoft::MultiHeadAttention(MatMul(x, w: f32[8,8]), a, b, num_heads=2)\nreturn y", 17);
    QCOMPARE(proof.attentions.found.size(), std::size_t(1));
    QCOMPARE(difference(proof), QString());
}

void TakeApartTest::repeatedColumnsStayPacked() {
    const Proof proof = decomposed("x: f32[2,6,8]\np = Reshape(MatMul(x, w: f32[8,16]), {2,6,4,4})\nq = Transpose(Gather(p, a: i64[2] = {0,1}, axis=2), perm=[0,2,1,3])\n"
                                   "k = Transpose(Gather(p, b: i64[2] = {2,2}, axis=2), perm=[0,2,3,1])\nv = Transpose(Gather(p, c: i64[2] = {-1,-1}, axis=2), perm=[0,2,1,3])\n"
                                   "y = MatMul(Softmax(MatMul(q, k), axis=-1), v)\nreturn y",
                                   17);
    QVERIFY(!proof.decomposition.attentions[0].rewritten);
    QCOMPARE(proof.decomposition.warnings.size(), std::size_t(1));
    QCOMPARE(difference(proof), QString());
}

void TakeApartTest::whatElseAPackedProductHoldsIsStillCutFromIt() {
    // Q, K, V and the first product of a feed-forward network beside them, in one Split: ONNX Runtime crashes at a Split with gaps among its outputs.
    const Proof proof = decomposed("x: f32[2,6,32]\nq1, k1, v1, m1 = Split(MatMul(x, w: f32[32,160]), {32,32,32,64}, axis=-1)\nq = Transpose(Reshape(q1, {0,0,4,8}), perm=[0,2,1,3])\nk = Transpose(Reshape(k1, {0,0,4,8}), perm=[0,2,3,1])\n"
                                   "v = Transpose(Reshape(v1, {0,0,4,8}), perm=[0,2,1,3])\nm = Reshape(Transpose(MatMul(Softmax(MatMul(q, k), axis=-1), v), perm=[0,2,1,3]), {0,0,32})\n"
                                   "y = Add(MatMul(m, wo: f32[32,32]), MatMul(Relu(m1), wm: f32[64,32]))\nreturn y",
                                   17);
    QVERIFY(proof.decomposition.attentions[0].rewritten);
    std::set<ValueId> outputs;
    for (const Node& node : proof.decomposition.graph->nodes())
        for (const ValueId output : node.outputs) QVERIFY2(output && outputs.insert(output).second, node.name.c_str());
    QCOMPARE(difference(proof), QString());
}

void TakeApartTest::whatOnlyACutReadGoesWithIt() {
    const Proof proof = decomposed("x: f32[2,6,32]\na = MatMul(x, w: f32[32,96])\naxis = Identity(d: i64[1] = {2})\none = Identity(e: i64[1] = {32})\ntwo = Add(one, one)\n"
                                   "q = Transpose(Reshape(Slice(a, {0}, one, axis), {0,0,4,8}), perm=[0,2,1,3])\nk = Transpose(Reshape(Slice(a, one, two, axis), {0,0,4,8}), perm=[0,2,3,1])\nv = Transpose(Reshape(Slice(a, two, {96}, axis), {0,0,4,8}), perm=[0,2,1,3])\n"
                                   "m = Reshape(Transpose(MatMul(Softmax(MatMul(q, k), axis=-1), v), perm=[0,2,1,3]), {0,0,32})\ny = MatMul(m, wo: f32[32,32])\nreturn y",
                                   17);
    QVERIFY(proof.decomposition.attentions[0].rewritten);
    const Graph& graph = *proof.decomposition.graph;
    for (const Node& node : graph.nodes()) QVERIFY2(graph.isOutput(node.output()) || !graph.readers(node.output()).empty(), node.name.c_str());
    QCOMPARE(difference(proof), QString());
}

void TakeApartTest::packed_data() {
    QTest::addColumn<QString>("text");
    const QString tail = "k_t = Transpose(k, perm=[0,1,3,2])\ns = Softmax(Mul(MatMul(q, k_t), c: f32[] = {0.35}), axis=-1)\nm = Transpose(MatMul(s, v), perm=[0,2,1,3])\n";
    QTest::newRow("split") << QStringLiteral("x: f32[batch,seq,32]\nqkv = Add(MatMul(x, w: f32[32,96]), b: f32[96])\nq1, k1, v1 = Split(qkv, {32,32,32}, axis=-1)\n"
                                             "q = Transpose(Reshape(q1, {0,0,4,8}), perm=[0,2,1,3])\nk = Transpose(Reshape(k1, {0,0,4,8}), perm=[0,2,1,3])\nv = Transpose(Reshape(v1, {0,0,4,8}), perm=[0,2,1,3])\n") + tail + "y = MatMul(Reshape(m, {0,0,32}), wo: f32[32,32])\nreturn y";
    QTest::newRow("reshape, transpose, gather") << QStringLiteral("x: f32[batch,seq,32]\nqkv = Transpose(Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,-1,3,4,8}), perm=[2,0,3,1,4])\n"
                                             "q = Gather(qkv, i0: i64[] = {0}, axis=0)\nk = Gather(qkv, i1: i64[] = {1}, axis=0)\nv = Gather(qkv, i2: i64[] = {2}, axis=0)\n") + tail + "y = MatMul(Reshape(m, {0,-1,32}), wo: f32[32,32])\nreturn y";
    QTest::newRow("interleaved by head") << QStringLiteral("x: f32[batch,seq,32]\nqkv = Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,0,4,24})\nq1, k1, v1 = Split(qkv, {8,8,8}, axis=-1)\n"
                                             "q = Transpose(q1, perm=[0,2,1,3])\nk = Transpose(k1, perm=[0,2,1,3])\nv = Transpose(v1, perm=[0,2,1,3])\n") + tail + "y = MatMul(Reshape(m, {0,0,32}), wo: f32[32,32])\nreturn y";
    QTest::newRow("linear attention") << QStringLiteral("x: f32[batch,seq,32]\nq1, k1, v1 = Split(MatMul(x, w: f32[32,96]), {32,32,32}, axis=-1)\nq = Relu(Transpose(Reshape(q1, {0,0,4,8}), perm=[0,2,1,3]))\nk = Relu(Transpose(Reshape(k1, {0,0,4,8}), perm=[0,2,3,1]))\n"
                                                       "v = Transpose(Reshape(v1, {0,0,4,8}), perm=[0,2,1,3])\nsum = MatMul(q, ReduceSum(k, {3}, keepdims=1))\nm = Transpose(Div(MatMul(q, MatMul(k, v)), Add(sum, e: f32[] = {0.001})), perm=[0,2,1,3])\n"
                                                       "y = MatMul(Reshape(m, {0,0,32}), wo: f32[32,32])\nreturn y");
    QTest::newRow("flattened rows") << QStringLiteral("x: f32[batch,seq,32]\nflat = Reshape(x, {-1,32})\nall = Gemm(flat, w: f32[96,32], b: f32[96], transB=1)\nsh = Shape(x)\nbs = Gather(sh, ii: i64[2] = {0,1})\n"
                                             "full = Concat(bs, n: i64[1] = {96}, axis=0)\nqkv = Reshape(all, full)\nq1, k1, v1 = Split(qkv, {32,32,32}, axis=2)\n"
                                             "q = Transpose(Reshape(q1, {0,0,4,8}), perm=[0,2,1,3])\nk = Transpose(Reshape(k1, {0,0,4,8}), perm=[0,2,1,3])\nv = Transpose(Reshape(v1, {0,0,4,8}), perm=[0,2,1,3])\n") + tail + "y = MatMul(Reshape(m, {0,0,32}), wo: f32[32,32])\nreturn y";
    QTest::newRow("convolved, normalised, filtered") << QStringLiteral("x: f32[batch,32,seq]\nf = BatchNormalization(Conv(x, w: f32[96,32,1]), g: f32[96], b: f32[96], mu: f32[96], va: f32[96] = {") + QStringList(QList<QString>(96, "0.5")).join(", ") +
        "})\nq1, k1, v1 = Split(Conv(f, wd: f32[96,1,3], group=96, pads=[1,1]), {32,32,32}, axis=1)\nq = Transpose(Reshape(q1, {0,4,8,-1}), perm=[0,1,3,2])\nk = Transpose(Reshape(k1, {0,4,8,-1}), perm=[0,1,3,2])\nv = Transpose(Reshape(v1, {0,4,8,-1}), perm=[0,1,3,2])\n" + tail + "y = MatMul(Reshape(m, {0,-1,32}), wo: f32[32,32])\nreturn y";

    // Two sequences, each with a packed projection: cut one by one, or both at once.
    const QString image = "x: f32[batch,seq,32]\nc0: f32[batch,words,32]\na = Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,0,3,4,8})\nd = Reshape(MatMul(c0, u: f32[32,96]), {0,0,3,4,8})\n";
    const QString joined = tail + "y = MatMul(Reshape(m, {0,-1,32}), wo: f32[32,32])\nreturn y";
    QTest::newRow("cut before sequences are joined") << image + "a0, a1, a2 = Split(a, {1,1,1}, axis=2)\nd0, d1, d2 = Split(d, {1,1,1}, axis=2)\nq = Transpose(Squeeze(Concat(a0, d0, axis=1), {2}), perm=[0,2,1,3])\n"
        "k = Transpose(Squeeze(Concat(a1, d1, axis=1), {2}), perm=[0,2,1,3])\nv = Transpose(Squeeze(Concat(a2, d2, axis=1), {2}), perm=[0,2,1,3])\n" + joined;
    QTest::newRow("cut behind sequences that are joined") << image + "both = Transpose(Concat(d, a, axis=1), perm=[2,0,3,1,4])\nq = Gather(both, i0: i64[] = {0}, axis=0)\nk = Gather(both, i1: i64[] = {1}, axis=0)\nv = Gather(both, i2: i64[] = {2}, axis=0)\n" + joined;
    QTest::newRow("cut by head behind sequences that are joined") << "x: f32[batch,seq,32]\nc0: f32[batch,words,32]\nq1, k1, v1 = Split(Reshape(Concat(MatMul(x, w: f32[32,96]), MatMul(c0, u: f32[32,96]), axis=1), {0,0,4,24}), {8,8,8}, axis=-1)\nq = Transpose(q1, perm=[0,2,1,3])\nk = Transpose(k1, perm=[0,2,1,3])\nv = Transpose(v1, perm=[0,2,1,3])\n" + joined;

    QTest::newRow("cut behind sequences that are joined twice") << image + "z0: f32[batch,extra,32]\ne = Reshape(MatMul(z0, r: f32[32,96]), {0,0,3,4,8})\nboth = Transpose(Concat(Concat(d, e, axis=1), a, axis=1), perm=[2,0,3,1,4])\n"
        "q = Gather(both, i0: i64[] = {0}, axis=0)\nk = Gather(both, i1: i64[] = {1}, axis=0)\nv = Gather(both, i2: i64[] = {2}, axis=0)\n" + joined;
    QTest::newRow("joined before and behind heads are split") << image + "z0: f32[batch,extra,32]\ne = Transpose(Reshape(MatMul(z0, r: f32[32,96]), {0,0,3,4,8}), perm=[2,0,3,1,4])\nboth = Concat(Transpose(Concat(d, a, axis=1), perm=[2,0,3,1,4]), e, axis=3)\n"
        "q = Gather(both, i0: i64[] = {0}, axis=0)\nk = Gather(both, i1: i64[] = {1}, axis=0)\nv = Gather(both, i2: i64[] = {2}, axis=0)\n" + joined;
    QTest::newRow("cut before an operator that joined sequences enter") << "x: f32[batch,seq,32]\nc0: f32[batch,words,32]\na0, a1, a2 = Split(MatMul(x, w: f32[32,96]), {32,32,32}, axis=2)\nd0, d1, d2 = Split(MatMul(c0, u: f32[32,96]), {32,32,32}, axis=2)\n"
        "m = com.microsoft::MultiHeadAttention(Concat(a0, d0, axis=1), Concat(a1, d1, axis=1), Concat(a2, d2, axis=1), num_heads=4)\ny = MatMul(m, wo: f32[32,32])\nreturn y";

    const auto operatorInput = [&](const char* name, const QString& text) { QTest::newRow(name) << "x: f32[batch,seq,32]\n" + text + "\ny = MatMul(m, wo: f32[32,32])\nreturn y"; };
    operatorInput("input of an operator in five axes", "qkv = Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,0,4,3,8})\nm = com.microsoft::MultiHeadAttention(qkv, num_heads=4)");
    operatorInput("keys and values of an operator in five axes", "q = MatMul(x, wq: f32[32,32])\nkv = Reshape(MatMul(x, w: f32[32,64]), {0,0,4,2,8})\nm = com.microsoft::MultiHeadAttention(q, kv, num_heads=4)");
    operatorInput("input of an operator, turned and turned back", "t = Transpose(Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,0,4,3,8}), perm=[2,0,1,4,3])\nm = com.microsoft::MultiHeadAttention(Transpose(t, perm=[1,2,0,4,3]), num_heads=4)");
    operatorInput("input of an operator, cast there and back", "qkv = Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,0,4,3,8})\nm = com.microsoft::MultiHeadAttention(Cast(Cast(qkv, to=11), to=1), num_heads=4)");
    operatorInput("input of an operator with groups", "sh = Shape(x)\nt = Cast(Gather(sh, i1: i64[] = {1}), to=6)\nn = Expand(Sub(t, one: i32[] = {1}), Gather(sh, i0: i64[1] = {0}))\n"
                  "qkv = Add(com.microsoft::MatMulNBits(x, w: u8[64,2,8], s8: f32[128], K=32, N=64, bits=4, block_size=16), b: f32[64])\nm = com.microsoft::GroupQueryAttention(qkv, _, _, _, _, n, t, num_heads=4, kv_num_heads=2)");

    // Each role gets its own columns of everything that has columns.
    const auto cut = [&](const char* name, const QString& qkv) {
        QTest::newRow(name) << "x: f32[batch,seq,32]\n" + qkv + "q1, k1, v1 = Split(qkv, {32,32,32}, axis=-1)\n"
            "q = Transpose(Reshape(q1, {0,0,4,8}), perm=[0,2,1,3])\nk = Transpose(Reshape(k1, {0,0,4,8}), perm=[0,2,1,3])\nv = Transpose(Reshape(v1, {0,0,4,8}), perm=[0,2,1,3])\n" + tail + "y = MatMul(Reshape(m, {0,0,32}), wo: f32[32,32])\nreturn y";
    };
    cut("dequantised by column", "qkv = Add(MatMul(x, DequantizeLinear(w: i8[32,96], s8: f32[96], z8: i8[96], axis=1)), b: f32[96])\n");
    cut("dequantised, turned", "qkv = Add(MatMul(x, Transpose(DequantizeLinear(w: i8[96,32], s8: f32[96], axis=0), perm=[1,0])), b: f32[96])\n");
    cut("dequantised as a whole", "qkv = MatMul(x, DequantizeLinear(w: i8[32,96], s8: f32[], z8: i8[]))\n");
    cut("dequantised in blocks of rows", "qkv = MatMul(x, DequantizeLinear(w: i8[32,96], s8: f32[2,96], z8: i8[2,96], axis=0, block_size=16))\n");
    cut("dequantised in blocks of columns", "qkv = MatMul(x, DequantizeLinear(w: i8[32,96], s8: f32[32,6], z8: i8[32,6], axis=1, block_size=16))\n");
    cut("dequantised from four bits", "qkv = MatMul(x, DequantizeLinear(w: u4[32,96], s8: f32[96], axis=1))\n");
    cut("bias dequantised too", "qkv = Add(MatMul(x, DequantizeLinear(w: i8[32,96], s8: f32[96], axis=1)), DequantizeLinear(b: i8[96], sb: f32[96], axis=0))\n");
    cut("of bits", "qkv = Add(com.microsoft::MatMulNBits(x, w: u8[96,2,8], s8: f32[192], K=32, N=96, bits=4, block_size=16), b: f32[96])\n");
    cut("of bits, zero points and bias", "qkv = com.microsoft::MatMulNBits(x, w: u8[96,2,8], s8: f32[96,2], z8: u8[96], _, b: f32[96], K=32, N=96, bits=4, block_size=16)\n");
    cut("of four bits that pick from a table", "qkv = Add(com.microsoft::MatMulBnb4(x, w: u8[1536], s8: f32[192], K=32, N=96, block_size=16, quant_type=1), b: f32[96])\n");
    cut("of integers", "xq, xs, xz = DynamicQuantizeLinear(x)\nqkv = Add(Mul(Cast(MatMulInteger(xq, w: i8[32,96], xz, z8: i8[]), to=1), Mul(xs, ws: f32[])), b: f32[96])\n");
    cut("of integers, scales by column", "xq, xs, xz = DynamicQuantizeLinear(x)\nqkv = Add(b: f32[96], Mul(Cast(MatMulInteger(xq, w: i8[32,96], xz, z8: i8[96]), to=1), Mul(xs, ws: f32[96])))\n");
    cut("quantised", "qkv = DequantizeLinear(QLinearMatMul(QuantizeLinear(x, a: f32[] = {0.05}, z: i8[]), a, z, w: i8[32,96], s8: f32[96], z8: i8[96], o: f32[] = {0.5}, z), o, z)\n");
    cut("quantised, a bias too", "xi = QuantizeLinear(x, a: f32[] = {0.05}, z: i8[])\np = QLinearMatMul(xi, a, z, w: i8[32,96], s8: f32[96], z8: i8[96], o: f32[] = {0.5}, z)\nqkv = DequantizeLinear(com.microsoft::QLinearAdd(p, o, z, b: i8[96], o2: f32[] = {0.03}, z, o3: f32[] = {0.6}, z), o3, z)\n");
    cut("of integers, a quantised bias first", "xq, xs, xz = DynamicQuantizeLinear(x)\nqkv = Add(DequantizeLinear(b: i8[96], sb: f32[] = {0.03}, z: i8[]), Mul(Cast(MatMulInteger(xq, w: i8[32,96], xz, z8: i8[96]), to=1), Mul(xs, ws: f32[96])))\n");
    cut("between quantisations", "xd = DequantizeLinear(QuantizeLinear(x, a: f32[] = {0.05}, z: i8[]), a, z)\np = Add(MatMul(xd, DequantizeLinear(w: i8[32,96], s8: f32[96], z8: i8[96], axis=1)), DequantizeLinear(b: i32[96], sb: f32[96], axis=0))\nqkv = DequantizeLinear(QuantizeLinear(p, o: f32[] = {0.5}, z), o, z)\n");
    cut("quantised, convolved", "qc = QLinearConv(QuantizeLinear(Transpose(x, perm=[0,2,1]), a: f32[] = {0.05}, z: i8[]), a, z, w: i8[96,32,1], s8: f32[96], z8: i8[96], o: f32[] = {0.5}, z, b: i32[96])\nqkv = Transpose(DequantizeLinear(qc, o, z), perm=[0,2,1])\n");
    cut("quantised, added to a bias of one row", "flat = Reshape(QuantizeLinear(x, a: f32[] = {0.05}, z: i8[]), {-1,32})\nqkv = Reshape(com.microsoft::QGemm(flat, a, z, w: i8[96,32], s8: f32[96], z8: i8[96], b: i32[1,96], transB=1), {1,-1,96})\n");
    cut("a Gemm whose bias is one row", "qkv = Reshape(Gemm(Reshape(x, {-1,32}), w: f32[32,96], b: f32[1,96]), {1,-1,96})\n");
    cut("quantised on the way", "qkv = com.microsoft::DynamicQuantizeMatMul(x, w: i8[32,96], s8: f32[96], z8: i8[96], b: f32[96])\n");
    cut("from integers to floats", "xq, xs, xz = DynamicQuantizeLinear(x)\nqkv = com.microsoft::MatMulIntegerToFloat(xq, w: i8[32,96], xs, s8: f32[96], xz, z8: i8[96], b: f32[96])\n");
    cut("beside a low-rank branch", "qkv = Add(Add(MatMul(x, w: f32[32,96]), Mul(MatMul(MatMul(x, la: f32[32,4]), lb: f32[4,96]), ls: f32[] = {2.0})), b: f32[96])\n");
    cut("normalised over the batch", "flat = Reshape(MatMul(x, w: f32[32,96]), {-1,96})\nqkv = Reshape(BatchNormalization(flat, g: f32[96], b: f32[96], mu: f32[96], va: f32[96] = {" + QStringList(QList<QString>(96, "0.5")).join(", ") + "}), Shape(MatMul(x, w)))\n");
    cut("biases that are joined", "qkv = Add(MatMul(x, w: f32[32,96]), Concat(bq: f32[32], ConstantOfShape({32}), bv: f32[32], axis=0))\n");
    cut("weights that are joined", "qkv = Add(MatMul(x, Transpose(Concat(wq: f32[32,32], wk: f32[32,32], wv: f32[32,32], axis=0), perm=[1,0])), b: f32[96])\n");
    cut("weights and biases that are split from larger ones", "w1, w2 = Split(w: f32[128,32], {32,96}, axis=0)\nb1, b2 = Split(b: f32[128], {32,96}, axis=0)\nqkv = Add(MatMul(x, Transpose(w2, perm=[1,0])), b2)\n");
    cut("scaled by column", "qkv = Mul(Add(MatMul(x, w: f32[32,96]), b: f32[96]), g: f32[96])\n");
}

void TakeApartTest::packed() {
    QFETCH(QString, text);
    const Proof proof = decomposed(text.toStdString(), 17);
    QCOMPARE(proof.attentions.found.size(), std::size_t(1));
    QVERIFY2(proof.decomposition.attentions[0].rewritten, proof.decomposition.warnings.empty() ? "" : proof.decomposition.warnings[0].c_str());
    QCOMPARE(proof.decomposition.attentions[0].q.size() >= 1, true);
    for (const DecomposedStream& each : proof.decomposition.attentions[0].joined) QVERIFY(each.wasPacked && !each.q.empty() && each.q != each.k && each.k != each.v);
    // Nothing of the packed product is left, nor of what it was made of.
    const Graph& graph = *proof.decomposition.graph;
    for (const Node& node : graph.nodes())
        for (const char* op : {"MatMul", "Mul", "Cast", "DequantizeLinear", "Transpose"})
            if (node.is(op)) QVERIFY2(graph.isOutput(node.output()) || !graph.readers(node.output()).empty(), node.name.c_str());
    QCOMPARE(difference(proof), QString());
    QCOMPARE(difference(proof, {{"batch", 3}, {"seq", 9}}), QString());
    QCOMPARE(difference(proof, {{"batch", 2}, {"seq", 1}}), QString());
}

void TakeApartTest::call_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<bool>("canonical");
    // A function's body; one line of it is another in each row.
    const std::map<QString, QString> plain{{"x0", "x0 = Identity(x)"}, {"q", "q = Transpose(q1, perm=[0,2,1,3])"}, {"v", "v = Transpose(v1, perm=[0,2,1,3])"}, {"t", "t = Mul(s, c: f32[] = {0.35})"},
                                           {"p", "p = Softmax(t, axis=-1)"}, {"y", "y = MatMul(r, wo)"}};
    const auto row = [&](const char* name, const QString& value, const QString& line, bool canonical) {
        auto lines = plain;
        if (!value.isEmpty()) lines[value] = line;
        QTest::newRow(name) << "x: f32[B,S,16]\nwq: f32[16,16]\nwk: f32[16,16]\nwv: f32[16,16]\nwo: f32[16,16]\nm: f32[B,1,1,S]\n" + lines["x0"] +
                "\nq1 = Reshape(MatMul(x0, wq), {0,-1,2,8})\nk = Transpose(Reshape(MatMul(x0, wk), {0,-1,2,8}), perm=[0,2,3,1])\nv1 = Reshape(MatMul(x0, wv), {0,-1,2,8})\n" + lines["q"] + "\n" + lines["v"] + "\ns = MatMul(q, k)\n" +
                lines["t"] + "\n" + lines["p"] + "\nr = Reshape(Transpose(MatMul(p, v), perm=[0,2,1,3]), {0,-1,16})\n" + lines["y"] + "\nreturn y"
            << canonical;
    };
    row("plain", "", "", true);
    row("masked", "p", "p = Softmax(Add(t, m), axis=-1)", true);
    row("negated scores", "t", "t = Mul(Neg(s), c: f32[] = {0.35})", true);
    row("scaled queries", "q", "q = Mul(Transpose(q1, perm=[0,2,1,3]), cq: f32[] = {0.5})", true);
    row("input that is changed before", "x0", "x0 = Relu(x)", true);
    row("mask behind the softmax", "p", "p = Mul(Softmax(t, axis=-1), m)", false);
    row("mask that is taken away", "p", "p = Softmax(Sub(t, m), axis=-1)", false);
    row("mask that is scaled", "t", "t = Mul(Add(s, m), c: f32[] = {0.35})", false);
    row("scores clamped", "t", "t = Min(s, c: f32[] = {0.05})", false);
    row("rectified scores", "p", "l = Relu(t)\np = Div(l, Add(ReduceSum(l, {-1}), e: f32[] = {1.0}))", false);
    row("scale that is learned", "t", "t = Mul(s, h: f32[1,2,1,1] = {0.3, 0.6})", false);
    row("queries negated", "q", "q = Neg(Transpose(q1, perm=[0,2,1,3]))", false);
    row("values scaled", "v", "v = Mul(Transpose(v1, perm=[0,2,1,3]), cv: f32[] = {2.0})", false);
    row("heads that alternate", "q", "q = Transpose(Reshape(q1, {0,0,8,2}), perm=[0,3,1,2])", false);
    row("values turned round", "v", "v = Transpose(Slice(v1, {-1}, {-9999}, {1}, {-1}), perm=[0,2,1,3])", false);
    row("values of another order", "v", "v = Transpose(Slice(v1, {-1}, {-9999}, {3}, {-1}), perm=[0,2,1,3])", false);
    row("batch and places turned", "x0", "x0 = Transpose(x, perm=[1,0,2])", true); // what is attended over is what the turned input has there
    row("result turned", "y", "y = Transpose(MatMul(r, wo), perm=[1,0,2])", false);
    row("result turned round", "y", "y = Slice(MatMul(r, wo), {-1}, {-9999}, {1}, {-1})", false);
    row("softmax over the queries", "p", "p = Softmax(t, axis=2)", false);
    row("softmax in half precision", "p", "p = Cast(Softmax(Cast(t, to=10), axis=-1), to=1)", false);
    row("output that is scaled", "y", "y = Reshape(Gemm(Reshape(r, {-1,16}), wo, alpha=2.0), Shape(x))", false);
    row("residual", "y", "y = Add(MatMul(r, wo), x)", false);
    row("activation", "y", "y = Relu(MatMul(r, wo))", false);
}

/// A call of a model-local function is written in canonical form only where that loses nothing.
void TakeApartTest::call() {
    QFETCH(QString, text);
    QFETCH(bool, canonical);
    const auto body = parseText(text.toStdString());
    QVERIFY2(body, body ? "" : body.error().message().c_str());
    const auto main = parseText("x: f32[B,S,16]\nm: f32[B,1,1,S]\ny = my::Att(x, wq: f32[16,16], wk: f32[16,16], wv: f32[16,16], wo: f32[16,16], m)\nreturn y");
    QVERIFY2(main, main ? "" : main.error().message().c_str());
    Proof proof;
    proof.model.graph = withWeights(**main);
    proof.model.opsets = {{"", 17}, {"my", 1}};
    proof.model.functions = {{"my", "Att", {}, {}, {{"", 17}}, *body}};
    const auto inlined = inlineFunctions(proof.model, *proof.model.graph, {});
    QVERIFY2(inlined, inlined ? "" : inlined.error().message().c_str());
    proof.shapes = *inferShapes(proof.model, **inlined, *resolveBindings(**inlined, {}));
    proof.attentions = findAttention(proof.model, **inlined, *proof.shapes);
    QCOMPARE(proof.attentions.found.size(), std::size_t(1));
    QCOMPARE(proof.attentions.found[0].form, std::string("function:my.Att"));
    const ShapesPtr varied = *variedShapes(proof.model, **inlined, *proof.shapes);
    auto made = decompose(proof.model, **inlined, *proof.shapes, proof.attentions, Expansion::canonical, varied.get());
    QVERIFY2(made, made ? "" : made.error().message().c_str());
    proof.decomposition = std::move(*made);
    QCOMPARE(proof.decomposition.attentions[0].rewritten, canonical);
    proof.model.graph = *inlined;
    QCOMPARE(difference(proof), QString());
    QCOMPARE(difference(proof, {{"B", 2}, {"S", 5}}), QString());
}

void TakeApartTest::absentWeightsStayPacked() {
    const auto parsed = parseText("x: f32[2,6,32]\ny = com.microsoft::Attention(x, w: f32[32,96], b: f32[96], num_heads=4)\nreturn y");
    Model model;
    model.graph = *parsed;
    model.opsets = {{"", 17}, {"com.microsoft", 1}};
    const ShapesPtr shapes = *inferShapes(model, *model.graph, {});
    const Attentions found = findAttention(model, *model.graph, *shapes);
    const auto made = decompose(model, *model.graph, *shapes, found, Expansion::canonical, shapes.get());
    QVERIFY(made);
    int splits = 0;
    for (const Node& node : made->graph->nodes()) splits += node.is("Split");
    QCOMPARE(splits, 1);
    QVERIFY(made->graph->findValue("w"));
}

QTEST_APPLESS_MAIN(TakeApartTest)
#include "take_apart_test.moc"
