#pragma once
// Attention operators with options that are drawn at random, as text: the same numbers for the same seed with every standard library.

#include "attention/decompose.h"

#include <QStringList>
#include <map>
#include <random>

namespace triptych {

/// A graph of one operator under way: inputs that are declared as they are asked for, attributes, and sizes that may be free.
class Draw {
public:
    explicit Draw(std::uint32_t seed) : m_random(seed) {}

    std::uint32_t below(std::uint32_t limit) { return m_random() % limit; }
    bool maybe(std::uint32_t outOf = 2) { return below(outOf) == 0; }
    template <class T>
    T of(std::initializer_list<T> choices) { return choices.begin()[below(static_cast<std::uint32_t>(choices.size()))]; }

    /// A size that the file leaves free, or not.
    QString size(const QString& name, int value) {
        if (!m_sizes.contains(name)) m_sizes[name] = maybe() ? name : QString::number(value);
        if (m_sizes[name] == name) bindings[name.toStdString()] = value;
        return m_sizes[name];
    }
    /// Declares an input of that type and returns its name.
    QString input(const QString& type, const QStringList& dims, const QString& content = {}) {
        const QString name = QStringLiteral("i%1").arg(m_inputs++);
        m_lines += name + QStringLiteral(": ") + type + '[' + dims.join(',') + ']' + (content.isEmpty() ? QString() : QStringLiteral(" = {%1}").arg(content)) + '\n';
        return name;
    }
    /// Weights of the file.
    QString weight(const QString& type, const QStringList& dims) { return QStringLiteral("w%1: %2[%3]").arg(m_inputs++).arg(type, dims.join(',')); }
    void attribute(const QString& text) { m_attributes << text; }
    void line(const QString& text) { m_lines += text + '\n'; }

    QString text(const QString& op, QStringList inputs, int outputs) const {
        while (!inputs.isEmpty() && inputs.last() == "_") inputs.removeLast();
        QStringList results;
        for (int i = 0; i < outputs; ++i) results << QStringLiteral("y%1").arg(i);
        return m_lines + results.join(", ") + QStringLiteral(" = %1(%2)\nreturn %3").arg(op, (inputs + m_attributes).join(", "), results.join(", "));
    }

    Bindings bindings;

private:
    std::mt19937 m_random; // the same numbers with every standard library
    std::map<QString, QString> m_sizes;
    QString m_lines;
    QStringList m_attributes;
    int m_inputs = 0;
};

struct Case {
    QString text;
    int opset = 17;
};

inline QString number(int value) { return QString::number(value); }
inline QString typeOf(Draw& draw) { return draw.of<const char*>({"f32", "f32", "f16", "bf16"}); }

/// Heads, those of keys, size of a head, and the sizes of a batch.
struct Sizes {
    int heads, kvHeads, size, batch, queries, keys;
    QString type, b, s;

