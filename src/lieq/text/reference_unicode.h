// Where the Unicode data of the reference implementation differs from that of our libraries.
//
// Hugging Face's tokenizers splits by Unicode 16 and normalizes by a version before 11; Debian 12's
// PCRE2 knows Unicode 14 and its utf8proc 15. The ids that a model was trained on are those of the
// reference, so both gaps are closed by tables, made by tools/make_tokenizer_golden.py.
#pragma once

#include <string>
#include <string_view>

namespace lieq {

/// Valid UTF-8 with each character that the regex engines class differently replaced by one of the
/// same length that both put into the class of the reference. Offsets hold in both texts. `text`
/// itself where there is none, else a view of `storage`.
[[nodiscard]] std::string_view WithStandIns(std::string_view text, std::string& storage);

/// Whether the reference's normalization knows nothing of this character: it stays where it is and
/// composes with nothing, whatever newer versions of Unicode say.
[[nodiscard]] bool IsInert(char32_t code_point) noexcept;

}  // namespace lieq
