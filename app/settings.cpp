#include "settings.h"

#include <QFileInfo>
#include <QSettings>

namespace triptych {

namespace {

constexpr int version = 1, mostRecent = 10;

} // namespace

QString Settings::theme() const { return QSettings(QStringLiteral("Triptych"), QStringLiteral("Triptych")).value(QStringLiteral("theme")).toString(); }

void Settings::setTheme(const QString& theme) { QSettings(QStringLiteral("Triptych"), QStringLiteral("Triptych")).setValue(QStringLiteral("theme"), theme); }

QStringList Settings::recent() const {
    QStringList files = QSettings(QStringLiteral("Triptych"), QStringLiteral("Triptych")).value(QStringLiteral("recent")).toStringList();
    files.erase(std::remove_if(files.begin(), files.end(), [](const QString& file) { return !QFileInfo::exists(file); }), files.end());
    return files;
}

void Settings::addRecent(const QString& file) {
    if (file.startsWith(QLatin1Char(':'))) return;
    QSettings settings(QStringLiteral("Triptych"), QStringLiteral("Triptych"));
    QStringList files = recent();
    const QString whole = QFileInfo(file).absoluteFilePath();
    files.removeAll(whole);
    files.prepend(whole);
    settings.setValue(QStringLiteral("version"), version);
    settings.setValue(QStringLiteral("recent"), QStringList(files.mid(0, mostRecent)));
}

} // namespace triptych
