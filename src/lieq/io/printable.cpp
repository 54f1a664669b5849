#include "lieq/io/printable.h"

#include <algorithm>

namespace lieq {
namespace {

/// Bytes of the character of UTF-8 that `text` begins with; 0 where it begins with none, or with a
/// control character (C0, DEL, C1). Overlong forms, surrogates and numbers beyond U+10FFFF are
/// none.
std::size_t PlainCharacter(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7F ? 1 : 0;
  const std::size_t size = lead >= 0xF5   ? 0
                           : lead >= 0xF0 ? 4
                           : lead >= 0xE0 ? 3
                           : lead >= 0xC2 ? 2
                                          : 0;
  if (size == 0 || text.size() < size) return 0;
  unsigned code = lead & (0x7Fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  const unsigned least = size == 2 ? 0xA0u : size == 3 ? 0x800u : 0x10000u;
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return code >= least && code <= 0x10FFFF && !surrogate ? size : 0;
}

}  // namespace

std::string Printable(std::string_view text, std::size_t limit) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string printable;
  const bool cut = text.size() > limit;
  std::size_t i = 0;
  while (i < std::min(limit, text.size())) {
    // A character that the limit falls into stays whole.
    if (const std::size_t size = PlainCharacter(text.substr(i)); size > 0) {
      printable += text.substr(i, size);
      i += size;
      continue;
    }
    const auto byte = static_cast<unsigned char>(text[i++]);
    printable += "\\x";
    printable += kDigits[byte >> 4];
    printable += kDigits[byte & 15];
  }
  if (cut) printable += "...";
  return printable;
}

}  // namespace lieq
