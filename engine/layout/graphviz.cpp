#include "layout/graphviz.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace triptych {

namespace {

/// The helper as a child process with both ends of its pipes.
class Child {
public:
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    explicit Child(const std::filesystem::path& program) {
        int toChild[2], fromChild[2];
        if (::pipe2(toChild, O_CLOEXEC) != 0) return;
        if (::pipe2(fromChild, O_CLOEXEC) != 0) {
            ::close(toChild[0]);
            ::close(toChild[1]);
            return;
        }
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, toChild[0], STDIN_FILENO);
        posix_spawn_file_actions_adddup2(&actions, fromChild[1], STDOUT_FILENO);
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        const std::string path = program.string();
        std::array<char*, 2> arguments{const_cast<char*>(path.c_str()), nullptr};
        if (::posix_spawn(&m_pid, path.c_str(), &actions, nullptr, arguments.data(), environ) != 0) m_pid = -1;
        posix_spawn_file_actions_destroy(&actions);
        ::close(toChild[0]);
        ::close(fromChild[1]);
        m_in = toChild[1];
        m_out = fromChild[0];
        ::fcntl(m_in, F_SETFL, O_NONBLOCK);
        ::fcntl(m_out, F_SETFL, O_NONBLOCK);
    }
    ~Child() {
        closeInput();
        if (m_out >= 0) ::close(m_out);
        if (m_pid <= 0) return;
        ::kill(m_pid, SIGKILL);
        while (::waitpid(m_pid, nullptr, 0) < 0 && errno == EINTR) {}
    }
    bool running() const { return m_pid > 0; }
    void closeInput() {
        if (m_in >= 0) ::close(m_in);
        m_in = -1;
    }

    /// Writes the question and reads the answer until the end, the time limit, or a stop. @returns true at the end.
    bool talk(std::string_view question, std::string& answer, double seconds, const Job& job) {
        // A helper that died must not take the program along.
        struct sigaction ignore {}, before {};
        ignore.sa_handler = SIG_IGN;
        ::sigaction(SIGPIPE, &ignore, &before);
        const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
        bool ended = false;
        while (!ended && std::chrono::steady_clock::now() < end && !job.stopped()) {
            std::array<pollfd, 2> wait{pollfd{m_out, POLLIN, 0}, pollfd{m_in, POLLOUT, 0}};
            if (::poll(wait.data(), m_in >= 0 ? 2 : 1, 50) < 0 && errno != EINTR) break;
            if (m_in >= 0 && (wait[1].revents & (POLLOUT | POLLERR))) {
                const ssize_t written = ::write(m_in, question.data(), question.size());
                if (written > 0) question.remove_prefix(static_cast<std::size_t>(written));
                if (question.empty() || (written < 0 && errno != EAGAIN)) closeInput();
            }
            std::array<char, 16384> piece;
            const ssize_t got = ::read(m_out, piece.data(), piece.size());
            if (got > 0) answer.append(piece.data(), static_cast<std::size_t>(got));
            ended = got == 0;
        }
        ::sigaction(SIGPIPE, &before, nullptr);
        return ended;
    }

private:
    pid_t m_pid = -1;
    int m_in = -1, m_out = -1;
};

/// Numbers and words of the answer, one after another.
class Tokens {
public:
    explicit Tokens(std::string_view text) : m_text(text) {}
    bool word(std::string_view wanted) {
        skip();
        if (!m_text.starts_with(wanted)) return false;
        m_text.remove_prefix(wanted.size());
        return true;
    }
    bool number(float& value) {
        skip();
        const auto end = std::from_chars(m_text.data(), m_text.data() + m_text.size(), value);
        if (end.ec != std::errc()) return false;
        // A number at the very end may have been cut off.
        if (end.ptr == m_text.data() + m_text.size()) return false;
        m_text.remove_prefix(static_cast<std::size_t>(end.ptr - m_text.data()));
        return true;
    }

private:
    void skip() {
        while (!m_text.empty() && (m_text[0] == ' ' || m_text[0] == '\n')) m_text.remove_prefix(1);
    }
    std::string_view m_text;
};

