// A template's source to tokens, with the white space around tags taken away as jinja2 does it with
// trim_blocks and lstrip_blocks, which is how transformers sets it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lieq::jinja {

enum class TokenKind : std::uint8_t {
  kData,
  kOpenVariable,
  kCloseVariable,
  kOpenBlock,
  kCloseBlock,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::size_t at = 0;  // byte of the source
  std::string text;    // data, name, operator; of a string what it stands for
  std::int64_t integer = 0;
  double real = 0;

  [[nodiscard]] bool IsName(std::string_view name) const {
    return kind == TokenKind::kName && text == name;
  }
  [[nodiscard]] bool IsOperator(std::string_view sign) const {
    return kind == TokenKind::kOperator && text == sign;
  }
};

/// The source with line ends of LF and without the last one: what Lex goes through, and what places
/// in it are of.
[[nodiscard]] std::string NormalizedSource(std::string_view source);

/// The tokens, the last of them kEnd. Sets `at` to the place it has come to: where a Fault is.
/// Throws Fault. source: valid UTF-8, normalized.
[[nodiscard]] std::vector<Token> Lex(std::string_view source, std::size_t& at);

}  // namespace lieq::jinja
