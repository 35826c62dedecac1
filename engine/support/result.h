#pragma once
// Expected failures travel as values that say where, what and what to do.

#include <string>
#include <tl/expected.hpp>

namespace triptych {

/// Why a stage could not do its work. `node` is empty where no single node is to blame.
struct Failure {
    std::string stage;  ///< "open", "import", "shapes", "attention", "decompose", "fuse", "measure", "layout", "export", ...
    std::string node;   ///< name, operator and index of the node: "/layer/0/MatMul (MatMul, node 17)"
    std::string cause;  ///< what is wrong
    std::string advice; ///< what the user can do about it
    /// One line: "STAGE: NODE: cause; advice".
    std::string message() const;
};

template <class T>
using Result = tl::expected<T, Failure>;

inline tl::unexpected<Failure> fail(std::string stage, std::string cause, std::string advice = {}, std::string node = {}) {
    return tl::unexpected(Failure{std::move(stage), std::move(node), std::move(cause), std::move(advice)});
}

} // namespace triptych
