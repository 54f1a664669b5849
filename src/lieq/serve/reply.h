// An answer as it comes: written by the engine on one thread, read by a client's on another.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "lieq/base/types.h"

namespace lieq {

enum class Finish : std::uint8_t {
  kEndToken,
  kStopText,
  kNewTokens,  // as many tokens as were asked for
  kContext,    // no room for more
  kCancelled,  // by the client, or by the server's end
  kFailed,     // see Reply::error
};

struct ReplyCounts {
  Index prompt_tokens = 0;
  Index cached_tokens = 0;  // of these, those that the engine had run before
  Index tokens = 0;         // of the answer
};

/// All members may be called from any thread.
class Reply {
 public:
  // The client's side.

  /// The text that came since, in whole characters; waits for some. Nothing at the end.
  [[nodiscard]] std::optional<std::string> Next();
  /// The same, waiting at most so long: then an empty text.
  [[nodiscard]] std::optional<std::string> Next(std::chrono::milliseconds patience);
  /// Asks the engine to end; it ends within a step.
  void Cancel();
  /// Of a reply that has ended.
  [[nodiscard]] Finish finish() const;
  [[nodiscard]] std::string error() const;
  [[nodiscard]] ReplyCounts counts() const;

  // The engine's side.

  void Add(std::string_view text, const ReplyCounts& counts);
  void End(Finish finish, const ReplyCounts& counts, std::string error = {});
  [[nodiscard]] bool cancelled() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_;
  std::optional<Finish> finish_;
  std::string error_;
  ReplyCounts counts_;
  bool cancelled_ = false;
};

}  // namespace lieq
