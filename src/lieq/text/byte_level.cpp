#include "lieq/text/byte_level.h"

#include <array>
#include <cstdint>

#include "lieq/text/utf8.h"

namespace lieq {
namespace {

/// Printable characters of Latin-1 stand for themselves, the other 68 bytes for U+0100 and on, in
/// order (github.com/openai/gpt-2, src/encoder.py, bytes_to_unicode).
constexpr bool StandsForItself(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr char32_t kFirstSubstitute = 0x100;

constexpr auto kCharacters = [] {
  std::array<char32_t, 256> characters{};
  char32_t substitute = kFirstSubstitute;
  for (unsigned byte = 0; byte < 256; ++byte) {
    characters[byte] = StandsForItself(byte) ? byte : substitute++;
  }
  return characters;
}();

constexpr char32_t kLastSubstitute = kFirstSubstitute + 67;
static_assert(kCharacters[0xAD] == kLastSubstitute);

constexpr std::int16_t kNoByte = -1;

constexpr auto kBytes = [] {
  std::array<std::int16_t, kLastSubstitute + 1> bytes{};
  bytes.fill(kNoByte);
  for (unsigned byte = 0; byte < 256; ++byte) {
    bytes[kCharacters[byte]] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}();

}  // namespace

std::optional<std::string> BytesOfToken(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (std::size_t position = 0; position < token.size();) {
    const CodePoint character = CodePointAt(token, position);
    if (character.value >= kBytes.size() || kBytes[character.value] == kNoByte) {
      return std::nullopt;
    }
    bytes += static_cast<char>(kBytes[character.value]);
    position += character.bytes;
  }
  return bytes;
}

std::string CharacterOfByte(unsigned char byte) {
  std::string character;
  AppendUtf8(character, kCharacters[byte]);
  return character;
}

}  // namespace lieq
