#include "lieq/pipeline/answer_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "lieq/base/error.h"
#include "lieq/chat/chat_rows.h"
#include "lieq/container/special_tokens.h"
#include "lieq/pipeline/generate.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/text/text_stream.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 20> kPrompts{
    "What is the capital of France?",
    "Name three colours of the rainbow.",
    "Write one sentence about the sea.",
    "What is 17 plus 25?",
    "Translate \"good morning\" into Spanish.",
    "Give me a recipe for pancakes.",
    "Why is the sky blue?",
    "Write a short poem about autumn.",
    "List five animals that can fly.",
    "Explain what a computer program is to a child.",
    "What day comes after Tuesday?",
    "Summarize in one sentence: The cat slept all day, woke up at night, and caught a mouse.",
    "Write a Python function that adds two numbers.",
    "How do I make a cup of tea?",
    "Tell me a joke.",
    "Is water wet? Answer yes or no.",
    "What are the steps to plant a tree?",
    "Write an email that asks for a day off.",
    "Which is larger, the sun or the moon?",
    "Count from one to ten."};

/// The same every day: templates may write the date.
std::tm FixedDay() {
  std::tm day{};
  day.tm_year = 125;  // 1 January 2025, a Wednesday
  day.tm_mday = 1;
  day.tm_wday = 3;
  return day;
}

/// The messages before the first of the assistant; empty where the user says nothing there.
Record Question(const Record& messages) {
  Record question = Record::array();
  bool asked = false;
  for (const Record& message : messages) {
    if (message["role"] == "assistant") break;
    asked = asked || message["role"] == "user";
    question.push_back(message);
  }
  return asked ? question : Record::array();
}

/// What is said, one message after another.
std::string PlainPrompt(const Record& messages) {
  std::string text;
  for (const Record& message : messages) {
    if (!message.contains("content") || !message["content"].is_string()) continue;
    text += (text.empty() ? "" : "\n\n") + message["content"].get<std::string>();
  }
  return text;
}

/// Says what is left out, and where answers go beyond what the model was made for.
void JudgePrompts(const std::string& source, std::span<const std::vector<TokenId>> prompts,
                  std::size_t refused, const ModelConfig& config, const Log& log) {
  if (refused > 0) {
    log.Warning(fmt::format("{}: {} of {} chats are not asked, which the template refuses", source,
                            refused, refused + prompts.size()));
  }
  std::size_t longest = 0;
  for (const std::vector<TokenId>& prompt : prompts) longest = std::max(longest, prompt.size());
  const Index tokens = static_cast<Index>(longest) + kAnswerTokens;
  if (config.max_positions > 0 && tokens > config.max_positions) {
    log.Warning(
        fmt::format("{}: {} tokens of a prompt and its answer are more than the {} "
                    "positions the model was made for",
                    source, tokens, config.max_positions));
  }
}

CheckedAnswers AnswersOf(const ModelFolder& model, const Tokenizer& tokenizer,
                         std::span<const std::vector<TokenId>> prompts, Session& session) {
  const std::vector<TokenId> ends = EndTokens(model);
  CheckedAnswers checked{
      .answers = AnswerPrompts(model.weights, session.device(), prompts, tokenizer.vocab(), ends,
                               kAnswerTokens, session.context()),
      .texts = {}};
  for (const Answer& answer : checked.answers) {
    TextStream stream(tokenizer);
    std::string text;
    for (const TokenId token : answer.ids) text += stream.Add(token);
    checked.texts.push_back(text + stream.Finish());
  }
  return checked;
}

}  // namespace

std::span<const std::string_view> BundledPrompts() noexcept {
  return kPrompts;
}

AnswerCounts AnswerCheck::Counts() const {
  return Judge(model.answers,
               reference ? std::span<const Answer>(reference->answers) : std::span<const Answer>());
}

AnswerChecker::AnswerChecker(Index count, std::span<const fs::path> texts,
                             const TextOptions& reading, const Log& log)
    : source_("bundled") {
  const auto file =
      std::ranges::find_if(texts, [&](const fs::path& text) { return HoldsChats(text, reading); });
  if (file != texts.end()) {
    source_ = file->filename().string();
    ForChats(*file, reading, [&](const Conversation& chat) {
      Record question = Question(chat.messages);
      if (!question.empty()) chats_.push_back(std::move(question));
      return static_cast<Index>(chats_.size()) < count;
    });
    if (chats_.empty()) {
      throw Error({.what = "no chat begins with what a user says", .where = file->string()});
    }
  } else {
    for (const std::string_view prompt : kPrompts) {
      if (static_cast<Index>(chats_.size()) == count) break;
      const Record message{{"role", "user"}, {"content", std::string(prompt)}};
      chats_.push_back(Record::array({message}));
    }
  }
  if (static_cast<Index>(chats_.size()) < count) {
    log.Warning(fmt::format("{} prompts ({}), fewer than --check-answers {}", chats_.size(),
                            source_, count));
  }
}

AnswerChecker::Asked AnswerChecker::Ask(const ModelFolder& model, const Tokenizer& tokenizer,
                                        const std::optional<ChatTemplate>& chat) const {
  Asked asked;
  std::optional<Problem> refused;  // the first
  for (const Record& messages : chats_) {
    if (!chat) {
      asked.texts.push_back(PlainPrompt(messages));
      asked.ids.push_back(EncodePrompt(asked.texts.back(), model, tokenizer));
      continue;
    }
    try {
      const RenderedChat rendered =
          chat->Render(messages, {.add_generation_prompt = true, .now = FixedDay()});
      std::vector<TokenId> ids = EncodeChat(rendered, tokenizer).ids;
      if (ids.empty()) throw Error({.what = "the chat template writes nothing for this chat"});
      asked.ids.push_back(std::move(ids));
      asked.texts.push_back(rendered.text);
    } catch (const Error& error) {
      if (!refused) refused = error.problem();
    }
  }
  asked.refused = chats_.size() - asked.ids.size();
  if (asked.ids.empty()) throw Error(*std::move(refused));
  return asked;
}

AnswerCheck AnswerChecker::Check(const ModelFolder& model, const Tokenizer& tokenizer,
                                 const ModelFolder* reference, const Tokenizer* reference_tokenizer,
                                 Session& session) {
  const std::optional<ChatTemplate> chat = FindChatTemplate(model);
  Asked asked = Ask(model, tokenizer, chat);
  JudgePrompts(source_, asked.ids, asked.refused, model.weights.config, session.log());
  AnswerCheck check{.source = source_,
                    .chat = chat.has_value(),
                    .prompts = asked.texts,
                    .model = AnswersOf(model, tokenizer, asked.ids, session),
                    .reference = {}};
  if (reference == nullptr) return check;
  if (Ask(*reference, *reference_tokenizer, chat).ids != asked.ids) {
    throw Error({.what = "the reference has another tokenizer: it gives other tokens",
                 .where = reference->path.string(),
                 .expected = "the model that this one was made from"});
  }
  if (!reference_ || reference_ids_ != asked.ids) {
    reference_ = AnswersOf(*reference, *reference_tokenizer, asked.ids, session);
    reference_ids_ = std::move(asked.ids);
  }
  check.reference = reference_;
  return check;
}

}  // namespace lieq
