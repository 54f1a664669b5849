// Requests and responses of the HTTP interface that OpenAI's clients speak, as records.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/pipeline/chat.h"
#include "lieq/serve/reply.h"

namespace lieq {

enum class ApiKind : std::uint8_t { kChat, kCompletion };

/// What a client asks for. What the interface has and this server has not is refused where it is
/// asked for, and unknown keys are passed over, as that interface does.
struct ApiRequest {
  ApiKind kind = ApiKind::kChat;
  Record messages, tools;               // of a chat
  Record variables = Record::object();  // chat_template_kwargs
  std::string prompt;                   // of a completion
  SamplingRequest sampling;
  std::optional<std::uint64_t> seed;
  std::optional<Index> new_tokens;
  std::vector<std::string> stop;
  bool stream = false;
  bool stream_usage = false;  // a last event with the counts
};

/// Throws Error, whose place is the key: a body that is no such request.
[[nodiscard]] ApiRequest ReadApiRequest(ApiKind kind, std::string_view body);

/// What all responses to one request say alike.
struct ApiNames {
  std::string id;
  std::string model;
  std::int64_t created = 0;  // seconds since 1970
};

/// "stop" or "length"
[[nodiscard]] std::string_view FinishReason(Finish finish) noexcept;
[[nodiscard]] Record Usage(const ReplyCounts& counts);
/// A whole answer.
[[nodiscard]] Record ApiResponse(ApiKind kind, const ApiNames& names, const std::string& text,
                                 Finish finish, const ReplyCounts& counts);
/// A piece of a streamed one. The first of a chat has the role.
[[nodiscard]] Record ApiPiece(ApiKind kind, const ApiNames& names, const std::string& text,
                              bool first);
/// Its end, and the counts where they are wanted.
[[nodiscard]] Record ApiEnd(ApiKind kind, const ApiNames& names, Finish finish);
[[nodiscard]] Record ApiCounts(ApiKind kind, const ApiNames& names, const ReplyCounts& counts);
[[nodiscard]] Record ApiError(const std::string& message, std::string_view type);

}  // namespace lieq
