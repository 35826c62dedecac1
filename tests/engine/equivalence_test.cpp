// Written-out attention computes what the operator computes: the operator's own kernel against its expansion, for many
// options, at other sizes than they were analysed for.

#include "proof.h"

#include "forms.h" // behind the engine: Qt takes names from it

#include <QTest>

using namespace triptych;

namespace {

bool hasOpaque(const Graph& graph) {
    for (const Node& node : graph.nodes())
        if (node.op.find("ttention") != std::string::npos || node.op == "BiasSoftmax" || node.op == "ATen") return true;
    return false;
}

/// Names of nodes that nothing reads.
QStringList unread(const Graph& graph) {
    QStringList names;
    for (const Node& node : graph.nodes())
        if (std::none_of(node.outputs.begin(), node.outputs.end(), [&](ValueId value) { return value && (graph.isOutput(value) || !graph.readers(value).empty()); })) names << QString::fromStdString(node.name);
    return names;
}

} // namespace

class EquivalenceTest : public QObject {
    Q_OBJECT
private slots:
    void opaque_data();
    void opaque();
    void globalTokens();
    void shortMaskAtAnySize();
    void windowsAtAnySize();
    void whatHoldsForTheBoundSizesOnlyIsNamed();
    void lengthsFitWhatTheyCount_data();
    void lengthsFitWhatTheyCount();
    void whatIsNotWrittenOutStays_data();
    void whatIsNotWrittenOutStays();
    void noMaxBeforeOpset12();
    void olderOpsets_data();
    void olderOpsets();
    void form_data();
    void form();
    void masksAllowNoDifference();
    void bisectionNamesTheFirst();
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
    QTest::newRow("window on both sides, causal") << four + "y = Attention(q, k, v, is_causal=1, left_window_size=1, right_window_size=1)\nreturn y" << 25;
    QTest::newRow("no later key, causal by its window") << four + "y = Attention(q, k, v, right_window_size=0)\nreturn y" << 25;
    const QString one = "q: f32[2,4,1,8]\nk: f32[2,2,1,8]\nm: f32[1,1]\nn: i64[2] = {1, 1}\n";
    QTest::newRow("one query, one key, window") << one + "y = Attention(q, k, k, m, left_window_size=2, right_window_size=1)\nreturn y" << 25;
    QTest::newRow("one query, one key, causal by lengths") << one + "y = Attention(q, k, k, m, _, _, n, is_causal=1, left_window_size=1)\nreturn y" << 25;
    QTest::newRow("lengths that are fed") << four + "n: i64[2]\ny = Attention(q, k, v, _, _, _, n, is_causal=1, left_window_size=0)\nreturn y" << 25;
    QTest::newRow("lengths") << four + "n: i64[2] = {4, 2}\ny = Attention(q, k, v, _, _, _, n, is_causal=1)\nreturn y" << 24;

    const QString torch = ", operator=\"scaled_dot_product_attention\")\nreturn y";
    standard("flex, scale of 0", four + "y = ai.onnx.preview::FlexAttention(q, k, v, scale=0.0)\nreturn y");
    standard("flex", four + "y = ai.onnx.preview::FlexAttention(q, k, v, scale=0.3)\nreturn y");
    standard("PyTorch's", four + "y = org.pytorch.aten::ATen(q, k, v" + torch);
    standard("PyTorch's, causal, scale", four + "no: f32[] = {0.0}\nyes: bool[] = {1}\ns: f32[] = {0.3}\ny = org.pytorch.aten::ATen(q, k, v, _, no, yes, s" + torch);
    standard("PyTorch's, mask that may hide all", four + "m: bool[2,1,3,5]\ny = aten::scaled_dot_product_attention(q, k, v, m)\nreturn y");
    QTest::newRow("PyTorch's, mask, half, old") << "q: f16[2,4,3,8]\nm: f32[3,3]\ny = org.pytorch.aten::ATen(q, q, q, m" + torch << 12;

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
    microsoft("packed, rotary", x + "y = com.microsoft::Attention(x, w, b, unidirectional=1, do_rotary=1" + heads + ")\nreturn y");
    microsoft("packed, rotary of a part, past", x + "p: f32[2,2,4,3,8]\ny, z = com.microsoft::Attention(x, w, b, _, p, unidirectional=1, do_rotary=1, rotary_embedding_dim=4" + heads + ")\nreturn y, z");
    microsoft("packed, rotary, half", "x: f16[2,6,32]\ny = com.microsoft::Attention(x, w: f16[32,96], b: f16[96], do_rotary=1" + heads + ")\nreturn y");
    microsoft("packed, rotary, shared buffer", x + "p: f32[2,2,4,9,8]\nl: i32[1] = {2}\ny, z = com.microsoft::Attention(x, w, b, _, p, _, l, past_present_share_buffer=1, unidirectional=1, do_rotary=1" + heads + ")\nreturn y, z");
    microsoft("packed, large mask, past", x + "n: i32[2,1,12,12]\np: f32[2,2,4,3,8]\ny, z = com.microsoft::Attention(x, w, b, n, p" + heads + ")\nreturn y, z");
    microsoft("packed, unequal widths, bias", "x: f32[2,6,32]\nw: f32[32,80]\nb: f32[80]\na: f32[1,4,6,6]\ny = com.microsoft::Attention(x, w, b, _, _, a, qkv_hidden_sizes=[32,32,16]" + heads + ")\nreturn y");
    const QString qkv = "q: f32[2,6,32]\nk: f32[2,7,32]\nv: f32[2,7,16]\nb: f32[80]\n";
    microsoft("heads, bias, padding", qkv + "n: i32[2,7]\ny = com.microsoft::MultiHeadAttention(q, k, v, b, n" + heads + ")\nreturn y");
    microsoft("heads, past, attention bias", qkv + "a: f32[2,4,6,10]\npk: f32[2,4,3,8]\npv: f32[2,4,3,4]\ny, k2, v2 = com.microsoft::MultiHeadAttention(q, k, v, b, _, a, pk, pv, unidirectional=1, scale=0.2" + heads + ")\nreturn y, k2, v2");
    microsoft("heads, lengths and their sums", qkv + "n: i32[8] = {4, 6, 0, 6, 12, 0, 4, 10}\ny = com.microsoft::MultiHeadAttention(q, k, v, b, n" + heads + ")\nreturn y");
    microsoft("packed in five axes", "q: f32[2,6,4,3,8]\ny = com.microsoft::MultiHeadAttention(q" + heads + ")\nreturn y");
    microsoft("packed in five axes, bias", "q: f32[2,6,4,3,8]\ny = com.microsoft::MultiHeadAttention(q, _, _, b: f32[96]" + heads + ")\nreturn y");
    microsoft("keys and values in five axes", "q: f32[2,6,32]\nk: f32[2,7,4,2,8]\ny = com.microsoft::MultiHeadAttention(q, k" + heads + ")\nreturn y");