std::string question(const std::vector<const LayeredGraph*>& graphs) {
    std::string text;
    std::array<char, 64> line;
    for (const LayeredGraph* graph : graphs) {
        text += "block " + std::to_string(graph->nodes.size()) + " " + std::to_string(graph->edges.size()) + " " + std::to_string(graph->sameRank.size()) + "\n";
        for (const LayeredGraph::Size size : graph->nodes) {
            std::snprintf(line.data(), line.size(), "%.1f %.1f\n", static_cast<double>(size.width), static_cast<double>(size.height));
            text += line.data();
        }
        for (const auto& rank : graph->sameRank) {
            text += std::to_string(rank.size());
            for (const std::size_t node : rank) text += " " + std::to_string(node);
            text += "\n";
        }
        for (const LayeredGraph::Edge edge : graph->edges) text += std::to_string(edge.from) + " " + std::to_string(edge.to) + "\n";
    }
    return text;
}

std::optional<LayeredResult> readOne(Tokens& tokens, const LayeredGraph& graph) {
    if (!tokens.word("block")) return std::nullopt;
    LayeredResult result;
    float right = 0, bottom = 0, left = 1e9F, top = 1e9F;
    for (const LayeredGraph::Size size : graph.nodes) {
        float x = 0, y = 0;
        if (!tokens.number(x) || !tokens.number(y)) return std::nullopt;
        result.nodes.push_back({x - size.width / 2, y - size.height / 2, size.width, size.height});
        left = std::min(left, x - size.width / 2);
        top = std::min(top, y - size.height / 2);
        right = std::max(right, x + size.width / 2);
        bottom = std::max(bottom, y + size.height / 2);
    }
    for (std::size_t e = 0; e < graph.edges.size(); ++e) {
        float count = 0;
        if (!tokens.number(count) || count < 0 || count > 10000) return std::nullopt;
        std::vector<Point> path;
        for (int i = 0; i < static_cast<int>(count); ++i) {
            Point point;
            if (!tokens.number(point.x) || !tokens.number(point.y)) return std::nullopt;
            left = std::min(left, point.x);
            right = std::max(right, point.x);
            path.push_back(point);
        }
        result.edges.push_back(std::move(path));
    }
    for (Box& box : result.nodes) box = {box.x - left, box.y - top, box.width, box.height};
    for (std::size_t e = 0; e < result.edges.size(); ++e) {
        auto& path = result.edges[e];
        for (Point& point : path) point = {point.x - left, point.y - top};
        if (path.size() >= 4) continue;
        // An edge that dot left out goes straight.
        const Box &from = result.nodes[graph.edges[e].from], &to = result.nodes[graph.edges[e].to];
        const Point a{from.x + from.width / 2, from.bottom()}, b{to.x + to.width / 2, to.y};
        path = {a, {a.x, (a.y + b.y) / 2}, {b.x, (a.y + b.y) / 2}, b};
    }
    result.width = right - left;
    result.height = bottom - top;
    return result;
}

} // namespace

std::filesystem::path helperBesideProgram() {
    std::error_code error;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
    if (error) return {};
    // Tests lie one folder below the program.
    for (const auto& folder : {program.parent_path(), program.parent_path().parent_path()})
        if (const auto helper = folder / "triptych-layout"; std::filesystem::is_regular_file(helper, error)) return helper;
    return {};
}

HelperAnswer layOutWithGraphviz(const std::vector<const LayeredGraph*>& graphs, const std::filesystem::path& helper, double seconds, const Job& job) {
    HelperAnswer answer;
    answer.results.resize(graphs.size());
    if (graphs.empty()) return answer;
    if (helper.empty()) {
        answer.problem = "the layout helper triptych-layout is missing";
        return answer;
    }
    Child child(helper);
    std::string text;
    const bool ended = child.running() && child.talk(question(graphs), text, seconds, job);
    Tokens tokens(text);
    std::size_t done = 0;
    while (done < graphs.size()) {
        answer.results[done] = readOne(tokens, *graphs[done]);
        if (!answer.results[done]) break;
        ++done;
    }
    if (done < graphs.size()) answer.problem = !child.running() ? "the layout helper can't be started" : ended ? "the layout helper gave up" : "the layout helper took too long";
    return answer;
}

} // namespace triptych
