// Written-out attention computes what the operator computes: the operator's own kernel against its expansion, for many
// options; packed projections against their parts, at other sizes than they were analysed for.

#include "graph/text.h"
#include "onnx_io/export.h"
#include "verify/verify.h"

#include <QDir>
#include <QTest>

using namespace triptych;

namespace {

/// Weights for the initializers of a text graph that have none.
GraphPtr withWeights(const Graph& from) {
    GraphBuilder builder(from.name());
    builder.adoptValues(from);
    std::uint32_t state = 12345;
    for (std::size_t i = 0; i < from.values().size(); ++i) {
        const TensorPtr& tensor = from.value(ValueId(i)).initializer;
        if (!tensor || tensor->payload.place != Payload::Place::absent) continue;
        HostTensor content = HostTensor::zeros(tensor->type, tensor->dims);
        for (std::size_t at = 0; at < static_cast<std::size_t>(content.count()); ++at) {
            state = state * 1664525 + 1013904223;
            // Integers of a byte are weights, others pick rows of a table, which has two at least.
            if (content.isFloat()) content.floats()[at] = static_cast<float>(state >> 8) / static_cast<float>(1 << 24) - 0.5F;
            else content.integers()[at] = bitsOf(tensor->type) == 8 ? state >> 25 : state >> 31;
        }
        auto made = std::make_shared<Tensor>(*tensor);
        made->payload = {};
        made->payload.place = Payload::Place::memory;
        made->payload.bytes = std::make_shared<const std::vector<std::byte>>(encodeTensor(content));
        made->payload.length = made->payload.bytes->size();
        builder.edit(ValueId(i)).initializer = std::move(made);
    }
    for (std::size_t i = 0; i < from.nodes().size(); ++i) builder.adoptNode(from, NodeId(i));
    return *builder.finish();
}

struct Proof {
    Model model;
    ShapesPtr shapes;
    Attentions attentions;
    Decomposition decomposition;
};

Proof decomposed(const std::string& text, std::int64_t opset, const Bindings& bindings = {}) {
    Proof proof;
    const auto parsed = parseText(text);
    if (!parsed) qFatal("%s", parsed.error().message().c_str());
    proof.model.graph = withWeights(**parsed);
    proof.model.opsets = {{"", opset}, {"com.microsoft", 1}};
    const Graph& graph = *proof.model.graph;
    proof.shapes = *inferShapes(proof.model, graph, *resolveBindings(graph, bindings));
    proof.attentions = findAttention(proof.model, graph, *proof.shapes);
    const ShapesPtr varied = *variedShapes(proof.model, graph, *proof.shapes);
    auto made = decompose(proof.model, graph, *proof.shapes, proof.attentions, Expansion::canonical, varied.get());
    if (!made) qFatal("%s", made.error().message().c_str());
    proof.decomposition = std::move(*made);
    return proof;
}

/// Empty where both compute the same on all fills, under bindings of its own.
QString difference(const Proof& proof, const Bindings& bindings = {}) {
    const Graph& graph = *proof.model.graph;
    const ShapesPtr shapes = *inferShapes(proof.model, graph, *resolveBindings(graph, bindings));
    const VerifyRequest request{proof.model, graph, *shapes, proof.model, *proof.decomposition.graph, "decomposed", &proof.attentions, nullptr, {Fill::random, Fill::masked, Fill::ramp}, 7, std::nullopt, std::nullopt};
    const auto comparison = verify(request);
    if (!comparison) return QString::fromStdString(comparison.error().message());
    for (const Difference& each : comparison->differences)
        if (!each.holds) return QStringLiteral("%1 %2: %3 %4").arg(QString::fromStdString(each.inputs), QString::fromStdString(each.output)).arg(each.absolute).arg(QString::fromStdString(each.at));
    return comparison->holds() ? QString() : QStringLiteral("nothing compared");
}

bool hasOpaque(const Graph& graph) {
    for (const Node& node : graph.nodes())
        if (node.op.find("Attention") != std::string::npos || node.op == "BiasSoftmax") return true;
    return false;
}

} // namespace

class EquivalenceTest : public QObject {
    Q_OBJECT
private slots:
    void opaque_data();
    void opaque();
    void shortMaskAtAnySize();
    void windowsAtAnySize();
    void repeatedColumnsStayPacked();
    void whatHoldsForTheBoundSizesOnlyIsNamed();
    void lengthsFitWhatTheyCount_data();
    void lengthsFitWhatTheyCount();
    void whatIsNotWrittenOutStays_data();
    void whatIsNotWrittenOutStays();
    void noMaxBeforeOpset12();
    void opset10_data();
    void opset10();
    void packed_data();
    void packed();
    void call_data();
    void call();
    void form_data();
    void form();
    void masksAllowNoDifference();
    void bisectionNamesTheFirst();
    void absentWeightsStayPacked();
    void absentWeightsAreNamed();
};