    const QString g = "q: f32[2,3,32]\nk: f32[2,3,16]\nv: f32[2,3,16]\npk: f32[2,2,4,8]\npv: f32[2,2,4,8]\n", grouped = ", num_heads=4, kv_num_heads=2";
    const QString caches = "c: f32[12,4]\ns: f32[12,4]\n", now = "n: i32[2] = {6, 5}\nt: i32[] = {7}\n";
    microsoft("grouped, lengths differ", g + now + "y, k2, v2 = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, window, soft cap", g + now + "y = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, local_window_size=3, softcap=2.0" + grouped + ")\nreturn y");
    microsoft("grouped, rotary", g + caches + now + "y, k2, v2 = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, c, s, do_rotary=1" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, rotary, interleaved, partial", g + "c: f32[12,2]\ns: f32[12,2]\n" + now + "y = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, c, s, do_rotary=1, rotary_interleaved=1" + grouped + ")\nreturn y");
    microsoft("grouped, packed, rotary, past", "q: f32[2,3,64]\npk: f32[2,2,4,8]\npv: f32[2,2,4,8]\nn: i32[2]\nt: i32[]\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, _, _, pk, pv, n, t, c: f32[12,4], s: f32[12,4], do_rotary=1, rotary_interleaved=1, smooth_softmax=1, local_window_size=3" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, shared buffer", g + "n: i32[2] = {2, 3}\nt: i32[] = {4}\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, first call, packed", "q: f32[2,3,64]\nn: i32[2] = {2, 1}\nt: i32[] = {3}\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, bias of fewer keys than the buffer has places for", "q: f32[2,2,32]\nk: f32[2,2,16]\npk: f32[2,2,7,8]\nn: i32[2]\nt: i32[]\na: f32[1,4,2,5]\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, k, k, pk, pk, n, t, _, _, _, a" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, sink of each head", g + now + "y = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, _, _, _, _, i: f32[4]" + grouped + ")\nreturn y");
    microsoft("grouped, smooth softmax, soft cap", g + now + "y = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, smooth_softmax=1, softcap=2.0" + grouped + ")\nreturn y");
    microsoft("grouped, not causal", g + now + "y = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, causal=0" + grouped + ")\nreturn y");

    microsoft("grouped, scores before the softmax", g + now + "y, _, _, z = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, qk_output=1" + grouped + ")\nreturn y, z");
    microsoft("grouped, scores after the softmax, sink", "q: f32[2,3,64]\nn: i32[2] = {2, 2}\nt: i32[] = {3}\ny, _, _, z = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, _, _, _, _, i: f32[4], qk_output=2" + grouped + ")\nreturn y, z");
    microsoft("grouped, scores, shared buffer", g + "n: i32[2] = {2, 2}\nt: i32[] = {3}\ny, _, _, z = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, qk_output=1" + grouped + ")\nreturn y, z");

    const QString keyless = "q: f32[2,3,32]\nk: f32[2,0,16]\npk: f32[2,2,7,8]\npv: f32[2,2,7,8]\nn: i32[2]\nt: i32[]\n";
    microsoft("grouped, keys of another layer, rotary", keyless + "y, k2, v2 = com.microsoft::GroupQueryAttention(q, k, k, pk, pv, n, t, c: f32[12,4], s: f32[12,4], do_rotary=1" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, keys of another layer, bytes, norms", "q: f32[2,3,32]\nk: f32[2,0,16]\npk: i8[2,2,7,8]\npv: i8[2,2,7,8]\nn: i32[2]\nt: i32[]\na: f32[1,4,3,5]\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, k, k, pk, pv, n, t, _, _, _, a, _, ks: f32[1] = {0.02}, vs: f32[1] = {0.02}, d: f32[8], e: f32[8]" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, keys of another layer, all of them new to it", "q: f32[2,3,32]\nk: f32[2,0,16]\npk: f32[2,2,7,8]\nn: i32[2] = {2, 2}\nt: i32[] = {3}\ny, k2, v2, z = com.microsoft::GroupQueryAttention(q, k, k, pk, pk, n, t, local_window_size=2, qk_output=2" + grouped + ")\nreturn y, k2, v2, z");

