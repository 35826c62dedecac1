#include "file_watcher.h"

#include <QFileInfo>
#include <QSet>

namespace triptych {

namespace {

/// Exporters write in pieces: a version counts once it stayed the same for this long.
constexpr int settleMs = 300;
/// An exporter may write a file for each tensor, and a system lets a program watch some thousands: of the others only the
/// folders are watched, which tell when a file is replaced.
constexpr qsizetype mostWatched = 1000;

} // namespace

FileWatcher::FileWatcher(QObject* parent) : QObject(parent) {
    m_settling.setSingleShot(true);
    m_settling.setInterval(settleMs);
    connect(&m_settling, &QTimer::timeout, this, &FileWatcher::check);
    // Not anew while it runs: in a folder where files come and go it would never end.
    const auto notice = [this] {
        if (!m_settling.isActive()) m_settling.start();
    };
    connect(&m_watcher, &QFileSystemWatcher::fileChanged, this, notice);
    connect(&m_watcher, &QFileSystemWatcher::directoryChanged, this, notice);
}

void FileWatcher::watch(const QString& file, const FileStamp& seen, Stamps named) {
    named[file] = seen;
    m_file = file;
    m_seen = m_last = std::move(named);
    watchPaths();
    // It may have changed between the reading and now.
    if (stampsNow() != m_seen) m_settling.start();
}

FileWatcher::Stamps FileWatcher::stampsNow() const {
    Stamps now;
    for (const auto& [path, seen] : m_seen) now[path] = stampOf(path.toStdString());
    return now;
}

// The folders too: a file that is replaced by renaming drops out of the watch, and comes back under the same name.
void FileWatcher::watchPaths() {
    QSet<QString> wanted;
    for (const auto& [path, seen] : m_seen) {
        const QFileInfo info(path);
        if (const QString folder = info.absolutePath(); QFileInfo::exists(folder)) wanted.insert(folder);
        if (info.exists() && (path == m_file || wanted.size() < mostWatched)) wanted.insert(path);
    }
    const QStringList watched = m_watcher.files() + m_watcher.directories();
    const QSet<QString> before(watched.begin(), watched.end());
    if (const auto gone = before - wanted; !gone.isEmpty()) m_watcher.removePaths(gone.values());
    if (const auto fresh = wanted - before; !fresh.isEmpty()) m_watcher.addPaths(fresh.values());
}

void FileWatcher::check() {
    const Stamps now = stampsNow();
    if (now.at(m_file).size < 0) return; // gone for the moment: the folder tells when it is back
    watchPaths();
    if (now == m_seen) return;
    if (now != m_last) {
        m_last = now;
        m_settling.start();
        return;
    }
    m_seen = now;
    emit fileChanged(m_file);
}

} // namespace triptych
