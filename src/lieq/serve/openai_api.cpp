#include "lieq/serve/openai_api.h"

#include <fmt/format.h>

#include <cmath>

#include "lieq/base/error.h"

namespace lieq {
namespace {

[[noreturn]] void Refuse(const std::string& key, std::string what, std::string expected,
                         std::string found) {
  throw Error({.what = std::move(what),
               .where = key,
               .expected = std::move(expected),
               .found = std::move(found)});
}

/// A number between two others; nothing where the key is missing or null.
std::optional<double> NumberIn(const Record& body, const std::string& key, double least,
                               double most) {
  const auto found = body.find(key);
  if (found == body.end() || found->is_null()) return std::nullopt;
  if (!found->is_number() || !(found->get<double>() >= least && found->get<double>() <= most)) {
    Refuse(key, "not a value that it can have", fmt::format("a number, {:g} to {:g}", least, most),
           found->is_number() ? found->dump() : found->type_name());
  }
  return found->get<double>();
}

std::optional<Index> IntegerIn(const Record& body, const std::string& key, double least,
                               double most) {
  const std::optional<double> number = NumberIn(body, key, least, most);
  if (number && *number != std::floor(*number)) {
    Refuse(key, "not a value that it can have", "a whole number", fmt::format("{:g}", *number));
  }
  return number ? std::optional(static_cast<Index>(*number)) : std::nullopt;
}

bool Flag(const Record& body, const std::string& key) {
  const auto found = body.find(key);
  if (found == body.end() || found->is_null()) return false;
  if (!found->is_boolean())
    Refuse(key, "not a value that it can have", "true or false", found->type_name());
  return found->get<bool>();
}

/// What would change the answer, and is not there.
void RefuseWhatIsMissing(const Record& body) {
  if (IntegerIn(body, "n", 0, 1e9).value_or(1) != 1) {
    Refuse("n", "one answer a request is given", "1", body["n"].dump());
  }
  if (IntegerIn(body, "best_of", 0, 1e9).value_or(1) != 1) {
    Refuse("best_of", "one answer a request is given", "1", body["best_of"].dump());
  }
  for (const char* key : {"logprobs", "echo", "suffix", "logit_bias", "response_format"}) {
    const auto found = body.find(key);
    if (found == body.end() || found->is_null() || *found == Record(false) ||
        *found == Record::object() || *found == Record{{"type", "text"}}) {
      continue;
    }
    Refuse(key, "not known to this server", "none", found->dump().substr(0, 60));
  }
}

std::vector<std::string> Stops(const Record& body) {
  const auto found = body.find("stop");
  if (found == body.end() || found->is_null()) return {};
  const Record list = found->is_array() ? *found : Record::array({*found});
  constexpr std::size_t kMost = 16;
  std::vector<std::string> stops;
  for (const Record& stop : list) {
    if (!stop.is_string() || stop.get<std::string>().empty() || stops.size() == kMost) {
      Refuse("stop", "not a value that it can have", "up to 16 texts, none empty",
             stop.is_string() ? stop.dump() : stop.type_name());
    }
    stops.push_back(stop.get<std::string>());
  }
  return stops;
}

void ReadChat(const Record& body, ApiRequest& request) {
  const auto messages = body.find("messages");
  if (messages == body.end() || !messages->is_array() || messages->empty()) {
    Refuse("messages", "no messages", "an array of objects with role and content",
           messages == body.end() ? "none" : messages->type_name());
  }
  request.messages = *messages;
  for (std::size_t i = 0; i < request.messages.size(); ++i) {
    Record& message = request.messages[i];
    const std::string place = fmt::format("messages[{}]", i);
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
      Refuse(place, "not a message", "an object with role and content", message.type_name());
    }
    if (!message.contains("content") || !message["content"].is_array()) continue;
    // Parts of text are one text; templates of models without pictures know no parts.
    std::string text;
    for (const Record& part : message["content"]) {
      if (!part.is_object() || part.value("type", Record()) != "text" || !part.contains("text") ||
          !part["text"].is_string()) {
        Refuse(place + ".content", "a part that is no text", "parts of type text",
               part.dump().substr(0, 60));
      }
      text += part["text"].get<std::string>();
    }
    message["content"] = text;
  }
  if (body.contains("tools") && body["tools"].is_array()) request.tools = body["tools"];
  if (body.contains("chat_template_kwargs") && body["chat_template_kwargs"].is_object()) {
    request.variables = body["chat_template_kwargs"];
  }
}

void ReadCompletion(const Record& body, ApiRequest& request) {
  const auto prompt = body.find("prompt");
  if (prompt != body.end() && prompt->is_string()) {
    request.prompt = prompt->get<std::string>();
  } else if (prompt != body.end() && prompt->is_array() && prompt->size() == 1 &&
             (*prompt)[0].is_string()) {
    request.prompt = (*prompt)[0].get<std::string>();
  } else {
    Refuse("prompt", "not a prompt", "a text", prompt == body.end() ? "none" : prompt->type_name());
  }
}

Record Named(ApiKind kind, const ApiNames& names, bool piece) {
  const std::string object = kind == ApiKind::kCompletion ? "text_completion"
                             : piece                      ? "chat.completion.chunk"
                                                          : "chat.completion";
  return {{"id", names.id}, {"object", object}, {"created", names.created}, {"model", names.model}};
}

Record WithChoice(Record named, Record choice) {
  choice["index"] = 0;
  choice["logprobs"] = nullptr;
  named["choices"] = Record::array({std::move(choice)});
  return named;
}

}  // namespace

