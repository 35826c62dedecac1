#pragma once
// decompose, fuse and verify: what writes or runs a model.

#include <memory>
#include <optional>

namespace CLI {
class App;
}

namespace triptych {

class RewriteCommands {
public:
    virtual ~RewriteCommands() = default;
    /// Exit status of the one that was named; empty where none was.
    virtual std::optional<int> run() = 0;
};
std::unique_ptr<RewriteCommands> addRewriteCommands(CLI::App& app);

} // namespace triptych
