#include "lieq/io/printable.h"

namespace lieq {

std::string Printable(std::string_view text, std::size_t limit) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string printable;
  for (const char character : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte >= 0x20 && byte != 0x7F) {
      printable += character;
      continue;
    }
    printable += "\\x";
    printable += kDigits[byte >> 4];
    printable += kDigits[byte & 15];
  }
  if (text.size() > limit) printable += "...";
  return printable;
}

}  // namespace lieq
