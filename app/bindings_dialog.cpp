#include "bindings_dialog.h"

#include <QDialog>
#include <QDialogButtonBox>
#include <QDir>
#include <QFile>
#include <QFormLayout>
#include <QLabel>
#include <QScrollArea>
#include <QSpinBox>
#include <QStandardPaths>
#include <QVBoxLayout>
#include <climits>

namespace triptych {

namespace {

QString useOf(const SymbolicDim& dim) {
    static const std::map<std::string, QString> words{{"batch", QDialog::tr("batch")}, {"sequence", QDialog::tr("sequence")}, {"past", QDialog::tr("past length")}, {"image", QDialog::tr("pixels")},
                                                      {"samples", QDialog::tr("samples")}, {"channels", QDialog::tr("channels")}, {"features", QDialog::tr("features")}, {"switch", QDialog::tr("switch")}, {"value", QDialog::tr("value")}};
    const auto found = words.find(dim.use);
    return found == words.end() ? QString() : found->second;
}

QString nameOf(const SymbolicDim& dim) {
    constexpr int most = 60;
    const QString name = QString::fromStdString(dim.name.substr(0, 4 * most));
    return name.size() > most ? name.left(most) + QStringLiteral("…") : name;
}

} // namespace

QString describeSizes(const std::vector<SymbolicDim>& dims, const Bindings& present) {
    constexpr std::size_t most = 6;
    QStringList all;
    for (const SymbolicDim& dim : dims) {
        if (dim.use == "derived") continue;
        if (std::size_t(all.size()) == most) {
            all << QDialog::tr("%1 more").arg(std::count_if(dims.begin(), dims.end(), [](const SymbolicDim& each) { return each.use != "derived"; }) - int(most));
            break;
        }
        const auto found = present.find(dim.name);
        const bool named = QString::fromStdString(dim.name).contains(QString::fromStdString(dim.use), Qt::CaseInsensitive) || useOf(dim).isEmpty();
        all << QStringLiteral("%1 %2").arg(nameOf(dim)).arg(found == present.end() ? dim.defaultSize : found->second) + (named ? QString() : QStringLiteral(" (%1)").arg(useOf(dim)));
    }
    return all.join(QStringLiteral("  ·  "));
}

void editBindings(QWidget* parent, const std::vector<SymbolicDim>& dims, const Bindings& present, const std::function<void(const Bindings&)>& accepted) {
    auto* dialog = new QDialog(parent);
    dialog->setObjectName("sizes");
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setWindowTitle(QDialog::tr("Sizes of the inputs"));
    auto* column = new QVBoxLayout(dialog);
    auto* fields = new QWidget;
    auto* form = new QFormLayout(fields);
    form->setFieldGrowthPolicy(QFormLayout::ExpandingFieldsGrow);
    std::vector<std::pair<std::string, QSpinBox*>> boxes;
    for (const SymbolicDim& dim : dims) {
        if (dim.use == "derived") continue;
        auto* box = new QSpinBox;
        box->setRange(0, dim.use == "switch" ? 1 : INT_MAX);
        box->setObjectName(QString::fromStdString(dim.name));
        const auto found = present.find(dim.name);
        box->setValue(static_cast<int>(std::min<std::int64_t>(found == present.end() ? dim.defaultSize : found->second, INT_MAX)));
        QStringList inputs;
        for (const std::string& input : dim.inputs) inputs << QString::fromStdString(input.substr(0, 200));
        const QString use = useOf(dim);
        auto* name = new QLabel(nameOf(dim) + (use.isEmpty() ? QString() : QStringLiteral("  –  ") + use));
        for (QWidget* widget : {static_cast<QWidget*>(name), static_cast<QWidget*>(box)}) widget->setToolTip(inputs.mid(0, 12).join(QStringLiteral(", ")));
        form->addRow(name, box);
        boxes.emplace_back(dim.name, box);
    }
    // A model may have a hundred of them: past lengths of every layer.
    auto* scroll = new QScrollArea;
    scroll->setWidget(fields);
    scroll->setWidgetResizable(true);
    scroll->setFrameShape(QFrame::NoFrame);
    scroll->setMinimumSize(fields->sizeHint().width() + 24, std::min(420, fields->sizeHint().height() + 4));
    column->addWidget(scroll);
    auto* buttons = new QDialogButtonBox(QDialogButtonBox::Ok | QDialogButtonBox::Cancel);
    column->addWidget(buttons);
    QObject::connect(buttons, &QDialogButtonBox::rejected, dialog, &QDialog::reject);
    QObject::connect(buttons, &QDialogButtonBox::accepted, dialog, [dialog, boxes, present, accepted] {
        Bindings chosen;
        for (const auto& [name, box] : boxes) {
            const auto found = present.find(name); // --bind takes sizes that no box can show: they stay until another is chosen
            chosen[name] = found != present.end() && box->value() == INT_MAX ? found->second : box->value();
        }
        dialog->accept();
        accepted(chosen);
    });
    dialog->open();
}

QString sampleFile(const QString& name) {
    const QDir folder(QStandardPaths::writableLocation(QStandardPaths::CacheLocation) + QStringLiteral("/samples"));
    folder.mkpath(QStringLiteral("."));
    const QString path = folder.filePath(name);
    QFile bundled(QStringLiteral(":/samples/") + name);
    if (QFile(path).size() != bundled.size()) {
        QFile::remove(path);
        bundled.copy(path);
        QFile::setPermissions(path, QFile::ReadOwner | QFile::WriteOwner);
    }
    return path;
}

} // namespace triptych
