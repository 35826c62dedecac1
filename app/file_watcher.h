#pragma once
// Tells when the file that is shown has been rewritten, once its writer has finished.

#include <QDateTime>
#include <QFileSystemWatcher>
#include <QObject>
#include <QTimer>

namespace triptych {

class FileWatcher : public QObject {
    Q_OBJECT
public:
    /// What tells one version of a file from the next; size -1 where there is no such file.
    struct Stamp {
        qint64 size = -1;
        QDateTime written;
        bool operator==(const Stamp&) const = default;
    };
    explicit FileWatcher(QObject* parent = nullptr);

    static Stamp stampOf(const QString& file);
    /// Watches this file instead of the one before. `seen`: the version that is known already.
    void watch(const QString& file, const Stamp& seen);
    const QString& file() const { return m_file; }

signals:
    /// The file differs from the version last seen, and its size has stopped changing.
    void fileChanged(const QString& file);

private:
    void check();
    void watchPaths();

    QFileSystemWatcher m_watcher;
    QTimer m_settling;
    QString m_file;
    Stamp m_seen, m_last;
};

} // namespace triptych
