// What changes nothing in what a model computes changes nothing in what is found: every form of tests/data/forms, mutated.

#include "attention/decompose.h"
#include "branches.h"
#include "graph/text.h"

#include "forms.h" // behind the engine: Qt takes names from it

#include <QTest>
#include <algorithm>
#include <random>

using namespace triptych;

namespace {

using Random = std::mt19937; // the same numbers with every standard library

struct Seen {
    Model model;
    GraphPtr flat;
    ShapesPtr shapes;
    Attentions attentions;
};

Seen look(GraphPtr graph) {
    Seen seen;
    seen.model.graph = std::move(graph);
    seen.model.opsets = {{"", 17}, {"com.microsoft", 1}};
    const FlatGraph flat = *flatten(seen.model, {}, false);
    seen.flat = flat.graph;
    seen.shapes = flat.shapes;
    seen.attentions = findAttention(seen.model, *flat.graph, *flat.shapes);
    return seen;
}

QString summary(const Attentions& attentions) {
    QStringList all;
    for (const AttentionSpec& spec : attentions.found) {
        QStringList extras;
        for (const std::string& extra : spec.extras)
            if (extra != "cast") extras << QString::fromStdString(extra);
        all << QStringLiteral("%1 %2x%3 kv %4 %5 %6 %7")
                   .arg(spec.kind == AttentionKind::self ? "self" : "cross", QString::number(spec.heads), QString::number(spec.headDim), QString::number(spec.kvHeads), QString::number(static_cast<int>(spec.projections)),
                        !spec.causal ? "?" : *spec.causal ? "causal" : "open", extras.join(','));
    }
    all.sort();
    return all.join("; ");
}

/// Which projections of a sequence read the same value: what could be one product.
QString shared(const Seen& seen) {
    const auto written = decompose(seen.model, *seen.flat, *seen.shapes, seen.attentions, Expansion::canonical);
    if (!written) return QString::fromStdString(written.error().message());
    QStringList all;
    const auto add = [&](const DecomposedStream& stream) {
        const bool qk = !stream.q.empty() && !stream.k.empty() && stream.inputQ == stream.inputK, kv = !stream.k.empty() && !stream.v.empty() && stream.inputK == stream.inputV;
        all << QString(qk && kv ? "qkv" : kv ? "kv" : qk ? "qk" : "none") + QString(stream.wasPacked && (stream.q == stream.k || stream.k == stream.v) ? " in one" : "");
    };
    for (const DecomposedAttention& each : written->attentions) {
        add(each);
        for (const DecomposedStream& other : each.joined) add(other);
    }
    all.sort();
    return all.join(' ');
}

GraphPtr rebuilt(const Graph& from, Random& random, const std::function<void(GraphBuilder&, Node&)>& change) {
    GraphBuilder builder(from.name());
    builder.adoptValues(from);
    std::vector<std::size_t> order(from.nodes().size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t i : order) {
        Node node = from.nodes()[i];
        change(builder, node);
        builder.addNode(std::move(node));
    }
    const auto graph = builder.finish();
    if (!graph) qFatal("%s", graph.error().message().c_str());
    return *graph;
}

GraphPtr renamed(const Graph& from, Random& random) {
    GraphBuilder builder("g");
    std::vector<ValueId> values;
    for (std::size_t i = 0; i < from.values().size(); ++i) {
        const Value& value = from.values()[i];
        const ValueId made = builder.value("v" + std::to_string(random()) + "_" + std::to_string(i));
        builder.edit(made).declared = value.declared;
        builder.edit(made).initializer = value.initializer;
        values.push_back(made);
    }
    const auto mapped = [&](std::vector<ValueId> list) {
        for (ValueId& value : list)
            if (value) value = values[value.position()];
        return list;
    };
    for (const ValueId value : mapped(from.inputs())) builder.addInput(value);
    for (const ValueId value : mapped(from.outputs())) builder.addOutput(value);
    for (Node node : from.nodes()) {
        node.name = "n" + std::to_string(random());
        node.scope.clear();
        node.inputs = mapped(node.inputs);
        node.outputs = mapped(node.outputs);
        builder.addNode(std::move(node));
    }
    return *builder.finish();
}

/// Puts something without effect before an operand.
ValueId padded(GraphBuilder& builder, const Shapes& shapes, ValueId value, int kind) {
    const ValueShape& shape = shapes.of(value);
    const auto add = [&](const char* op, std::vector<ValueId> inputs, std::vector<Attribute> attributes) {
        const ValueId out = builder.newValue(std::string("made_") + op);
        builder.addNode({std::string("made_") + op, op, {}, {}, {}, std::move(inputs), {out}, {}, Attributes(std::move(attributes)), {}});
        return out;
    };
    const auto sizes = [&](Dims dims) { return builder.addInitializer(makeTensor("sizes", {static_cast<Dim>(dims.size())}, dims)); };
    if (kind == 0) return add("Identity", {value}, {});
    if (kind == 1) return add("Cast", {add("Cast", {value}, {{"to", std::int64_t(11), {}}})}, {{"to", std::int64_t(1), {}}});
    if (shape.dims.size() < 3) return value;
    if (kind == 2) {
        std::vector<std::int64_t> perm(shape.dims.size());
        for (std::size_t i = 0; i < perm.size(); ++i) perm[i] = static_cast<std::int64_t>(i);
        std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
        return add("Transpose", {add("Transpose", {value}, {{"perm", perm, {}}})}, {{"perm", perm, {}}});
    }
    Dims merged(shape.dims.begin() + 1, shape.dims.end());
    merged[0] *= shape.dims[0];
    return add("Reshape", {add("Reshape", {value, sizes(merged)}, {}), sizes(shape.dims)}, {});
}

} // namespace

