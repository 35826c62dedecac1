#pragma once

#include <QScrollArea>

namespace triptych {

/// As high as what is in it wants to be, and scrolled where there is less room.
class FittingArea : public QScrollArea {
public:
    explicit FittingArea(QWidget* inside, QWidget* parent = nullptr) : QScrollArea(parent) {
        setWidget(inside);
        setWidgetResizable(true);
        setFrameShape(QFrame::NoFrame);
        setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
        setSizePolicy(QSizePolicy::Preferred, QSizePolicy::Maximum);
    }
    QSize sizeHint() const override { return widget()->sizeHint(); }
    QSize minimumSizeHint() const override {
        constexpr int fewRows = 110;
        return {0, std::min(fewRows, widget()->sizeHint().height())};
    }
};

} // namespace triptych
