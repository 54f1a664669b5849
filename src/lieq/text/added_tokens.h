// Finds added tokens ("<|im_end|>") in a text, before the model sees what is between them.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/text/vocabulary.h"

namespace lieq {

class AddedTokenFinder {
 public:
  /// Looks for the `content` of `tokens`; no two are alike.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  /// Called for each part of a text, from left to right: a token, or (nullptr) text between tokens.
  using Sink = std::function<void(const AddedToken* token, std::string_view text)>;

  /// Whether a token may be found at bytes begin .. end of the text.
  using Allowed = std::function<bool(const AddedToken& token, std::size_t begin, std::size_t end)>;

  /// Of the tokens that begin at one place the longest wins; a token that strips takes the white
  /// space beside it along. `text` is valid UTF-8. allowed: none, or says which are looked for.
  void Split(std::string_view text, const Sink& sink, const Allowed& allowed = {}) const;

 private:
  [[nodiscard]] const AddedToken* LongestAt(std::string_view text, std::size_t position,
                                            const Allowed& allowed) const;

  std::vector<AddedToken> tokens_;  // in order of content
  std::array<bool, 256> first_bytes_{};
};

}  // namespace lieq