    const QString sparse = ", num_heads=4, kv_num_heads=2, sparse_block_size=2", past = "pk: f32[2,2,9,8]\npv: f32[2,2,9,8]\n";
    const QString lists = "r: i32[2,5] = {0, 1, 3, 5, 8, 0, 1, 3, 6, 9}\nb: i32[2,9] = {0, 0, 1, 1, 2, 1, 2, 3, -1, 0, 0, 1, 0, 1, 2, 0, 2, 3}\n";
    microsoft("blocks, lengths differ", "q: f32[2,3,32]\nk: f32[2,3,16]\nv: f32[2,3,16]\n" + past + lists + "n: i32[2] = {7, 5}\nt: i32[] = {7}\ny, k2, v2 = com.microsoft::SparseAttention(q, k, v, pk, pv, r, b, t, n" + sparse + ")\nreturn y, k2, v2");
    microsoft("blocks, first call, packed, rotary", "q: f32[2,7,64]\n" + past + lists + "n: i32[2] = {7, 5}\nt: i32[] = {7}\ny, k2, v2 = com.microsoft::SparseAttention(q, _, _, pk, pv, r, b, t, n, c: f32[12,4], s: f32[12,4], do_rotary=1, scale=0.3" + sparse + ")\nreturn y, k2, v2");
    microsoft("blocks that are fed, one layout, half", "q: f16[2,1,64]\npk: f16[2,2,9,8]\nr: i32[1,5]\nb: i32[1,6]\nn: i32[2]\nt: i32[1]\ny, k2, v2 = com.microsoft::SparseAttention(q, _, _, pk, pk, r, b, t, n" + sparse + ")\nreturn y, k2, v2");

    const QString pages = "kc: f32[5,4,2,8]\nvc: f32[5,4,2,8]\n", fed = "u: i32[3]\nn: i32[2]\nt: i32[2,3]\n", pagedHeads = ", num_heads=4, kv_num_heads=2";
    microsoft("pages", "q: f32[5,32]\nk: f32[5,16]\nv: f32[5,16]\n" + pages + fed + "y, k2, v2 = com.microsoft::PagedAttention(q, k, v, kc, vc, u, n, t, scale=0.3, softcap=2.0" + pagedHeads + ")\nreturn y, k2, v2");
    microsoft("pages, packed, rotary, norms, window", "q: f32[5,64]\n" + pages + fed + "y, k2, v2 = com.microsoft::PagedAttention(q, _, _, kc, vc, u, n, t, c: f32[12,4], s: f32[12,4], _, i: f32[4], a: f32[8], d: f32[8], do_rotary=1, local_window_size=3" + pagedHeads + ")\nreturn y, k2, v2");
    microsoft("pages, slots that are told, later keys seen", "q: f32[5,64]\n" + pages + fed + "w: i32[5]\ny, k2, v2 = com.microsoft::PagedAttention(q, _, _, kc, vc, u, n, t, c: f32[12,2], s: f32[12,2], w, do_rotary=1, rotary_interleaved=1, is_causal=0" + pagedHeads + ")\nreturn y, k2, v2");
    microsoft("pages, sequences without tokens, half", "q: f16[3,64]\nkc: f16[5,4,2,8]\nvc: f16[5,4,2,8]\nu: i32[4] = {0, 2, 2, 3}\nn: i32[3] = {3, 4, 0}\nt: i32[3,2] = {4, 1, 3, -1, 0, -1}\ny = com.microsoft::PagedAttention(q, _, _, kc, vc, u, n, t" + pagedHeads + ")\nreturn y");

    microsoft("pages, rotary inside a head, norms", "q: f32[5,64]\n" + pages + fed + "y, k2, v2 = com.microsoft::PagedAttention(q, _, _, kc, vc, u, n, t, c: f32[12,2], s: f32[12,2], _, _, a: f32[8], d: f32[8], do_rotary=1, rotary_offset=3" + pagedHeads + ")\nreturn y, k2, v2");
    microsoft("pages of bytes", "q: f16[5,64]\nkc: i8[5,4,2,8]\nvc: i8[5,4,2,8]\n" + fed + "y, k2, v2 = com.microsoft::PagedAttention(q, _, _, kc, vc, u, n, t, _, _, _, _, _, _, ks: f32[1] = {0.02}, vs: f32[2,1,8], k_quant_type=\"PER_TENSOR\", v_quant_type=\"PER_CHANNEL\"" + pagedHeads + ")\nreturn y, k2, v2");
    microsoft("pages of half bytes, values of bytes, a scale of 0", "q: f32[5,64]\nkc: u8[5,4,2,4]\nvc: i8[5,4,2,8]\n" + fed + "y, k2, v2 = com.microsoft::PagedAttention(q, _, _, kc, vc, u, n, t, c: f32[12,4], s: f32[12,4], _, _, _, _, ks: f32[2,1,8], vs: f32[1] = {0.0}, do_rotary=1, k_cache_dtype=\"int4\"" + pagedHeads + ")\nreturn y, k2, v2");
    const QString latent = "q: f32[5,64]\nk: f32[5,16]\n", rows = ", num_heads=4, kv_num_heads=1, kv_cache_layout=\"LATENT\"";
    microsoft("pages of latent rows", latent + "kc: f32[5,4,1,16]\n" + fed + "y, k2 = com.microsoft::PagedAttention(q, k, _, kc, _, u, n, t, c: f32[12,2], s: f32[12,2], do_rotary=1, rotary_interleaved=1, rotary_offset=12, v_head_size=12, scale=0.3" + rows + ")\nreturn y, k2");
    microsoft("pages of latent rows, values as wide", latent + "kc: f32[5,4,1,16]\n" + fed + "y, k2 = com.microsoft::PagedAttention(q, k, _, kc, _, u, n, t" + rows + ")\nreturn y, k2");
    microsoft("pages of latent rows of bytes", latent + "kc: i8[5,4,1,16]\n" + fed + "y, k2 = com.microsoft::PagedAttention(q, k, _, kc, _, u, n, t, _, _, _, _, _, _, ks: f32[1] = {0.02}, v_head_size=12, scale=0.3" + rows + ")\nreturn y, k2");
    QTest::newRow("pages of float8") << "q: f16[5,64]\nkc: f8e4m3fn[5,4,2,8]\nvc: f8e4m3fn[5,4,2,8]\n" + fed + "y, k2, v2 = com.microsoft::PagedAttention(q, _, _, kc, vc, u, n, t, _, _, _, _, _, _, ks: f32[1] = {0.001}, vs: f32[1] = {0.02}" + pagedHeads + ")\nreturn y, k2, v2" << 19;