class PropertyTest : public QObject {
    Q_OBJECT
private slots:
    void nothingChanges_data();
    void nothingChanges();
};

void PropertyTest::nothingChanges_data() { addForms("source"); }

void PropertyTest::nothingChanges() {
    QFETCH(QString, source);
    const Seen plain = look(*parseText(source.toStdString()));
    const QString expected = summary(plain.attentions), groups = shared(plain);
    const Graph& graph = *plain.model.graph;
    for (std::uint32_t seed = 1; seed <= 12; ++seed) {
        Random random(seed);
        QVERIFY2(summary(look(renamed(graph, random)).attentions) == expected, qPrintable(QStringLiteral("renamed, seed %1").arg(seed)));
        const auto swapped = rebuilt(graph, random, [&](GraphBuilder&, Node& node) {
            if ((node.is("Add") || node.is("Mul")) && node.inputs.size() == 2 && random() % 2) std::swap(node.inputs[0], node.inputs[1]);
        });
        QVERIFY2(summary(look(swapped).attentions) == expected, qPrintable(QStringLiteral("reordered and swapped, seed %1: ").arg(seed) + summary(look(swapped).attentions)));
        for (int kind = 0; kind < 4; ++kind) {
            const auto stuffed = rebuilt(graph, random, [&](GraphBuilder& builder, Node& node) {
                for (ValueId& input : node.inputs) {
                    if (!input || plain.shapes->isConstant(input) || plain.shapes->of(input).type != DataType::float32 || random() % 3) continue;
                    input = padded(builder, *plain.shapes, input, kind);
                }
            });
            const Seen seen = look(stuffed);
            QVERIFY2(summary(seen.attentions) == expected, qPrintable(QStringLiteral("kind %1, seed %2: %3 instead of %4\n%5").arg(kind).arg(seed).arg(summary(seen.attentions), expected, qEnvironmentVariableIsSet("SHOW") ? QString::fromStdString(printText(*stuffed)) : QString())));
            QVERIFY2(shared(seen) == groups, qPrintable(QStringLiteral("kind %1, seed %2: groups %3 instead of %4\n%5").arg(kind).arg(seed).arg(shared(seen), groups, qEnvironmentVariableIsSet("SHOW") ? QString::fromStdString(printText(*stuffed)) : QString())));
        }
    }
}

QTEST_APPLESS_MAIN(PropertyTest)
#include "property_test.moc"