void EquivalenceTest::opaque_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<int>("opset");
    const QString four = "q: f32[2,4,3,8]\nk: f32[2,2,5,8]\nv: f32[2,2,5,6]\n", three = "q: f32[2,3,32]\nk: f32[2,5,16]\nv: f32[2,5,12]\n";
    const auto standard = [&](const char* name, const QString& text) { QTest::newRow(name) << text << 24; };
    standard("plain", four + "y = Attention(q, k, v)\nreturn y");
    standard("three axes", three + "y = Attention(q, k, v, q_num_heads=4, kv_num_heads=2)\nreturn y");
    standard("causal, soft cap, scale", four + "y = Attention(q, k, v, is_causal=1, softcap=1.5, scale=0.3)\nreturn y");
    standard("negative scale", four + "y = Attention(q, k, v, scale=-0.3)\nreturn y");
    standard("float mask", four + "m: f32[3,5]\ny = Attention(q, k, v, m)\nreturn y");
    standard("integer mask", four + "m: i64[3,5]\ny = Attention(q, k, v, m)\nreturn y");
    standard("softmax in half precision", four + "y = Attention(q, k, v, softmax_precision=10)\nreturn y");
    standard("double", "q: f64[2,4,3,8]\nk: f64[2,2,5,8]\nv: f64[2,2,5,6]\nm: f32[3,5]\ny, _, _, s = Attention(q, k, v, m, softcap=2.0)\nreturn y, s");
    standard("short float mask", four + "m: f32[2,1,3,4]\ny = Attention(q, k, v, m)\nreturn y");
    standard("bool mask", four + "m: bool[2,1,3,5]\ny = Attention(q, k, v, m)\nreturn y");
    standard("short bool mask", four + "m: bool[3,4]\ny = Attention(q, k, v, m)\nreturn y");
    standard("past, present, scores", four + "pk: f32[2,2,4,8]\npv: f32[2,2,4,6]\ny, k2, v2, s = Attention(q, k, v, _, pk, pv, is_causal=1, qk_matmul_output_mode=2)\nreturn y, k2, v2, s");
    standard("past, three axes", three + "pk: f32[2,2,4,8]\npv: f32[2,2,4,6]\ny, k2, v2 = Attention(q, k, v, _, pk, pv, q_num_heads=4, kv_num_heads=2)\nreturn y, k2, v2");
    standard("weights given out", four + "m: bool[3,5]\ny, _, _, s = Attention(q, k, v, m, qk_matmul_output_mode=3)\nreturn y, s");
    QTest::newRow("windows") << four + "y = Attention(q, k, v, left_window_size=1, right_window_size=0)\nreturn y" << 25;
    QTest::newRow("window, causal, past") << four + "pk: f32[2,2,4,8]\npv: f32[2,2,4,6]\ny = Attention(q, k, v, _, pk, pv, is_causal=1, left_window_size=2)\nreturn y" << 25;
    QTest::newRow("lengths") << four + "n: i64[2] = {4, 2}\ny = Attention(q, k, v, _, _, _, n, is_causal=1)\nreturn y" << 24;

    const auto microsoft = [&](const char* name, const QString& text) { QTest::newRow(name) << text << 17; };
    const QString x = "x: f32[2,6,32]\nw: f32[32,96]\nb: f32[96]\n", heads = ", num_heads=4";
    microsoft("packed", x + "y = com.microsoft::Attention(x, w, b" + heads + ")\nreturn y");
    microsoft("packed, no bias", x + "y = com.microsoft::Attention(x, w, _" + heads + ")\nreturn y");
    microsoft("packed, lengths", x + "n: i32[2] = {4, 6}\ny = com.microsoft::Attention(x, w, b, n" + heads + ")\nreturn y");
    microsoft("packed, ends and begins", x + "n: i32[4] = {4, 6, 1, 0}\ny = com.microsoft::Attention(x, w, b, n" + heads + ")\nreturn y");
    microsoft("packed, a range that is empty", x + "n: i32[4] = {2, 6, 4, 0}\ny = com.microsoft::Attention(x, w, b, n" + heads + ")\nreturn y");
    microsoft("packed, mask of one column", x + "n: i32[2,1]\ny = com.microsoft::Attention(x, w, b, n" + heads + ")\nreturn y");
    microsoft("packed, mask of two axes", x + "n: i32[2,6]\ny = com.microsoft::Attention(x, w, b, n, mask_filter_value=-100.0" + heads + ")\nreturn y");
    microsoft("packed, mask of three axes, causal", x + "n: i32[2,6,6]\ny = com.microsoft::Attention(x, w, b, n, unidirectional=1" + heads + ")\nreturn y");
    microsoft("packed, large mask, past", x + "n: i32[2,1,12,12]\np: f32[2,2,4,3,8]\ny, z = com.microsoft::Attention(x, w, b, n, p" + heads + ")\nreturn y, z");
    microsoft("packed, unequal widths, bias", "x: f32[2,6,32]\nw: f32[32,80]\nb: f32[80]\na: f32[1,4,6,6]\ny = com.microsoft::Attention(x, w, b, _, _, a, qkv_hidden_sizes=[32,32,16]" + heads + ")\nreturn y");
    const QString qkv = "q: f32[2,6,32]\nk: f32[2,7,32]\nv: f32[2,7,16]\nb: f32[80]\n";
    microsoft("heads, bias, padding", qkv + "n: i32[2,7]\ny = com.microsoft::MultiHeadAttention(q, k, v, b, n" + heads + ")\nreturn y");
    microsoft("heads, past, attention bias", qkv + "a: f32[2,4,6,10]\npk: f32[2,4,3,8]\npv: f32[2,4,3,4]\ny, k2, v2 = com.microsoft::MultiHeadAttention(q, k, v, b, _, a, pk, pv, unidirectional=1, scale=0.2" + heads + ")\nreturn y, k2, v2");
    microsoft("heads, lengths and their sums", qkv + "n: i32[8] = {4, 6, 0, 6, 12, 0, 4, 10}\ny = com.microsoft::MultiHeadAttention(q, k, v, b, n" + heads + ")\nreturn y");
    microsoft("packed in five axes", "q: f32[2,6,4,3,8]\ny = com.microsoft::MultiHeadAttention(q" + heads + ")\nreturn y");
    microsoft("keys and values in five axes", "q: f32[2,6,32]\nk: f32[2,7,4,2,8]\ny = com.microsoft::MultiHeadAttention(q, k" + heads + ")\nreturn y");

    const QString g = "q: f32[2,3,32]\nk: f32[2,3,16]\nv: f32[2,3,16]\npk: f32[2,2,4,8]\npv: f32[2,2,4,8]\n", grouped = ", num_heads=4, kv_num_heads=2";
    const QString caches = "c: f32[12,4]\ns: f32[12,4]\n", now = "n: i32[2] = {6, 5}\nt: i32[] = {7}\n";
    microsoft("grouped, lengths differ", g + now + "y, k2, v2 = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, window, soft cap", g + now + "y = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, local_window_size=3, softcap=2.0" + grouped + ")\nreturn y");
    microsoft("grouped, rotary", g + caches + now + "y, k2, v2 = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, c, s, do_rotary=1" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, rotary, interleaved, partial", g + "c: f32[12,2]\ns: f32[12,2]\n" + now + "y = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, c, s, do_rotary=1, rotary_interleaved=1" + grouped + ")\nreturn y");
    microsoft("grouped, shared buffer", g + "n: i32[2] = {2, 3}\nt: i32[] = {4}\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, first call, packed", "q: f32[2,3,64]\nn: i32[2] = {2, 1}\nt: i32[] = {3}\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, sink of each head", g + now + "y = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, _, _, _, _, i: f32[4]" + grouped + ")\nreturn y");
    microsoft("grouped, smooth softmax, soft cap", g + now + "y = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, smooth_softmax=1, softcap=2.0" + grouped + ")\nreturn y");
    microsoft("grouped, not causal", g + now + "y = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, causal=0" + grouped + ")\nreturn y");

    microsoft("grouped, scores before the softmax", g + now + "y, _, _, z = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, qk_output=1" + grouped + ")\nreturn y, z");
    microsoft("grouped, scores after the softmax, sink", "q: f32[2,3,64]\nn: i32[2] = {2, 2}\nt: i32[] = {3}\ny, _, _, z = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, _, _, _, _, i: f32[4], qk_output=2" + grouped + ")\nreturn y, z");
    microsoft("grouped, scores, shared buffer", g + "n: i32[2] = {2, 2}\nt: i32[] = {3}\ny, _, _, z = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, qk_output=1" + grouped + ")\nreturn y, z");

    // Sequences of 3 and 2 tokens among as many places as 4 each have.
    const QString lists = "o: i32[2,4] = {0, 1, 2, 4, 5, 3, 6, 7}\nc: i32[3] = {0, 3, 5}\n";
    microsoft("packed tokens", "x: f32[5,32]\nw: f32[32,80]\nb: f32[80]\n" + lists + "y = com.microsoft::PackedAttention(x, w, b, o, c, qkv_hidden_sizes=[32,32,16]" + heads + ")\nreturn y");
    microsoft("packed tokens, attention bias", "x: f32[5,32]\na: f32[2,1,4,4]\n" + lists + "y = com.microsoft::PackedAttention(x, w: f32[32,96], b: f32[96], o, c, a, scale=0.2" + heads + ")\nreturn y");
    microsoft("packed tokens of heads", "q: f32[5,32]\nk: f32[5,32]\nv: f32[5,16]\nb: f32[80]\n" + lists + "y = com.microsoft::PackedMultiHeadAttention(q, k, v, b, o, c" + heads + ")\nreturn y");
    microsoft("packed tokens in four axes", "q: f32[5,4,3,8]\na: f32[1,4,4,4]\n" + lists + "y = com.microsoft::PackedMultiHeadAttention(q, _, _, _, o, c, a" + heads + ")\nreturn y");

    microsoft("packed tokens of a padded batch", "x: f32[2,4,32]\nn: i32[2] = {3, 1}\nt, o, c, m = com.microsoft::RemovePadding(x, n)\nz = com.microsoft::PackedAttention(t, w: f32[32,96], b: f32[96], o, c" + heads + ")\ny = com.microsoft::RestorePadding(z, o)\nreturn y");
    const QString buffer = "q: f32[2,1,32]\nk: f32[2,1,32]\nv: f32[2,1,32]\npk: f32[2,4,9,8]\npv: f32[2,4,9,8]\nl: i32[1] = {3}\n";
    microsoft("one token, shared buffer", buffer + "b: f32[96]\nm: i32[2,4]\na: f32[1,4,1,4]\ny, k2, v2, s = com.microsoft::DecoderMaskedMultiHeadAttention(q, k, v, m, a, pk, pv, l, _, _, b, past_present_share_buffer=1, output_qk=1" + heads + ")\nreturn y, k2, v2, s");
    microsoft("one token, packed", "q: f32[2,1,96]\npk: f32[2,4,9,8]\npv: f32[2,4,9,8]\nl: i32[1] = {3}\nb: f32[96]\ny, k2, v2 = com.microsoft::DecoderMaskedMultiHeadAttention(q, _, _, _, _, pk, pv, l, _, _, b, past_present_share_buffer=1" + heads + ")\nreturn y, k2, v2");
    microsoft("one token, cross", "q: f32[2,1,32]\nk: f32[2,4,9,8]\nv: f32[2,4,9,8]\nm: i32[2,9]\ny = com.microsoft::DecoderMaskedMultiHeadAttention(q, k, v, m" + heads + ")\nreturn y");
    microsoft("one token, keys in blocks", "x: f32[2,1,32]\nw: f32[32,96]\nb: f32[96]\nm: i32[2,4]\np: f32[2,2,4,9,8]\nl: i32[1] = {3}\ny, z = com.microsoft::DecoderMaskedSelfAttention(x, w, b, m, p, _, l, past_present_share_buffer=1" + heads + ")\nreturn y, z");
    microsoft("packed, shared buffer", x + "p: f32[2,2,4,9,8]\nl: i32[1] = {2}\ny, z = com.microsoft::Attention(x, w, b, _, p, _, l, past_present_share_buffer=1, unidirectional=1" + heads + ")\nreturn y, z");
    microsoft("heads, shared buffer", "q: f32[2,3,32]\nk: f32[2,2,32]\npk: f32[2,4,9,8]\npv: f32[2,4,9,8]\nl: i32[1] = {5}\ny, k2, v2 = com.microsoft::MultiHeadAttention(q, k, k, _, _, _, pk, pv, l, unidirectional=1" + heads + ")\nreturn y, k2, v2");

    const QString bytes = "x: f32[2,6,32]\nxs: f32[] = {0.02}\ne: i32[] = {120}\nxz = Cast(e, to=2)\nu = QuantizeLinear(x, xs, xz)\n";
    microsoft("integers", bytes + "n: i32[2,6]\nd: i32[] = {3}\nwz = Cast(d, to=3)\ny = com.microsoft::QAttention(u, w: i8[32,96], b: f32[96], xs, s: f32[] = {0.01}, n, xz, wz" + heads + ")\nreturn y");
    microsoft("integers, a scale for each column, past", bytes + "p: f32[2,2,4,3,8]\ny, z = com.microsoft::QAttention(u, w: i8[32,96], b: f32[96], xs, s: f32[96], _, xz, wz: i8[96], p, unidirectional=1" + heads + ")\nreturn y, z");
    microsoft("integers, half", bytes + "s: f32[] = {0.001}\nhs = Cast(s, to=10)\ny = com.microsoft::QAttention(u, w: i8[32,96], b: f16[96], hs, hs, _, xz" + heads + ")\nreturn y");
    microsoft("one token, keys in blocks, half", "x: f16[2,1,32]\nw: f16[32,96]\nb: f16[96]\np: f16[2,2,4,9,8]\nl: i32[1] = {3}\ny, z = com.microsoft::DecoderMaskedSelfAttention(x, w, b, _, p, _, l, past_present_share_buffer=1" + heads + ")\nreturn y, z");
    microsoft("packed tokens, half", "x: f16[5,32]\n" + lists + "y = com.microsoft::PackedAttention(x, w: f16[32,96], b: f16[96], o, c" + heads + ")\nreturn y");
    microsoft("grouped, smooth softmax, half", "q: f16[2,3,64]\nn: i32[2] = {2, 1}\nt: i32[] = {3}\ny, _, _, z = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, smooth_softmax=1, qk_output=1" + grouped + ")\nreturn y, z");
}

