// An empty QMainWindow that saves a 1600x1000 screenshot.
#include <QApplication>
#include <QMainWindow>
#include <QPixmap>

int main(int argc, char** argv) {
    QApplication application(argc, argv);
    if (argc < 2) return 2;
    QMainWindow window;
    window.resize(1600, 1000);
    window.show();
    QApplication::processEvents();
    return window.grab().save(QString::fromLocal8Bit(argv[1])) ? 0 : 1;
}
