// Every form written to a file decomposed, fused, and both again: the attentions and what is computed stay the same, and what is
// decomposed already stays the same byte by byte.

#include "fusion/fused_model.h"
#include "onnx_io/export.h"
#include "pipeline.h"
#include "proof.h"

#include "forms.h" // behind the engine: Qt takes names from it

#include <QTemporaryDir>
#include <QTest>

using namespace triptych;

class RoundTripTest : public QObject {
    Q_OBJECT
private slots:
    void form_data();
    void form();

private:
    QString file(const QString& name) const { return m_folder.filePath(name + ".onnx"); }
    static AnalysisPtr opened(const QString& path);
    static bool write(const QString& from, const QString& to, bool fuse);
    static QStringList attentions(const QString& path);
    static QString difference(const QString& from, const QString& to);
    QTemporaryDir m_folder;
};

AnalysisPtr RoundTripTest::opened(const QString& path) {
    AnalysisOptions options;
    options.forFile = true;
    auto analysis = analyze(path.toStdString(), options);
    if (!analysis) qWarning("%s", analysis.error().message().c_str());
    return analysis ? std::move(*analysis) : nullptr;
}

bool RoundTripTest::write(const QString& from, const QString& to, bool fuse) {
    const auto a = opened(from);
    if (!a) return false;
    if (!fuse) return exportModel({*a->model, *a->decomposition->graph, {}, {}}, to.toStdString()).has_value();
    const auto fused = fusedModel(*a->enhanced.graph, *a->enhanced.shapes, *a->enhanced.partition, *a->library, a->model->opsets);
    return fused && exportModel({*a->model, *fused->graph, fused->functions, {}}, to.toStdString());
}

QStringList RoundTripTest::attentions(const QString& path) {
    QStringList all;
    const auto a = opened(path);
    for (const AttentionSpec& spec : a ? a->attentions.found : std::vector<AttentionSpec>()) all << described(spec);
    all.sort();
    return all;
}

QString RoundTripTest::difference(const QString& from, const QString& to) {
    const auto a = opened(from), b = opened(to);
    if (!a || !b) return QStringLiteral("one doesn't open");
    const auto same = verify({*a->model, *a->inlined, *a->inlinedShapes, *b->model, *b->inlined, "written", nullptr, nullptr, {Fill::random, Fill::ramp}, 3, std::nullopt, std::nullopt});
    return !same ? QString::fromStdString(same.error().message()) : same->holds() ? QString() : QStringLiteral("computes something else");
}

void RoundTripTest::form_data() { addForms("source"); }

void RoundTripTest::form() {
    QFETCH(QString, source);
    const auto parsed = parseText(source.toStdString());
    QVERIFY2(parsed, parsed ? "" : parsed.error().message().c_str());
    Model model;
    model.irVersion = 8;
    model.graph = withWeights(**parsed);
    model.opsets = {{"", 17}, {"com.microsoft", 1}};
    QVERIFY(exportModel({model, *model.graph, {}, {}}, file("source").toStdString()));
    const QStringList wanted = attentions(file("source"));
    struct Step {
        const char *from, *to;
        bool fuse;
    };
    for (const auto& [from, to, fuse] : {Step{"source", "decomposed", false}, Step{"decomposed", "again", false}, Step{"source", "fused", true}, Step{"decomposed", "refused", true}, Step{"refused", "last", false}}) {
        QVERIFY2(write(file(from), file(to), fuse), to);
        QVERIFY2(attentions(file(to)) == wanted, qPrintable(QString(to) + ": " + attentions(file(to)).join("; ") + ", not " + wanted.join("; ")));
        QCOMPARE(difference(file("source"), file(to)), QString());
    }
    QFile first(file("decomposed")), second(file("again"));
    QVERIFY(first.open(QIODevice::ReadOnly) && second.open(QIODevice::ReadOnly));
    QCOMPARE(second.readAll(), first.readAll());
}

QTEST_APPLESS_MAIN(RoundTripTest)
#include "round_trip_test.moc"