void EquivalenceTest::opaque() {
    QFETCH(QString, text);
    QFETCH(int, opset);
    const Proof proof = decomposed(text.toStdString(), opset);
    QCOMPARE(proof.attentions.found.size(), std::size_t(1));
    QVERIFY2(!hasOpaque(*proof.decomposition.graph), proof.decomposition.warnings.empty() ? "" : proof.decomposition.warnings[0].c_str());
    QCOMPARE(difference(proof), QString());
}

void EquivalenceTest::shortMaskAtAnySize() {
    const Proof proof = decomposed("q: f32[2,4,S,8]\nk: f32[2,2,T,8]\nm: f32[S,M]\ny = Attention(q, k, k, m)\nreturn y", 24, {{"S", 3}, {"T", 5}, {"M", 1}});
    QVERIFY(!hasOpaque(*proof.decomposition.graph));
    for (const std::int64_t columns : {1, 4, 5}) QCOMPARE(difference(proof, {{"S", 3}, {"T", 5}, {"M", columns}}), QString());
}

/// Windows whose size is no power of two: what varies must divide by it.
void EquivalenceTest::windowsAtAnySize() {
    for (const std::int64_t window : {7, 9, 12}) {
        const std::string w = std::to_string(window);
        const Proof proof = decomposed("x: f32[B,S,8]\nr = Reshape(MatMul(Reshape(x, {-1," + w + ",8}), w: f32[8,24]), {-1," + w +
                                           ",3,2,4})\nt = Transpose(r, perm=[2,0,3,1,4])\nq = Gather(t, a: i64[] = {0})\nk = Gather(t, b: i64[] = {1})\nv = Gather(t, c: i64[] = {2})\n"
                                           "y = MatMul(Softmax(MatMul(q, Transpose(k, perm=[0,1,3,2])), axis=-1), v)\nreturn y",
                                       17, {{"S", 2 * window}});
        QVERIFY(proof.decomposition.warnings.empty());
        QVERIFY(proof.decomposition.attentions[0].rewritten);
        QCOMPARE(difference(proof, {{"B", 3}, {"S", 3 * window}}), QString());
        QCOMPARE(difference(proof, {{"B", 1}, {"S", window}}), QString());
    }
}

