// Talking with a model: turn after turn, each answered behind all those before it.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"
#include "lieq/model/sampling.h"
#include "lieq/pipeline/session.h"

namespace lieq {

/// How tokens are drawn, so far as somebody says so.
struct SamplingRequest {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<Index> top_k;

  [[nodiscard]] SamplingOptions Over(SamplingOptions otherwise) const noexcept;
};

/// What is said, else what generation_config.json has, else temperature 0.7 and the likeliest 95 %.
/// Throws Error as SamplingOf does.
[[nodiscard]] SamplingOptions SamplingOfChat(const SamplingRequest& request,
                                             const ModelFolder& model);

struct ChatRequest {
  std::filesystem::path model;
  std::optional<std::string> system;  // message
  std::filesystem::path messages;     // a chat to go on with; this or the system's message
  SamplingRequest sampling;           // as of SamplingOfChat
  std::uint64_t seed = 0;
  Index context = 4096;  // tokens of the chat at most; the model's positions where these are fewer
  Index new_tokens = 1024;  // of an answer at most
};

enum class AnswerEnd : std::uint8_t { kEndToken, kNewTokens, kContext };

struct ChatAnswer {
  std::string text;
  AnswerEnd end = AnswerEnd::kEndToken;
  Index prompt_tokens = 0;                 // of the whole chat before the answer
  Index read_tokens = 0;                   // of these, those that were not in the cache
  Index tokens = 0;                        // of the answer
  Index left_out = 0;                      // old messages that had no room any more
  double prompt_seconds = 0, seconds = 0;  // up to the first token, and from then on
};

class ChatSession {
 public:
  /// Opens the model and its chat template. session outlives this. Throws Error, also for a model
  /// without a template; UsageError for a request that contradicts itself.
  ChatSession(const ChatRequest& request, Session& session);
  ~ChatSession();
  ChatSession(const ChatSession&) = delete;
  ChatSession& operator=(const ChatSession&) = delete;

  /// The assistant's answer to a user's message; both join the chat. `piece` is given the text as
  /// it comes, in whole characters. Where the chat is longer than the context, its oldest messages
  /// behind the system's are left out, for this answer and all that follow. Throws Error where the
  /// message alone has no room, and Stopped; the chat is then what it was before.
  ChatAnswer Answer(const std::string& message,
                    const std::function<void(const std::string&)>& piece = {});
  /// Forgets all but the system's message.
  void Clear();
  /// As transformers takes them.
  [[nodiscard]] const Record& messages() const noexcept;
  [[nodiscard]] const SamplingOptions& sampling() const noexcept;

 private:
  class Work;
  std::unique_ptr<Work> work_;
};

}  // namespace lieq