    explicit Sizes(Draw& draw)
        : heads(draw.of({1, 2, 4})), kvHeads(heads == 4 ? draw.of({1, 2, 4}) : draw.of({1, heads})), size(draw.of({4, 8})), batch(draw.of({1, 2, 3})), queries(draw.of({1, 2, 5})), keys(draw.of({1, 3, 6})),
          type(typeOf(draw)), b(draw.size("B", batch)), s(draw.size("S", queries)) {}
    QString width(int times = 1) const { return number(heads * size * times); }
};

inline Case standard(Draw& draw) {
    const Sizes z(draw);
    const int opset = draw.of({23, 24, 25}), past = draw.maybe(3) ? draw.of({1, 4}) : 0, vSize = draw.of({z.size, 3});
    const bool four = draw.maybe(), lengths = opset >= 24 && past == 0 && draw.maybe(4);
    const QString t = draw.size("T", z.keys);
    QStringList in;
    if (four) in << draw.input(z.type, {z.b, number(z.heads), z.s, number(z.size)}) << draw.input(z.type, {z.b, number(z.kvHeads), t, number(z.size)}) << draw.input(z.type, {z.b, number(z.kvHeads), t, number(vSize)});
    else in << draw.input(z.type, {z.b, z.s, z.width()}) << draw.input(z.type, {z.b, t, number(z.kvHeads * z.size)}) << draw.input(z.type, {z.b, t, number(z.kvHeads * vSize)});
    if (!four) draw.attribute(QStringLiteral("q_num_heads=%1").arg(z.heads)), draw.attribute(QStringLiteral("kv_num_heads=%1").arg(z.kvHeads));
    const int total = z.keys + past, columns = opset >= 24 && draw.maybe(4) ? std::max(total - 1, 1) : total;
    QStringList mask{draw.of({z.b, QString("1")}), draw.of({number(z.heads), QString("1")}), z.s, draw.size("M", columns)};
    mask = mask.mid(static_cast<qsizetype>(draw.below(3)));
    in << (draw.maybe() ? draw.input(draw.of<QString>({"bool", z.type, "f32"}), mask) : QString("_"));
    for (const int each : {z.size, vSize}) in << (past > 0 ? draw.input(z.type, {z.b, number(z.kvHeads), draw.size("P", past), number(each)}) : QString("_"));
    in << (lengths ? draw.input("i64", {z.b}) : QString("_"));
    if (draw.maybe()) draw.attribute("is_causal=1");
    if (draw.maybe(4)) draw.attribute("softcap=1.5");
    if (draw.maybe(4)) draw.attribute("scale=0.3");
    if (draw.maybe(4)) draw.attribute(QStringLiteral("softmax_precision=%1").arg(draw.of({1, 10, 11, 16})));
    if (opset == 25 && draw.maybe(3)) draw.attribute(QStringLiteral("left_window_size=%1").arg(draw.of({0, 1, 3})));
    if (opset == 25 && draw.maybe(3)) draw.attribute(QStringLiteral("right_window_size=%1").arg(draw.of({0, 1, 3})));
    const int outputs = draw.of({1, 1, 3, 4});
    if (outputs == 4) draw.attribute(QStringLiteral("qk_matmul_output_mode=%1").arg(draw.of({0, 1, 2, 3})));
    return {draw.text("Attention", in, outputs), opset};
}

/// A mask that com.microsoft's Attention and MultiHeadAttention take, for so many keys.
inline QString classicMask(Draw& draw, const Sizes& z, const QString& keys, bool lists, int longest) {
    switch (draw.below(lists ? 6 : 4)) {
    case 0: return draw.input("i32", {z.b, keys});
    case 1: return draw.input("i32", {z.b, z.s, keys});
    case 2: return longest > 0 ? draw.input("i32", {z.b, "1", number(longest), number(longest)}) : QString("_");
    case 4: return draw.input("i32", {z.b});
    case 5: return z.b == "B" ? draw.input("i32", {"B"}) : draw.input("i32", {number(2 * z.batch)});
    default: return "_";
    }
}

inline void shared(Draw& draw, const Sizes& z) {
    draw.attribute(QStringLiteral("num_heads=%1").arg(z.heads));
    if (draw.maybe(4)) draw.attribute("scale=0.3");
}

inline Case packedWeight(Draw& draw) {
    const Sizes z(draw);
    const bool integers = draw.maybe(4), past = draw.maybe(3), shares = past && !integers && draw.maybe(), uneven = !integers && !past && draw.maybe(4);
    const int columns = z.heads * z.size * 2 + (uneven ? z.heads * 2 : z.heads * z.size), before = draw.of({1, 3}), room = before + z.queries + 2;
    const QString type = integers ? "f32" : z.type, from = draw.input(type, {z.b, z.s, "8"});
    QString bias = draw.input(type, {number(columns)});
    const QString kept = past ? draw.input(type, {"2", z.b, number(z.heads), shares ? number(room) : draw.size("P", before), number(z.size)}) : QString("_");
    const int count = z.queries + (past ? before : 0);
    const QString total = count == 1 ? QString("1") : draw.size("T", count); // a mask of one column is taken for none
    const QString mask = shares ? QString("_") : classicMask(draw, z, total, true, integers ? 0 : room);
    shared(draw, z);
    if (uneven) draw.attribute(QStringLiteral("qkv_hidden_sizes=[%1,%1,%2]").arg(z.heads * z.size).arg(z.heads * 2));
    if (draw.maybe()) draw.attribute("unidirectional=1");
    if (draw.maybe(4)) draw.attribute("mask_filter_value=-100.0");
    if (draw.maybe(4)) draw.attribute("do_rotary=1");
    const int outputs = past || draw.maybe(3) ? 2 : 1;
    if (integers) {
        draw.line("xs = Identity(one: f32[] = {0.02})\nu = QuantizeLinear(" + from + ", xs, Cast(e: i32[] = {120}, to=2))");
        const QString weight = draw.input("i8", {"8", number(columns)});
        return {draw.text("com.microsoft::QAttention", {"u", weight, bias, "xs", "xs", mask, "Cast(f: i32[] = {120}, to=2)", "_", kept}, uneven ? 1 : outputs), 17};
    }
    if (draw.maybe(4)) bias = "_";
    const QString weight = draw.maybe() ? QStringLiteral("w: %1[8,%2]").arg(type).arg(columns) : draw.input(type, {"8", number(columns)});
    const QString added = !shares && draw.maybe(4) ? draw.input(type, {draw.of({z.b, QString("1")}), draw.of({number(z.heads), QString("1")}), z.s, total}) : QString("_");
    if (shares) draw.attribute("past_present_share_buffer=1");
    return {draw.text("com.microsoft::Attention", {from, weight, bias, mask, kept, added, shares ? draw.input("i32", {"1"}, number(before)) : QString("_")}, uneven ? 1 : outputs), draw.of({11, 17, 21})};
}

inline Case multiHead(Draw& draw) {
    const Sizes z(draw);
    const int form = static_cast<int>(draw.below(4)), vSize = form == 0 ? draw.of({z.size, 2}) : z.size; // apart, keys of four axes, packed by two, packed by three
    const QString t = form == 3 ? z.s : draw.size("T", z.keys);
    const int keys = form == 3 ? z.queries : z.keys, past = form == 0 && draw.maybe(3) ? draw.of({1, 3}) : 0;
    QStringList in;
    if (form == 3) in << draw.input(z.type, {z.b, z.s, number(z.heads), "3", number(z.size)}) << "_" << "_";
    else in << draw.input(z.type, {z.b, z.s, z.width()});
    if (form == 2) in << draw.input(z.type, {z.b, t, number(z.heads), "2", number(z.size)}) << "_";
    if (form == 1) in << draw.input(z.type, {z.b, number(z.heads), t, number(z.size)}) << draw.input(z.type, {z.b, number(z.heads), t, number(z.size)});
    if (form == 0) in << draw.input(z.type, {z.b, t, z.width()}) << draw.input(z.type, {z.b, t, number(z.heads * vSize)});
    const QStringList bias{number(z.heads * (2 * z.size + vSize))};
    in << (form == 2 || draw.maybe() ? QString("_") : form == 3 || draw.maybe() ? draw.weight(z.type, bias) : draw.input(z.type, bias));
    const QString total = past > 0 ? draw.size("A", keys + past) : t;
    in << classicMask(draw, z, total, false, 0);
    in << (draw.maybe(4) ? draw.input(z.type, {draw.of({z.b, QString("1")}), draw.of({number(z.heads), QString("1")}), z.s, total}) : QString("_"));
    for (const int each : {z.size, vSize}) in << (past > 0 ? draw.input(z.type, {z.b, number(z.heads), draw.size("P", past), number(each)}) : QString("_"));
    shared(draw, z);
    if (draw.maybe()) draw.attribute("unidirectional=1");
    return {draw.text("com.microsoft::MultiHeadAttention", in, past > 0 ? draw.of({3, 4}) : 1), draw.of({11, 17, 21})};
}

inline Case oneToken(Draw& draw) {
    Sizes z(draw);
    const int before = draw.of({1, 3}), room = before + draw.of({1, 4});
    const bool self = draw.maybe();
    const QString type = z.type == "bf16" ? "f32" : z.type, length = draw.input("i32", {"1"}, number(before)), total = number(before + 1);
    const QString mask = draw.maybe() ? draw.input("i32", {z.b, total}) : QString("_"), added = draw.maybe(4) ? draw.input(type, {"1", number(z.heads), "1", total}) : QString("_");
    shared(draw, z);
    draw.attribute("past_present_share_buffer=1");
    const int beams = z.b == "B" ? 0 : draw.of({0, 0, z.batch});
    const QString choice = beams > 0 ? draw.input("i32", {"1", number(beams), number(room)}) : QString("_");
    if (self) {
        const int size = 8;
        const QString columns = number(3 * z.heads * size);
        if (draw.maybe(4)) draw.attribute("do_rotary=1");
        return {draw.text("com.microsoft::DecoderMaskedSelfAttention", {draw.input(type, {z.b, "1", "8"}), draw.input(type, {"8", columns}), draw.input(type, {columns}), mask, draw.input(type, {"2", z.b, number(z.heads), number(room), number(size)}), added, length, beams > 0 ? draw.input("i32", {"1"}) : QString("_"), choice}, 2), 17};
    }
    const bool packed = draw.maybe(3);
    QStringList in{draw.input(type, {z.b, "1", z.width(packed ? 3 : 1)})};
    for (int i = 0; i < 2; ++i) in << (packed ? QString("_") : draw.input(type, {z.b, "1", z.width()}));
    in << mask << added;
    for (int i = 0; i < 2; ++i) in << draw.input(type, {z.b, number(z.heads), number(room), number(z.size)});
    in << length << (beams > 0 ? draw.input("i32", {"1"}) : QString("_")) << choice << (draw.maybe() ? draw.input(type, {z.width(3)}) : QString("_"));
    return {draw.text("com.microsoft::DecoderMaskedMultiHeadAttention", in, draw.of({3, 4})), 17};
}

/// Tables of cosines and sines, or nothing.
inline QStringList rotary(Draw& draw, const QString& type, int size, bool inside = false) {
    if (!draw.maybe()) return {"_", "_"};
    draw.attribute("do_rotary=1");
    if (draw.maybe()) draw.attribute("rotary_interleaved=1");
    if (inside) draw.attribute("rotary_offset=1");
    const QString half = number(inside ? size / 4 : draw.of({size / 2, size / 4}));
    return {draw.weight(type, {"24", half}), draw.weight(type, {"24", half})};
}

inline Case grouped(Draw& draw) {
    Sizes z(draw);
    const int past = draw.maybe() ? draw.of({3, 7}) : 0, codes = past > 0 ? draw.of({0, 0, 8, 4, 1}) : 0;
    const bool keyless = past > 0 && z.queries <= past && draw.maybe(5), packed = !keyless && draw.maybe(), window = past > 0 && !keyless && draw.maybe(5);
    if (codes > 0) z.type = "f32"; // what rounds otherwise by the last digit becomes another code
    const QString room = draw.size("P", past);
    QStringList in;
    if (packed) in << draw.input(z.type, {z.b, z.s, number((z.heads + 2 * z.kvHeads) * z.size)}) << "_" << "_";
    else in << draw.input(z.type, {z.b, z.s, z.width()}) << draw.input(z.type, {z.b, keyless ? "0" : z.s, number(z.kvHeads * z.size)}) << draw.input(z.type, {z.b, keyless ? "0" : z.s, number(z.kvHeads * z.size)});
    const QString cache = codes == 8 ? "i8" : codes == 4 ? "u8" : codes == 1 ? "f8e4m3fn" : z.type;
    for (int i = 0; i < 2; ++i) in << (past > 0 ? draw.input(cache, {z.b, number(z.kvHeads), room, number(codes == 4 ? z.size / 2 : z.size)}) : QString("_"));
    in << draw.input("i32", {z.b}) << draw.input("i32", {});
    in << rotary(draw, z.type, z.size) << "_";
    const int total = keyless ? past : past + z.queries;
    in << (draw.maybe(4) && total > 1 ? draw.input(z.type, {draw.of({z.b, QString("1")}), draw.of({number(z.heads), QString("1")}), z.s, draw.size("A", total)}) : QString("_"));
    in << (draw.maybe(4) ? draw.weight(z.type, {number(z.heads)}) : QString("_"));
    for (int i = 0; i < 2; ++i) in << (codes > 0 ? draw.maybe() ? draw.input("f32", {"1"}, "0.02") : draw.weight("f32", {"1", number(z.kvHeads), "1", number(z.size)}) : QString("_"));
    const bool norms = draw.maybe(4);
    for (int i = 0; i < 2; ++i) in << (norms ? draw.weight(z.type, {number(z.size)}) : QString("_"));
    shared(draw, z);
    draw.attribute(QStringLiteral("kv_num_heads=%1").arg(z.kvHeads));
    if (codes == 4 || codes == 8) draw.attribute(QStringLiteral("kv_cache_bit_width=%1").arg(codes));
    if (draw.maybe(4)) draw.attribute("softcap=1.5");
    if (draw.maybe(4)) draw.attribute("smooth_softmax=1");
    const bool causal = window || !draw.maybe(4);
    if (!causal) draw.attribute("causal=0");
    if (window) draw.attribute("sliding_window_cache=1");
    if (window || (causal && draw.maybe(4))) draw.attribute(QStringLiteral("local_window_size=%1").arg(draw.of({1, 2, 3})));
    const int outputs = window ? 3 : draw.of({1, 3, 4});
    if (outputs == 4) draw.attribute(QStringLiteral("qk_output=%1").arg(draw.of({1, 2})));
    return {draw.text("com.microsoft::GroupQueryAttention", in, outputs), codes == 1 ? 21 : 17};
}

inline Case sparse(Draw& draw) {
    const Sizes z(draw);
    const int rows = draw.of({3, 4}), block = draw.of({2, 4}), layouts = z.heads > 1 && draw.maybe() ? 2 : 1, room = rows * block + draw.of({0, 1});
    const bool packed = draw.maybe();
    QStringList in{draw.input(z.type, {z.b, z.s, number((packed ? z.heads + 2 * z.kvHeads : z.heads) * z.size)})};
    for (int i = 0; i < 2; ++i) in << (packed ? QString("_") : draw.input(z.type, {z.b, z.s, number(z.kvHeads * z.size)}));
    for (int i = 0; i < 2; ++i) in << draw.input(z.type, {z.b, number(z.kvHeads), number(room), number(z.size)});
    in << draw.input("i32", {number(layouts), number(rows + 1)}) << draw.input("i32", {number(layouts), number(rows + draw.of({0, 1, 2}))}) << draw.input("i32", {}) << draw.input("i32", {z.b});
    in << rotary(draw, z.type, z.size);
    shared(draw, z);
    draw.attribute(QStringLiteral("kv_num_heads=%1").arg(z.kvHeads));
    draw.attribute(QStringLiteral("sparse_block_size=%1").arg(block));
    return {draw.text("com.microsoft::SparseAttention", in, draw.of({1, 3})), 17};
}

inline Case paged(Draw& draw) {
    Sizes z(draw);
    const bool latent = draw.maybe(4), packed = !latent && draw.maybe();
    const int kvHeads = latent ? 1 : z.kvHeads, codes = draw.of({0, 0, 8, latent ? 8 : 4, 1}), tokens = z.batch * z.queries, pages = z.batch * 2 + 1, places = draw.of({3, 4});
    if (codes > 0) z.type = "f32";
    const QString n = draw.size("N", tokens), cache = codes == 8 ? "i8" : codes == 4 ? "u8" : codes == 1 ? "f8e4m3fn" : z.type;
    QStringList in{draw.input(z.type, {n, number((packed ? z.heads + 2 * kvHeads : z.heads) * z.size)})};
    in << (packed ? QString("_") : draw.input(z.type, {n, number(kvHeads * z.size)})) << (packed || latent ? QString("_") : draw.input(z.type, {n, number(kvHeads * z.size)}));
    for (int i = 0; i < 2; ++i) in << (latent && i == 1 ? QString("_") : draw.input(cache, {number(pages), number(places), number(kvHeads), number(codes == 4 ? z.size / 2 : z.size)}));
    in << draw.input("i32", {number(z.batch + 1)}) << draw.input("i32", {number(z.batch)}) << draw.input("i32", {number(z.batch), draw.of<QString>({"2", "3"})});
    in << rotary(draw, z.type, z.size, draw.maybe(3)) << (draw.maybe(3) ? draw.input("i32", {n}) : QString("_")) << (draw.maybe(4) ? draw.weight(z.type, {number(z.heads)}) : QString("_"));
    const bool norms = draw.maybe(4);
    for (int i = 0; i < 2; ++i) in << (norms ? draw.weight(z.type, {number(z.size)}) : QString("_"));
    for (int i = 0; i < 2; ++i) in << (codes > 0 && !(latent && i == 1) ? draw.maybe() ? draw.input("f32", {"1"}, "0.02") : draw.weight("f32", {number(kvHeads), "1", number(z.size)}) : QString("_"));
    shared(draw, z);
    draw.attribute(QStringLiteral("kv_num_heads=%1").arg(kvHeads));
    if (codes == 4) draw.attribute("k_cache_dtype=\"int4\""), draw.attribute("v_cache_dtype=\"int4\"");
    if (latent) draw.attribute("kv_cache_layout=\"LATENT\"");
    if (latent && draw.maybe()) draw.attribute("v_head_size=3");
    if (draw.maybe(4)) draw.attribute("softcap=1.5");
    if (draw.maybe(4)) draw.attribute("is_causal=0");
    if (draw.maybe(4)) draw.attribute(QStringLiteral("local_window_size=%1").arg(draw.of({1, 3})));
    return {draw.text("com.microsoft::PagedAttention", in, latent ? draw.of({1, 2}) : draw.of({1, 3})), codes == 1 ? 21 : 17};
}

inline Case packedTokens(Draw& draw) {
    const Sizes z(draw);
    const int tokens = std::max(z.batch * z.queries - static_cast<int>(draw.below(2)), 1), form = static_cast<int>(draw.below(3)), vSize = form == 2 ? z.size : draw.of({z.size, 2});
    const QString n = draw.size("N", tokens), type = z.type == "bf16" ? "f32" : z.type;
    const QString columns = number(z.heads * (2 * z.size + vSize)), offsets = draw.input("i32", {number(z.batch), number(z.queries)}), sums = draw.input("i32", {number(z.batch + 1)});
    const QString added = draw.maybe(3) ? draw.input(type, {draw.of({number(z.batch), QString("1")}), draw.of({number(z.heads), QString("1")}), number(z.queries), number(z.queries)}) : QString("_");
    shared(draw, z);
    if (form == 0) {
        draw.attribute(QStringLiteral("qkv_hidden_sizes=[%1,%1,%2]").arg(z.heads * z.size).arg(z.heads * vSize));
        return {draw.text("com.microsoft::PackedAttention", {draw.input(type, {n, "8"}), draw.maybe() ? QStringLiteral("w: %1[8,%2]").arg(type, columns) : draw.input(type, {"8", columns}), draw.input(type, {columns}), offsets, sums, added}, 1), 17};
    }
    if (form == 2) return {draw.text("com.microsoft::PackedMultiHeadAttention", {draw.input(type, {n, number(z.heads), "3", number(z.size)}), "_", "_", draw.maybe() ? draw.weight(type, {columns}) : QString("_"), offsets, sums, added}, 1), 17};
    return {draw.text("com.microsoft::PackedMultiHeadAttention", {draw.input(type, {n, z.width()}), draw.input(type, {n, z.width()}), draw.input(type, {n, number(z.heads * vSize)}), draw.maybe() ? draw.input(type, {columns}) : QString("_"), offsets, sums, added}, 1), 17};
}

inline Case decoder(Draw& draw) {
    const Sizes z(draw);
    const bool cross = draw.maybe(), past = draw.maybe(), padding = draw.maybe();
    const int keys = cross ? z.keys : z.queries, before = draw.of({1, 3});
    const QString t = cross ? draw.size("T", z.keys) : z.s, kept = cross ? t : draw.size("P", before), total = past && !cross ? draw.size("A", keys + before) : t;
    QStringList in{draw.input(z.type, {z.s, z.b, z.width()})};
    in << (cross ? draw.input(z.type, {t, z.b, z.width()}) : in[0]) << QStringLiteral("wq: %1[%2,%2]").arg(z.type, z.width()) << QStringLiteral("wk: %1[%2,%3]").arg(z.type, z.width(), z.width(2)) << QStringLiteral("b: %1[%2]").arg(z.type, z.width(3));
    in << (padding ? draw.input("bool", {z.b, total}) : QString("_"));
    for (int i = 0; i < 2; ++i) in << (past ? draw.input(z.type, {z.b, number(z.heads), kept, number(z.size)}) : QString("_"));
    for (const bool each : {cross, past, true, padding}) in << draw.input("bool", {"1"}, each ? "1" : "0");
    shared(draw, z);
    return {draw.text("com.microsoft::DecoderAttention", in, draw.of({1, 3})), 17};
}

inline Case fourAxes(Draw& draw) {
    const Sizes z(draw);
    const QString t = draw.size("T", z.keys);
    QStringList in{draw.input(z.type, {z.b, number(z.heads), z.s, number(z.size)}), draw.input(z.type, {z.b, number(z.kvHeads), t, number(z.size)}), draw.input(z.type, {z.b, number(z.kvHeads), t, number(draw.of({z.size, 3}))})};
    if (draw.maybe(3)) {
        if (draw.maybe()) draw.attribute("scale=0.3");
        return {draw.text("ai.onnx.preview::FlexAttention", in, 1), 26};
    }
    QStringList mask{draw.of({z.b, QString("1")}), draw.of({number(z.heads), QString("1")}), z.s, t};
    mask = mask.mid(static_cast<qsizetype>(draw.below(3)));
    in << (draw.maybe() ? draw.input(draw.of<QString>({"bool", z.type}), mask) : QString("_"));
    if (draw.maybe()) in << draw.input("f32", {}, "0.0") << draw.input("bool", {}, draw.of<QString>({"0", "1"})) << (draw.maybe() ? draw.input("f32", {}, "0.3") : QString("_"));
    if (draw.maybe(4)) return {draw.text("aten::scaled_dot_product_attention", in, 1), 17};
    draw.attribute("operator=\"scaled_dot_product_attention\"");
    return {draw.text("org.pytorch.aten::ATen", in, 1), draw.of({11, 17})};
}

constexpr Case (*makers[])(Draw&) = {standard, packedWeight, multiHead, oneToken, grouped, sparse, paged, packedTokens, decoder, fourAxes};

} // namespace triptych
