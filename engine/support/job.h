#pragma once
// What a long stage gets from whoever runs it: a way to be stopped and a place to report progress.

#include <functional>
#include <stop_token>
#include <string_view>

namespace triptych {

/// Context of a run. Copyable; a default one never stops and reports nowhere.
struct Job {
    std::stop_token stop;
    /// Called from the thread that runs the stage: its name and the part done, 0 to 1.
    std::function<void(std::string_view stage, double part)> progress;

    bool stopped() const { return stop.stop_requested(); }
    void report(std::string_view stage, double part) const {
        if (progress) progress(stage, part);
    }
};

} // namespace triptych
