#pragma once
// One background task at a time, of which the newest counts.

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace triptych {

/// Starting a task stops the one before it, but doesn't wait for it: a thread that looks for its stop token now and then would
/// hold the window as long. Those that are stopped are joined once they have ended, all at the latest in the destructor.
class Worker {
public:
    using Task = std::function<void(const std::stop_token&)>;
    void start(Task task) {
        stop();
        std::erase_if(m_stopped, [](const Running& each) { return each.done->load(); });
        if (m_current.thread.joinable()) m_stopped.push_back(std::move(m_current));
        m_current.done = std::make_shared<std::atomic<bool>>(false);
        m_current.thread = std::jthread([done = m_current.done, task = std::move(task)](const std::stop_token& token) {
            task(token);
            done->store(true);
        });
    }
    void stop() { m_current.thread.request_stop(); }

private:
    struct Running {
        std::shared_ptr<std::atomic<bool>> done;
        std::jthread thread;
    };
    Running m_current;
    std::vector<Running> m_stopped;
};

} // namespace triptych
