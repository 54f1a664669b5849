#include "lieq/pipeline/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "lieq/base/error.h"
#include "lieq/chat/chat_template.h"
#include "lieq/chat/conversation.h"
#include "lieq/container/special_tokens.h"
#include "lieq/model/continuation.h"
#include "lieq/pipeline/calibration_text.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/pack.h"
#include "lieq/pipeline/requests.h"
#include "lieq/text/text_stream.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

void CheckRequest(const GenerateRequest& request) {
  const bool prompt = request.prompt.has_value(), file = !request.prompt_file.empty();
  if ((prompt && file) || (!prompt && !file && request.messages.empty())) {
    throw UsageError("give one of --prompt and --prompt-file, or --messages");
  }
  if (request.system && !request.chat) throw UsageError("--system wants --chat");
  if (request.system && !request.messages.empty()) {
    throw UsageError("--system and --messages: the messages have the system's among them");
  }
  const SamplingOptions& sampling = request.sampling;
  if (sampling.temperature == 0 &&
      (sampling.top_k > 0 || sampling.top_p < 1 || sampling.min_p > 0)) {
    throw UsageError(
        "--top-k, --top-p and --min-p want --temperature above 0: at 0 nothing is drawn");
  }
}

std::string ReadPrompt(const GenerateRequest& request, const Log& log) {
  if (!request.prompt && request.prompt_file.empty()) return "";
  if (!request.prompt) {
    FileText read = ReadPlainText(request.prompt_file, request.reading);
    Say(read.notes, log);
    return std::move(read.text);
  }
  std::string repaired;
  std::string prompt(ToValidUtf8(*request.prompt, repaired));
  if (prompt != *request.prompt) {
    log.Warning("--prompt: bytes that are no UTF-8 are read as U+FFFD");
  }
  return prompt;
}

bool IsChat(const GenerateRequest& request) {
  return request.chat || !request.messages.empty();
}

/// The chat that --messages, --system and the prompt make, by the model's template; the prompt is
/// what was read for it.
void WriteChat(const GenerateRequest& request, const ModelFolder& model, const Tokenizer& tokenizer,
               Generation& result) {
  Conversation chat;
  if (!request.messages.empty()) chat = ReadConversation(request.messages);
  if (request.system) {
    std::string repaired;
    const std::string text(ToValidUtf8(*request.system, repaired));
    chat.messages.push_back({{"role", "system"}, {"content", text}});
  }
  if (request.prompt || !request.prompt_file.empty()) {
    chat.messages.push_back({{"role", "user"}, {"content", result.prompt}});
  }
  const RenderedChat rendered = OpenChatTemplate(model).Render(
      chat.messages,
      {.add_generation_prompt = true, .tools = chat.tools, .variables = chat.variables});
  result.prompt_ids = EncodeChat(rendered, tokenizer).ids;
  if (result.prompt_ids.empty()) {
    throw Error({.what = "the chat template writes nothing for this chat",
                 .where = request.model.string()});
  }
  result.prompt = rendered.text;
  result.messages = std::move(chat.messages);
}

}  // namespace

std::vector<TokenId> EncodePrompt(const std::string& prompt, const ModelFolder& model,
                                  const Tokenizer& tokenizer) {
  std::vector<TokenId> ids = tokenizer.Encode(prompt);
  const std::vector<TokenId>& prefix = tokenizer.Prefix();
  if (ids.size() < prefix.size() || !std::equal(prefix.begin(), prefix.end(), ids.begin())) {
    ids.insert(ids.begin(), prefix.begin(), prefix.end());
  }
  if (!ids.empty()) return ids;
  return {FirstToken(model, tokenizer)};
}

Generation Generate(const GenerateRequest& request, Session& session,
                    const std::function<void(const std::string&)>& piece) {
  CheckRequest(request);
  ModelFolder model = OpenRunnable(request.model, session);
  const Tokenizer tokenizer = OpenTokenizer(model, session.log());
  Generation result{.prompt = ReadPrompt(request, session.log())};
  if (IsChat(request)) {
    WriteChat(request, model, tokenizer, result);
  } else {
    result.prompt_ids = EncodePrompt(result.prompt, model, tokenizer);
  }
  const std::vector<TokenId> ends = EndTokens(model);
  const auto prompt = static_cast<Index>(result.prompt_ids.size());
  const Index capacity = prompt + request.new_tokens,
              positions = model.weights.config.max_positions;
  if (positions > 0 && capacity > positions) {
    session.log().Warning(fmt::format(
        "{} tokens are more than the {} positions the model was made for", capacity, positions));
  }
  Decoder decoder(std::move(model.weights), session.device(), 1, capacity);
  Sampler sampler(request.sampling, request.seed);
  sampler.See(result.prompt_ids);
  TextStream stream(tokenizer, IsChat(request) || result.prompt.empty());
  const auto show = [&](const std::string& text) {
    result.text += text;
    if (piece) piece(text);
  };
  Continuation continued =
      Continue(decoder, result.prompt_ids, tokenizer.vocab(), {ends, request.new_tokens}, sampler,
               session.context(), [&](TokenId token) { show(stream.Add(token)); });
  show(stream.Finish());
  result.ids = std::move(continued.ids);
  result.end = continued.end;
  result.prompt_seconds = continued.prompt_seconds;
  result.seconds = continued.seconds;
  result.steps = continued.steps;
  return result;
}

Record GenerationRecord(const GenerateRequest& request, const Generation& generation,
                        Session& session) {
  Record record{{"schema", 1},
                {"kind", "generation"},
                {"model", request.model.string()},
                {"prompt", generation.prompt},
                {"prompt_ids", generation.prompt_ids},
                {"ids", generation.ids},
                {"text", generation.text},
                {"stopped", generation.end ? "end of text" : "length"}};
  if (IsChat(request)) record["messages"] = generation.messages;
  if (generation.end) record["end_id"] = *generation.end;
  record["temperature"] = request.sampling.temperature;
  record["top_k"] = request.sampling.top_k;
  record["top_p"] = request.sampling.top_p;
  record["min_p"] = request.sampling.min_p;
  record["repetition_penalty"] = request.sampling.repetition_penalty;
  record["seed"] = request.seed;
  record["prompt_seconds"] = generation.prompt_seconds;
  record["seconds"] = generation.seconds;
  record["tokens_per_second"] = generation.TokensPerSecond();
  record["peak_bytes"] = PeakMemoryBytes();
  record["device"] = session.device().description();
  record["threads"] = session.pool().size();
  return record;
}

}  // namespace lieq
