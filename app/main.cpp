#include "command_line/command_line.h"

#include <cstdio>
#include <new>

int main(int argc, char** argv) {
    try {
        return triptych::runCommandLine(argc, argv);
    } catch (const std::bad_alloc&) {
        std::fputs("triptych: there is not enough memory for this; try a smaller model, or bind smaller sizes\n", stderr);
        return 3;
    }
}