void EquivalenceTest::whatHoldsForTheBoundSizesOnlyIsNamed() {
    const Proof proof = decomposed("x: f32[B,S,8]\nr = Reshape(MatMul(x, w: f32[8,24]), {2,16,3,2,4})\nt = Transpose(r, perm=[2,0,3,1,4])\nq = Gather(t, a: i64[] = {0})\nk = Gather(t, b: i64[] = {1})\n"
                                   "v = Gather(t, c: i64[] = {2})\ny = MatMul(Softmax(MatMul(q, Transpose(k, perm=[0,1,3,2])), axis=-1), v)\nreturn y",
                                   17, {{"B", 2}, {"S", 16}});
    QVERIFY(proof.decomposition.attentions[0].rewritten);
    QCOMPARE(proof.decomposition.warnings.size(), std::size_t(1));
    QVERIFY2(QString::fromStdString(proof.decomposition.warnings[0]).contains(QStringLiteral("attention_0: sizes")), proof.decomposition.warnings[0].c_str());
    QCOMPARE(difference(proof, {{"B", 2}, {"S", 16}}), QString());
}

void EquivalenceTest::repeatedColumnsStayPacked() {
    const Proof proof = decomposed("x: f32[2,6,8]\np = Reshape(MatMul(x, w: f32[8,16]), {2,6,4,4})\nq = Transpose(Gather(p, a: i64[2] = {0,1}, axis=2), perm=[0,2,1,3])\n"
                                   "k = Transpose(Gather(p, b: i64[2] = {2,2}, axis=2), perm=[0,2,3,1])\nv = Transpose(Gather(p, c: i64[2] = {-1,-1}, axis=2), perm=[0,2,1,3])\n"
                                   "y = MatMul(Softmax(MatMul(q, k), axis=-1), v)\nreturn y",
                                   17);
    QVERIFY(!proof.decomposition.attentions[0].rewritten);
    QCOMPARE(proof.decomposition.warnings.size(), std::size_t(1));
    QCOMPARE(difference(proof), QString());
}

