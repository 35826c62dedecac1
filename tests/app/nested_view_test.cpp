// Going into graphs that nodes hold, and out again; and the overview in the corner.

#include "main_window.h"
#include "minimap.h"

#include <QLabel>
#include <QPushButton>
#include <QSignalSpy>
#include <QStandardPaths>
#include <QTest>

using namespace triptych;

class NestedViewTest : public QObject {
    Q_OBJECT
private slots:
    void initTestCase();
    void init();
    void cleanup();
    void enterAndBackByKeyboard();
    void doubleClickEnters();
    void crumbsLeadAnywhere();
    void branchesAreSwitched();
    void callsThatStayCallsOpen();
    void nestedNodesCanBeInspected();
    void theOverviewShowsAndMovesTheView();

private:
    void open(const char* name) {
        QSignalSpy changed(&m_window->document(), &Document::changed);
        m_window->openFile(QStringLiteral(PROJECT_ROOT "/") + QLatin1String(name));
        QVERIFY(changed.wait(60000));
        QTRY_VERIFY(m_window->painted());
    }
    Canvas* canvas(int side) const { return m_window->findChild<Canvas*>(side == 0 ? "baselineCanvas" : "enhancedCanvas"); }
    const Graph& shown(std::size_t side) const { return *m_window->document().snapshot().projected(side).graph; }
    void enter(const char* name) {
        QVERIFY(m_window->selectNamed(name));
        QSignalSpy changed(&m_window->document(), &Document::changed);
        canvas(0)->setFocus();
        QTest::keyClick(canvas(0), Qt::Key_Return);
        QVERIFY(changed.wait(20000));
    }
    QPushButton* crumb(const QString& text) const {
        QCoreApplication::processEvents(); // widgets added to a visible bar show in the next round
        for (QPushButton* each : m_window->findChildren<QPushButton*>("crumb"))
            if (each->text() == text && each->isVisible()) return each;
        return nullptr;
    }
    MainWindow* m_window = nullptr;
};

void NestedViewTest::initTestCase() {
    QStandardPaths::setTestModeEnabled(true);
    qRegisterMetaType<std::vector<triptych::Marginal>>();
}

void NestedViewTest::init() {
    m_window = new MainWindow("light");
    m_window->show();
    QVERIFY(QTest::qWaitForWindowExposed(m_window));
}

void NestedViewTest::cleanup() { delete m_window; }

void NestedViewTest::enterAndBackByKeyboard() {
    open("tests/data/control_flow.onnx");
    const std::size_t outside = shown(0).nodes().size();
    const double scale = canvas(0)->scale();
    enter("loop");
    QCOMPARE(shown(0).nodes().size(), std::size_t(7));
    QCOMPARE(shown(1).nodes().size(), m_window->document().snapshot().analysis->enhanced.graph->nodes().size());
    QVERIFY(crumb("loop (Loop)") && crumb("body"));
    QVERIFY(!canvas(0)->drawing().shapes.empty());
    enter("choose");
    QCOMPARE(shown(0).nodes().size(), std::size_t(1));
    QTest::keyClick(canvas(0), Qt::Key_Backspace);
    QCOMPARE(shown(0).nodes().size(), std::size_t(7));
    QTest::keyClick(m_window, Qt::Key_Escape);
    QCOMPARE(shown(0).nodes().size(), outside);
    QVERIFY(!crumb("Model"));
    QCOMPARE(canvas(0)->scale(), scale);
    QCOMPARE(shown(0).nodes()[std::size_t(canvas(0)->selected())].name, std::string("loop"));
}

