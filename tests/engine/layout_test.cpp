// Where everything goes: nothing overlaps, nothing is lost, copies look alike, and Graphviz may fail.

#include "drawing/draw.h"
#include "graph/text.h"

#include <QFile>
#include <QTest>
#include <QXmlStreamReader>

using namespace triptych;

class LayoutTest : public QObject {
    Q_OBJECT
private slots:
    void nothingOverlapsAndNothingIsLost_data();
    void nothingOverlapsAndNothingIsLost();
    void missingHelperGivesThePlainLayout();
    void copiesOfABlockLookAlike();
    void idsAreUniqueAndSvgParses();
    void tagsAreCutWhereTheyWouldMeet();
    void decomposedGraphMatchesItsGolden();

private:
    static AnalysisPtr sample(const QString& name) {
        auto analysis = analyze(std::filesystem::path((PROJECT_ROOT "/resources/samples/" + name).toStdString()), {});
        if (!analysis) qFatal("%s", analysis.error().message().c_str());
        return *analysis;
    }
};

void LayoutTest::nothingOverlapsAndNothingIsLost_data() {
    QTest::addColumn<QString>("name");
    QTest::addColumn<bool>("graphviz");
    for (const char* name : {"vit_b_16.fn.onnx", "bert_base.onnx", "attention_block.onnx"})
        for (const bool graphviz : {true, false}) QTest::addRow("%s %s", name, graphviz ? "graphviz" : "plain") << name << graphviz;
}

void LayoutTest::nothingOverlapsAndNothingIsLost() {
    QFETCH(QString, name);
    QFETCH(bool, graphviz);
    const auto analysis = sample(name);
    LayoutOptions options;
    options.expandAll = true;
    if (!graphviz) options.helper = "/nonexistent";
    for (const Projected* projected : {&analysis->baseline, &analysis->enhanced}) {
        const auto layout = layOut(*projected, analysis->attentions, projected == &analysis->enhanced ? analysis->decomposition.get() : nullptr, options);
        QVERIFY2(layout.has_value(), layout ? "" : layout.error().message().c_str());
        QCOMPARE((*layout)->warnings.empty(), graphviz);
        std::set<NodeId> placed;
        float above = -1;
        for (const PlacedBlock& block : (*layout)->placed) {
            QVERIFY(block.box.y > above);
            above = block.box.bottom();
            for (std::size_t i = 0; i < block.nodes.size(); ++i) {
                QVERIFY(placed.insert(block.nodes[i].node).second);
                for (std::size_t j = i + 1; j < block.nodes.size(); ++j) QVERIFY(!block.nodes[i].box.meets(block.nodes[j].box));
            }
        }
        std::size_t wanted = 0;
        for (std::size_t i = 0; i < projected->graph->nodes().size(); ++i) {
            const NodeClass nodeClass = projected->classes->of[NodeId(i)];
            wanted += (nodeClass == NodeClass::compute || nodeClass == NodeClass::view) && drawnAs(*projected->classes, NodeId(i)) == NodeId(i);
        }
        QCOMPARE(placed.size(), wanted);
    }
}

void LayoutTest::missingHelperGivesThePlainLayout() {
    const auto analysis = sample("attention_block.onnx");
    LayoutOptions options;
    options.helper = "/bin/false"; // starts, and answers nothing
    const auto layout = layOut(analysis->baseline, analysis->attentions, nullptr, options);
    QVERIFY(layout.has_value());
    QCOMPARE((*layout)->warnings.size(), 1U);
    QVERIFY(!(*layout)->placed.empty());
}

void LayoutTest::copiesOfABlockLookAlike() {
    const auto analysis = sample("vit_b_16.fn.onnx");
    LayoutOptions options;
    options.expandAll = true;
    const auto layout = layOut(analysis->enhanced, analysis->attentions, analysis->decomposition.get(), options);
    QVERIFY(layout.has_value());
    std::map<std::uint64_t, const PlacedBlock*> first;
    int compared = 0;
    for (const PlacedBlock& placed : (*layout)->placed) {
        const Block& block = (*layout)->blocks[placed.block];
        const auto [known, fresh] = first.try_emplace(block.hash, &placed);
        if (fresh || known->second->nodes.size() != placed.nodes.size() || known->second->standIns.size() != placed.standIns.size()) continue;
        for (std::size_t i = 0; i < placed.nodes.size(); ++i) {
            const Box &a = known->second->nodes[i].box, &b = placed.nodes[i].box;
            QVERIFY(std::abs((a.x - known->second->box.x) - (b.x - placed.box.x)) < 0.6F);
            QVERIFY(std::abs((a.y - known->second->box.y) - (b.y - placed.box.y)) < 0.6F);
        }
        ++compared;
    }
    QVERIFY(compared >= 10);
}