    const QString decoder = "q: f32[3,2,32]\nyes: bool[1] = {1}\nno: bool[1] = {0}\n", cached = "pk: f32[2,4,5,8]\npv: f32[2,4,5,8]\n";
    microsoft("decoder, self", decoder + "y, k2, v2 = com.microsoft::DecoderAttention(q, q, wq: f32[32,32], w: f32[32,64], b: f32[96], _, _, _, no, no, yes, no" + heads + ")\nreturn y, k2, v2");
    microsoft("decoder, self, past, padding", decoder + cached + "m: bool[2,8]\ny, k2, v2 = com.microsoft::DecoderAttention(q, q, wq: f32[32,32], w: f32[32,64], b: f32[96], m, pk, pv, no, yes, yes, yes" + heads + ")\nreturn y, k2, v2");
    microsoft("decoder, weights that are fed", decoder + "w: f32[32,64]\nk: f32[5,2,32]\ny = com.microsoft::DecoderAttention(q, k, wq: f32[32,32], w, b: f32[96], _, _, _, yes, no, no, no" + heads + ")\nreturn y");
    microsoft("decoder, cross, padding", decoder + "k: f32[5,2,32]\nm: bool[2,5]\ny, k2, v2 = com.microsoft::DecoderAttention(q, k, wq: f32[32,32], w: f32[32,64], b: f32[96], m, _, _, yes, no, yes, yes" + heads + ")\nreturn y, k2, v2");
    microsoft("decoder, cross, keys in the cache", decoder + cached + "k: f32[5,2,32]\ny, k2, v2 = com.microsoft::DecoderAttention(q, k, wq: f32[32,32], w: f32[32,64], b: f32[96], _, pk, pv, yes, yes, yes, no" + heads + ")\nreturn y, k2, v2");

    // Sequences of 3 and 2 tokens among as many places as 4 each have.
    const QString tokens = "o: i32[2,4] = {0, 1, 2, 4, 5, 3, 6, 7}\nc: i32[3] = {0, 3, 5}\n";
    microsoft("packed tokens", "x: f32[5,32]\nw: f32[32,80]\nb: f32[80]\n" + tokens + "y = com.microsoft::PackedAttention(x, w, b, o, c, qkv_hidden_sizes=[32,32,16]" + heads + ")\nreturn y");
    microsoft("packed tokens, attention bias", "x: f32[5,32]\na: f32[2,1,4,4]\n" + tokens + "y = com.microsoft::PackedAttention(x, w: f32[32,96], b: f32[96], o, c, a, scale=0.2" + heads + ")\nreturn y");
    microsoft("packed tokens of heads", "q: f32[5,32]\nk: f32[5,32]\nv: f32[5,16]\nb: f32[80]\n" + tokens + "y = com.microsoft::PackedMultiHeadAttention(q, k, v, b, o, c" + heads + ")\nreturn y");
    microsoft("packed tokens in four axes", "q: f32[5,4,3,8]\na: f32[1,4,4,4]\n" + tokens + "y = com.microsoft::PackedMultiHeadAttention(q, _, _, _, o, c, a" + heads + ")\nreturn y");

