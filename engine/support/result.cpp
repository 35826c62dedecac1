#include "support/result.h"

namespace triptych {

std::string Failure::message() const {
    std::string line = stage.empty() ? stage : stage + ": ";
    if (!node.empty()) line += node + ": ";
    line += cause;
    if (!advice.empty()) line += "; " + advice;
    return line;
}

} // namespace triptych
