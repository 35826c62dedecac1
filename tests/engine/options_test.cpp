// Attention operators with random sets of their options, sizes of 1 and half precision among them: what is written out and what is fused
// computes what the operator's own kernel computes, at other batch sizes too, and shows the same attention when it is opened again. With
// damaged attributes and inputs nothing is asked for but an end.
// TRIPTYCH_OPTIONS sets the random sets of each operator (30).

#include "fusion/fused_model.h"
#include "options.h"
#include "pipeline.h"
#include "proof.h"

#include <QTest>

using namespace triptych;

namespace {

int setsOfOptions() {
    bool given = false;
    const int wanted = qEnvironmentVariableIntValue("TRIPTYCH_OPTIONS", &given);
    return given ? wanted : 30;
}

AnalysisPtr analysed(ModelPtr model, const Bindings& bindings) {
    AnalysisOptions options;
    options.forFile = true;
    options.bindings = bindings;
    const auto made = analyze(std::move(model), options);
    if (!made) qWarning("%s", made.error().message().c_str());
    return made ? *made : nullptr;
}

/// Empty where another graph computes what the operator computes.
QString differs(const Analysis& of, const Model& otherModel, const Graph& other, const char* name) {
    // Scores are rounded to a half once by the kernel and at each step in what is written: a few of their last digits, which the softmax hands on.
    const DataType type = of.inlinedShapes->of(of.inlined->outputs()[0]).type;
    const auto relative = type == DataType::float16 ? std::optional(1e-2) : type == DataType::bfloat16 ? std::optional(8e-2) : std::nullopt;
    const auto made = verify({*of.model, *of.inlined, *of.inlinedShapes, otherModel, other, name, nullptr, nullptr, {Fill::random, Fill::masked}, 3, relative, std::nullopt});
    if (!made) return QString::fromStdString(made.error().message());
    for (const Difference& each : made->differences)
        if (!each.holds) return QStringLiteral("%1, %2, %3: %4 at %5").arg(name, QString::fromStdString(each.inputs), QString::fromStdString(each.output)).arg(each.absolute).arg(QString::fromStdString(each.at));
    return made->holds() ? QString() : QStringLiteral("nothing compared");
}

/// What is wrong with an operator under such options; empty where nothing is.
QString wrong(const Case& made, const Bindings& all) {
    const auto parsed = parseText(made.text.toStdString());
    if (!parsed) return QString::fromStdString(parsed.error().message());
    Bindings bindings;
    for (const SymbolicDim& dim : symbolicDims(**parsed)) bindings[dim.name] = all.at(dim.name);
    auto model = std::make_shared<Model>();
    model->graph = withWeights(**parsed);
    model->opsets = {{"", made.opset}, {"com.microsoft", 1}};
    const AnalysisPtr a = analysed(model, bindings);
    if (!a || a->attentions.found.size() != 1) return "not found";
    if (!a->decomposition->attentions[0].rewritten) return "stays: " + QString::fromStdString(a->decomposition->warnings.empty() ? std::string() : a->decomposition->warnings[0]);
    const QString was = described(a->attentions.found[0]);
    const auto opened = [&](const char* name, GraphPtr graph, std::vector<Function> functions) {
        auto other = std::make_shared<Model>(*model);
        other->graph = std::move(graph);
        other->functions = std::move(functions);
        other->opsets[std::string(fusedDomain)] = 1;
        const AnalysisPtr again = analysed(other, bindings);
        if (!again) return QStringLiteral("%1 can't be opened").arg(name);
        if (const QString why = differs(*a, *other, *again->inlined, name); !why.isEmpty()) return why;
        QStringList is;
        for (const AttentionSpec& spec : again->attentions.found) is << described(spec);
        return is == QStringList{was} ? QString() : QStringLiteral("%1 shows %2 instead of %3").arg(name, is.join(" and "), was);
    };
    if (const QString why = opened("decomposed", a->decomposition->graph, {}); !why.isEmpty()) return why;
    if (bindings.contains("B")) {
        ++bindings["B"];
        const AnalysisPtr wider = analysed(model, bindings);
        --bindings["B"];
        if (!wider) return "one more: not opened";
        if (const QString why = differs(*wider, *model, *a->decomposition->graph, "one more"); !why.isEmpty()) return why;
    }
    const auto fused = fusedModel(*a->enhanced.graph, *a->enhanced.shapes, *a->enhanced.partition, *a->library, model->opsets);
    return fused ? opened("fused", fused->graph, fused->functions) : QString::fromStdString(fused.error().message());
}

/// One attribute is another number, or one input is left out or another one.
GraphPtr damaged(const Graph& from, Draw& draw) {
    GraphBuilder builder(from.name());
    builder.adoptValues(from);
    for (Node node : from.nodes()) {
        const auto count = static_cast<std::uint32_t>(node.attributes.items().size());
        if (count > 0 && draw.maybe()) {
            std::vector<Attribute> all(node.attributes.items().begin(), node.attributes.items().end());
            all[draw.below(count)].value = draw.of<std::int64_t>({-1, 0, 1, 3, 7, 100'000, std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min()});
            node.attributes = Attributes(std::move(all));
        } else if (!node.inputs.empty()) {
            const auto last = static_cast<std::uint32_t>(node.inputs.size());
            node.inputs[draw.below(last)] = draw.maybe() ? ValueId() : node.inputs[draw.below(last)];
        }
        builder.addNode(std::move(node));
    }
    const auto made = builder.finish();
    return made ? *made : nullptr;
}

} // namespace

class OptionsTest : public QObject {
    Q_OBJECT
private slots:
    void computesTheSame_data();
    void computesTheSame();
    void endsWhenDamaged_data() { computesTheSame_data(); }
    void endsWhenDamaged();
};

void OptionsTest::computesTheSame_data() {
    QTest::addColumn<int>("index");
    int index = 0;
    for (const char* name : {"standard", "packed weight", "heads", "one token", "grouped", "blocks", "pages", "packed tokens", "decoder", "four axes"}) QTest::newRow(name) << index++;
}

void OptionsTest::computesTheSame() {
    QFETCH(int, index);
    QStringList failures;
    const int count = setsOfOptions();
    for (int seed = 1; seed <= count; ++seed) {
        Draw draw(static_cast<std::uint32_t>(1000 * index + seed));
        const Case made = makers[index](draw);
        const QString why = wrong(made, draw.bindings);
        if (!why.isEmpty()) failures << QStringLiteral("seed %1, opset %2: %3\n%4\n").arg(seed).arg(made.opset).arg(why, made.text);
    }
    for (const QString& each : failures) qWarning("%s", qPrintable(each));
    QVERIFY2(failures.isEmpty(), qPrintable(QStringLiteral("%1 of %2").arg(failures.size()).arg(count)));
}

void OptionsTest::endsWhenDamaged() {
    QFETCH(int, index);
    for (int seed = 1; seed <= setsOfOptions(); ++seed) {
        Draw draw(static_cast<std::uint32_t>(100'000 + 1000 * index + seed));
        const Case made = makers[index](draw);
        const auto parsed = parseText(made.text.toStdString());
        QVERIFY(parsed);
        auto model = std::make_shared<Model>();
        model->opsets = {{"", made.opset}, {"com.microsoft", 1}};
        model->graph = damaged(*withWeights(**parsed), draw);
        AnalysisOptions options;
        options.forFile = true;
        const auto a = model->graph ? analyze(model, options) : fail("test", "not a graph");
        if (a) (void)differs(**a, *model, *(*a)->decomposition->graph, "decomposed");
    }
}

QTEST_APPLESS_MAIN(OptionsTest)
#include "options_test.moc"
