#include "breadcrumbs.h"

#include <QHBoxLayout>
#include <QLabel>
#include <QPushButton>

namespace triptych {

namespace {

/// The end of a name tells more than its beginning.
QString shortened(const QString& name) {
    constexpr int most = 34;
    return name.size() <= most ? name : QStringLiteral("…") + name.right(most - 1);
}

} // namespace

Breadcrumbs::Breadcrumbs(QWidget* parent) : QWidget(parent), m_row(new QHBoxLayout(this)) {
    setObjectName("crumbs");
    setAttribute(Qt::WA_StyledBackground);
    m_row->setContentsMargins(12, 3, 16, 3);
    m_row->setSpacing(4);
    hide();
}

void Breadcrumbs::show(const std::vector<Entered>& path) {
    // A click on a crumb comes from one of these: it goes once its signal is done with.
    while (QLayoutItem* item = m_row->takeAt(0)) {
        if (QWidget* widget = item->widget()) {
            widget->hide();
            widget->deleteLater();
        }
        delete item;
    }
    setVisible(!path.empty());
    if (path.empty()) return;
    const auto crumb = [&](const QString& text, const QString& tip) {
        auto* made = new QPushButton(shortened(text));
        made->setObjectName("crumb");
        made->setToolTip(tip);
        made->setFocusPolicy(Qt::TabFocus);
        m_row->addWidget(made);
        return made;
    };
    const auto arrow = [&] { m_row->addWidget(new QLabel(QStringLiteral("›"))); };
    connect(crumb(tr("Model"), tr("Back to the whole graph")), &QPushButton::clicked, this, [this] { emit leftTo(0); });
    for (std::size_t level = 0; level < path.size(); ++level) {
        const Entered& entered = path[level];
        const bool last = level + 1 == path.size();
        arrow();
        connect(crumb(entered.title, tr("Back to where %1 stands").arg(entered.title)), &QPushButton::clicked, this, [this, level] { emit leftTo(level); });
        // The name of a function's only graph is that of its call's operator.
        if (entered.siblings.size() == 1 && entered.title.endsWith(QStringLiteral("(%1)").arg(entered.siblings[0]))) continue;
        arrow();
        for (std::size_t which = 0; which < entered.siblings.size(); ++which) {
            if (!last && which != entered.which) continue;
            QPushButton* made = crumb(entered.siblings[which], entered.siblings[which]);
            made->setCheckable(true);
            made->setChecked(last && which == entered.which);
            if (last) connect(made, &QPushButton::clicked, this, [this, which] { emit siblingChosen(which); });
            else connect(made, &QPushButton::clicked, this, [this, level] { emit leftTo(level + 1); });
        }
    }
    m_row->addStretch();
    auto* hint = new QLabel(tr("Esc goes back"));
    hint->setObjectName("dim");
    hint->setMinimumWidth(1);
    m_row->addWidget(hint);
}

} // namespace triptych
