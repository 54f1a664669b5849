// What a word begins as, before neighbours are merged: the tokens of its letters.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/io/json.h"
#include "lieq/text/vocabulary.h"

namespace lieq {

/// Letters are bytes, in the byte-level alphabet, or characters. One without a token is the tokens
/// of its bytes ("byte_fallback"), else the unknown token, one for all neighbours with "fuse_unk",
/// else nothing.
class Alphabet {
 public:
  /// model  the object at /model of tokenizer.json, whose vocabulary is `vocabulary`
  /// Throws Error: an unknown token is needed and is none of the vocabulary.
  Alphabet(const JsonObject& model, const Vocabulary& vocabulary, bool byte_level);

  /// Appends the tokens of the letters. word: any bytes, or valid UTF-8 where letters are
  /// characters.
  void Read(std::string_view word, std::vector<TokenId>& letters) const;

  /// Whether a character is a letter with a token.
  [[nodiscard]] bool Knows(char32_t character) const noexcept {
    return character < characters_.size() && characters_[character] != kNone;
  }

  /// What letters without a token become; kNone where there is nothing of the kind.
  [[nodiscard]] TokenId unknown() const noexcept { return unknown_; }
  static constexpr TokenId kNone = -1;

 private:
  class Writer;

  void ReadUnknown(const JsonObject& model, const Vocabulary& vocabulary);
  [[nodiscard]] TokenId IdOf(char byte) const noexcept {
    return bytes_[static_cast<unsigned char>(byte)];
  }

  bool byte_level_;
  bool fuse_ = false;
  TokenId unknown_ = kNone;
  std::array<TokenId, 256> bytes_{};  // of byte-level letters, or what bytes fall back to
  bool fallback_ = false;
  std::vector<TokenId> characters_;  // by code point, up to the highest one
};

}  // namespace lieq
