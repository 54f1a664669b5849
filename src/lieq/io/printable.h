// Text out of files that is about to stand in a message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lieq {

/// The text with control characters and bytes that are no UTF-8 written as \xNN, and cut after some
/// `limit` bytes: a name in a hostile file must neither drive the terminal nor fill it.
[[nodiscard]] std::string Printable(std::string_view text, std::size_t limit = 160);

}  // namespace lieq
