#pragma once

#include "document.h"

#include <QWidget>

class QHBoxLayout;

namespace triptych {

/// Where a side is inside nested graphs: "Model › /loop (Loop) › body". Hidden at the outermost graph.
class Breadcrumbs : public QWidget {
    Q_OBJECT
public:
    explicit Breadcrumbs(QWidget* parent = nullptr);
    void show(const std::vector<Entered>& path);

signals:
    void leftTo(std::size_t depth);
    void siblingChosen(std::size_t which);

private:
    QHBoxLayout* m_row;
};

} // namespace triptych
