#include "command_line/command_line.h"

#include <cstdio>
#include <exception>
#include <new>

int main(int argc, char** argv) {
    try {
        return triptych::runCommandLine(argc, argv);
    } catch (const std::bad_alloc&) {
        std::fputs("triptych: there is not enough memory for this; try a smaller model, or bind smaller sizes\n", stderr);
        return 3;
    } catch (const std::exception& error) { // nothing that a file holds may end the program without a word
        std::fprintf(stderr, "triptych: the file can't be analysed: %s; please report it\n", error.what());
        return 3;
    }
}
