// Several answers at once: requests join and leave a batch, of which each step writes one token of
// every answer and reads a piece of the prompts that are not through yet.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "lieq/model/decoder.h"
#include "lieq/model/sampling.h"
#include "lieq/pipeline/session.h"
#include "lieq/serve/reply.h"
#include "lieq/serve/stop_text.h"
#include "lieq/text/text_stream.h"
#include "lieq/text/tokenizer.h"

namespace lieq {

struct EngineOptions {
  Index sequences = 4;   // answers at once
  Index context = 4096;  // tokens of a prompt and its answer
  Index waiting = 64;    // requests beyond those, at most
};

struct EngineRequest {
  std::vector<TokenId> prompt;  // not empty
  SamplingOptions sampling;
  std::uint64_t seed = 0;
  Index new_tokens = 128;
  std::vector<std::string> stop;  // texts, none empty
  bool goes_on = false;  // the answer is the prompt's text going on, and no text of its own
};

class BatchEngine {
 public:
  /// tokenizer and session outlive this. weights: as of Decoder. end_tokens: sorted.
  BatchEngine(Weights weights, const Tokenizer& tokenizer, std::vector<TokenId> end_tokens,
              const EngineOptions& options, Session& session);

  /// From any thread. Null where as many as may wait do. Throws Error for a prompt that has no room
  /// for an answer.
  [[nodiscard]] std::shared_ptr<Reply> Submit(EngineRequest request);

  /// Works until a stop is asked for; then every reply is ended. On the one thread that calls the
  /// device.
  void Run(const std::stop_token& stop);

  /// Answers that are being written, and requests that wait.
  struct Load {
    Index running = 0, waiting = 0;
  };
  [[nodiscard]] Load load() const;
  [[nodiscard]] const EngineOptions& options() const noexcept { return options_; }

 private:
  struct Waiting {
    EngineRequest request;
    std::shared_ptr<Reply> reply;
  };
  /// A sequence of the decoder.
  struct Slot {
    std::vector<TokenId> cached;   // that the decoder has run
    std::shared_ptr<Reply> reply;  // null: free
    EngineRequest request;
    Index read = 0;  // of the prompt
    std::optional<Sampler> sampler;
    std::optional<TextStream> stream;
    StopText stops;
    std::vector<TokenId> next;  // one token that was chosen, and has not been run
    ReplyCounts counts;
  };

  void Admit();
  void Begin(Waiting waiting);
  /// Tokens that the slot adds in this step; room: rows that prompts may still take.
  [[nodiscard]] std::span<const TokenId> Part(Slot& slot, Index& room) const;
  void Step();
  void Take(Slot& slot, TokenId token);
  void End(Slot& slot, Finish finish, std::string error = {});
  void EndAll();

  const Tokenizer& tokenizer_;
  const std::vector<TokenId> ends_;
  const EngineOptions options_;
  Session& session_;
  Decoder decoder_;
  std::vector<Slot> slots_;

  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<Waiting> waiting_;
  Index running_ = 0;
  bool ended_ = false;
};

}  // namespace lieq
