// Properties of single characters as Python's str has them, by Unicode's tables.
#pragma once

#include <string>

namespace lieq {

/// str.isspace, str.isalpha, str.isalnum, str.isprintable of one character.
[[nodiscard]] bool IsSpaceCharacter(char32_t character);
[[nodiscard]] bool IsLetter(char32_t character);
[[nodiscard]] bool IsLetterOrDigit(char32_t character);
[[nodiscard]] bool IsDigit(char32_t character);
[[nodiscard]] bool IsPrintableCharacter(char32_t character);
/// Whether it is of a case, and of which.
[[nodiscard]] bool IsUpperLetter(char32_t character);
[[nodiscard]] bool IsLowerLetter(char32_t character);
/// What Rust's regular expressions call \w: alphabetic characters, marks, decimal digits,
/// connectors and joiners.
[[nodiscard]] bool IsWordCharacter(char32_t character);

/// The other case of a character in UTF-8. One to one but for ß; Python's few other characters that
/// become several, and the sigma at the end of a word, stay simple here.
[[nodiscard]] std::string UpperOf(char32_t character);
[[nodiscard]] std::string LowerOf(char32_t character);
[[nodiscard]] std::string TitleOf(char32_t character);

}  // namespace lieq