void EquivalenceTest::lengthsFitWhatTheyCount_data() {
    QTest::addColumn<QString>("text");
    QTest::newRow("past and new keys") << "q: f32[B,S,64]\np: f32[B,2,P,8]\nn: i32[B]\nt: i32[]\ny, k, v = com.microsoft::GroupQueryAttention(q, _, _, p, p, n, t, num_heads=4, kv_num_heads=2)\nreturn y, k, v";
    QTest::newRow("a first call") << "q: f32[B,S,64]\nn: i32[B]\nt: i32[1]\ny = com.microsoft::GroupQueryAttention(q, _, _, _, _, Cast(n, to=6), t, num_heads=4, kv_num_heads=2)\nreturn y";
    QTest::newRow("a shared buffer") << "q: f32[B,1,32]\nm: i32[B,T]\np: f32[B,4,P,8]\nl: i32[1]\ny, k, v = com.microsoft::DecoderMaskedMultiHeadAttention(q, q, q, m, _, p, p, l, num_heads=4, past_present_share_buffer=1)\nreturn y, k, v";
    QTest::newRow("ends of keys") << "x: f32[B,S,32]\nn: i32[B]\nq: f32[2,B,4,P,8]\ny = com.microsoft::Attention(x, w: f32[32,96], b: f32[96], n, q, num_heads=4, mask_filter_value=-30000.0)\nreturn y";
    QTest::newRow("ends and begins") << "x: f32[2,S,32]\nn: i32[4]\ny = com.microsoft::Attention(x, w: f32[32,96], b: f32[96], n, num_heads=4, mask_filter_value=-30000.0)\nreturn y";
    QTest::newRow("ends and sums") << "q: f32[2,S,32]\nk: f32[2,T,32]\nn: i32[8]\ny = com.microsoft::MultiHeadAttention(q, k, k, _, n, num_heads=4)\nreturn y";
    QTest::newRow("packed tokens") << "x: f32[N,32]\no: i32[B,S]\nc: i32[C]\ny = com.microsoft::PackedAttention(x, w: f32[32,96], b: f32[96], o, c, num_heads=4)\nreturn y";
}

void EquivalenceTest::lengthsFitWhatTheyCount() {
    QFETCH(QString, text);
    const Bindings all{{"B", 3}, {"S", 4}, {"P", 6}, {"T", 5}, {"N", 9}, {"C", 4}};
    const auto known = parseText(text.toStdString());
    QVERIFY(known);
    Bindings own;
    for (const SymbolicDim& dim : symbolicDims(**known)) own[dim.name] = all.at(dim.name);
    const Proof proof = decomposed(text.toStdString(), 17);
    QVERIFY(!hasOpaque(*proof.decomposition.graph));
    QCOMPARE(difference(proof), QString());
    QCOMPARE(difference(proof, own), QString());
}

void EquivalenceTest::whatIsNotWrittenOutStays_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<QString>("why");
    const QString g = "q: f32[2,3,64]\nn: i32[2]\nt: i32[]\n", grouped = ", num_heads=4, kv_num_heads=2)\nreturn y";
    QTest::newRow("angles") << "x: f32[2,6,32]\ny = com.microsoft::Attention(x, w: f32[32,96], b: f32[96], num_heads=4, do_rotary=1)\nreturn y" << "rotary embedding";
    QTest::newRow("beams") << "q: f32[2,1,32]\np: f32[2,4,9,8]\nl: i32[1]\nw: i32[1]\nc: i32[2,1,9]\ny = com.microsoft::DecoderMaskedMultiHeadAttention(q, q, q, _, _, p, p, l, w, c, num_heads=4, past_present_share_buffer=1)\nreturn y" << "choice of beams";
    QTest::newRow("buffer without length") << "x: f32[2,6,32]\np: f32[2,2,4,9,8]\ny = com.microsoft::Attention(x, w: f32[32,96], b: f32[96], _, p, num_heads=4, past_present_share_buffer=1)\nreturn y" << "without its length";
    QTest::newRow("window cache") << g + "y = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, sliding_window_cache=1, local_window_size=2" + grouped << "sliding window";
    QTest::newRow("rank") << "q: f32[2,4,1,8]\ny = com.microsoft::DecoderMaskedMultiHeadAttention(q, num_heads=4)\nreturn y" << "rank of its input";
    QTest::newRow("scores of no step") << g + "y, _, _, s = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, num_heads=4, kv_num_heads=2)\nreturn y, s" << "output of its scores";
    QTest::newRow("norms") << g + "y = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, _, _, _, _, _, _, _, a: f32[8], c: f32[8]" + grouped << "norm of queries";
}

