#pragma once
// The forms of tests/data/forms as rows of a test.

#include <QDir>
#include <QTest>

namespace triptych {

/// A row for each file, named after it, with its text as `column`.
inline void addForms(const char* column) {
    QTest::addColumn<QString>(column);
    const QDir folder(QStringLiteral(TEST_DATA "/forms"));
    for (const QString& name : folder.entryList({"*.txt"}, QDir::Files, QDir::Name)) {
        QFile file(folder.filePath(name));
        QVERIFY(file.open(QIODevice::ReadOnly));
        QTest::newRow(qPrintable(name.chopped(4))) << QString::fromUtf8(file.readAll());
    }
}

} // namespace triptych
