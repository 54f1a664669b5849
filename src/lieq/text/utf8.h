// UTF-8: reading code points out of text that may be broken, and repairing it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lieq {

inline constexpr char32_t kReplacement = 0xFFFD;

/// Text with every ill-formed sequence read as U+FFFD, one for each maximal part of a character as
/// Unicode recommends (and Rust's from_utf8_lossy does). `text` itself where nothing is ill-formed,
/// else a view of `storage`.
[[nodiscard]] std::string_view ToValidUtf8(std::string_view text, std::string& storage);

/// What ToValidUtf8 changes, counted.
struct Utf8Faults {
  std::size_t bytes = 0;  // of all ill-formed sequences
  std::size_t first = 0;  // the place of the first one
  bool cut = false;       // the text ends inside a character, whose bytes count too
};
[[nodiscard]] Utf8Faults FindFaults(std::string_view text) noexcept;

/// Bytes of `text` before a character that its end cuts off (up to 3 bytes that more could make
/// whole): what may be shown of a text that goes on. ToValidUtf8 of the two parts, one after
/// another, is that of the whole.
[[nodiscard]] std::size_t WholeCharacters(std::string_view text) noexcept;

/// A code point and its length in bytes.
struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 0;
};

/// The code point at `position`, which must be the start of one in valid UTF-8.
[[nodiscard]] CodePoint CodePointAt(std::string_view text, std::size_t position) noexcept;

/// The text without white space at its end, or at both ends: what Python's str.rstrip and str.strip
/// take away, characters beyond ASCII included. text: valid UTF-8.
[[nodiscard]] std::string_view WithoutSpaceBehind(std::string_view text) noexcept;
[[nodiscard]] std::string_view WithoutSpaceAround(std::string_view text) noexcept;

void AppendUtf8(std::string& text, char32_t code_point);

/// How many bytes from `position` on are ASCII for certain: whole words of eight, so that a caller
/// takes the rest one by one. Most text is ASCII for long stretches.
[[nodiscard]] std::size_t AsciiWords(std::string_view text, std::size_t position) noexcept;

}  // namespace lieq
