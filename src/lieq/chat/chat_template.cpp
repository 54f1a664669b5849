#include "lieq/chat/chat_template.h"

#include <algorithm>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/io/printable.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

constexpr std::string_view kFile = "chat_template.jinja";

/// Origins of text: of message i what it says is 2 i, its role 2 i + 1; what is not of a message
/// comes behind all of them.
constexpr std::int32_t kOtherOrigin = INT32_MAX;

/// place: "/3/content"
std::int32_t OriginIn(std::string_view place) {
  std::int64_t message = 0;
  std::size_t i = 1;
  for (; i < place.size() && place[i] >= '0' && place[i] <= '9'; ++i) {
    message = std::min<std::int64_t>(message * 10 + (place[i] - '0'), INT32_MAX / 4);
  }
  return static_cast<std::int32_t>(2 * message +
                                   (place.substr(std::min(i, place.size())) == "/role" ? 1 : 0));
}

/// The text of a special token in tokenizer_config.json: a string, or an object with its content.
std::optional<std::string> TokenText(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    return value["content"].get<std::string>();
  }
  return std::nullopt;
}

Record SpecialTokensOf(const Json& config) {
  Record tokens = Record::object();
  if (!config.is_object()) return tokens;
  for (const char* const name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                                 "cls_token", "mask_token"}) {
    if (!config.contains(name)) continue;
    if (const std::optional<std::string> text = TokenText(config[name])) tokens[name] = *text;
  }
  return tokens;
}

bool IsAssistant(const Record& messages, std::size_t i) {
  return i < messages.size() && messages[i].is_object() && messages[i].contains("role") &&
         (messages[i]["role"] == "assistant" || messages[i]["role"] == "model");
}

void CheckMessages(const Record& messages) {
  if (!messages.is_array()) {
    throw Error({.what = "a conversation is an array of messages",
                 .where = "messages",
                 .expected = "[{\"role\": ..., \"content\": ...}, ...]",
                 .found = messages.type_name()});
  }
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, const Json& config, const std::string& where)
    : special_tokens_(SpecialTokensOf(config)) {
  templates_.emplace_back("default", jinja::Template(source, where));
}

std::optional<ChatTemplate> ChatTemplate::Open(const std::filesystem::path& folder,
                                               const std::string& name) {
  const std::filesystem::path config_path = folder / "tokenizer_config.json";
  const Json config = std::filesystem::exists(config_path) ? ReadJson(config_path) : Json();
  const std::filesystem::path file = folder / kFile;
  if (!std::filesystem::exists(file)) return OfConfig(config, config_path.string(), name);
  return ChatTemplate(ReadText(file), config, file.string());
}

std::optional<ChatTemplate> ChatTemplate::OfConfig(const Json& config, const std::string& where,
                                                   const std::string& name) {
  if (!config.is_object() || !config.contains("chat_template")) return std::nullopt;
  const Json& given = config["chat_template"];
  const std::string key = where + ": /chat_template";
  if (given.is_null()) return std::nullopt;
  if (given.is_string()) return ChatTemplate(given.get<std::string>(), config, key);
  ChatTemplate chat;
  chat.special_tokens_ = SpecialTokensOf(config);
  for (const Json& row : given) {
    const bool right = row.is_object() && row.contains("name") && row["name"].is_string() &&
                       row.contains("template") && row["template"].is_string();
    if (!right) {
      throw Error({.what = "this is no chat template",
                   .where = key,
                   .expected = "a string, or a list of {\"name\": ..., \"template\": ...}",
                   .found = Printable(row.dump())});
    }
    const std::string own = row["name"].get<std::string>();
    if (!name.empty() && name != own) continue;
    chat.templates_.emplace_back(own, jinja::Template(row["template"].get<std::string>(),
                                                      key + " '" + Printable(own) + "'"));
  }
  if (chat.templates_.empty()) {
    throw Error(
        {.what = "there is no chat template of this name", .where = key, .found = Printable(name)});
  }
  return chat;
}

jinja::Text ChatTemplate::RenderText(const Record& messages, const ChatOptions& options) const {
  const auto other = [](std::string_view) { return kOtherOrigin; };
  std::vector<jinja::Variable> variables{
      {"messages", messages, OriginIn},
      {"tools", options.tools, other},
      {"documents", nullptr, {}},
      {"add_generation_prompt", options.add_generation_prompt, {}}};
  for (const auto& [token, text] : special_tokens_.items()) variables.push_back({token, text, {}});
  for (const auto& [own, value] : options.variables.items()) {
    variables.push_back(
        {own, value, own == "documents" ? other : decltype(jinja::Variable::origin){}});
  }
  const auto named = [&](std::string_view name) {
    return std::ranges::find(templates_, name, &std::pair<std::string, jinja::Template>::first);
  };
  auto chosen = options.tools.is_null() ? templates_.end() : named("tool_use");
  if (chosen == templates_.end()) chosen = named("default");
  if (chosen == templates_.end()) chosen = templates_.begin();
  return chosen->second.Render(variables, {.limits = options.limits, .now = options.now});
}

