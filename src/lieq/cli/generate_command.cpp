#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "lieq/chat/chat_template.h"
#include "lieq/chat/conversation.h"
#include "lieq/cli/commands.h"
#include "lieq/container/special_tokens.h"
#include "lieq/model/decoder.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/calibration_text.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/text/text_stream.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void CheckOptions(const Arguments& arguments) {
  const bool prompt = arguments.prompt.has_value(), file = !arguments.prompt_file.empty();
  if ((prompt && file) || (!prompt && !file && arguments.messages.empty())) {
    throw UsageError("give one of --prompt and --prompt-file, or --messages");
  }
  if (arguments.system && !arguments.chat) throw UsageError("--system wants --chat");
  if (arguments.system && !arguments.messages.empty()) {
    throw UsageError("--system and --messages: the messages have the system's among them");
  }
  const SamplingOptions& sampling = arguments.sampling;
  if (sampling.temperature == 0 && (sampling.top_k > 0 || sampling.top_p < 1)) {
    throw UsageError("--top-k and --top-p want --temperature above 0: at 0 nothing is drawn");
  }
}

/// Ids of the prompt behind the special tokens of the tokenizer's template, unless it begins with
/// them itself, as prompts in a chat template's form do. Never empty.
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

bool IsChat(const Arguments& arguments) {
  return arguments.chat || !arguments.messages.empty();
}

struct Generation {
  std::string prompt;  // as UTF-8; of a chat what its template made of it
  Record messages;     // of a chat
  std::vector<TokenId> prompt_ids, ids;
  std::string text;
  std::optional<TokenId> end;  // the end-of-text token that came; none: as many as were asked for
  double prompt_seconds = 0, seconds = 0;  // up to the first logits, and from then on
  Index steps = 0;                         // of the decoder after the prompt

  [[nodiscard]] double TokensPerSecond() const {
    return steps == 0 ? 0 : static_cast<double>(steps) / seconds;
  }
};

/// The chat that --messages, --system and the prompt make, by the model's template; the prompt is
/// what was read for it.
void WriteChat(const Arguments& arguments, const ModelFolder& model, const Tokenizer& tokenizer,
               Generation& result) {
  Conversation chat;
  if (!arguments.messages.empty()) chat = ReadConversation(arguments.messages);
  if (arguments.system) {
    std::string repaired;
    const std::string text(ToValidUtf8(*arguments.system, repaired));
    chat.messages.push_back({{"role", "system"}, {"content", text}});
  }
  if (arguments.prompt || !arguments.prompt_file.empty()) {
    chat.messages.push_back({{"role", "user"}, {"content", result.prompt}});
  }
  const RenderedChat rendered = OpenChatTemplate(model).Render(
      chat.messages,
      {.add_generation_prompt = true, .tools = chat.tools, .variables = chat.variables});
  result.prompt_ids = EncodeChat(rendered, tokenizer).ids;
  if (result.prompt_ids.empty()) {
    throw Error({.what = "the chat template writes nothing for this chat",
                 .where = arguments.run.model.string()});
  }
  result.prompt = rendered.text;
  result.messages = std::move(chat.messages);
}

/// Prints the text as it comes, if `streams`.
void Generate(const Arguments& arguments, const ModelFolder& model, const Tokenizer& tokenizer,
              bool streams, Session& session, Generation& result) {
  const std::vector<TokenId> ends = EndTokens(model);
  const auto prompt = static_cast<Index>(result.prompt_ids.size());
  const Index capacity = prompt + arguments.new_tokens,
              positions = model.weights.config.max_positions;
  if (positions > 0 && capacity > positions) {
    session.log().Warning(fmt::format(
        "{} tokens are more than the {} positions the model was made for", capacity, positions));
  }
  Decoder decoder(model.weights, session.device(), 1, capacity);
  Matrix<float> logits(1, model.weights.config.vocab);
  Sampler sampler(arguments.sampling, arguments.run.seed);
  TextStream stream(tokenizer);
  const auto show = [&](const std::string& piece) {
    result.text += piece;
    if (!streams) return;
    fmt::print("{}", piece);
    std::fflush(stdout);
  };

  auto begin = Clock::now();
  decoder.Append({result.prompt_ids.data(), 1, prompt}, logits.view());
  result.prompt_seconds = SecondsSince(begin);
  begin = Clock::now();
  // Rows of logits beyond the tokenizer's tokens are padding, and have no text.
  const std::span<const float> row = logits.view().Row(0).first(Size(tokenizer.vocab()));
  while (true) {
    session.context().ThrowIfStopped();
    const TokenId token = sampler.Next(row);
    if (std::ranges::binary_search(ends, token)) {
      result.end = token;
      break;
    }
    result.ids.push_back(token);
    show(stream.Add(token));
    if (static_cast<Index>(result.ids.size()) == arguments.new_tokens) break;
    decoder.Append({&token, 1, 1}, logits.view());
    ++result.steps;
  }
  show(stream.Finish());
  result.seconds = SecondsSince(begin);
}

Record ToJson(const Arguments& arguments, const Generation& result, Session& session) {
  Record record{{"schema", 1},
                {"kind", "generation"},
                {"model", arguments.run.model.string()},
                {"prompt", result.prompt},
                {"prompt_ids", result.prompt_ids},
                {"ids", result.ids},
                {"text", result.text},
                {"stopped", result.end ? "end of text" : "length"}};
  if (IsChat(arguments)) record["messages"] = result.messages;
  if (result.end) record["end_id"] = *result.end;
  record["temperature"] = arguments.sampling.temperature;
  record["top_k"] = arguments.sampling.top_k;
  record["top_p"] = arguments.sampling.top_p;
  record["seed"] = arguments.run.seed;
  record["prompt_seconds"] = result.prompt_seconds;
  record["seconds"] = result.seconds;
  record["tokens_per_second"] = result.TokensPerSecond();
  record["peak_bytes"] = PeakMemoryBytes();
  record["device"] = session.device().description();
  record["threads"] = session.pool().size();
  return record;
}

}  // namespace

int RunGenerate(const Arguments& arguments, CommandSession& session) {
  CheckOptions(arguments);
  const ModelFolder model = OpenInput(arguments.run.model, session.log());
  const Tokenizer tokenizer = OpenTokenizer(model, session.log());
  Generation result;
  if (arguments.prompt) {
    std::string repaired;
    result.prompt = ToValidUtf8(*arguments.prompt, repaired);
    if (result.prompt != *arguments.prompt) {
      session.log().Warning("--prompt: bytes that are no UTF-8 are read as U+FFFD");
    }
  } else if (!arguments.prompt_file.empty()) {
    FileText read = ReadPlainText(arguments.prompt_file, arguments.run.reading);
    Say(read.notes, session.log());
    result.prompt = std::move(read.text);
  }
  if (IsChat(arguments)) {
    WriteChat(arguments, model, tokenizer, result);
  } else {
    result.prompt_ids = EncodePrompt(result.prompt, model, tokenizer);
  }
  Generate(arguments, model, tokenizer, !arguments.json, session, result);
  if (arguments.json) {
    session.Answer(ToJson(arguments, result, session));
    return 0;
  }
  fmt::print("\n");
  std::fflush(stdout);
  session.log().Info(
      fmt::format("{} tokens of prompt in {}, then {} ({:.1f} a second), stopped by {}",
                  result.prompt_ids.size(), FormatSeconds(result.prompt_seconds), result.ids.size(),
                  result.TokensPerSecond(), result.end ? "the end of the text" : "--new-tokens"));
  return 0;
}

}  // namespace lieq
