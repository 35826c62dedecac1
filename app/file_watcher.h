#pragma once
// Tells when the file that is shown, or one that its weights lie in, has been rewritten, once its writer has finished.

#include "support/files.h"

#include <QFileSystemWatcher>
#include <QObject>
#include <QTimer>

#include <map>

namespace triptych {

class FileWatcher : public QObject {
    Q_OBJECT
public:
    explicit FileWatcher(QObject* parent = nullptr);

    /// What is known already of a file and of those that it names, by their paths.
    using Stamps = std::map<QString, FileStamp>;
    /// Watches this file, and those that `named` knows, instead of the ones before.
    void watch(const QString& file, const FileStamp& seen, Stamps named = {});
    const QString& file() const { return m_file; }

signals:
    /// The file, or one that it names, differs from the version last seen, and has stopped changing.
    void fileChanged(const QString& file);

private:
    void check();
    void watchPaths();
    Stamps stampsNow() const;

    QFileSystemWatcher m_watcher;
    QTimer m_settling;
    QString m_file;
    Stamps m_seen, m_last;
};

} // namespace triptych
