// Every kind of attention behind every form of packed projection: each is found, taken apart into products of its roles, and
// computes the same; without its weight the packed product stays, and a Split cuts it.

#include "proof.h"

#include <QTest>

using namespace triptych;

namespace {

struct Form {
    const char* name;
    std::string text;      ///< from x (and other) to heads q, k, v: [batch,4,seq,8]
    bool split = true;     ///< without its weight a Split can cut the product: each role's columns lie together
    bool differs = false;  ///< Q is projected apart
};

const std::vector<Form>& forms() {
    static const std::string heads = "q = Transpose(Reshape(q1, {0,0,4,8}), perm=[0,2,1,3])\nk = Transpose(Reshape(k1, {0,0,4,8}), perm=[0,2,1,3])\nv = Transpose(Reshape(v1, {0,0,4,8}), perm=[0,2,1,3])\n";
    static const std::string gathered = "q = Gather(p, i0: i64[] = {0}, axis=0)\nk = Gather(p, i1: i64[] = {1}, axis=0)\nv = Gather(p, i2: i64[] = {2}, axis=0)\n";
    static const std::string split = "q1, k1, v1 = Split(p, {32,32,32}, axis=-1)\n" + heads;
    static const std::string plain = "p = Add(MatMul(x, w: f32[32,96]), b: f32[96])\n";
    static const std::vector<Form> all{
        {"split", plain + split},
        {"slice", "p = MatMul(x, w: f32[32,96])\nq1 = Slice(p, {0}, {32}, {2})\nk1 = Slice(p, {32}, {64}, {2})\nv1 = Slice(p, {64}, {9999}, {-1})\n" + heads},
        {"gather", "p = Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,0,3,32})\nq1 = Gather(p, i0: i64[] = {0}, axis=2)\nk1 = Gather(p, i1: i64[] = {1}, axis=2)\nv1 = Gather(p, i2: i64[] = {-1}, axis=2)\n" + heads},
        {"reshape, transpose, gather", "p = Transpose(Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,0,3,4,8}), perm=[2,0,3,1,4])\n" + gathered},
        {"split of an axis of roles", "p = Transpose(Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,0,3,4,8}), perm=[2,0,3,1,4])\nq2, k2, v2 = Split(p, {1,1,1}, axis=0)\nq = Squeeze(q2, {0})\nk = Squeeze(k2, {0})\nv = Squeeze(v2, {0})\n"},
        {"interleaved by head", "p = Transpose(Reshape(MatMul(x, w: f32[32,96]), {0,0,4,24}), perm=[0,2,1,3])\nq, k, v = Split(p, {8,8,8}, axis=-1)\n", false},
        {"roles within heads", "p = Transpose(Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,0,4,3,8}), perm=[3,0,2,1,4])\n" + gathered, false},
        {"grouped, of unequal widths", "q1, k1, v1 = Split(MatMul(x, w: f32[32,64]), {32,16,16}, axis=2)\nq = Transpose(Reshape(q1, {0,0,4,8}), perm=[0,2,1,3])\nk2 = Transpose(Reshape(k1, {0,0,2,8}), perm=[0,2,1,3])\nv2 = Transpose(Reshape(v1, {0,0,2,8}), perm=[0,2,1,3])\n"
        "k = Reshape(Expand(Unsqueeze(k2, {2}), {1,1,2,1,1}), {0,4,-1,8})\nv = Reshape(Expand(Unsqueeze(v2, {2}), {1,1,2,1,1}), {0,4,-1,8})\n"},
        {"convolution", "p = Conv(Transpose(x, perm=[0,2,1]), w: f32[96,32,1], b: f32[96])\nq1, k1, v1 = Split(p, {32,32,32}, axis=1)\nq = Transpose(Reshape(q1, {0,4,8,-1}), perm=[0,1,3,2])\nk = Transpose(Reshape(k1, {0,4,8,-1}), perm=[0,1,3,2])\nv = Transpose(Reshape(v1, {0,4,8,-1}), perm=[0,1,3,2])\n", false},
        {"convolution in two dimensions", "p = Reshape(Conv(Unsqueeze(Transpose(x, perm=[0,2,1]), {3}), w: f32[96,32,1,1]), {0,3,4,8,-1})\nq = Transpose(Gather(p, i0: i64[] = {0}, axis=1), perm=[0,1,3,2])\nk = Transpose(Gather(p, i1: i64[] = {1}, axis=1), perm=[0,1,3,2])\nv = Transpose(Gather(p, i2: i64[] = {2}, axis=1), perm=[0,1,3,2])\n", false},
        {"low-rank branch", "p = Add(Add(MatMul(x, w: f32[32,96]), b: f32[96]), Mul(MatMul(MatMul(x, la: f32[32,4]), lb: f32[4,96]), ls: f32[] = {2.0}))\n" + split},
        {"low-rank branches of two roles", "q3, k1, v3 = Split(MatMul(x, w: f32[32,96]), {32,32,32}, axis=-1)\nq1 = Add(q3, MatMul(MatMul(x, la: f32[32,4]), lb: f32[4,32]))\nv1 = Add(v3, MatMul(MatMul(x, lc: f32[32,4]), ld: f32[4,32]))\n" + heads},
        {"Gemm, turned", "p = Reshape(Gemm(Reshape(x, {-1,32}), w: f32[96,32], b: f32[96], transB=1), Concat(Slice(Shape(x), {0}, {2}), all: i64[1] = {96}, axis=0))\n" + split},
        {"FusedMatMul, turned", "p = com.microsoft::FusedMatMul(x, w: f32[96,32], transB=1, alpha=0.5)\n" + split},
        {"biases of two roles", "q3, k1, v3 = Split(MatMul(x, w: f32[32,96]), {32,32,32}, axis=-1)\nq1 = Add(q3, bq: f32[32])\nv1 = Add(v3, bv: f32[32])\n" + heads},
        {"Einsum", "p = Einsum(x, w: f32[32,96], equation=\"bsd,de->bse\")\n" + split},
        {"Einsum with an axis of roles", "p = Transpose(Add(Einsum(x, w: f32[32,3,4,8], equation=\"bsd,dchk->bschk\"), b: f32[3,4,8]), perm=[2,0,3,1,4])\n" + gathered, false},
        {"weight behind views", "p = MatMul(x, Transpose(Identity(w: f32[96,32]), perm=[1,0]))\n" + split},
        {"keys and values", "q1 = MatMul(x, wq: f32[32,32])\np = Add(MatMul(other, w: f32[32,64]), b: f32[64])\nk1, v1 = Split(p, {32,32}, axis=-1)\n" + heads, true, true},
        {"queries and keys", "v1 = MatMul(x, wv: f32[32,32])\nq1, k1 = Split(Add(MatMul(x, w: f32[32,64]), b: f32[64]), {32,32}, axis=-1)\n" + heads, true, true},
        {"values first", "v1, k1, q1 = Split(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {32,32,32}, axis=-1)\n" + heads},
        {"split twice", "q1, kv = Split(MatMul(x, w: f32[32,96]), {32,64}, axis=-1)\nk1, v1 = Split(kv, {32,32}, axis=-1)\n" + heads},
        {"sequence first", "p = Add(MatMul(Transpose(x, perm=[1,0,2]), w: f32[32,96]), b: f32[96])\np2 = Squeeze(Transpose(Unsqueeze(Reshape(p, {0,0,3,32}), {0}), perm=[3,1,2,0,4]), {3})\nq3 = Gather(p2, i0: i64[] = {0}, axis=0)\nk3 = Gather(p2, i1: i64[] = {1}, axis=0)\nv3 = Gather(p2, i2: i64[] = {2}, axis=0)\n"
        "q = Transpose(Reshape(q3, {0,0,4,8}), perm=[1,2,0,3])\nk = Transpose(Reshape(k3, {0,0,4,8}), perm=[1,2,0,3])\nv = Transpose(Reshape(v3, {0,0,4,8}), perm=[1,2,0,3])\n"},
        {"between quantisations", "p = MatMul(x, DequantizeLinear(w: i8[32,96], s8: f32[96], axis=1))\nq3, k3, v3 = Split(DequantizeLinear(QuantizeLinear(p, o: f32[] = {0.5}, z: i8[]), o, z), {32,32,32}, axis=-1)\n"
        "q1 = DequantizeLinear(QuantizeLinear(q3, o, z), o, z)\nk1 = DequantizeLinear(QuantizeLinear(k3, o, z), o, z)\nv1 = DequantizeLinear(QuantizeLinear(v3, o, z), o, z)\n" + heads},
    };
    return all;
}

struct Kind {
    const char* name;
    const char* text; ///< from q, k, v to the context m
    const char* word; ///< of extras; "": none
    int places = 0;   ///< that it is written for; 0: any
};

const std::vector<Kind>& kinds() {
    static const std::vector<Kind> all{
        {"softmax", "m = MatMul(Softmax(Mul(MatMul(q, Transpose(k, perm=[0,1,3,2])), c: f32[] = {0.35}), axis=-1), v)\n", ""},
        {"feature map", "qf = Relu(MatMul(q, omega: f32[8,12]))\nkf = Relu(MatMul(k, omega))\nn = MatMul(qf, Unsqueeze(ReduceSum(kf, {2}, keepdims=0), {3}))\nm = Div(MatMul(qf, MatMul(Transpose(kf, perm=[0,1,3,2]), v)), Add(n, e: f32[] = {1.0}))\n", "performer"},
        {"elu", "qf = Add(Elu(q), one: f32[] = {1.0})\nkf = Add(Elu(k), one)\nn = MatMul(qf, Unsqueeze(ReduceSum(kf, {2}, keepdims=0), {3}))\nm = Div(MatMul(qf, MatMul(Transpose(kf, perm=[0,1,3,2]), v)), n)\n", "performer"},
        {"map, scores first", "s = MatMul(Add(Elu(q), one: f32[] = {1.0}), Transpose(Add(Elu(k), one), perm=[0,1,3,2]))\nm = MatMul(Div(s, ReduceSum(s, {3}, keepdims=1)), v)\n", "performer"},
        {"efficient", "m = MatMul(Softmax(q, axis=-1), MatMul(Transpose(Softmax(k, axis=2), perm=[0,1,3,2]), v))\n", "performer"},
        {"landmarks", "qs = Mul(q, c: f32[] = {0.25})\nql = ReduceMean(Reshape(qs, {0,4,2,4,8}), axes=[3], keepdims=0)\nkl = ReduceMean(Reshape(k, {0,4,2,4,8}), axes=[3], keepdims=0)\nk1s = Softmax(MatMul(qs, Transpose(kl, perm=[0,1,3,2])), axis=-1)\n"
                      "k2s = Softmax(MatMul(ql, Transpose(kl, perm=[0,1,3,2])), axis=-1)\nk3s = Softmax(MatMul(ql, Transpose(k, perm=[0,1,3,2])), axis=-1)\nz0 = Div(Transpose(k2s, perm=[0,1,3,2]), ReduceMax(ReduceSum(k2s, {-2}), axes=[-1]))\n"
                      "z1 = MatMul(Mul(z0, quarter: f32[] = {0.25}), Sub(eye: f32[2,2] = {13.0, 0.0, 0.0, 13.0}, MatMul(k2s, z0)))\nm = MatMul(MatMul(k1s, z1), MatMul(k3s, v))\n", "landmarks", 8},
        {"linformer", "kp = MatMul(ek: f32[3,8], k)\nvp = MatMul(ev: f32[3,8], v)\nm = MatMul(Softmax(Mul(MatMul(q, Transpose(kp, perm=[0,1,3,2])), c: f32[] = {0.35}), axis=-1), vp)\n", "linformer", 8},
        {"disentangled", "pk = Transpose(Reshape(MatMul(rel: f32[16,32], wpk: f32[32,32]), {16,4,8}), perm=[1,2,0])\nc2p = GatherElements(MatMul(q, Unsqueeze(pk, {0})), Expand(places: i64[1,1,8,8], Shape(MatMul(q, Transpose(k, perm=[0,1,3,2])))), axis=-1)\n"
                         "m = MatMul(Softmax(Add(MatMul(q, Transpose(k, perm=[0,1,3,2])), c2p), axis=-1), v)\n", "disentangled", 8},
        {"cosine", "qn = Div(q, Clip(ReduceL2(q, axes=[-1]), eps: f32[] = {0.001}))\nkn = Div(k, Clip(ReduceL2(k, axes=[-1]), eps))\nm = MatMul(Softmax(Mul(MatMul(qn, Transpose(kn, perm=[0,1,3,2])), tau: f32[4,1,1]), axis=-1), v)\n", "cosine"},
        {"sigmoid", "m = MatMul(Sigmoid(Add(MatMul(q, Transpose(k, perm=[0,1,3,2])), bias: f32[] = {-2.0})), v)\n", "sigmoid"},
        {"rotated", "qa, qb = Split(q, {4,4}, axis=-1)\nqr = Add(Mul(q, cos: f32[1,1,8,8]), Mul(Concat(Neg(qb), qa, axis=-1), sin: f32[1,1,8,8]))\nka, kb = Split(k, {4,4}, axis=-1)\nkr = Add(Mul(k, cos), Mul(Concat(Neg(kb), ka, axis=-1), sin))\n"
                    "m = MatMul(Softmax(MatMul(qr, Transpose(kr, perm=[0,1,3,2])), axis=-1), v)\n", "rope", 8},
        {"normalised", "qn = LayerNormalization(q, g: f32[8], h: f32[8])\nkn = LayerNormalization(k, g, h)\nm = MatMul(Softmax(MatMul(qn, Transpose(kn, perm=[0,1,3,2])), axis=-1), v)\n", "qk_norm"},
    };
    return all;
}

std::string textOf(const Kind& kind, const Form& form) {
    const std::string places = kind.places ? std::to_string(kind.places) : "seq", other = kind.places ? places : "keys";
    return "x: f32[batch," + places + ",32]\n" + (form.differs ? "other: f32[batch," + other + ",32]\n" : std::string()) + form.text + kind.text + "y = MatMul(Reshape(Transpose(m, perm=[0,2,1,3]), {0,0,32}), wo: f32[32,32])\nreturn y";
}

} // namespace