ApiRequest ReadApiRequest(ApiKind kind, std::string_view text) {
  const Record body = ParseRecord(text, "the body");
  if (!body.is_object()) Refuse("the body", "not a request", "a JSON object", body.type_name());
  ApiRequest request{.kind = kind};
  RefuseWhatIsMissing(body);
  if (kind == ApiKind::kChat) {
    ReadChat(body, request);
  } else {
    ReadCompletion(body, request);
  }
  request.sampling = {.temperature = NumberIn(body, "temperature", 0, 100),
                      .top_p = NumberIn(body, "top_p", 0, 1),
                      .min_p = NumberIn(body, "min_p", 0, 1),
                      .repetition_penalty = NumberIn(body, "repetition_penalty", 1e-3, 1e3),
                      .top_k = IntegerIn(body, "top_k", -1, 1e9)};
  // 0 of top_p is a way to say: the likeliest token.
  if (request.sampling.top_p == 0.0) request.sampling.top_p = 1e-9;
  if (request.sampling.top_k == Index{-1}) request.sampling.top_k = 0;
  if (const auto seed = IntegerIn(body, "seed", -9e15, 9e15)) {
    request.seed = static_cast<std::uint64_t>(*seed);
  }
  request.new_tokens = IntegerIn(body, "max_completion_tokens", 1, 1e9);
  if (!request.new_tokens) request.new_tokens = IntegerIn(body, "max_tokens", 1, 1e9);
  request.stop = Stops(body);
  request.stream = Flag(body, "stream");
  if (body.contains("stream_options") && body["stream_options"].is_object()) {
    request.stream_usage = Flag(body["stream_options"], "include_usage");
  }
  return request;
}

std::string_view FinishReason(Finish finish) noexcept {
  return finish == Finish::kNewTokens || finish == Finish::kContext ? "length" : "stop";
}

Record Usage(const ReplyCounts& counts) {
  return {{"prompt_tokens", counts.prompt_tokens},
          {"completion_tokens", counts.tokens},
          {"total_tokens", counts.prompt_tokens + counts.tokens},
          {"prompt_tokens_details", {{"cached_tokens", counts.cached_tokens}}}};
}

Record ApiResponse(ApiKind kind, const ApiNames& names, const std::string& text, Finish finish,
                   const ReplyCounts& counts) {
  Record choice{{"finish_reason", FinishReason(finish)}};
  if (kind == ApiKind::kChat) {
    choice["message"] = {{"role", "assistant"}, {"content", text}};
  } else {
    choice["text"] = text;
  }
  Record response = WithChoice(Named(kind, names, false), std::move(choice));
  response["usage"] = Usage(counts);
  return response;
}

Record ApiPiece(ApiKind kind, const ApiNames& names, const std::string& text, bool first) {
  Record choice{{"finish_reason", nullptr}};
  if (kind == ApiKind::kChat) {
    choice["delta"] = {{"content", text}};
    if (first) choice["delta"]["role"] = "assistant";
  } else {
    choice["text"] = text;
  }
  return WithChoice(Named(kind, names, true), std::move(choice));
}

Record ApiEnd(ApiKind kind, const ApiNames& names, Finish finish) {
  Record choice{{"finish_reason", FinishReason(finish)}};
  if (kind == ApiKind::kChat) {
    choice["delta"] = Record::object();
  } else {
    choice["text"] = "";
  }
  return WithChoice(Named(kind, names, true), std::move(choice));
}

Record ApiCounts(ApiKind kind, const ApiNames& names, const ReplyCounts& counts) {
  Record record = Named(kind, names, true);
  record["choices"] = Record::array();
  record["usage"] = Usage(counts);
  return record;
}

Record ApiError(const std::string& message, std::string_view type) {
  return {{"error", {{"message", message}, {"type", type}, {"param", nullptr}, {"code", nullptr}}}};
}

}  // namespace lieq