    microsoft("packed tokens in four axes, bias", "q: f32[5,4,3,8]\n" + tokens + "y = com.microsoft::PackedMultiHeadAttention(q, _, _, b: f32[96], o, c" + heads + ")\nreturn y");
    microsoft("packed tokens of a padded batch", "x: f32[2,4,32]\nn: i32[2] = {3, 1}\nt, o, c, m = com.microsoft::RemovePadding(x, n)\nz = com.microsoft::PackedAttention(t, w: f32[32,96], b: f32[96], o, c" + heads + ")\ny = com.microsoft::RestorePadding(z, o)\nreturn y");
    const QString buffer = "q: f32[2,1,32]\nk: f32[2,1,32]\nv: f32[2,1,32]\npk: f32[2,4,9,8]\npv: f32[2,4,9,8]\nl: i32[1] = {3}\n";
    microsoft("one token, shared buffer", buffer + "b: f32[96]\nm: i32[2,4]\na: f32[1,4,1,4]\ny, k2, v2, s = com.microsoft::DecoderMaskedMultiHeadAttention(q, k, v, m, a, pk, pv, l, _, _, b, past_present_share_buffer=1, output_qk=1" + heads + ")\nreturn y, k2, v2, s");
    microsoft("one token, packed", "q: f32[2,1,96]\npk: f32[2,4,9,8]\npv: f32[2,4,9,8]\nl: i32[1] = {3}\nb: f32[96]\ny, k2, v2 = com.microsoft::DecoderMaskedMultiHeadAttention(q, _, _, _, _, pk, pv, l, _, _, b, past_present_share_buffer=1" + heads + ")\nreturn y, k2, v2");
    microsoft("one token, cross", "q: f32[2,1,32]\nk: f32[2,4,9,8]\nv: f32[2,4,9,8]\nm: i32[2,9]\ny = com.microsoft::DecoderMaskedMultiHeadAttention(q, k, v, m" + heads + ")\nreturn y");
    microsoft("one token, keys in blocks", "x: f32[2,1,32]\nw: f32[32,96]\nb: f32[96]\nm: i32[2,4]\np: f32[2,2,4,9,8]\nl: i32[1] = {3}\ny, z = com.microsoft::DecoderMaskedSelfAttention(x, w, b, m, p, _, l, past_present_share_buffer=1" + heads + ")\nreturn y, z");
    microsoft("packed, shared buffer", x + "p: f32[2,2,4,9,8]\nl: i32[1] = {2}\ny, z = com.microsoft::Attention(x, w, b, _, p, _, l, past_present_share_buffer=1, unidirectional=1" + heads + ")\nreturn y, z");
    microsoft("heads, shared buffer", "q: f32[2,3,32]\nk: f32[2,2,32]\npk: f32[2,4,9,8]\npv: f32[2,4,9,8]\nl: i32[1] = {5}\ny, k2, v2 = com.microsoft::MultiHeadAttention(q, k, k, _, _, _, pk, pv, l, unidirectional=1" + heads + ")\nreturn y, k2, v2");

    const QString beams = "w: i32[1]\nc: i32[2,3,9]\nl: i32[1] = {5}\n";
    microsoft("one token, beams", "q: f32[6,1,32]\nk: f32[6,1,32]\np: f32[6,4,9,8]\nr: f32[6,4,9,8]\n" + beams + "y, k2, v2 = com.microsoft::DecoderMaskedMultiHeadAttention(q, k, k, _, _, p, r, l, w, c, past_present_share_buffer=1" + heads + ")\nreturn y, k2, v2");
    microsoft("one token, beams, keys in blocks", "x: f32[6,1,32]\np: f32[2,6,4,9,8]\n" + beams + "y, z = com.microsoft::DecoderMaskedSelfAttention(x, m: f32[32,96], b: f32[96], _, p, _, l, w, c, past_present_share_buffer=1" + heads + ")\nreturn y, z");