class PackedKindsTest : public QObject {
    Q_OBJECT
private slots:
    void takenApart_data() { rows(); }
    void takenApart();
    void withoutWeights_data() { rows(); }
    void withoutWeights();

private:
    static void rows();
};

void PackedKindsTest::rows() {
    QTest::addColumn<int>("kind");
    QTest::addColumn<int>("form");
    for (std::size_t k = 0; k < kinds().size(); ++k)
        for (std::size_t f = 0; f < forms().size(); ++f) QTest::addRow("%s: %s", kinds()[k].name, forms()[f].name) << static_cast<int>(k) << static_cast<int>(f);
}

void PackedKindsTest::takenApart() {
    QFETCH(int, kind);
    QFETCH(int, form);
    const Kind& of = kinds()[static_cast<std::size_t>(kind)];
    const Proof proof = decomposed(textOf(of, forms()[static_cast<std::size_t>(form)]), 17);
    QCOMPARE(proof.attentions.found.size(), std::size_t(1));
    QVERIFY(!*of.word || proof.attentions.found[0].extras.contains(of.word));
    QVERIFY(isPacked(proof.attentions.found[0].projections));
    const DecomposedAttention& made = proof.decomposition.attentions[0];
    QVERIFY2(proof.decomposition.warnings.empty(), proof.decomposition.warnings.empty() ? "" : proof.decomposition.warnings[0].c_str());
    QVERIFY(made.rewritten && made.wasPacked && !made.q.empty() && !made.k.empty() && !made.v.empty() && made.q != made.k && made.k != made.v);
    const Graph& graph = *proof.decomposition.graph;
    const ValueId weight = graph.findValue("w");
    QVERIFY(!weight || graph.readers(weight).empty());
    for (const char* part : {"w.k_weight", "w.v_weight"})
        if (!forms()[static_cast<std::size_t>(form)].differs) QVERIFY(graph.findValue(part));
    QCOMPARE(difference(proof), QString());
    QCOMPARE(difference(proof, of.places ? Bindings{{"batch", 3}} : Bindings{{"batch", 3}, {"seq", 9}}), QString());
}

void PackedKindsTest::withoutWeights() {
    QFETCH(int, kind);
    QFETCH(int, form);
    const Form& from = forms()[static_cast<std::size_t>(form)];
    Model model;
    model.graph = *parseText(textOf(kinds()[static_cast<std::size_t>(kind)], from));
    model.opsets = {{"", 17}, {"com.microsoft", 1}};
    const ShapesPtr shapes = *inferShapes(model, *model.graph, *resolveBindings(*model.graph, {}));
    const Attentions found = findAttention(model, *model.graph, *shapes);
    QCOMPARE(found.found.size(), std::size_t(1));
    const ShapesPtr varied = *variedShapes(model, *model.graph, *shapes);
    const auto made = decompose(model, *model.graph, *shapes, found, Expansion::canonical, varied.get());
    QVERIFY2(made, made ? "" : made.error().message().c_str());
    QCOMPARE(made->warnings.size(), std::size_t(1));
    QVERIFY(made->graph->findValue("w"));
    QCOMPARE(made->attentions[0].rewritten, from.split);
}

QTEST_APPLESS_MAIN(PackedKindsTest)
#include "packed_kinds_test.moc"