void EquivalenceTest::whatIsNotWrittenOutStays() {
    QFETCH(QString, text);
    QFETCH(QString, why);
    const Proof proof = decomposed(text.toStdString(), 17);
    QVERIFY(hasOpaque(*proof.decomposition.graph));
    QCOMPARE(proof.decomposition.warnings.size(), std::size_t(1));
    QVERIFY2(QString::fromStdString(proof.decomposition.warnings[0]).contains(why), proof.decomposition.warnings[0].c_str());
}

void EquivalenceTest::noMaxBeforeOpset12() {
    const Proof proof = decomposed("q: f32[2,3,64]\np: f32[2,2,4,8]\nn: i32[2] = {6, 5}\nt: i32[] = {7}\ny = com.microsoft::GroupQueryAttention(q, _, _, p, p, n, t, num_heads=4, kv_num_heads=2)\nreturn y", 11);
    QVERIFY(!hasOpaque(*proof.decomposition.graph));
    for (const Node& node : proof.decomposition.graph->nodes()) QVERIFY(!node.is("Max"));
    QCOMPARE(difference(proof), QString());
}

void EquivalenceTest::opset10_data() {
    QTest::addColumn<QString>("text");
    const QString x = "x: f32[B,S,32]\nw: f32[32,96]\nb: f32[96]\n";
    QTest::newRow("causal, lengths") << x + "n: i32[B]\ny = com.microsoft::Attention(x, w, b, n, num_heads=4, unidirectional=1)\nreturn y";
    QTest::newRow("mask, past") << x + "n: i32[B,T]\npast: f32[2,B,4,P,8]\ny, z = com.microsoft::Attention(x, w, b, n, past, num_heads=4)\nreturn y, z";
    QTest::newRow("packed, first call") << "q: f32[B,S,64]\nn: i32[B]\nt: i32[]\ny = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, num_heads=4, kv_num_heads=2, local_window_size=2)\nreturn y";
    QTest::newRow("mask with the softmax") << "q: f32[B,2,S,8]\nm: f32[B,1,1,S]\ny = MatMul(com.microsoft::BiasSoftmax(MatMul(q, Transpose(q, perm=[0,1,3,2])), m, axis=3, is_inner_broadcast=1), q)\nreturn y";
}

void EquivalenceTest::opset10() {
    QFETCH(QString, text);
    const auto parsed = parseText(text.toStdString());
    QVERIFY(parsed);
    const Bindings all{{"B", 2}, {"S", 3}, {"P", 4}, {"T", 7}};
    Bindings own;
    for (const SymbolicDim& dim : symbolicDims(**parsed)) own[dim.name] = all.at(dim.name);
    const Proof proof = decomposed(text.toStdString(), 10, own);
    QVERIFY2(!hasOpaque(*proof.decomposition.graph), proof.decomposition.warnings.empty() ? "" : proof.decomposition.warnings[0].c_str());
    for (const Node& node : proof.decomposition.graph->nodes()) {
        QVERIFY2(!node.is("Range"), node.name.c_str());
        QVERIFY2(node.attributes.integer("axis", 0) >= 0, node.name.c_str());
    }
    QCOMPARE(difference(proof, own), QString());
}

