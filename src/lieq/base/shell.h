// Words of commands that a message tells to type.
#pragma once

#include <string>
#include <string_view>

namespace lieq {

/// The word as a shell reads it: as it is where it is plain, else in single quotes.
[[nodiscard]] std::string ShellQuoted(std::string_view word);

}  // namespace lieq
