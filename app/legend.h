#pragma once

#include "drawing/draw.h"

#include <QWidget>

namespace triptych {

/// The families' colours with their names, in one line.
class Legend : public QWidget {
    Q_OBJECT
public:
    explicit Legend(const bool& dark, QWidget* parent = nullptr);
    QSize sizeHint() const override { return {520, 28}; }

protected:
    void paintEvent(QPaintEvent*) override;

private:
    const bool& m_dark;
};

} // namespace triptych