std::optional<ByteSpan> ChatTemplate::AnswerBetween(const Record& messages, std::size_t i,
                                                    const ChatOptions& options,
                                                    const std::optional<ByteSpan>& said,
                                                    const std::string& whole) const {
  Record part = Record::array();
  for (std::size_t k = 0; k < i; ++k) part.push_back(messages[k]);
  ChatOptions before = options;
  before.add_generation_prompt = true;
  ChatOptions after = options;
  after.add_generation_prompt = false;
  try {
    const std::string question = RenderText(part, before).bytes();
    const bool prompts = question != RenderText(part, after).bytes();
    part.push_back(messages[i]);
    const std::string answered = RenderText(part, after).bytes();
    if (question.size() > answered.size() || !answered.starts_with(question) ||
        !whole.starts_with(answered)) {
      return std::nullopt;
    }
    ByteSpan answer{.begin = question.size(), .end = answered.size()};
    // A template without a prompt writes it with the answer: "assistant: ". The space before what
    // is said belongs to its first token.
    if (!prompts && said.has_value() && said->begin > answer.begin) {
      const std::string_view gap =
          std::string_view(whole).substr(answer.begin, said->begin - answer.begin);
      if (!WithoutSpaceBehind(gap).empty()) {
        answer.begin = said->begin;
        while (whole[answer.begin - 1] == ' ') --answer.begin;
      }
    }
    return answer;
  } catch (const Error&) {  // a part of a chat may be what the template refuses
    return std::nullopt;
  }
}

RenderedChat ChatTemplate::Render(const Record& messages, const ChatOptions& options) const {
  CheckMessages(messages);
  const jinja::Text text = RenderText(messages, options);
  RenderedChat chat{.text = text.bytes(), .messages = {}, .answers = {}};
  std::vector<std::optional<ByteSpan>> said(messages.size());  // from the first byte to the last
  for (const jinja::MarkedSpan& span : text.spans()) {
    if (span.mark.answer) {
      if (!chat.answers.empty() && chat.answers.back().end == span.begin) {
        chat.answers.back().end = span.end;
      } else {
        chat.answers.push_back({.begin = span.begin, .end = span.end});
      }
    }
    if (span.mark.origin == jinja::Mark::kTemplate) continue;
    MessageSpan piece{.bytes = {.begin = span.begin, .end = span.end}};
    if (span.mark.origin != kOtherOrigin) {
      const auto i = static_cast<std::size_t>(span.mark.origin / 2);
      piece.message = span.mark.origin / 2;
      piece.assistant = IsAssistant(messages, i);
      if (span.mark.origin % 2 == 0) {
        if (!said[i].has_value()) said[i] = piece.bytes;
        said[i]->end = span.end;
      }
    }
    chat.messages.push_back(piece);
  }
  if (!chat.answers.empty()) return chat;  // the template says where they are
  std::size_t done = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (!IsAssistant(messages, i)) continue;
    std::optional<ByteSpan> answer = AnswerBetween(messages, i, options, said[i], chat.text);
    if (!answer.has_value()) answer = said[i];
    if (!answer.has_value()) continue;
    // White space behind the end of a turn belongs to the next one, unless it was said.
    const std::size_t least = said[i].has_value() ? said[i]->end : answer->begin;
    const std::string_view all =
        std::string_view(chat.text).substr(answer->begin, answer->end - answer->begin);
    answer->end =
        std::max(answer->begin + WithoutSpaceBehind(all).size(), std::min(least, answer->end));
    if (answer->begin >= done && answer->begin < answer->end) {
      chat.answers.push_back(*answer);
      done = answer->end;
    }
  }
  return chat;
}

ChatTokens EncodeChat(const RenderedChat& chat, const Tokenizer& tokenizer) {
  std::vector<PlainSpan> plain;
  for (const MessageSpan& span : chat.messages) {
    plain.push_back(
        {.begin = span.bytes.begin, .end = span.bytes.end, .special_alone = span.assistant});
  }
  PlacedTokens placed = tokenizer.EncodePlaced(chat.text, plain);
  ChatTokens tokens{.ids = std::move(placed.ids), .answer = {}};
  tokens.answer.resize(tokens.ids.size(), 0);
  std::size_t token = 0;
  for (const ByteSpan& answer : chat.answers) {
    // A token that begins before an answer and ends in it is the template's: it was given.
    while (token < tokens.ids.size() && placed.begins[token] < answer.begin) ++token;
    for (; token < tokens.ids.size() && placed.begins[token] < answer.end; ++token)
      tokens.answer[token] = 1;
  }
  return tokens;
}

}  // namespace lieq
