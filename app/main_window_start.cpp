// What the window offers before a model is open, and in the Open menu.
#include "main_window.h"

#include "bindings_dialog.h"
#include "settings.h"

#include <QBoxLayout>
#include <QFileDialog>
#include <QFileInfo>
#include <QLabel>
#include <QMenu>
#include <QPushButton>
#include <QScrollArea>

namespace triptych {

namespace {

/// The bundled samples: file in the resources, title, what it shows.
struct Sample {
    const char *file, *title, *shows;
};
constexpr Sample samples[]{
    {"vit_b_16.fn.onnx", QT_TRANSLATE_NOOP("MainWindow", "ViT-B/16, attention as a function"), QT_TRANSLATE_NOOP("MainWindow", "twelve opaque calls that a compiler can't look into")},
    {"vit_b.separate.onnx", QT_TRANSLATE_NOOP("MainWindow", "ViT-B/16, spelled out"), QT_TRANSLATE_NOOP("MainWindow", "Q, K and V apart, a batch to bind")},
    {"bert_base.onnx", QT_TRANSLATE_NOOP("MainWindow", "BERT-base"), QT_TRANSLATE_NOOP("MainWindow", "an exporter's shape arithmetic round the same structure")},
    {"attention_block.onnx", QT_TRANSLATE_NOOP("MainWindow", "One encoder block"), QT_TRANSLATE_NOOP("MainWindow", "to learn the patterns on")},
};

QLabel* label(const QString& text, const char* name) {
    auto* made = new QLabel(text);
    made->setObjectName(QLatin1String(name));
    return made;
}

} // namespace

void MainWindow::refreshRecent() {
    m_recent->clear();
    m_recent->addAction(tr("Choose a file…"), this, [this] {
        const QString file = QFileDialog::getOpenFileName(this, tr("Open a model"), {}, tr("ONNX models (*.onnx);;All files (*)"));
        if (!file.isEmpty()) openFile(file);
    });
    m_recent->addSection(tr("Samples"));
    for (const Sample& sample : samples) m_recent->addAction(tr(sample.title), this, [this, file = QString::fromLatin1(sample.file)] { openFile(sampleFile(file)); });
    const QStringList files = Settings().recent();
    if (!files.isEmpty()) m_recent->addSection(tr("Recent"));
    for (const QString& file : files) m_recent->addAction(QFileInfo(file).fileName(), this, [this, file] { openFile(file); })->setToolTip(file);
}

QWidget* MainWindow::emptyCard() {
    auto* card = new QWidget;
    card->setObjectName("card");
    auto* column = new QVBoxLayout(card);
    column->addStretch();
    const auto centred = [&](QWidget* widget) { column->addWidget(widget, 0, Qt::AlignHCenter); };
    centred(label(tr("What would fuse here, and what would it really save?"), "welcome"));
    centred(label(tr("Drop an ONNX file here, open one with Ctrl+O, or begin with a sample"), "dim"));
    column->addSpacing(14);
    for (const Sample& sample : samples) {
        auto* button = new QPushButton(tr(sample.title) + QStringLiteral("  —  ") + tr(sample.shows));
        button->setObjectName("sample");
        button->setProperty("file", QLatin1String(sample.file));
        connect(button, &QPushButton::clicked, this, [this, file = QString::fromLatin1(sample.file)] { openFile(sampleFile(file)); });
        centred(button);
    }
    for (const QString& file : Settings().recent().mid(0, 4)) {
        auto* button = new QPushButton;
        button->setObjectName("sample");
        button->ensurePolished();
        constexpr int widest = 440;
        button->setText(button->fontMetrics().elidedText(QFileInfo(file).fileName() + QStringLiteral("  —  ") + QFileInfo(file).absolutePath(), Qt::ElideMiddle, widest));
        button->setToolTip(file);
        connect(button, &QPushButton::clicked, this, [this, file] { openFile(file); });
        centred(button);
    }
    column->addSpacing(10);
    QLabel* lesson = label(tr("Lesson: select an attention on the left and see on the right what it is made of; then switch patterns and watch the metrics"), "dim");
    lesson->setWordWrap(true);
    lesson->setAlignment(Qt::AlignHCenter);
    lesson->setFixedSize(460, 36);
    centred(lesson);
    column->addStretch();
    // A small window scrolls it: what isn't seen any more later must not hold the window wide.
    auto* scroll = new QScrollArea;
    scroll->setObjectName("cardFrame");
    scroll->setWidget(card);
    scroll->setWidgetResizable(true);
    scroll->setFrameShape(QFrame::NoFrame);
    return scroll;
}

} // namespace triptych
