#include "message_bar.h"

#include <QHBoxLayout>
#include <QLabel>
#include <QPushButton>

namespace triptych {

MessageBar::MessageBar(const char* name, const char* textName, const QString& action, QWidget* parent) : QWidget(parent), m_text(new QLabel), m_action(new QPushButton(action)) {
    setObjectName(QLatin1String(name));
    setAttribute(Qt::WA_StyledBackground);
    auto* row = new QHBoxLayout(this);
    row->setContentsMargins(16, 5, 16, 5);
    m_text->setObjectName(QLatin1String(textName));
    m_text->setWordWrap(true);
    m_text->setTextFormat(Qt::PlainText);
    m_text->setTextInteractionFlags(Qt::TextSelectableByMouse);
    m_text->setFocusPolicy(Qt::NoFocus);
    auto* dismiss = new QPushButton(tr("Dismiss"));
    connect(dismiss, &QPushButton::clicked, this, &QWidget::hide);
    connect(m_action, &QPushButton::clicked, this, &MessageBar::acted);
    for (QPushButton* button : {m_action, dismiss}) button->setFocusPolicy(Qt::TabFocus);
    row->addWidget(m_text, 1);
    row->addWidget(m_action);
    row->addWidget(dismiss);
    m_action->setVisible(!action.isEmpty());
    hide();
}

void MessageBar::say(const QString& text) {
    constexpr int most = 1000; // a name may be a million characters long
    m_text->setText(text.size() > most ? text.left(most) + QStringLiteral(" …") : text);
    show();
}

QString MessageBar::text() const { return m_text->text(); }

} // namespace triptych
