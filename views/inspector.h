#pragma once
// What is known of the selected node, group or attention.

#include "drawing/draw.h"

#include <QTextBrowser>

namespace triptych {

class Inspector : public QTextBrowser {
    Q_OBJECT
public:
    explicit Inspector(QWidget* parent = nullptr);
    void setTheme(const Theme& theme);
    void showNothing(const Analysis* analysis);
    void showNode(const Analysis& analysis, const Projected& projected, NodeId node);
    void showGroup(const Analysis& analysis, const Projected& projected, GroupId group);

private:
    using Rows = std::vector<std::pair<QString, QString>>;
    void show(const QString& heading, const QString& detail, const Rows& rows);
    Rows groupRows(const Analysis& analysis, const Projected& projected, GroupId group) const;
    const Theme* m_theme;
};

} // namespace triptych