void EquivalenceTest::packed_data() {
    QTest::addColumn<QString>("text");
    const QString tail = "k_t = Transpose(k, perm=[0,1,3,2])\ns = Softmax(Mul(MatMul(q, k_t), c: f32[] = {0.35}), axis=-1)\nm = Transpose(MatMul(s, v), perm=[0,2,1,3])\n";
    QTest::newRow("split") << QStringLiteral("x: f32[batch,seq,32]\nqkv = Add(MatMul(x, w: f32[32,96]), b: f32[96])\nq1, k1, v1 = Split(qkv, {32,32,32}, axis=-1)\n"
                                             "q = Transpose(Reshape(q1, {0,0,4,8}), perm=[0,2,1,3])\nk = Transpose(Reshape(k1, {0,0,4,8}), perm=[0,2,1,3])\nv = Transpose(Reshape(v1, {0,0,4,8}), perm=[0,2,1,3])\n") + tail + "y = MatMul(Reshape(m, {0,0,32}), wo: f32[32,32])\nreturn y";
    QTest::newRow("reshape, transpose, gather") << QStringLiteral("x: f32[batch,seq,32]\nqkv = Transpose(Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,-1,3,4,8}), perm=[2,0,3,1,4])\n"
                                             "q = Gather(qkv, i0: i64[] = {0}, axis=0)\nk = Gather(qkv, i1: i64[] = {1}, axis=0)\nv = Gather(qkv, i2: i64[] = {2}, axis=0)\n") + tail + "y = MatMul(Reshape(m, {0,-1,32}), wo: f32[32,32])\nreturn y";
    QTest::newRow("interleaved by head") << QStringLiteral("x: f32[batch,seq,32]\nqkv = Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,0,4,24})\nq1, k1, v1 = Split(qkv, {8,8,8}, axis=-1)\n"
                                             "q = Transpose(q1, perm=[0,2,1,3])\nk = Transpose(k1, perm=[0,2,1,3])\nv = Transpose(v1, perm=[0,2,1,3])\n") + tail + "y = MatMul(Reshape(m, {0,0,32}), wo: f32[32,32])\nreturn y";
    QTest::newRow("flattened rows") << QStringLiteral("x: f32[batch,seq,32]\nflat = Reshape(x, {-1,32})\nall = Gemm(flat, w: f32[96,32], b: f32[96], transB=1)\nsh = Shape(x)\nbs = Gather(sh, ii: i64[2] = {0,1})\n"
                                             "full = Concat(bs, n: i64[1] = {96}, axis=0)\nqkv = Reshape(all, full)\nq1, k1, v1 = Split(qkv, {32,32,32}, axis=2)\n"
                                             "q = Transpose(Reshape(q1, {0,0,4,8}), perm=[0,2,1,3])\nk = Transpose(Reshape(k1, {0,0,4,8}), perm=[0,2,1,3])\nv = Transpose(Reshape(v1, {0,0,4,8}), perm=[0,2,1,3])\n") + tail + "y = MatMul(Reshape(m, {0,0,32}), wo: f32[32,32])\nreturn y";
    QTest::newRow("convolved, normalised, filtered") << QStringLiteral("x: f32[batch,32,seq]\nf = BatchNormalization(Conv(x, w: f32[96,32,1]), g: f32[96], b: f32[96], mu: f32[96], va: f32[96] = {") + QStringList(QList<QString>(96, "0.5")).join(", ") +
        "})\nq1, k1, v1 = Split(Conv(f, wd: f32[96,1,3], group=96, pads=[1,1]), {32,32,32}, axis=1)\nq = Transpose(Reshape(q1, {0,4,8,-1}), perm=[0,1,3,2])\nk = Transpose(Reshape(k1, {0,4,8,-1}), perm=[0,1,3,2])\nv = Transpose(Reshape(v1, {0,4,8,-1}), perm=[0,1,3,2])\n" + tail + "y = MatMul(Reshape(m, {0,-1,32}), wo: f32[32,32])\nreturn y";

    const auto operatorInput = [&](const char* name, const QString& text) { QTest::newRow(name) << "x: f32[batch,seq,32]\n" + text + "\ny = MatMul(m, wo: f32[32,32])\nreturn y"; };
    operatorInput("input of an operator in five axes", "qkv = Reshape(Add(MatMul(x, w: f32[32,96]), b: f32[96]), {0,0,4,3,8})\nm = com.microsoft::MultiHeadAttention(qkv, num_heads=4)");
    operatorInput("keys and values of an operator in five axes", "q = MatMul(x, wq: f32[32,32])\nkv = Reshape(MatMul(x, w: f32[32,64]), {0,0,4,2,8})\nm = com.microsoft::MultiHeadAttention(q, kv, num_heads=4)");
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
    cut("dequantised from four bits", "qkv = MatMul(x, DequantizeLinear(w: u4[32,96], s8: f32[96], axis=1))\n");
    cut("bias dequantised too", "qkv = Add(MatMul(x, DequantizeLinear(w: i8[32,96], s8: f32[96], axis=1)), DequantizeLinear(b: i8[96], sb: f32[96], axis=0))\n");
    cut("of bits", "qkv = Add(com.microsoft::MatMulNBits(x, w: u8[96,2,8], s8: f32[192], K=32, N=96, bits=4, block_size=16), b: f32[96])\n");
    cut("of bits, zero points and bias", "qkv = com.microsoft::MatMulNBits(x, w: u8[96,2,8], s8: f32[96,2], z8: u8[96], _, b: f32[96], K=32, N=96, bits=4, block_size=16)\n");
    cut("of four bits that pick from a table", "qkv = Add(com.microsoft::MatMulBnb4(x, w: u8[1536], s8: f32[192], K=32, N=96, block_size=16, quant_type=1), b: f32[96])\n");
    cut("of integers", "xq, xs, xz = DynamicQuantizeLinear(x)\nqkv = Add(Mul(Cast(MatMulInteger(xq, w: i8[32,96], xz, z8: i8[]), to=1), Mul(xs, ws: f32[])), b: f32[96])\n");
    cut("of integers, scales by column", "xq, xs, xz = DynamicQuantizeLinear(x)\nqkv = Add(b: f32[96], Mul(Cast(MatMulInteger(xq, w: i8[32,96], xz, z8: i8[96]), to=1), Mul(xs, ws: f32[96])))\n");
    cut("quantised", "qkv = DequantizeLinear(QLinearMatMul(QuantizeLinear(x, a: f32[] = {0.05}, z: i8[]), a, z, w: i8[32,96], s8: f32[96], z8: i8[96], o: f32[] = {0.5}, z), o, z)\n");
    cut("quantised, convolved", "qc = QLinearConv(QuantizeLinear(Transpose(x, perm=[0,2,1]), a: f32[] = {0.05}, z: i8[]), a, z, w: i8[96,32,1], s8: f32[96], z8: i8[96], o: f32[] = {0.5}, z, b: i32[96])\nqkv = Transpose(DequantizeLinear(qc, o, z), perm=[0,2,1])\n");
    cut("quantised, added to a bias of one row", "flat = Reshape(QuantizeLinear(x, a: f32[] = {0.05}, z: i8[]), {-1,32})\nqkv = Reshape(com.microsoft::QGemm(flat, a, z, w: i8[96,32], s8: f32[96], z8: i8[96], b: i32[1,96], transB=1), {1,-1,96})\n");
    cut("a Gemm whose bias is one row", "qkv = Reshape(Gemm(Reshape(x, {-1,32}), w: f32[32,96], b: f32[1,96]), {1,-1,96})\n");
    cut("quantised on the way", "qkv = com.microsoft::DynamicQuantizeMatMul(x, w: i8[32,96], s8: f32[96], z8: i8[96], b: f32[96])\n");
    cut("from integers to floats", "xq, xs, xz = DynamicQuantizeLinear(x)\nqkv = com.microsoft::MatMulIntegerToFloat(xq, w: i8[32,96], xs, s8: f32[96], xz, z8: i8[96], b: f32[96])\n");
    cut("beside a low-rank branch", "qkv = Add(Add(MatMul(x, w: f32[32,96]), Mul(MatMul(MatMul(x, la: f32[32,4]), lb: f32[4,96]), ls: f32[] = {2.0})), b: f32[96])\n");
    cut("normalised over the batch", "flat = Reshape(MatMul(x, w: f32[32,96]), {-1,96})\nqkv = Reshape(BatchNormalization(flat, g: f32[96], b: f32[96], mu: f32[96], va: f32[96] = {" + QStringList(QList<QString>(96, "0.5")).join(", ") + "}), Shape(MatMul(x, w)))\n");
    cut("scaled by column", "qkv = Mul(Add(MatMul(x, w: f32[32,96]), b: f32[96]), g: f32[96])\n");
}

