// The tokens of a tokenizer.json: those of the model and those added to it, by id and by name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/io/json.h"
#include "lieq/text/byte_map.h"
#include "lieq/text/normal_form.h"
#include "lieq/text/token_decoder.h"

namespace lieq {

/// An entry of /added_tokens: found in the text as it stands, before the model sees it.
struct AddedToken {
  TokenId id = 0;
  std::string content;      // what is looked for: the name, or its normal form if `normalized`
  bool special = false;     // left out by Decode on demand
  bool normalized = false;  // looked for after the normalizer, else before
  bool strip_left = false;  // takes the white space before it along
  bool strip_right = false;
  bool single_word = false;  // not where a letter or the like stands beside it
};

/// Invariants: ids are 0 .. size() - 1 without holes; names are unique; the model's tokens come
/// first, then those that are added tokens only.
class Vocabulary {
 public:
  /// root     the whole document
  /// normal, decoder  its own
  /// Throws Error: no tokens, ids that are negative, given twice or leave holes, added tokens that
  /// the reference implementation would give another id, options that are not supported.
  Vocabulary(const JsonObject& root, const NormalForm& normal, const TokenDecoder& decoder);

  [[nodiscard]] TokenId size() const noexcept { return static_cast<TokenId>(tokens_.size()); }
  [[nodiscard]] TokenId model_size() const noexcept { return model_size_; }
  [[nodiscard]] const std::vector<AddedToken>& added() const noexcept { return added_; }

  /// Id of the token with this name, as the file writes it.
  [[nodiscard]] std::optional<TokenId> Find(std::string_view name) const;
  /// The same among the model's own tokens: merges and words lead to no others.
  [[nodiscard]] std::optional<TokenId> FindInModel(std::string_view name) const;
  [[nodiscard]] std::string_view Name(TokenId id) const { return names_.key(Size(id)); }
  /// The text that the token stands for; part of a character, maybe.
  [[nodiscard]] std::string_view Bytes(TokenId id) const { return Text(id).bytes; }
  [[nodiscard]] const TokenText& Text(TokenId id) const { return At(id).text; }
  [[nodiscard]] bool IsSpecial(TokenId id) const { return At(id).special; }
  /// Whether a text without special tokens is one without this.
  [[nodiscard]] bool IsLeftOut(TokenId id) const { return At(id).left_out; }

 private:
  struct Token {
    TokenText text;
    bool special = false;
    bool left_out = false;
  };
  [[nodiscard]] const Token& At(TokenId id) const { return tokens_[Size(id)]; }

  void ReadModel(const JsonObject& model, const TokenDecoder& decoder);
  void ReadAdded(const Json& entries, const NormalForm& normal, const TokenDecoder& decoder,
                 const std::string& where);
  void Append(std::string_view name, const TokenDecoder& decoder);

  ByteMap names_;  // numbers are ids: names are added in the order of ids
  std::vector<Token> tokens_;
  std::vector<AddedToken> added_;
  TokenId model_size_ = 0;
};

}  // namespace lieq