void LayoutTest::idsAreUniqueAndSvgParses() {
    const auto analysis = sample("bert_base.onnx");
    const auto baseline = layOut(analysis->baseline, analysis->attentions, nullptr, {}), enhanced = layOut(analysis->enhanced, analysis->attentions, analysis->decomposition.get(), {});
    QVERIFY(baseline.has_value() && enhanced.has_value());
    const DisplayList sheet = drawSheet(*analysis, **baseline, **enhanced, View::both);
    std::set<std::string> ids;
    for (const Shape& shape : sheet.shapes) QVERIFY2(ids.insert(shape.id).second, shape.id.c_str());
    for (const Theme* theme : {&lightTheme(), &darkTheme()}) {
        QXmlStreamReader xml(QByteArray::fromStdString(writeSvg(sheet, *theme, "a & b <c>")));
        std::size_t groups = 0;
        while (!xml.atEnd())
            if (xml.readNext() == QXmlStreamReader::StartElement && xml.name() == QLatin1String("g")) ++groups;
        QVERIFY2(!xml.hasError(), qPrintable(xml.errorString()));
        QCOMPARE(groups, sheet.shapes.size());
    }
}

// Two merged projections side by side: an image's and its text's.
void LayoutTest::tagsAreCutWhereTheyWouldMeet() {
    QFile in(TEST_DATA "/forms/joint_text_first.txt");
    QVERIFY(in.open(QIODevice::ReadOnly));
    const auto graph = parseText(in.readAll().toStdString());
    QVERIFY(graph.has_value());
    auto model = std::make_shared<Model>();
    model->graph = *graph;
    model->opsets[""] = 17;
    const auto analysis = analyze(model, {});
    QVERIFY(analysis.has_value());
    const auto layout = layOut((*analysis)->enhanced, (*analysis)->attentions, (*analysis)->decomposition.get(), {});
    QVERIFY(layout.has_value());
    std::vector<Shape> tags;
    for (const Shape& shape : draw((*analysis)->enhanced, **layout, **analysis).shapes)
        if (shape.id.find("-tag-") != std::string::npos) tags.push_back(shape);
    QVERIFY(std::count_if(tags.begin(), tags.end(), [](const Shape& tag) { return tag.labels[0].text.find("launches") != std::string::npos; }) >= 2);
    for (std::size_t i = 0; i < tags.size(); ++i) {
        QVERIFY(textWidth(tags[i].labels[0].text, 10, Font::words, true) <= tags[i].box.width);
        for (std::size_t j = i + 1; j < tags.size(); ++j) QVERIFY2(!tags[i].box.meets(tags[j].box), (tags[i].labels[0].text + " | " + tags[j].labels[0].text).c_str());
    }
}

// A golden is read by a person before it is accepted: tests/data/packed_attention.golden.txt.
void LayoutTest::decomposedGraphMatchesItsGolden() {
    QFile in(TEST_DATA "/packed_attention.txt"), golden(TEST_DATA "/packed_attention.golden.txt");
    QVERIFY(in.open(QIODevice::ReadOnly) && golden.open(QIODevice::ReadOnly));
    const auto graph = parseText(in.readAll().toStdString());
    QVERIFY(graph.has_value());
    auto model = std::make_shared<Model>();
    model->graph = *graph;
    model->opsets[""] = 17;
    const auto analysis = analyze(model, {});
    QVERIFY(analysis.has_value());
    QCOMPARE(QString::fromStdString(printText(*(*analysis)->decomposed.graph)), QString::fromUtf8(golden.readAll()));
}

QTEST_GUILESS_MAIN(LayoutTest)
#include "layout_test.moc"
