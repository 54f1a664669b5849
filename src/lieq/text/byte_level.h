// The byte-level alphabet: GPT-2 writes each byte as one printable character ("Ġ" for a space), so
// that a vocabulary is text. Inside the tokenizer tokens are their bytes; only files see this form.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lieq {

/// The bytes that `token` stands for; nothing where one of its characters is not of the alphabet
/// (such a token is an added one: no text leads to it through merges).
/// token  valid UTF-8
[[nodiscard]] std::optional<std::string> BytesOfToken(std::string_view token);

/// The character that stands for `byte`, in UTF-8.
[[nodiscard]] std::string CharacterOfByte(unsigned char byte);

}  // namespace lieq
