// Tokens to text while they come, in whole characters.
#pragma once

#include <string>

#include "lieq/base/types.h"
#include "lieq/text/tokenizer.h"

namespace lieq {

/// What Add and Finish give, one after another, is what Tokenizer::Decode gives for all tokens; but
/// that of single bytes ("<0x0A>") that are no UTF-8 together, whole characters are shown as they
/// come, where Decode makes U+FFFD of all.
class TextStream {
 public:
  /// tokenizer outlives this. begins: these tokens begin a text; else they go on with one, and a
  /// space before the first of them stays.
  explicit TextStream(const Tokenizer& tokenizer, bool begins = true)
      : tokenizer_(tokenizer),
        assembler_(tokenizer.decoder(), TextAssembler::Broken::kPart, begins) {}

  /// The characters that are whole with this token. Throws Error for an id that is out of range.
  [[nodiscard]] std::string Add(TokenId token);
  /// What is left at the end: U+FFFD for a character without its last bytes, or nothing.
  [[nodiscard]] std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  TextAssembler assembler_;
};

}  // namespace lieq
