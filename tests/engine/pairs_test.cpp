// Each pattern fires on a small graph of its own; the research's 15 pairs by their names.

#include "fusion_bench.h"

using namespace triptych;

class PairsTest : public QObject {
    Q_OBJECT
private slots:
    void pattern_data() {
        QTest::addColumn<QString>("id");
        QTest::addColumn<QString>("text");
        QTest::addColumn<QString>("groups");
        const auto row = [](const char* id, const char* text, const char* groups) {
            QTest::newRow(id) << QString(id) << QString(text) << QString(groups);
        };
        // The research's pairs.
        row("attention.matmul_mul",
            "q: f32[2,4,8]\nk: f32[2,8,4]\n@m s = MatMul(q, k)\n@s y = Mul(s, f: f32[] = {0.5})", "m+s");
        row("attention.mul_softmax", "x: f32[2,4,4]\n@s a = Mul(x, f: f32[] = {0.5})\n@p y = Softmax(a, axis=-1)",
            "s+p");
        row("attention.matmul_softmax", "q: f32[2,4,8]\nk: f32[2,8,4]\n@m s = MatMul(q, k)\n@p y = Softmax(s, axis=2)",
            "m+p");
        row("attention.softmax_matmul", "x: f32[2,4,4]\nv: f32[2,4,8]\n@p s = Softmax(x, axis=-1)\n@m y = MatMul(s, v)",
            "p+m");
        row("attention.dropout_matmul",
            "x: f32[2,4,4]\nv: f32[2,4,8]\np: f32[] = {0.5}\nyes: bool[] = {1}\n@d s = Dropout(x, p, yes)\n@m y = "
            "MatMul(s, v)",
            "d+m");
        row("attention.linear_reshape", "x: f32[2,4,8]\n@l a = MatMul(x, w: f32[8,8])\n@r y = Reshape(a, {2,4,2,4})",
            "l+r");
        row("attention.reshape_transpose",
            "x: f32[2,4,8]\n@r a = Reshape(x, {2,4,2,4})\n@t y = Transpose(a, perm=[0,2,1,3])", "r+t");
        row("attention.transpose_reshape",
            "x: f32[2,2,4,4]\n@t a = Transpose(x, perm=[0,2,1,3])\n@r y = Reshape(a, {2,4,8})", "t+r");
        row("attention.transpose_matmul",
            "q: f32[2,4,8]\nk: f32[2,4,8]\n@t a = Transpose(k, perm=[0,2,1])\n@m y = MatMul(q, a)", "t+m");
        row("attention.reshape_contiguous",
            "x: f32[2,2,4,4]\n@t a = Transpose(x, perm=[0,2,1,3])\n@r y = Reshape(a, {2,4,8})", "t r");
        row("attention.contiguous_linear",
            "x: f32[2,2,4,4]\n@t a = Transpose(x, perm=[0,2,1,3])\n@r b = Reshape(a, {2,4,8})\n@l y = MatMul(b, w: "
            "f32[8,8])",
            "t r+l");
        row("attention.size_reshape",
            "x: f32[2,2,4,4]\n@t a = Transpose(x, perm=[0,2,1,3])\n@s n = Concat(Shape(x, start=0, end=1), {4,8}, "
            "axis=0)\n@r y = Reshape(a, n)",
            "t r");
        row("attention.size_view",
            "x: f32[2,4,8]\n@s n = Concat(Shape(x, start=0, end=1), {4,2,4}, axis=0)\n@r y = Reshape(x, n)", "r");
        row("attention.matmul_transpose",
            "p: f32[2,2,4,4]\nv: f32[2,2,4,8]\n@m a = MatMul(p, v)\n@t y = Transpose(a, perm=[0,2,1,3])", "m+t");
        row("attention.transpose_softmax",
            "x: f32[2,4,4]\n@t a = Transpose(x, perm=[0,2,1])\n@p y = Softmax(a, axis=-1)", "t+p");
        // Masks, caps, repeated heads.
        row("attention.scale_mask", "x: f32[2,4,4]\nb: f32[4,4]\n@s a = Div(x, f: f32[] = {8.0})\n@a y = Add(a, b)",
            "s+a");
        row("attention.mask_softmax", "x: f32[2,4,4]\nb: f32[4,4]\n@a a = Add(b, x)\n@p y = Softmax(a, axis=-1)",
            "a+p");
        row("attention.mask_mask", "x: f32[2,4,4]\nb: f32[4,4]\nc: f32[4,4]\n@a a = Add(b, x)\n@b y = Add(a, c)",
            "a+b");
        row("attention.matmul_mask", "q: f32[2,4,8]\nk: f32[2,8,4]\nb: f32[4,4]\n@m s = MatMul(q, k)\n@a y = Add(s, b)",
            "m+a");
        row("attention.softcap", "x: f32[2,4,4]\nf: f32[] = {30.0}\n@d a = Div(x, f)\n@t b = Tanh(a)\n@m y = Mul(b, f)",
            "d+t+m");
        row("attention.repeat_heads",
            "x: f32[1,2,4,8]\n@u a = Unsqueeze(x, {2})\n@e b = Expand(a, {1,2,3,4,8})\n@r y = Reshape(b, {1,6,4,8})",
            "u+e+r");
        // Epilogues, norms, pointwise.
        row("linear.linear_activation", "x: f32[4,8]\n@l a = Gemm(x, w: f32[8,8], b: f32[8])\n@r y = Relu(a)", "l+r");
        row("linear.linear_bias_gelu",
            "x: f32[4,8]\n@l a = MatMul(x, w: f32[8,8])\n@b b = Add(a, c: f32[8])\n@g y = Gelu(b)", "l+b+g");
        row("linear.linear_dropout",
            "x: f32[4,8]\np: f32[] = {0.5}\nyes: bool[] = {1}\n@l a = MatMul(x, w: f32[8,8])\n@d y = Dropout(a, p, "
            "yes)",
            "l+d");
        row("linear.linear_batchnorm",
            "x: f32[4,8]\n@l a = MatMul(x, w: f32[8,8])\n@n y = BatchNormalization(a, s: f32[8], b: f32[8], m: f32[8], "
            "v: f32[8])",
            "l+n");
        row("linear.linear_add", "x: f32[4,8]\nz: f32[4,8]\n@l a = MatMul(x, w: f32[8,8])\n@a y = Add(z, a)", "l+a");
        row("conv.conv_bn_activation",
            "x: f32[1,3,8,8]\n@c a = Conv(x, w: f32[4,3,3,3])\n@n b = BatchNormalization(a, s: f32[4], t: f32[4], m: "
            "f32[4], v: f32[4])\n@r y = Relu(b)",
            "c+n+r");
        row("conv.conv_bn",
            "x: f32[1,3,8,8]\n@c a = Conv(x, w: f32[4,3,3,3])\n@n y = BatchNormalization(a, s: f32[4], t: f32[4], m: "
            "f32[4], v: f32[4])",
            "c+n");
        row("conv.squeeze_excite",
            "x: f32[1,4,8,8]\n@p a = GlobalAveragePool(x)\n@s b = Conv(a, w: f32[2,4,1,1])\n@r c = Relu(b)\n@e d = "
            "Conv(c, v: f32[4,2,1,1])\n@g g = Sigmoid(d)\n@m y = Mul(x, g)",
            "p+s+r+e+g+m");
        row("norm.layernorm_linear",
            "x: f32[4,8]\n@n a = LayerNormalization(x, g: f32[8], axis=-1)\n@l y = MatMul(a, w: f32[8,8])", "n+l");
        row("norm.layernorm_attention",
            "x: f32[1,4,8]\n@n a = LayerNormalization(x, g: f32[8], axis=-1)\n@t y = com.microsoft::Attention(a, w: "
            "f32[8,24], b: f32[24], num_heads=2)",
            "n+t");
        row("norm.add_layernorm",
            "x: f32[4,8]\nz: f32[4,8]\n@a a = Add(x, z)\n@n y = LayerNormalization(a, g: f32[8], axis=-1)", "a+n");
        row("norm.add_rmsnorm",
            "x: f32[4,8]\nz: f32[4,8]\n@a a = Add(x, z)\n@n y = RMSNormalization(a, g: f32[8], axis=-1)", "a+n");
        row("embedding.embedding_add_layernorm",
            "i: i64[1,4]\nj: i64[1,4]\np: f32[4,8]\n@w a = Gather(t: f32[9,8], i)\n@k b = Gather(u: f32[2,8], j)\n@s c "
            "= Add(a, b)\n@m d = Add(c, p)\n@n y = LayerNormalization(d, g: f32[8], axis=-1)",
            "w+k+s+m+n");
        row("pointwise.add_activation", "x: f32[4]\nz: f32[4]\n@a a = Add(x, z)\n@r y = Relu(a)", "a+r");
        row("pointwise.dropout_add",
            "x: f32[4]\nz: f32[4]\np: f32[] = {0.5}\nyes: bool[] = {1}\n@d a = Dropout(x, p, yes)\n@a y = Add(a, z)",
            "d+a");
        row("pointwise.stochastic_depth_add",
            "x: f32[4]\nz: f32[4]\n@b n = RandomUniformLike(x)\n@m a = Mul(x, n)\n@a y = Add(z, a)", "b m+a");
        row("pointwise.add_add", "x: f32[4]\nz: f32[4]\n@a a = Add(x, z)\n@b y = Add(a, z)", "a+b");
        row("pointwise.chain", "x: f32[4]\n@a a = Neg(x)\n@b y = Exp(a)", "a+b");
        row("view.chain", "x: f32[4,4]\n@a a = Transpose(x, perm=[1,0])\n@b y = Unsqueeze(a, {0})", "a+b");
        row("view.dropout", "x: f32[4,8]\n@l a = MatMul(x, w: f32[8,8])\n@d y = Dropout(a)", "l+d");
        row("quant.dequantize_product",
            "x: u8[4,8]\n@d a = DequantizeLinear(x, s: f32[], z: u8[])\n@l y = MatMul(a, w: f32[8,8])", "d+l");
    }
    void pattern() {
        QFETCH(QString, id);
        QFETCH(QString, text);
        QFETCH(QString, groups);
        const Bench bench(text.toUtf8().constData());
        const QByteArray name = id.toUtf8();
        const Partition on = bench.fuse({name.constData()});
        QCOMPARE(bench.groups(on).remove('[' + id + ']'), groups);
        QCOMPARE(bench.matches(on, name.constData()), 1);
        QCOMPARE(bench.groups(bench.fuse({})).contains('+'), bench.classes.composites.size() > 0);
    }
};

QTEST_APPLESS_MAIN(PairsTest)
#include "pairs_test.moc"
