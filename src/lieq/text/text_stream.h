// Tokens to text while they come, in whole characters.
#pragma once

#include <string>

#include "lieq/base/types.h"
#include "lieq/text/tokenizer.h"

namespace lieq {

/// What Add and Finish give, one after another, is what Tokenizer::Decode gives for all tokens.
class TextStream {
 public:
  /// tokenizer outlives this.
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// The characters that are whole with this token. Throws Error for an id that is out of range.
  [[nodiscard]] std::string Add(TokenId token);
  /// What is left at the end: U+FFFD for a character without its last bytes, or nothing.
  [[nodiscard]] std::string Finish();

 private:
  [[nodiscard]] std::string Take(std::size_t bytes);

  const Tokenizer& tokenizer_;
  std::string pending_;  // bytes of a character whose end has not come
};

}  // namespace lieq
