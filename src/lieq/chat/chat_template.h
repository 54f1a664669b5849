// Conversations to text by the template of a model's folder, and to tokens: what messages say never
// becomes a control token, and what the assistant says is known token by token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/chat/jinja_template.h"
#include "lieq/io/json.h"
#include "lieq/text/tokenizer.h"

namespace lieq {

/// Bytes of a text.
struct ByteSpan {
  std::size_t begin = 0;
  std::size_t end = 0;

  friend bool operator==(const ByteSpan&, const ByteSpan&) = default;
};

/// A piece of a rendered chat that was not written by the template.
struct MessageSpan {
  static constexpr std::int32_t kOther = -1;  // from tools or documents

  ByteSpan bytes;
  std::int32_t message = kOther;  // its number
  bool assistant = false;         // of a message of the assistant

  friend bool operator==(const MessageSpan&, const MessageSpan&) = default;
};

struct RenderedChat {
  std::string text;                   // UTF-8
  std::vector<MessageSpan> messages;  // in order, not overlapping
  std::vector<ByteSpan> answers;      // what the assistant says; in order
};

struct ChatOptions {
  bool add_generation_prompt = false;
  Record tools;                         // an array of JSON schemas, or null
  Record variables = Record::object();  // others that the template asks for
  std::optional<std::tm> now;           // for strftime_now; none: the time that it is
  jinja::Limits limits;
};

/// Tokens of a chat; which of them are the assistant's.
struct ChatTokens {
  std::vector<TokenId> ids;
  std::vector<std::uint8_t> answer;  // 1: of an answer
};

class ChatTemplate {
 public:
  /// Of a model's folder: chat_template.jinja, or the template in tokenizer_config.json; nothing
  /// where there is neither. name: of several templates in one file the one to take; empty:
  /// "tool_use" for chats with tools where it is there, else "default". Throws Error.
  [[nodiscard]] static std::optional<ChatTemplate> Open(const std::filesystem::path& folder,
                                                        const std::string& name = {});
  /// The same of a document that is tokenizer_config.json; where: names it in errors.
  [[nodiscard]] static std::optional<ChatTemplate> OfConfig(const Json& config,
                                                            const std::string& where,
                                                            const std::string& name = {});
  /// config: tokenizer_config.json, for its special tokens; null: none.
  ChatTemplate(std::string_view source, const Json& config, const std::string& where);

  /// messages: an array of objects with "role" and "content", as transformers takes them. Throws
  /// Error: what the template refuses.
  [[nodiscard]] RenderedChat Render(const Record& messages, const ChatOptions& options = {}) const;

 private:
  ChatTemplate() = default;
  [[nodiscard]] jinja::Text RenderText(const Record& messages, const ChatOptions& options) const;
  /// Of message i, which says what is at `said`: what the text `whole` of all messages has behind
  /// the prompt for it; nothing where the chat up to it is written otherwise than in the whole.
  [[nodiscard]] std::optional<ByteSpan> AnswerBetween(const Record& messages, std::size_t i,
                                                      const ChatOptions& options,
                                                      const std::optional<ByteSpan>& said,
                                                      const std::string& whole) const;

  std::vector<std::pair<std::string, jinja::Template>> templates_;  // by name
  Record special_tokens_ = Record::object();
};

/// Ids of a rendered chat, without the special tokens that the tokenizer adds by itself: the
/// template writes them. Of text from messages no added token is read (of the assistant's no
/// special one: it may think in "<think>"), so that it cannot end its turn or begin another.
[[nodiscard]] ChatTokens EncodeChat(const RenderedChat& chat, const Tokenizer& tokenizer);

}  // namespace lieq
