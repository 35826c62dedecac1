// The file changes under the window, or asks for something that only the user can give.

#include "main_window.h"

#include <QFile>
#include <QLabel>
#include <QMessageBox>
#include <QPushButton>
#include <QSignalSpy>
#include <QSpinBox>
#include <QStandardPaths>
#include <QTemporaryDir>
#include <QTest>
#include <QTimer>

using namespace triptych;

class ReloadTest : public QObject {
    Q_OBJECT
private slots:
    void initTestCase();
    void init();
    void cleanup();
    void aRewrittenFileIsReadAgain();
    void aReplacedFileIsReadAgain();
    void aBusyFolderIsNoHindrance();
    void aToggleLeavesARunAlone();
    void halfAFileKeepsThePicture();
    void aFileThatFailedFirstIsReadOnceItIsWhole();
    void viewTogglesAndSelectionStay();
    void sizesAreOfferedAtOpening();
    void refusedFoldersCanBeAllowed();
    void changedWeightsAreReadAgain();

private:
    static QByteArray sample(const QString& name) {
        QFile file(QStringLiteral(PROJECT_ROOT "/") + name);
        return file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
    }
    static void write(const QString& path, const QByteArray& bytes) {
        QFile file(path);
        if (!file.open(QIODevice::WriteOnly | QIODevice::Truncate)) qFatal("cannot write");
        file.write(bytes);
    }
    void open(const QString& path) {
        QSignalSpy changed(&m_window->document(), &Document::changed);
        m_window->openFile(path);
        QVERIFY(changed.wait(60000));
    }
    std::size_t nodeCount() const { return m_window->document().snapshot().analysis->model->graph->nodes().size(); }
    template <class T> T* child(const char* name) const { return m_window->findChild<T*>(QLatin1String(name)); }

    std::unique_ptr<QTemporaryDir> m_folder;
    QString m_file;
    MainWindow* m_window = nullptr;
};

void ReloadTest::initTestCase() {
    QStandardPaths::setTestModeEnabled(true);
    qRegisterMetaType<std::vector<triptych::Marginal>>();
}

void ReloadTest::init() {
    m_folder = std::make_unique<QTemporaryDir>();
    m_file = m_folder->filePath("model.onnx");
    m_window = new MainWindow("light");
    m_window->show();
    QVERIFY(QTest::qWaitForWindowExposed(m_window));
}

void ReloadTest::cleanup() { delete m_window; }

void ReloadTest::aRewrittenFileIsReadAgain() {
    write(m_file, sample("tests/data/outside.onnx"));
    open(m_file);
    QCOMPARE(nodeCount(), std::size_t(1));
    // In two pieces, as exporters write: it is read once both are there.
    const QByteArray next = sample("resources/samples/attention_block.onnx");
    QSignalSpy failed(&m_window->document(), &Document::reloadFailed);
    QFile file(m_file);
    QVERIFY(file.open(QIODevice::WriteOnly | QIODevice::Truncate));
    file.write(next.left(next.size() / 2));
    file.flush();
    QTest::qWait(150);
    file.write(next.mid(next.size() / 2));
    file.close();
    QTRY_COMPARE_WITH_TIMEOUT(nodeCount(), std::size_t(83), 20000);
    QCOMPARE(failed.size(), 0);
}

void ReloadTest::aReplacedFileIsReadAgain() {
    write(m_file, sample("tests/data/outside.onnx"));
    open(m_file);
    for (const auto& [name, nodes] : {std::pair("resources/samples/attention_block.onnx", 83), std::pair("tests/data/control_flow.onnx", 5)}) {
        const QString beside = m_folder->filePath("model.onnx.part");
        write(beside, sample(QLatin1String(name)));
        QCOMPARE(std::rename(qPrintable(beside), qPrintable(m_file)), 0);
        QTRY_COMPARE_WITH_TIMEOUT(nodeCount(), std::size_t(nodes), 20000);
    }
}

void ReloadTest::aBusyFolderIsNoHindrance() {
    write(m_file, sample("tests/data/outside.onnx"));
    open(m_file);
    // Files come and go beside it, more often than a version needs to settle.
    QTimer others;
    int count = 0;
    connect(&others, &QTimer::timeout, this, [&] { write(m_folder->filePath(QString::number(++count)), "x"); });
    others.start(50);
    write(m_file, sample("resources/samples/attention_block.onnx"));
    QTRY_COMPARE_WITH_TIMEOUT(nodeCount(), std::size_t(83), 5000);
}

