// BPE from Hugging Face's tokenizer.json: byte-level, of the families of Llama 3, Qwen and SmolLM,
// and over characters, of Llama 2, Mistral, Phi-3 and Gemma.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/text/token_decoder.h"

namespace lieq {

/// Bytes of a text in which tokens that were added to the model's own ("<|im_end|>") are text like
/// any other: no token is found that has a byte in common with it.
struct PlainSpan {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool special_alone =
      false;  // of the added tokens those that are special; else all but white space
};

/// Tokens, and the byte of the text where each begins; roughly where normalization changed the
/// text.
struct PlacedTokens {
  std::vector<TokenId> ids;
  std::vector<std::size_t> begins;
};

class Tokenizer {
 public:
  /// Throws Error: unreadable, not BPE, a normalizer, pre-tokenizer or decoder that is not
  /// supported (by its name), ids with holes or out of range, merges of unknown tokens.
  [[nodiscard]] static Tokenizer Open(const std::filesystem::path& tokenizer_json);
  [[nodiscard]] static Tokenizer Parse(std::string_view json, const std::string& where);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// From now on Encode throws Error for a text that uses an id of `rows` or more: tokens that the
  /// model has no row of the embedding for. 0: no limit.
  void LimitTo(Index rows) noexcept;

  /// Ids of the text. Bytes that are not UTF-8 are read as U+FFFD. With `special`, the template of
  /// the post-processor is applied (BOS); without it never.
  [[nodiscard]] std::vector<TokenId> Encode(std::string_view text, bool special = false) const;
  /// The same without the post-processor's template, with `plain` spans: in order, not overlapping.
  /// text: valid UTF-8.
  [[nodiscard]] PlacedTokens EncodePlaced(std::string_view text,
                                          std::span<const PlainSpan> plain) const;
  /// Text of the ids, special tokens included unless `skip_special`; invalid UTF-8 becomes U+FFFD
  /// as in the reference, whose decoder may strip the text's beginning. Throws Error for an id that
  /// is out of range.
  [[nodiscard]] std::string Decode(const std::vector<TokenId>& ids,
                                   bool skip_special = false) const;

  /// The text that a token stands for; part of a character, maybe. Throws Error as Decode does.
  [[nodiscard]] std::string_view Bytes(TokenId id) const;
  /// What the token is in a text, and by what name the file has it. Throw Error as Decode does.
  [[nodiscard]] const TokenText& Text(TokenId id) const;
  [[nodiscard]] std::string_view Name(TokenId id) const;
  [[nodiscard]] const TokenDecoder& decoder() const noexcept;
  /// The special tokens that the post-processor's template puts before a text (BOS).
  [[nodiscard]] const std::vector<TokenId>& Prefix() const noexcept;

  /// Highest id + 1.
  [[nodiscard]] Index vocab() const noexcept;
  [[nodiscard]] std::optional<TokenId> Find(std::string_view token) const;

 private:
  struct Impl;
  void CheckId(TokenId id) const;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lieq
