#pragma once
// Every subcommand but the window's: docs/cli.md.

namespace triptych {

/// Exit statuses of the program.
enum ExitStatus { exitDone = 0, exitCheckFailed = 1, exitUsage = 2, exitUnreadable = 3, exitUnwritable = 4 };

/// Runs the command line. Only `open`, no subcommand, and painting to PNG and PDF make a QGuiApplication.
int runCommandLine(int argc, char** argv);

} // namespace triptych
