// One file a form: tests/data/forms/NAME.txt says in comments what must be found in it.

#include "attention/attention.h"
#include "attention/decompose.h"
#include "branches.h"
#include "graph/text.h"

#include "forms.h" // behind the engine: Qt takes names from it

#include <QRegularExpression>
#include <QTest>

using namespace triptych;

namespace {

QString text(std::string_view view) { return QString::fromUtf8(view.data(), static_cast<qsizetype>(view.size())); }

/// "self, 4 heads of 16 (kv 4), separate, causal no, scale 0.25 at scores"
QString summary(const Attentions& attentions) {
    QStringList all;
    for (const AttentionSpec& spec : attentions.found)
        all << QStringLiteral("%1, %2 heads of %3 (kv %4), %5, causal %6, scale %7 at %8")
                   .arg(text(toString(spec.kind)), QString::number(spec.heads), QString::number(spec.headDim), QString::number(spec.kvHeads), text(toString(spec.projections)),
                        !spec.causal ? "unknown" : *spec.causal ? "yes" : "no", spec.scale ? QString::number(*spec.scale) : "none", text(toString(spec.scaleAt)));
    return all.join("; ");
}

/// "qkv kv": roles with a projection, sequence by sequence; "q+kv": of inputs of their own.
QString streams(const DecomposedAttention& attention) {
    const auto roles = [](const DecomposedStream& each) {
        QString text;
        ValueId before;
        for (const auto& [name, nodes, input] : {std::tuple('q', &each.q, each.inputQ), std::tuple('k', &each.k, each.inputK), std::tuple('v', &each.v, each.inputV)}) {
            if (nodes->empty()) continue;
            if (before && input != before) text += '+';
            text += name;
            before = input;
        }
        return text;
    };
    QStringList all{roles(attention)};
    for (const DecomposedStream& each : attention.joined) all << roles(each);
    return all.join(' ');
}

QString comment(const QString& source, const QString& key) {
    static const QString pattern = QStringLiteral("^# %1: *(.*)$");
    return QRegularExpression(pattern.arg(key), QRegularExpression::MultilineOption).match(source).captured(1).trimmed();
}

} // namespace

class FormsTest : public QObject {
    Q_OBJECT
private slots:
    void form_data();
    void form();
};

void FormsTest::form_data() { addForms("source"); }

void FormsTest::form() {
    QFETCH(QString, source);
    const auto graph = parseText(source.toStdString());
    QVERIFY2(graph, graph ? "" : graph.error().message().c_str());
    Model model;
    model.graph = *graph;
    model.opsets = {{"", 17}, {"com.microsoft", 1}};
    const FlatGraph flat = *flatten(model, {}, false);
    const ShapesPtr& shapes = flat.shapes;
    QCOMPARE(shapes->unknownCount(), 0U);
    const Attentions found = findAttention(model, *flat.graph, *shapes);
    QString why, reasons;
    for (const Unrecognised& each : found.unrecognised) reasons += (reasons.isEmpty() ? "" : "; ") + text(each.reason);
    for (const Unrecognised& each : found.unrecognised) why += QStringLiteral("\n%1: %2 (%3)").arg(text(each.at), text(each.reason), text(each.detail));
    QVERIFY2(summary(found) == comment(source, "expect"), qPrintable("found: " + summary(found) + why));
    if (const QString reason = comment(source, "reason"); !reason.isEmpty()) QVERIFY2((reasons.isEmpty() ? "none" : reasons) == reason, qPrintable("near misses:" + why));
    for (const QString& extra : comment(source, "extras").split(' ', Qt::SkipEmptyParts))
        QVERIFY2(found.found[0].extras.contains(extra.toStdString()), qPrintable("no " + extra));
    if (const QString masks = comment(source, "masks"); !masks.isEmpty()) {
        QStringList got;
        for (const std::string& each : found.found[0].masks) got << QString::fromStdString(each);
        QCOMPARE(got.isEmpty() ? "none" : got.join(' '), masks);
    }
    for (const AttentionSpec& spec : found.found) QVERIFY(spec.evidence.size() >= 3);
    const auto written = decompose(model, *flat.graph, *shapes, found, Expansion::canonical);
    QVERIFY2(written, written ? "" : written.error().message().c_str());
    if (const QString wanted = comment(source, "streams"); !wanted.isEmpty()) {
        QCOMPARE(streams(written->attentions[0]), wanted);
        QString named;
        for (const Evidence& each : found.found[0].evidence)
            if (each.role.size() == 1) named += text(each.role);
        QCOMPARE(named, QString(wanted).remove(' ').remove('+'));
    }
}

QTEST_APPLESS_MAIN(FormsTest)
#include "forms_test.moc"