void ReloadTest::aToggleLeavesARunAlone() {
    write(m_file, sample("resources/samples/vit_b_16.fn.onnx"));
    open(m_file);
    Document& document = m_window->document();
    QSignalSpy changed(&document, &Document::changed);
    document.reload();
    document.toggle("parallel.qkv", false);
    // What it shows at once, what is read again, and the choice once more on that.
    QTRY_COMPARE_WITH_TIMEOUT(changed.size(), 3, 20000);
    QVERIFY(!document.busy());
    QCOMPARE(document.options().disable, std::vector<std::string>{"parallel.qkv"});
    QCOMPARE(document.snapshot().analysis->options.disable, std::vector<std::string>{"parallel.qkv"});
}

void ReloadTest::halfAFileKeepsThePicture() {
    const QByteArray whole = sample("resources/samples/attention_block.onnx");
    write(m_file, whole);
    open(m_file);
    const std::size_t shapes = child<Canvas>("enhancedCanvas")->drawing().shapes.size();
    QSignalSpy failed(&m_window->document(), &Document::reloadFailed);
    write(m_file, whole.left(whole.size() / 2));
    QVERIFY(failed.wait(20000));
    auto* text = child<QLabel>("errorText");
    QVERIFY(text->isVisible());
    QVERIFY2(text->text().contains("can't be read now"), qPrintable(text->text()));
    QCOMPARE(child<Canvas>("enhancedCanvas")->drawing().shapes.size(), shapes);
    QCOMPARE(nodeCount(), std::size_t(83));
    // The rest arrives: the message goes.
    write(m_file, whole);
    QTRY_VERIFY_WITH_TIMEOUT(!text->isVisible(), 20000);
}

void ReloadTest::aFileThatFailedFirstIsReadOnceItIsWhole() {
    const QByteArray whole = sample("resources/samples/attention_block.onnx");
    write(m_file, whole.left(whole.size() / 2));
    QSignalSpy failed(&m_window->document(), &Document::failed), changed(&m_window->document(), &Document::changed);
    m_window->openFile(m_file);
    QVERIFY(failed.wait(20000));
    write(m_file, whole);
    QVERIFY(changed.count() == 1 || changed.wait(20000));
    QCOMPARE(nodeCount(), std::size_t(83));
    QVERIFY(!child<QLabel>("errorText")->isVisible());
}

void ReloadTest::viewTogglesAndSelectionStay() {
    const QByteArray model = sample("resources/samples/vit_b_16.fn.onnx");
    write(m_file, model);
    open(m_file);
    m_window->document().toggle("parallel.qkv", false);
    auto* canvas = child<Canvas>("enhancedCanvas");
    const Graph& before = *m_window->document().snapshot().analysis->enhanced.graph;
    NodeId softmax;
    for (std::size_t i = 0; i < before.nodes().size(); ++i)
        if (before.nodes()[i].is("Softmax")) softmax = NodeId(i);
    const std::string name = before.node(softmax).name;
    QVERIFY(m_window->selectNamed(QString::fromStdString(name)));
    const QString folded = QString::fromStdString(m_window->document().snapshot().enhanced->blocks[3].key);
    {
        QSignalSpy changed(&m_window->document(), &Document::changed);
        m_window->document().expand(1, folded);
        QVERIFY(changed.wait(60000));
    }
    const auto opened = [&] {
        const Layout& layout = *m_window->document().snapshot().enhanced;
        return std::count_if(layout.placed.begin(), layout.placed.end(), [](const PlacedBlock& placed) { return !placed.collapsed; });
    };
    const auto openBlocks = opened();
    canvas->setView(0.7, canvas->centre() + QPointF(40, 11));
    const QPointF centre = canvas->centre();
    QSignalSpy changed(&m_window->document(), &Document::changed);
    QTest::qWait(20);
    write(m_file, model + QByteArray("\x12\x01x")); // another producer_name: the same graph in a file that differs
    QVERIFY(changed.wait(60000));
    const Analysis& after = *m_window->document().snapshot().analysis;
    QCOMPARE(m_window->document().snapshot().change, Change::reloaded);
    QCOMPARE(canvas->scale(), 0.7);
    QVERIFY2(QLineF(canvas->centre(), centre).length() < 0.5, qPrintable(QString::number(QLineF(canvas->centre(), centre).length())));
    QVERIFY(canvas->selected() >= 0);
    QCOMPARE(after.enhanced.graph->nodes()[std::size_t(canvas->selected())].name, name);
    QCOMPARE(after.options.disable, std::vector<std::string>{"parallel.qkv"});
    QCOMPARE(opened(), openBlocks);
    QVERIFY(m_window->document().undoStack()->canUndo());
}

