#pragma once

#include <QWidget>

class QLabel;
class QPushButton;

namespace triptych {

/// A line above the graphs: what happened, at most one thing to do about it, and Dismiss. Hidden until it has something to say.
class MessageBar : public QWidget {
    Q_OBJECT
public:
    /// `name` is the style sheet's: "error" or "notice"; the label is called NAMEText.
    MessageBar(const char* name, const char* textName, const QString& action, QWidget* parent = nullptr);
    void say(const QString& text);
    QString text() const;

signals:
    void acted();

private:
    QLabel* m_text;
    QPushButton* m_action;
};

} // namespace triptych
