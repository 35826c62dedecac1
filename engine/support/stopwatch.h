#pragma once

#include <chrono>

namespace triptych {

/// Adds the milliseconds of its scope to a figure.
class Stopwatch {
public:
    explicit Stopwatch(double& figure) : m_figure(figure), m_begin(std::chrono::steady_clock::now()) {}
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;
    ~Stopwatch() { m_figure += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - m_begin).count(); }

private:
    double& m_figure;
    std::chrono::steady_clock::time_point m_begin;
};

} // namespace triptych
