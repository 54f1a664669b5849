#include "lieq/text/utf8.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace lieq {
namespace {

constexpr std::uint8_t Byte(std::string_view text, std::size_t position) noexcept {
  return static_cast<std::uint8_t>(text[position]);
}

struct Sequence {
  std::size_t bytes = 0;  // of the character, or of the ill-formed part to replace; >= 1
  bool valid = false;
  bool cut = false;  // the text ends inside it
};

/// The character or the ill-formed part at `position` (Unicode 15, table 3-7).
Sequence SequenceAt(std::string_view text, std::size_t position) noexcept {
  const std::uint8_t lead = Byte(text, position);
  if (lead < 0x80) return {1, true};
  std::size_t length = 0;
  std::uint8_t low = 0x80;  // bounds of the second byte: no overlong forms, surrogates, > U+10FFFF
  std::uint8_t high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, false};
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (position + i == text.size()) return {i, false, true};
    const std::uint8_t byte = Byte(text, position + i);
    if (byte < low || byte > high) return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true};
}

/// Python's str.isspace().
bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

}  // namespace

std::size_t AsciiWords(std::string_view text, std::size_t position) noexcept {
  std::size_t bytes = 0;
  while (position + bytes + 8 <= text.size()) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + position + bytes, 8);
    if ((word & 0x8080808080808080u) != 0) break;
    bytes += 8;
  }
  return bytes;
}

namespace {

/// Calls see(position, sequence) for each ill-formed sequence.
template <class F>
void ForFaults(std::string_view text, F&& see) {
  for (std::size_t position = 0; position < text.size();) {
    position += AsciiWords(text, position);
    if (position == text.size()) break;
    const Sequence sequence = SequenceAt(text, position);
    if (!sequence.valid) see(position, sequence);
    position += sequence.bytes;
  }
}

}  // namespace

Utf8Faults FindFaults(std::string_view text) noexcept {
  Utf8Faults faults;
  ForFaults(text, [&](std::size_t position, const Sequence& sequence) {
    if (faults.bytes == 0) faults.first = position;
    faults.bytes += sequence.bytes;
    faults.cut = sequence.cut;
  });
  return faults;
}

std::string_view ToValidUtf8(std::string_view text, std::string& storage) {
  std::size_t copied = 0;  // bytes of `text` that are in `storage`
  bool changed = false;
  ForFaults(text, [&](std::size_t position, const Sequence& sequence) {
    if (!changed) storage.clear();
    changed = true;
    storage.append(text, copied, position - copied);
    AppendUtf8(storage, kReplacement);
    copied = position + sequence.bytes;
  });
  if (!changed) return text;
  storage.append(text, copied);
  return storage;
}

std::size_t WholeCharacters(std::string_view text) noexcept {
  constexpr std::size_t kMost = 3;  // bytes of a character that lacks its last
  for (std::size_t back = 1; back <= std::min(kMost, text.size()); ++back) {
    const std::size_t position = text.size() - back;
    const bool continues = (Byte(text, position) & 0xC0) == 0x80;
    if (!continues) return SequenceAt(text, position).cut ? position : text.size();
  }
  return text.size();
}

CodePoint CodePointAt(std::string_view text, std::size_t position) noexcept {
  const auto bits = [&](std::size_t i) -> char32_t { return Byte(text, position + i) & 0x3Fu; };
  const char32_t lead = Byte(text, position);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1Fu) << 6 | bits(1), 2};
  if (lead < 0xF0) return {(lead & 0x0Fu) << 12 | bits(1) << 6 | bits(2), 3};
  return {(lead & 0x07u) << 18 | bits(1) << 12 | bits(2) << 6 | bits(3), 4};
}

std::string_view WithoutSpaceBehind(std::string_view text) noexcept {
  std::size_t end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = CodePointAt(text, at);
    at += point.bytes;
    if (!IsSpace(point.value)) end = at;
  }
  return text.substr(0, end);
}

std::string_view WithoutSpaceAround(std::string_view text) noexcept {
  while (!text.empty()) {
    const CodePoint point = CodePointAt(text, 0);
    if (!IsSpace(point.value)) break;
    text.remove_prefix(point.bytes);
  }
  return WithoutSpaceBehind(text);
}

void AppendUtf8(std::string& text, char32_t code_point) {
  const auto append = [&](char32_t byte) { text += static_cast<char>(byte); };
  if (code_point < 0x80) return append(code_point);
  if (code_point < 0x800) {
    append(0xC0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      append(0xE0 | code_point >> 12);
    } else {
      append(0xF0 | code_point >> 18);
      append(0x80 | (code_point >> 12 & 0x3F));
    }
    append(0x80 | (code_point >> 6 & 0x3F));
  }
  append(0x80 | (code_point & 0x3F));
}

}  // namespace lieq
