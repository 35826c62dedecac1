#pragma once
// What outlives a session, typed.

#include <QStringList>

namespace triptych {

class Settings {
public:
    /// "light", "dark", or "" to follow the system.
    QString theme() const;
    void setTheme(const QString& theme);
    /// Newest first, existing files only.
    QStringList recent() const;
    void addRecent(const QString& file);
};

} // namespace triptych
