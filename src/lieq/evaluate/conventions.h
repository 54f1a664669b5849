// How perplexity is counted: which tokens a model sees, and which of them are scored.
//
// Sources: method.md, section 4; datautils.py and opt.py of GPTQ (Frantar et al.,
// arXiv:2210.17323); tools/perplexity/perplexity.cpp of llama.cpp; "Perplexity of fixed-length
// models" in the documentation of Hugging Face transformers, for strides. See docs/evaluation.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/tensor/view.h"
#include "lieq/text/tokenizer.h"

namespace lieq {

struct Convention {
  std::string_view name;         // "plain"
  std::string_view description;  // one line
  Index context;                 // tokens in a window, where the user says nothing
  bool special;                  // encoded with the special tokens of the tokenizer's template
  bool joins_rows;   // the text's lines are rows, blank ones empty, joined by two newlines
  bool bos_first;    // the first token of a window becomes BOS, where the template has it
  bool second_half;  // alone is scored
};

[[nodiscard]] std::span<const Convention> Conventions() noexcept;
/// Throws Error naming the rows there are.
[[nodiscard]] const Convention& FindConvention(std::string_view name);

/// Tokens begin .. begin + length - 1 of the text; those after positions first .. length - 2 are
/// scored.
struct ScoredWindow {
  Index begin = 0;
  Index length = 0;
  Index first = 0;

  [[nodiscard]] Index scored() const noexcept { return length - 1 - first; }
  /// The token of the text that is the i-th of those scored.
  [[nodiscard]] Index ScoredToken(Index i) const noexcept { return begin + first + 1 + i; }
  friend bool operator==(const ScoredWindow&, const ScoredWindow&) = default;
};

struct ScoredText {
  std::vector<TokenId> ids;
  std::optional<TokenId> bos;  // in place of each window's first token
  std::vector<ScoredWindow> windows;
  Index length = 0;                  // of a window, but perhaps the last one
  std::vector<std::uint8_t> answer;  // of each id, 1: counted; empty: all that are scored are

  /// Of values of a window's scored tokens those that are counted.
  template <class T>
  [[nodiscard]] std::vector<T> Counted(const ScoredWindow& window,
                                       std::span<const T> values) const {
    std::vector<T> counted;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto token = static_cast<std::size_t>(window.ScoredToken(static_cast<Index>(i)));
      if (answer.empty() || answer[token] != 0) counted.push_back(values[i]);
    }
    return counted;
  }
  /// Whether an answer begins with this token.
  [[nodiscard]] bool BeginsAnswer(Index token) const {
    if (answer.empty() || answer[static_cast<std::size_t>(token)] == 0) return false;
    return token == 0 || answer[static_cast<std::size_t>(token) - 1] == 0;
  }
};

/// The text's ids as the convention wants them.
[[nodiscard]] std::vector<TokenId> EncodeFor(const Convention& convention,
                                             const Tokenizer& tokenizer, std::string_view text);

/// Windows of `length` tokens. Without a stride they do not overlap, and what is left at the end is
/// dropped. With one, a window begins at every `stride` tokens, scores what none before it did, and
/// the last one may be shorter. limit: at most so many windows; 0 for all. bos: of the tokenizer.
///
/// Throws Error naming `where`: length below 2 (4 where the second half is scored), a stride that
/// is not 1 to length - 1 or given where halves are scored, a text shorter than one window.
[[nodiscard]] ScoredText CutScored(std::vector<TokenId> ids, const Convention& convention,
                                   Index length, Index stride, Index limit,
                                   std::optional<TokenId> bos, const std::string& where);

/// A window for each chat, of its first `length` tokens at most, all that follow the first scored.
/// begins: where each chat begins in ids, rising. Windows of one length follow one another, the
/// shortest first, so that they run together; those of fewer than two tokens are left out. limit:
/// at most so many chats, from the start; 0 for all.
///
/// Throws Error naming `where`: length below 2, a convention that scores halves, no chat of two
/// tokens.
[[nodiscard]] ScoredText CutScoredChats(std::vector<TokenId> ids, std::span<const Index> begins,
                                        const Convention& convention, Index length, Index limit,
                                        const std::string& where);

/// The same text of which only tokens of answers are counted; windows without any are left out.
/// answer: of each id. Throws Error naming `where`: none is left.
[[nodiscard]] ScoredText CountAnswers(ScoredText text, std::vector<std::uint8_t> answer,
                                      const std::string& where);

/// The first special token of the tokenizer's template; nothing where it has none.
[[nodiscard]] std::optional<TokenId> BosOf(const Tokenizer& tokenizer);

}  // namespace lieq
