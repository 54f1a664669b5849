// A check of what a model answers, beside its reference: `evaluate --check-answers`.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lieq/chat/chat_template.h"
#include "lieq/container/model_folder.h"
#include "lieq/evaluate/answers.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/session.h"
#include "lieq/text/text_file.h"
#include "lieq/text/tokenizer.h"

namespace lieq {

inline constexpr Index kAnswerTokens = 128;  // of an answer, at most

/// What one model answers.
struct CheckedAnswers {
  std::vector<Answer> answers;
  std::vector<std::string> texts;
};

struct AnswerCheck {
  std::string source;                // of the prompts: a file's name, or "bundled"
  bool chat = false;                 // through the model's chat template; else as plain texts
  std::vector<std::string> prompts;  // as the models are given them
  CheckedAnswers model;
  std::optional<CheckedAnswers> reference;

  [[nodiscard]] AnswerCounts Counts() const;
};

/// Short things that people ask a model for, in a fixed order.
[[nodiscard]] std::span<const std::string_view> BundledPrompts() noexcept;

/// Asks models the same prompts.
class AnswerChecker {
 public:
  /// The first `count` prompts: chats of the first of `texts` that holds some, each up to its first
  /// answer; without such a file the bundled ones. Says where there are fewer. Throws Error.
  AnswerChecker(Index count, std::span<const std::filesystem::path> texts,
                const TextOptions& reading, const Log& log);

  /// reference may be null. Its answers are kept for the next model. Chats that the template
  /// refuses are left out, which the log says. Throws Error where it refuses all, and where the
  /// reference reads the prompts as other tokens, Stopped.
  [[nodiscard]] AnswerCheck Check(const ModelFolder& model, const Tokenizer& tokenizer,
                                  const ModelFolder* reference,
                                  const Tokenizer* reference_tokenizer, Session& session);

 private:
  struct Asked {
    std::vector<std::string> texts;
    std::vector<std::vector<TokenId>> ids;
    std::size_t refused = 0;  // chats, by the template: they are not asked
  };
  [[nodiscard]] Asked Ask(const ModelFolder& model, const Tokenizer& tokenizer,
                          const std::optional<ChatTemplate>& chat) const;

  std::string source_;
  std::vector<Record> chats_;  // messages of each
  std::vector<std::vector<TokenId>> reference_ids_;
  std::optional<CheckedAnswers> reference_;
};

}  // namespace lieq
