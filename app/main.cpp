#include "command_line/command_line.h"

int main(int argc, char** argv) { return triptych::runCommandLine(argc, argv); }
