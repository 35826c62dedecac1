// The real window, driven with events.

#include "main_window.h"

#include <QAbstractItemModelTester>
#include <QElapsedTimer>
#include <QLabel>
#include <QLineEdit>
#include <QPushButton>
#include <QSignalSpy>
#include <QStandardPaths>
#include <QTableView>
#include <QTemporaryFile>
#include <QTest>

using namespace triptych;

class WindowTest : public QObject {
    Q_OBJECT
private slots:
    void initTestCase();
    void init();
    void cleanup();
    void emptyWindowOffersTheSamples();
    void opensAndPaintsBothSides();
    void clickOnAPatternChangesTheMetric();
    void undoBringsItBack();
    void toggleIsQuick();
    void badFileShowsTheBarAndKeepsTheModel();
    void selectionLightsTheOtherSide();
    void searchFindsANode();
    void patternModelKeepsItsPromises();
    void syncMovesBothSides();

private:
    void open(const char* name);
    void clickPattern(const QString& id);
    MainWindow* m_window = nullptr;
};

void WindowTest::initTestCase() {
    QCoreApplication::setOrganizationName("TriptychTest");
    QStandardPaths::setTestModeEnabled(true);
    qRegisterMetaType<std::vector<triptych::Marginal>>();
}

void WindowTest::init() {
    m_window = new MainWindow("light");
    m_window->show();
    QVERIFY(QTest::qWaitForWindowExposed(m_window));
}

void WindowTest::cleanup() { delete m_window; }

void WindowTest::open(const char* name) {
    QSignalSpy changed(&m_window->document(), &Document::changed);
    m_window->openFile(QStringLiteral(PROJECT_ROOT "/resources/samples/") + QLatin1String(name));
    QVERIFY(changed.wait(60000));
    QTRY_VERIFY(m_window->painted());
}

void WindowTest::clickPattern(const QString& id) {
    auto* view = m_window->findChild<QTableView*>("patterns");
    QAbstractItemModel* model = view->model();
    for (int row = 0; row < model->rowCount(); ++row) {
        if (model->index(row, 0).data(PatternModel::PatternRole).toString() != id) continue;
        view->scrollTo(model->index(row, 0));
        const QRect rect = view->visualRect(model->index(row, 0));
        QTest::mouseClick(view->viewport(), Qt::LeftButton, {}, QPoint(rect.x() + 11, rect.center().y()));
        return;
    }
    QFAIL(qPrintable("no row for " + id));
}

void WindowTest::emptyWindowOffersTheSamples() {
    const auto buttons = m_window->findChildren<QPushButton*>("sample");
    int samples = 0;
    for (QPushButton* button : buttons) samples += button->property("file").isValid();
    QCOMPARE(samples, 4);
}

void WindowTest::opensAndPaintsBothSides() {
    open("vit_b_16.fn.onnx");
    QCOMPARE(m_window->findChild<MetricsPanel*>()->shown("groups", "decomposed"), QString("161"));
    QVERIFY(!m_window->findChild<Canvas*>("baselineCanvas")->drawing().shapes.empty());
    QVERIFY(!m_window->findChild<Canvas*>("enhancedCanvas")->drawing().shapes.empty());
}

void WindowTest::clickOnAPatternChangesTheMetric() {
    open("vit_b_16.fn.onnx");
    auto* metrics = m_window->findChild<MetricsPanel*>();
    const int before = metrics->shown("launches", "enhanced").toInt();
    clickPattern("parallel.qkv");
    QTRY_COMPARE(metrics->shown("launches", "enhanced").toInt(), before + 24);
    QCOMPARE(metrics->shown("launches", "decomposed"), QString("173"));
    clickPattern("parallel.qkv");
    QTRY_COMPARE(metrics->shown("launches", "enhanced").toInt(), before);
}

void WindowTest::undoBringsItBack() {
    open("attention_block.onnx");
    auto* metrics = m_window->findChild<MetricsPanel*>();
    const QString before = metrics->shown("launches", "enhanced");
    clickPattern("parallel.qkv");
    QTRY_VERIFY(metrics->shown("launches", "enhanced") != before);
    m_window->document().undoStack()->undo();
    QTRY_COMPARE(metrics->shown("launches", "enhanced"), before);
    m_window->document().undoStack()->redo();
    QTRY_VERIFY(metrics->shown("launches", "enhanced") != before);
}