    const QString norms = "_, _, _, _, a: f32[8], d: f32[8]", window = "q: f32[2,1,64]\npk: f32[2,2,5,8]\npv: f32[2,2,5,8]\nt: i32[] = {12}\n";
    microsoft("grouped, norms, rotary", g + now + "y, k2, v2 = com.microsoft::GroupQueryAttention(q, k, v, pk, pv, n, t, c: f32[12,4], s: f32[12,4], _, " + norms + ", do_rotary=1, qk_norm_epsilon=0.01" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, norms, half", "q: f16[2,3,64]\nn: i32[2]\nt: i32[]\ny = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, _, _, _, _, _, _, _, a: f16[8], d: f16[8]" + grouped + ")\nreturn y");
    microsoft("grouped, cache of bytes", "q: f32[2,3,64]\npk: i8[2,2,4,8]\npv: i8[2,2,4,8]\n" + now + "y, k2, v2 = com.microsoft::GroupQueryAttention(q, _, _, pk, pv, n, t, _, _, _, _, _, ks: f32[1] = {0.02}, vs: f32[1,2,1,8], k_quant_type=\"PER_TENSOR\", v_quant_type=\"PER_CHANNEL\", kv_cache_bit_width=8" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, cache of half bytes, rotary", "q: f32[2,3,64]\npk: u8[2,2,4,4]\npv: u8[2,2,4,4]\n" + now + "y, k2, v2 = com.microsoft::GroupQueryAttention(q, _, _, pk, pv, n, t, c: f32[12,4], s: f32[12,4], _, _, _, ks: f32[1,2,1,8], vs: f32[1] = {0.25}, do_rotary=1, k_quant_type=\"PER_CHANNEL\", v_quant_type=\"PER_TENSOR\", kv_cache_bit_width=4" + grouped + ")\nreturn y, k2, v2");
    QTest::newRow("grouped, cache of float8") << "q: f32[2,3,64]\npk: f8e4m3fn[2,2,4,8]\npv: f8e4m3fn[2,2,4,8]\n" + now + "y, k2, v2 = com.microsoft::GroupQueryAttention(q, _, _, pk, pv, n, t, _, _, _, _, _, ks: f32[1] = {0.02}, vs: f32[1,2,1,8], k_quant_type=\"PER_TENSOR\", v_quant_type=\"PER_CHANNEL\"" + grouped + ")\nreturn y, k2, v2" << 19;
    QTest::newRow("grouped, cache of float8 beyond its range") << "q: f16[2,3,64]\npk: f8e4m3fn[2,2,7,8]\npv: f8e4m3fn[2,2,7,8]\nn: i32[2] = {2, 1}\nt: i32[] = {3}\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, _, _, pk, pv, n, t, _, _, _, _, _, ks: f32[1] = {0.0005}, vs: f32[1] = {0.5}" + grouped + ")\nreturn y, k2, v2" << 21;
    microsoft("grouped, window cache, evicting", window + "n: i32[2] = {11, 5}\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, _, _, pk, pv, n, t, sliding_window_cache=1, local_window_size=3" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, window cache, bias, no slack", window + "n: i32[2] = {7, 11}\na: f32[1,4,1,12]\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, _, _, pk, pv, n, t, _, _, _, a, sliding_window_cache=1, local_window_size=5" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, window cache, more new tokens than places, bytes", "q: f32[1,7,64]\npk: i8[1,2,5,8]\npv: i8[1,2,5,8]\nt: i32[] = {12}\nn: i32[1] = {11}\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, _, _, pk, pv, n, t, _, _, _, _, _, ks: f32[1] = {0.02}, vs: f32[1] = {0.02}, sliding_window_cache=1, local_window_size=3, kv_cache_bit_width=8" + grouped + ")\nreturn y, k2, v2");
    microsoft("grouped, window cache, first call", "q: f32[2,3,64]\npk: f32[2,2,4,8]\npv: f32[2,2,4,8]\nt: i32[] = {3}\nn: i32[2] = {2, 1}\ny, k2, v2 = com.microsoft::GroupQueryAttention(q, _, _, pk, pv, n, t, sliding_window_cache=1, local_window_size=2" + grouped + ")\nreturn y, k2, v2");

    const QString bytes = "x: f32[2,6,32]\nxs: f32[] = {0.02}\ne: i32[] = {120}\nxz = Cast(e, to=2)\nu = QuantizeLinear(x, xs, xz)\n";
    microsoft("integers", bytes + "n: i32[2,6]\nd: i32[] = {3}\nwz = Cast(d, to=3)\ny = com.microsoft::QAttention(u, w: i8[32,96], b: f32[96], xs, s: f32[] = {0.01}, n, xz, wz" + heads + ")\nreturn y");
    microsoft("integers, a scale for each column, past", bytes + "p: f32[2,2,4,3,8]\ny, z = com.microsoft::QAttention(u, w: i8[32,96], b: f32[96], xs, s: f32[96], _, xz, wz: i8[96], p, unidirectional=1" + heads + ")\nreturn y, z");
    microsoft("integers, rotary, past", bytes + "p: f32[2,2,4,3,8]\ny, z = com.microsoft::QAttention(u, w: i8[32,96], b: f32[96], xs, s: f32[] = {0.01}, _, xz, _, p, unidirectional=1, do_rotary=1" + heads + ")\nreturn y, z");
    microsoft("integers, half", bytes + "s: f32[] = {0.001}\nhs = Cast(s, to=10)\ny = com.microsoft::QAttention(u, w: i8[32,96], b: f16[96], hs, hs, _, xz" + heads + ")\nreturn y");
    microsoft("one token, keys in blocks, half", "x: f16[2,1,32]\nw: f16[32,96]\nb: f16[96]\np: f16[2,2,4,9,8]\nl: i32[1] = {3}\ny, z = com.microsoft::DecoderMaskedSelfAttention(x, w, b, _, p, _, l, past_present_share_buffer=1" + heads + ")\nreturn y, z");
    microsoft("packed tokens, half", "x: f16[5,32]\n" + tokens + "y = com.microsoft::PackedAttention(x, w: f16[32,96], b: f16[96], o, c" + heads + ")\nreturn y");
    microsoft("grouped, smooth softmax, half", "q: f16[2,3,64]\nn: i32[2] = {2, 1}\nt: i32[] = {3}\ny, _, _, z = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, smooth_softmax=1, qk_output=1" + grouped + ")\nreturn y, z");
}

void EquivalenceTest::opaque() {
    QFETCH(QString, text);
    QFETCH(int, opset);
    const Proof proof = decomposed(text.toStdString(), opset);
    QCOMPARE(proof.attentions.found.size(), std::size_t(1));
    QVERIFY2(!hasOpaque(*proof.decomposition.graph), proof.decomposition.warnings.empty() ? "" : proof.decomposition.warnings[0].c_str());
    QCOMPARE(unread(*proof.decomposition.graph), QStringList());
    QCOMPARE(difference(proof), QString());
    QCOMPARE(reopened(proof), QStringList{described(proof.attentions.found[0])});
}

/// A window round each token; global tokens have projections of their own, which makes them an attention of their own.
void EquivalenceTest::globalTokens() {
    for (const std::string type : {"f32", "f16"}) {
        const auto weight = [&](const std::string& name) { return name + ": " + type + "[32,96]"; };
        const Proof proof = decomposed("x: " + type + "[B,S,32]\nm: " + type + "[B,S]\ng: i32[B,S]\ny = com.microsoft::LongformerAttention(x, " + weight("w") + ", b: " + type + "[96], m, " + weight("gw") + ", gb: " + type +
                                           "[96], g, num_heads=4, window=2)\nreturn y",
                                       17, {{"B", 2}, {"S", 12}});
        QCOMPARE(described(proof.attentions.found.at(0)), QStringLiteral("self, 4 heads, 4 of keys, sizes 8 8, not causal, padding, window, banded"));
        QVERIFY2(!hasOpaque(*proof.decomposition.graph), proof.decomposition.warnings.empty() ? "" : proof.decomposition.warnings[0].c_str());
        QCOMPARE(difference(proof, {{"B", 2}, {"S", 12}}), QString());
        QCOMPARE(difference(proof, {{"B", 3}, {"S", 8}}), QString());
        const QString all = QStringLiteral("self, 4 heads, 4 of keys, sizes 8 8, not causal, padding");
        QCOMPARE(reopened(proof, {{"B", 2}, {"S", 12}}), (QStringList{all + QStringLiteral(", window"), all}));
    }
}

void EquivalenceTest::shortMaskAtAnySize() {
    // Before opset 24 one column stands for all keys.
    const Proof older = decomposed("q: f32[2,4,S,8]\nk: f32[2,2,T,8]\nm: f32[S,M]\ny = Attention(q, k, k, m)\nreturn y", 23, {{"S", 3}, {"T", 5}, {"M", 1}});
    for (const std::int64_t columns : {1, 5}) QCOMPARE(difference(older, {{"S", 3}, {"T", 5}, {"M", columns}}), QString());
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

void EquivalenceTest::lengthsFitWhatTheyCount_data() {
    QTest::addColumn<QString>("text");
    QTest::newRow("past and new keys") << "q: f32[B,S,64]\np: f32[B,2,P,8]\nn: i32[B]\nt: i32[]\ny, k, v = com.microsoft::GroupQueryAttention(q, _, _, p, p, n, t, num_heads=4, kv_num_heads=2)\nreturn y, k, v";
    QTest::newRow("a first call") << "q: f32[B,S,64]\nn: i32[B]\nt: i32[1]\ny = com.microsoft::GroupQueryAttention(q, _, _, _, _, Cast(n, to=6), t, num_heads=4, kv_num_heads=2)\nreturn y";
    QTest::newRow("a shared buffer") << "q: f32[B,1,32]\nm: i32[B,T]\np: f32[B,4,P,8]\nl: i32[1]\ny, k, v = com.microsoft::DecoderMaskedMultiHeadAttention(q, q, q, m, _, p, p, l, num_heads=4, past_present_share_buffer=1)\nreturn y, k, v";
    QTest::newRow("ends of keys") << "x: f32[B,S,32]\nn: i32[B]\nq: f32[2,B,4,P,8]\ny = com.microsoft::Attention(x, w: f32[32,96], b: f32[96], n, q, num_heads=4, mask_filter_value=-30000.0)\nreturn y";
    QTest::newRow("ends and begins") << "x: f32[2,S,32]\nn: i32[4]\ny = com.microsoft::Attention(x, w: f32[32,96], b: f32[96], n, num_heads=4, mask_filter_value=-30000.0)\nreturn y";
    QTest::newRow("ends and sums") << "q: f32[2,S,32]\nk: f32[2,T,32]\nn: i32[8]\ny = com.microsoft::MultiHeadAttention(q, k, k, _, n, num_heads=4)\nreturn y";
    QTest::newRow("blocks") << "q: f32[B,S,64]\np: f32[B,2,300,8]\nr: i32[2,4]\nb: i32[2,5]\nn: i32[B]\nt: i32[]\ny, k, v = com.microsoft::SparseAttention(q, _, _, p, p, r, b, t, n, num_heads=4, kv_num_heads=2, sparse_block_size=128)\nreturn y, k, v";
    QTest::newRow("pages") << "q: f32[N,64]\np: f32[64,4,2,8]\nu: i32[3]\nn: i32[2]\nt: i32[2,20]\ny, k, v = com.microsoft::PagedAttention(q, _, _, p, p, u, n, t, num_heads=4, kv_num_heads=2)\nreturn y, k, v";
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
    QTest::newRow("angles") << "x: f32[5,32]\no: i32[2,4]\nc: i32[3]\ny = com.microsoft::PackedAttention(x, w: f32[32,96], b: f32[96], o, c, num_heads=4, do_rotary=1)\nreturn y" << "rotary embedding";
    QTest::newRow("angles of too many") << "x: f32[2,6,32]\ny = com.microsoft::Attention(x, w: f32[32,96], b: f32[96], num_heads=4, do_rotary=1, rotary_embedding_dim=10)\nreturn y" << "wider than its heads";
    QTest::newRow("beams") << "q: f32[2,1,32]\nc: i32[2,1,9]\ny = com.microsoft::DecoderMaskedMultiHeadAttention(q, q, q, _, _, _, _, _, _, c, num_heads=4)\nreturn y" << "choice of beams";
    QTest::newRow("buffer without length") << "x: f32[2,6,32]\np: f32[2,2,4,9,8]\ny = com.microsoft::Attention(x, w: f32[32,96], b: f32[96], _, p, num_heads=4, past_present_share_buffer=1)\nreturn y" << "without its length";
    QTest::newRow("pages of latent rows with values") << "q: f32[9,32]\nk: f32[9,16]\np: f32[4,16,1,16]\nc: i32[3]\ny = com.microsoft::PagedAttention(q, k, k, p, p, c, n: i32[2], t: i32[2,2], num_heads=2, kv_num_heads=1, kv_cache_layout=\"LATENT\")\nreturn y" << "don't fit its layout";
    QTest::newRow("pages of small floats") << "q: f32[9,64]\np: u8[4,16,1,8]\nc: i32[3]\ny = com.microsoft::PagedAttention(q, _, _, p, p, c, n: i32[2], t: i32[2,2], _, _, _, _, _, _, s: f32[1], s, k_cache_dtype=\"float4e2m1\", v_cache_dtype=\"float4e2m1\", num_heads=2, kv_num_heads=1)\nreturn y" << "quantised cache";
    QTest::newRow("pages of bytes") << "q: f32[9,64]\np: i8[4,16,1,16]\nc: i32[3]\ny = com.microsoft::PagedAttention(q, _, _, p, p, c, n: i32[2], t: i32[2,2], num_heads=2, kv_num_heads=1)\nreturn y" << "quantised cache";
    QTest::newRow("blocks of no size") << "q: f32[2,16,64]\np: f32[2,1,32,16]\nt: i32[]\nn: i32[2]\ny = com.microsoft::SparseAttention(q, _, _, p, p, r: i32[1,3], c: i32[1,3], t, n, num_heads=2, kv_num_heads=1)\nreturn y" << "list of blocks";
    QTest::newRow("global tokens that nobody chooses") << "x: f32[2,32,64]\nm: f32[2,32]\ny = com.microsoft::LongformerAttention(x, w: f32[64,192], b: f32[192], m, num_heads=4, window=8)\nreturn y" << "global tokens";
    QTest::newRow("newer attribute") << "q: f32[2,4,3,8]\ny = Attention(q, q, q, attention_sinks=1)\nreturn y" << "attribute 'attention_sinks'";
    QTest::newRow("window cache") << g + "y = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, sliding_window_cache=1, local_window_size=2" + grouped << "sliding window";
    QTest::newRow("keys of another layer, which nothing holds") << "q: f32[2,3,32]\nk: f32[2,0,16]\nn: i32[2]\nt: i32[]\ny = com.microsoft::GroupQueryAttention(q, k, k, _, _, n, t" + grouped << "missing keys";
    QTest::newRow("angles of no such attribute") << "q: f32[2,4,32]\ny = com.microsoft::MultiHeadAttention(q, q, q, num_heads=4, do_rotary=1)\nreturn y" << "which the operator doesn't have";
    QTest::newRow("rank") << "q: f32[2,4,1,8]\ny = com.microsoft::DecoderMaskedMultiHeadAttention(q, num_heads=4)\nreturn y" << "rank of its input";
    QTest::newRow("scores of no step") << g + "y, _, _, s = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, num_heads=4, kv_num_heads=2)\nreturn y, s" << "output of its scores";
    QTest::newRow("one norm") << g + "y = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, _, _, _, _, _, _, _, a: f32[8]" + grouped << "norm of queries";
    QTest::newRow("cache of float8") << g + "p: f8e4m3fn[2,2,4,8]\ny = com.microsoft::GroupQueryAttention(q, _, _, p, p, n, t, _, _, _, _, _, a: f32[1], c: f32[1]" + grouped << "cache of float8";
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

void EquivalenceTest::olderOpsets_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<int>("opset");
    const QString x = "x: f32[B,S,32]\nw: f32[32,96]\nb: f32[96]\n";
    QTest::newRow("causal, lengths") << x + "n: i32[B]\ny = com.microsoft::Attention(x, w, b, n, num_heads=4, unidirectional=1)\nreturn y" << 10;
    QTest::newRow("mask, past") << x + "n: i32[B,T]\npast: f32[2,B,4,P,8]\ny, z = com.microsoft::Attention(x, w, b, n, past, num_heads=4)\nreturn y, z" << 10;
    QTest::newRow("opset 9, causal, lengths") << x + "n: i32[B]\ny = com.microsoft::Attention(x, w, b, n, num_heads=4, unidirectional=1)\nreturn y" << 9;
    QTest::newRow("opset 9, mask, past, bias") << x + "n: i32[B,T]\npast: f32[2,B,4,P,8]\na: f32[B,1,S,T]\ny, z = com.microsoft::Attention(x, w, b, n, past, a, num_heads=4)\nreturn y, z" << 9;
    QTest::newRow("opset 9, heads") << "q: f32[B,S,32]\nk: f32[B,T,32]\nn: i32[B,T]\ny = com.microsoft::MultiHeadAttention(q, k, k, b: f32[96], n, num_heads=4)\nreturn y" << 9;
    QTest::newRow("packed, first call") << "q: f32[B,S,64]\nn: i32[B]\nt: i32[]\ny = com.microsoft::GroupQueryAttention(q, _, _, _, _, n, t, num_heads=4, kv_num_heads=2, local_window_size=2)\nreturn y" << 10;
    QTest::newRow("mask with the softmax") << "q: f32[B,2,S,8]\nm: f32[B,1,1,S]\ny = MatMul(com.microsoft::BiasSoftmax(MatMul(q, Transpose(q, perm=[0,1,3,2])), m, axis=3, is_inner_broadcast=1), q)\nreturn y" << 10;
}

void EquivalenceTest::olderOpsets() {
    QFETCH(QString, text);
    QFETCH(int, opset);
    const auto parsed = parseText(text.toStdString());
    QVERIFY(parsed);
    const Bindings all{{"B", 2}, {"S", 3}, {"P", 4}, {"T", 7}};
    Bindings own;
    for (const SymbolicDim& dim : symbolicDims(**parsed)) own[dim.name] = all.at(dim.name);
    const Proof proof = decomposed(text.toStdString(), opset, own);
    QVERIFY2(!hasOpaque(*proof.decomposition.graph), proof.decomposition.warnings.empty() ? "" : proof.decomposition.warnings[0].c_str());
    for (const Node& node : proof.decomposition.graph->nodes()) {
        QVERIFY2(!node.is("Range"), node.name.c_str());
        QVERIFY2(node.attributes.integer("axis", 0) >= 0, node.name.c_str());
    }
    QCOMPARE(difference(proof, own), QString());
}

void EquivalenceTest::form_data() { addForms("text"); }

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