void ReloadTest::sizesAreOfferedAtOpening() {
    open(QStringLiteral(PROJECT_ROOT "/resources/samples/vit_b.separate.onnx"));
    auto* text = child<QLabel>("sizesText");
    QVERIFY(text->isVisible());
    QVERIFY2(text->text().contains("batch"), qPrintable(text->text()));
    auto* bar = text->parentWidget();
    QTest::mouseClick(bar->findChildren<QPushButton*>().first(), Qt::LeftButton);
    auto* dialog = child<QDialog>("sizes"); // there already: opening it waits for nobody
    QVERIFY(dialog && dialog->isVisible());
    const auto bindings = m_window->document().snapshot().analysis->bindings;
    auto* box = dialog->findChild<QSpinBox*>(QString::fromStdString(bindings.begin()->first));
    QVERIFY(box);
    box->setValue(6);
    QSignalSpy changed(&m_window->document(), &Document::changed);
    dialog->findChildren<QPushButton*>().first()->click();
    QVERIFY(changed.wait(60000));
    QCOMPARE(m_window->document().snapshot().analysis->bindings.begin()->second, 6);
    QVERIFY2(text->text().contains("6"), qPrintable(text->text()));
    open(QStringLiteral(PROJECT_ROOT "/resources/samples/attention_block.onnx"));
    QVERIFY2(!text->isVisible() || !symbolicDims(*m_window->document().snapshot().analysis->model->graph).empty(), "nothing to bind, nothing to ask");
}

void ReloadTest::refusedFoldersCanBeAllowed() {
    const QDir root(m_folder->path());
    QVERIFY(root.mkdir("model") && root.mkdir("weights"));
    write(root.filePath("model/outside.onnx"), sample("tests/data/outside.onnx"));
    write(root.filePath("weights/weights.bin"), QByteArray(64 * 64 * 4, '\x3c'));
    open(root.filePath("model/outside.onnx"));
    auto* text = child<QLabel>("accessText");
    QVERIFY(text->isVisible());
    QVERIFY2(text->text().contains("weights"), qPrintable(text->text()));
    const auto place = [&] {
        const Graph& graph = *m_window->document().snapshot().analysis->model->graph;
        return graph.value(graph.findValue("w")).initializer->payload.place;
    };
    QCOMPARE(place(), Payload::Place::absent);
    QTest::mouseClick(text->parentWidget()->findChildren<QPushButton*>().first(), Qt::LeftButton);
    auto* question = child<QMessageBox>("allowFolder");
    QVERIFY(question && question->isVisible());
    QTest::mouseClick(question->button(QMessageBox::Yes), Qt::LeftButton);
    QTRY_COMPARE_WITH_TIMEOUT(place(), Payload::Place::external, 20000);
    QVERIFY(!text->isVisible());
}

void ReloadTest::changedWeightsAreReadAgain() {
    const QDir root(m_folder->path());
    QVERIFY(root.mkdir("model") && root.mkdir("weights"));
    const QString weights = root.filePath("weights/weights.bin");
    write(root.filePath("model/outside.onnx"), sample("tests/data/outside.onnx"));
    open(root.filePath("model/outside.onnx"));
    QSignalSpy changed(&m_window->document(), &Document::changed);
    m_window->document().allowFolder(root.filePath("weights"));
    QVERIFY(changed.wait(20000));
    const auto content = [&]() -> QByteArray {
        const Model& model = *m_window->document().snapshot().analysis->model;
        const auto bytes = readPayload(model, *model.graph->value(model.graph->findValue("w")).initializer);
        return bytes ? QByteArray(reinterpret_cast<const char*>(bytes->data()), qsizetype(bytes->size())) : QByteArray();
    };
    QCOMPARE(content(), QByteArray());
    const QByteArray first(64 * 64 * 4, '\x3c'), second(64 * 64 * 4, '\x3d');
    write(weights, first); // it appears
    QTRY_COMPARE_WITH_TIMEOUT(content(), first, 20000);
    QTest::qWait(20);
    write(weights, second); // in place
    QTRY_COMPARE_WITH_TIMEOUT(content(), second, 20000);
    QTest::qWait(20);
    write(weights + "_", first);
    QVERIFY(QFile::remove(weights) && QFile::rename(weights + "_", weights)); // replaced
    QTRY_COMPARE_WITH_TIMEOUT(content(), first, 20000);
}

QTEST_MAIN(ReloadTest)
#include "reload_test.moc"