void EquivalenceTest::packed() {
    QFETCH(QString, text);
    const Proof proof = decomposed(text.toStdString(), 17);
    QCOMPARE(proof.attentions.found.size(), std::size_t(1));
    QVERIFY2(proof.decomposition.attentions[0].rewritten, proof.decomposition.warnings.empty() ? "" : proof.decomposition.warnings[0].c_str());
    QCOMPARE(proof.decomposition.attentions[0].q.size() >= 1, true);
    // Nothing of the packed product is left, nor of what it was made of.
    const Graph& graph = *proof.decomposition.graph;
    for (const Node& node : graph.nodes())
        for (const char* op : {"MatMul", "Mul", "Cast", "DequantizeLinear", "Transpose"})
            if (node.is(op)) QVERIFY2(graph.isOutput(node.output()) || !graph.readers(node.output()).empty(), node.name.c_str());
    QCOMPARE(difference(proof), QString());
    QCOMPARE(difference(proof, {{"batch", 3}, {"seq", 9}}), QString());
    QCOMPARE(difference(proof, {{"batch", 2}, {"seq", 1}}), QString());
}

void EquivalenceTest::call_data() {
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
void EquivalenceTest::call() {
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

void EquivalenceTest::form_data() {
    QTest::addColumn<QString>("text");
    const QDir folder(QStringLiteral(TEST_DATA "/forms"));
    for (const QString& name : folder.entryList({"*.txt"}, QDir::Files, QDir::Name)) {
        QFile file(folder.filePath(name));
        QVERIFY(file.open(QIODevice::ReadOnly));
        QTest::newRow(qPrintable(name.chopped(4))) << QString::fromUtf8(file.readAll());
    }
}

void EquivalenceTest::form() {
    QFETCH(QString, text);
    const Proof proof = decomposed(text.toStdString(), 17);
    QVERIFY(!hasOpaque(*proof.decomposition.graph));
    QCOMPARE(difference(proof), QString());
}

/// What is wrong by a half is, beside a mask of 3e38 too.
void EquivalenceTest::masksAllowNoDifference() {
    HostTensor expected = HostTensor::zeros(DataType::float32, {4}), got = expected;
    expected.floats() = {1, 2, -3.4e38F, 0};
    got.floats() = {1, 2.5, -3.4e38F, 0};
    const Difference wrong = compare("y", got, expected, std::nullopt, std::nullopt);
    QVERIFY(!wrong.holds);
    QCOMPARE(wrong.at, std::string("[1]"));
    got.floats() = {1, 2, -3.39999e38F, 0};
    QVERIFY(compare("y", got, expected, std::nullopt, std::nullopt).holds);
    got.floats() = {1, 2, -1e38F, 0};
    QVERIFY(!compare("y", got, expected, std::nullopt, std::nullopt).holds);
}

void EquivalenceTest::bisectionNamesTheFirst() {
    Proof proof = decomposed("q: f32[1,2,3,4]\n@one a = Attention(q, q, q)\n@two b = Attention(a, a, a, scale=2.0)\nreturn b", 23);
    // Damage the second one's scale: the first still agrees.
    GraphBuilder builder;
    const Graph& good = *proof.decomposition.graph;
    builder.adoptValues(good);
    for (std::size_t i = 0; i < good.values().size(); ++i)
        if (good.values()[i].name.starts_with("two/scale_factor")) builder.edit(ValueId(i)).initializer = makeTensor(good.values()[i].name, {}, std::vector<float>{1});
    for (std::size_t i = 0; i < good.nodes().size(); ++i) builder.adoptNode(good, NodeId(i));
    proof.decomposition.graph = *builder.finish();
    const VerifyRequest request{proof.model, *proof.model.graph, *proof.shapes, proof.model, *proof.decomposition.graph, "decomposed", &proof.attentions, nullptr, {Fill::random}, 7, std::nullopt, std::nullopt};
    const auto comparison = verify(request);
    QVERIFY(comparison);
    QVERIFY(!comparison->holds());
    QVERIFY2(comparison->firstAttention.starts_with("attention_1"), comparison->firstAttention.c_str());
}

void EquivalenceTest::absentWeightsStayPacked() {
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

void EquivalenceTest::absentWeightsAreNamed() {
    const auto graph = parseText("x: f32[2,3]\ny = MatMul(x, heavy: f32[3,4])\nreturn y");
    Model model;
    model.graph = *graph;
    const RunOptions options{{{"", 17}}, [&](const Tensor& tensor) { return readPayload(model, tensor); }, {}};
    const auto made = runGraph(**graph, {{"x", HostTensor::zeros(DataType::float32, {2, 3})}}, options);
    QVERIFY(!made);
    QCOMPARE(made.error().stage, std::string("weights"));
    QVERIFY(made.error().message().find("heavy") != std::string::npos);
}

QTEST_APPLESS_MAIN(EquivalenceTest)
#include "equivalence_test.moc"