void WindowTest::toggleIsQuick() {
    open("vit_b_16.fn.onnx");
    QElapsedTimer timer;
    timer.start();
    m_window->document().toggle("parallel.qkv", false);
    m_window->grab(); // repaints all that changed
    const qint64 elapsed = timer.elapsed();
    qInfo("toggle and repaint: %lld ms", static_cast<long long>(elapsed));
#ifdef NDEBUG
    QVERIFY2(elapsed < 200, qPrintable(QString::number(elapsed))); // the bar is 50 ms on a quiet machine; this catches a relayout
#endif
}

void WindowTest::badFileShowsTheBarAndKeepsTheModel() {
    open("attention_block.onnx");
    QTemporaryFile bad;
    QVERIFY(bad.open());
    bad.write("not a model\n");
    bad.close();
    QSignalSpy failed(&m_window->document(), &Document::failed);
    m_window->openFile(bad.fileName());
    QVERIFY(failed.wait(10000));
    auto* text = m_window->findChild<QLabel*>("errorText");
    QVERIFY(text->isVisible());
    QVERIFY2(text->text().contains("text file"), qPrintable(text->text()));
    QVERIFY(m_window->document().file().endsWith("attention_block.onnx"));
    QVERIFY(!m_window->findChild<Canvas*>("enhancedCanvas")->drawing().shapes.empty());
}

void WindowTest::selectionLightsTheOtherSide() {
    open("vit_b_16.fn.onnx");
    const Analysis& analysis = *m_window->document().snapshot().analysis;
    NodeId call;
    for (std::size_t i = 0; i < analysis.baseline.graph->nodes().size() && !call; ++i)
        if (analysis.model->function(analysis.baseline.graph->nodes()[i])) call = NodeId(i);
    QVERIFY(call.valid());
    QVERIFY2(analysis.counterparts.inEnhanced(call).size() >= 12, "an opaque attention stands for all that it was written out as");
    QVERIFY(m_window->selectNamed(QString::fromStdString(analysis.baseline.graph->node(call).name)));
    QCOMPARE(m_window->findChild<Canvas*>("baselineCanvas")->selected(), int(call.position()));
    QVERIFY(m_window->findChild<Inspector*>()->toPlainText().contains("12 heads of 64"));
}

void WindowTest::searchFindsANode() {
    open("attention_block.onnx");
    auto* field = m_window->findChild<QLineEdit*>("search");
    field->setFocus();
    QTest::keyClicks(field, "softmax");
    QTest::keyClick(field, Qt::Key_Return);
    const int node = m_window->findChild<Canvas*>("enhancedCanvas")->selected();
    QVERIFY(node >= 0);
    QCOMPARE(m_window->document().snapshot().analysis->enhanced.graph->nodes()[std::size_t(node)].op, std::string("Softmax"));
}

void WindowTest::patternModelKeepsItsPromises() {
    PatternModel model;
    const QAbstractItemModelTester tester(&model, QAbstractItemModelTester::FailureReportingMode::QtTest);
    open("attention_block.onnx");
    model.setAnalysis(m_window->document().snapshot().analysis);
    QVERIFY(model.rowCount() >= 40);
    QSignalSpy toggled(&model, &PatternModel::patternToggled);
    QVERIFY(model.setData(model.index(0, 0), Qt::Unchecked, Qt::CheckStateRole));
    QCOMPARE(toggled.size(), 1);
    // Numbers fit their columns: a small saving isn't cut to its last digits.
    const auto shown = [&](std::int64_t bytes, double microseconds) {
        model.setEffects(std::vector<Marginal>(m_window->document().snapshot().analysis->library->patterns.size(), Marginal{1, bytes, microseconds}));
        return model.index(0, PatternModel::BytesColumn).data().toString() + ' ' + model.index(0, PatternModel::TimeColumn).data().toString();
    };
    QCOMPARE(shown(65'500, -0.00548), QStringLiteral("−0.066 +0.005"));
    QCOMPARE(shown(12'300'000, 0.00001), QStringLiteral("−12.3 −0.000"));
    QCOMPARE(shown(0, 1'234'567), QStringLiteral("0 −1235k"));
}

void WindowTest::syncMovesBothSides() {
    open("vit_b_16.fn.onnx");
    auto* left = m_window->findChild<Canvas*>("baselineCanvas");
    auto* right = m_window->findChild<Canvas*>("enhancedCanvas");
    const QPointF before = right->centre();
    left->centreOn(left->drawing().shapes.back().subject);
    for (const Shape& shape : left->drawing().shapes)
        if (shape.role == Role::opaque) left->centreOn(shape.subject);
    QVERIFY(right->centre() != before);
    QCOMPARE(right->scale(), left->scale());
}

QTEST_MAIN(WindowTest)
#include "window_test.moc"
