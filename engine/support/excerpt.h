#pragma once
// Names of files in messages: a hostile one may have millions of characters, and be named for each of its nodes.

#include <string>
#include <string_view>

namespace triptych {

/// The text, or its beginning and an ellipsis where it is longer than people read. Cut between characters of UTF-8.
std::string excerpt(std::string_view text, std::size_t most = 200);

} // namespace triptych
