#include "file_watcher.h"

#include <QFileInfo>

namespace triptych {

namespace {

/// Exporters write in pieces: a version counts once it stayed the same for this long.
constexpr int settleMs = 300;

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

FileWatcher::Stamp FileWatcher::stampOf(const QString& file) {
    const QFileInfo info(file);
    return info.isFile() ? Stamp{info.size(), info.lastModified()} : Stamp();
}

void FileWatcher::watch(const QString& file, const Stamp& seen) {
    if (file != m_file) {
        const QStringList watched = m_watcher.files() + m_watcher.directories();
        if (!watched.isEmpty()) m_watcher.removePaths(watched);
    }
    m_file = file;
    m_seen = m_last = seen;
    watchPaths();
    // It may have changed between the reading and now.
    if (stampOf(file) != seen) m_settling.start();
}

// The folder too: a file that is replaced by renaming drops out of the watch, and comes back under the same name.
void FileWatcher::watchPaths() {
    const QFileInfo info(m_file);
    if (info.exists() && !m_watcher.files().contains(m_file)) m_watcher.addPath(m_file);
    if (const QString folder = info.absolutePath(); !m_watcher.directories().contains(folder)) m_watcher.addPath(folder);
}

void FileWatcher::check() {
    const Stamp now = stampOf(m_file);
    if (now.size < 0) return; // gone for the moment: the folder tells when it is back
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
