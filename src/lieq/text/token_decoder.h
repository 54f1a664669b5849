// /decoder of tokenizer.json: from tokens back to text.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/io/json.h"

namespace lieq {

/// What a token is in a text.
struct TokenText {
  std::string bytes;  // part of a character, maybe
  /// The token stands for a byte that has no other one ("<0x0A>"): what a run of such bytes means
  /// is known at its end.
  bool single_byte = false;
};

/// Immutable, so that threads share it.
class TokenDecoder {
 public:
  /// root  the whole document
  /// Throws Error: a type, an option or an order of steps that is not supported, by its name.
  explicit TokenDecoder(const JsonObject& root);

  /// Whether names of tokens are written in the byte-level alphabet.
  [[nodiscard]] bool byte_level() const noexcept { return byte_level_; }

  /// name: of a token, valid UTF-8.
  [[nodiscard]] TokenText TextOf(std::string_view name) const;
  /// The same of the token that a text begins with, where that loses something.
  [[nodiscard]] TokenText TextOfFirst(std::string_view name) const;
  [[nodiscard]] bool first_differs() const noexcept { return !dropped_first_.empty(); }

  /// A character that is taken away where a text begins with it, up to so many times.
  [[nodiscard]] std::string_view stripped() const noexcept { return stripped_; }
  [[nodiscard]] std::size_t most_stripped() const noexcept { return most_stripped_; }

 private:
  /// How far a Sequence has come: later steps do not stand before earlier ones.
  enum class Stage { kTokens, kBytes, kText };

  void Read(const JsonObject& step);
  void ReadStrip(const JsonObject& step);
  void Enter(Stage stage, const JsonObject& step);
  [[noreturn]] static void Refuse(const JsonObject& step);

  bool byte_level_ = false;
  bool byte_fallback_ = false;
  bool fused_ = false;
  Stage stage_ = Stage::kTokens;
  std::vector<std::pair<std::string, std::string>> replaced_;  // what, by what
  std::string dropped_first_;  // what the first token of a text loses before that; "" for nothing
  std::string stripped_;
  std::size_t most_stripped_ = 0;
};

/// Tokens to text, one after another.
class TextAssembler {
 public:
  /// What becomes of a run of single bytes that is no UTF-8: U+FFFD for each of its bytes, as the
  /// reference does that knows the whole run; or only for those that belong to no character.
  enum class Broken { kWholeRun, kPart };

  /// begins: the text begins here, so its beginning is stripped; else it is the end of another.
  TextAssembler(const TokenDecoder& decoder, Broken broken, bool begins);

  /// The next token adds to `out` what is certain now: whole characters.
  void Add(std::string_view name, const TokenText& token, std::string& out);
  void Finish(std::string& out);

 private:
  void AddText(std::string_view text, std::string& out);
  void EndRun(std::string& out);

  const TokenDecoder* decoder_;
  Broken broken_;
  bool first_;
  std::size_t left_to_strip_;
  std::string pending_;  // bytes of a character whose end has not come, or of a run
  bool run_ = false;     // they are of single bytes
};

}  // namespace lieq
