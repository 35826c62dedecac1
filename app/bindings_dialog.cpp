#include "bindings_dialog.h"

#include <QDialog>
#include <QDialogButtonBox>
#include <QDir>
#include <QFile>
#include <QFormLayout>
#include <QSpinBox>
#include <QStandardPaths>

namespace triptych {

bool editBindings(QWidget* parent, const std::vector<SymbolicDim>& dims, const Bindings& present, Bindings& chosen) {
    QDialog dialog(parent);
    dialog.setWindowTitle(QDialog::tr("Sizes of the inputs"));
    auto* form = new QFormLayout(&dialog);
    std::vector<std::pair<std::string, QSpinBox*>> boxes;
    for (const SymbolicDim& dim : dims) {
        auto* box = new QSpinBox;
        box->setRange(0, 1 << 24);
        const auto found = present.find(dim.name);
        box->setValue(static_cast<int>(found == present.end() ? dim.defaultSize : found->second));
        box->setToolTip(QString::fromStdString(dim.inputs.empty() ? std::string() : dim.inputs[0]));
        form->addRow(QString::fromStdString(dim.name), box);
        boxes.emplace_back(dim.name, box);
    }
    auto* buttons = new QDialogButtonBox(QDialogButtonBox::Ok | QDialogButtonBox::Cancel);
    form->addRow(buttons);
    QObject::connect(buttons, &QDialogButtonBox::accepted, &dialog, &QDialog::accept);
    QObject::connect(buttons, &QDialogButtonBox::rejected, &dialog, &QDialog::reject);
    if (dialog.exec() != QDialog::Accepted) return false;
    for (const auto& [name, box] : boxes) chosen[name] = box->value();
    return true;
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