void NestedViewTest::doubleClickEnters() {
    open("tests/data/control_flow.onnx");
    const NodeId loop = shown(0).findNode("loop");
    canvas(0)->centreOn(int(loop.position()));
    QSignalSpy changed(&m_window->document(), &Document::changed);
    const QPoint middle = canvas(0)->viewport()->rect().center();
    QTest::mouseClick(canvas(0)->viewport(), Qt::LeftButton, {}, middle);
    QTest::mouseDClick(canvas(0)->viewport(), Qt::LeftButton, {}, middle);
    QVERIFY(changed.wait(20000));
    QCOMPARE(shown(0).nodes().size(), std::size_t(7));
    // A node that holds nothing stays a node.
    canvas(0)->centreOn(int(shown(0).findNode("body_add").position()));
    QTest::mouseDClick(canvas(0)->viewport(), Qt::LeftButton, {}, canvas(0)->viewport()->rect().center());
    QVERIFY(!m_window->document().busy());
}

void NestedViewTest::crumbsLeadAnywhere() {
    open("tests/data/control_flow.onnx");
    enter("loop");
    enter("choose");
    QTest::mouseClick(crumb("body"), Qt::LeftButton);
    QCOMPARE(shown(0).nodes().size(), std::size_t(7));
    enter("choose");
    QTest::mouseClick(crumb("Model"), Qt::LeftButton);
    QVERIFY(shown(0).findNode("loop").valid());
    QCOMPARE(m_window->document().snapshot().entered[0].size(), std::size_t(0));
}

void NestedViewTest::branchesAreSwitched() {
    open("tests/data/control_flow.onnx");
    enter("loop");
    enter("choose");
    QSignalSpy changed(&m_window->document(), &Document::changed);
    QVERIFY(crumb("else_branch"));
    QTest::mouseClick(crumb("else_branch"), Qt::LeftButton);
    QVERIFY(changed.wait(20000));
    QVERIFY(shown(0).findNode("else_tanh").valid());
    QVERIFY(crumb("else_branch")->isChecked() && !crumb("then_branch")->isChecked());
}

void NestedViewTest::callsThatStayCallsOpen() {
    open("resources/samples/vit_b_16.fn.onnx");
    const Analysis& analysis = *m_window->document().snapshot().analysis;
    std::string call;
    for (const Node& node : analysis.baseline.graph->nodes())
        if (call.empty() && analysis.model->function(node)) call = node.name;
    enter(call.c_str());
    QVERIFY(shown(0).nodes().size() > 10);
    const Projected& inside = m_window->document().snapshot().projected(0);
    std::size_t unknown = 0;
    for (const Node& node : inside.graph->nodes()) unknown += !inside.shapes->of(node.output()).known();
    QCOMPARE(unknown, std::size_t(0)); // a call's arguments tell all shapes
    m_window->document().toggle("parallel.qkv", false);
    QVERIFY2(shown(0).nodes().size() > 10, "a toggle leaves the view where it is");
}

void NestedViewTest::nestedNodesCanBeInspected() {
    open("tests/data/control_flow.onnx");
    enter("loop");
    QVERIFY(m_window->selectNamed("body_add"));
    const QString text = m_window->findChild<Inspector*>()->toPlainText();
    QVERIFY2(text.contains("body_add") && !text.contains("shape unknown"), qPrintable(text));
    QVERIFY2(!text.contains("launches"), "nothing is measured inside");
}

void NestedViewTest::theOverviewShowsAndMovesTheView() {
    open("resources/samples/vit_b_16.fn.onnx");
    auto* map = canvas(1)->findChild<Minimap*>();
    QVERIFY(map && map->isVisible());
    const QPointF before = canvas(1)->centre();
    QTest::mouseClick(map, Qt::LeftButton, {}, QPoint(map->width() / 2, map->height() - 8));
    QVERIFY(canvas(1)->centre().y() > before.y() + 500);
    QVERIFY2(canvas(0)->centre().y() > 500, "the other side follows");
    canvas(1)->fit();
    QVERIFY2(!map->isVisible(), "all is in view");
    QTest::keyClick(canvas(1), Qt::Key_Plus);
    QTest::keyClick(canvas(1), Qt::Key_Plus);
    QVERIFY(map->isVisible());
}

QTEST_MAIN(NestedViewTest)
#include "nested_view_test.moc"
