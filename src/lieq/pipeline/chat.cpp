#include "lieq/pipeline/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/stopwatch.h"
#include "lieq/chat/chat_template.h"
#include "lieq/chat/conversation.h"
#include "lieq/container/generation_config.h"
#include "lieq/container/special_tokens.h"
#include "lieq/model/decoder.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/pack.h"
#include "lieq/pipeline/requests.h"
#include "lieq/text/text_stream.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

constexpr Index kLeastAnswer = 16;  // tokens that an answer has room for

std::string ValidUtf8(const std::string& text) {
  std::string repaired;
  return std::string(ToValidUtf8(text, repaired));
}

Index Capacity(const ChatRequest& request, const ModelConfig& config) {
  return config.max_positions > 0 ? std::min(request.context, config.max_positions)
                                  : request.context;
}

bool IsSystem(const Record& message) {
  return message.value("role", "") == "system";
}

}  // namespace

SamplingOptions SamplingRequest::Over(SamplingOptions otherwise) const noexcept {
  otherwise.temperature = temperature.value_or(otherwise.temperature);
  otherwise.top_k = top_k.value_or(otherwise.top_k);
  otherwise.top_p = top_p.value_or(otherwise.top_p);
  otherwise.min_p = min_p.value_or(otherwise.min_p);
  otherwise.repetition_penalty = repetition_penalty.value_or(otherwise.repetition_penalty);
  return otherwise;
}

SamplingOptions SamplingOfChat(const SamplingRequest& request, const ModelFolder& model) {
  return request.Over(
      SamplingOf(model).value_or(SamplingOptions{.temperature = 0.7, .top_p = 0.95}));
}

class ChatSession::Work {
 public:
  Work(const ChatRequest& request, Session& session)
      : request_(request),
        session_(session),
        model_(OpenRunnable(request.model, session)),
        tokenizer_(OpenTokenizer(model_, session.log())),
        template_(OpenChatTemplate(model_)),
        ends_(EndTokens(model_)),
        sampling_(SamplingOfChat(request.sampling, model_)),
        capacity_(Capacity(request, model_.weights.config)),
        decoder_(std::move(model_.weights), session.device(), 1, capacity_) {
    if (!request.messages.empty()) chat_ = ReadConversation(request.messages);
    if (request.system) {
      chat_.messages.push_back({{"role", "system"}, {"content", ValidUtf8(*request.system)}});
    }
  }

  ChatAnswer Answer(const std::string& message,
                    const std::function<void(const std::string&)>& piece) {
    Record messages = chat_.messages;  // the chat's own once all has gone well
    messages.push_back({{"role", "user"}, {"content", ValidUtf8(message)}});
    ChatAnswer answer;
    const std::vector<TokenId> ids = Fitting(messages, answer);
    Read(ids, answer);
    Write(ids, answer, piece);
    messages.push_back({{"role", "assistant"}, {"content", answer.text}});
    chat_.messages = std::move(messages);
    ++turn_;
    return answer;
  }

  void Clear() {
    Record kept = Record::array();
    for (const Record& message : chat_.messages) {
      if (IsSystem(message)) kept.push_back(message);
    }
    chat_.messages = std::move(kept);
  }

  [[nodiscard]] const Record& messages() const noexcept { return chat_.messages; }
  [[nodiscard]] const SamplingOptions& sampling() const noexcept { return sampling_; }

 private:
  std::vector<TokenId> Encode(const Record& messages) const {
    const RenderedChat rendered = template_.Render(
        messages,
        {.add_generation_prompt = true, .tools = chat_.tools, .variables = chat_.variables});
    return EncodeChat(rendered, tokenizer_).ids;
  }

  /// Ids of the chat, without the oldest turns where it is too long: from one user's message up to
  /// the next.
  std::vector<TokenId> Fitting(Record& messages, ChatAnswer& answer) const {
    while (true) {
      std::vector<TokenId> ids = Encode(messages);
      if (ids.empty()) {
        throw Error({.what = "the chat template writes nothing for this chat",
                     .where = request_.model.string()});
      }
      const Index room = capacity_ - std::min(kLeastAnswer, request_.new_tokens);
      if (static_cast<Index>(ids.size()) <= room) return ids;
      const auto first = std::ranges::find_if_not(messages, IsSystem);
      auto last = first == messages.end() ? first : first + 1;
      while (last != messages.end() && last->value("role", "") != "user") ++last;
      if (last == messages.end()) {
        throw Error({.what = "the message is longer than the context has room for",
                     .where = "--context",
                     .expected = fmt::format("at most {} tokens", room),
                     .found = fmt::format("{} tokens", ids.size())});
      }
      answer.left_out += last - first;
      messages.erase(first, last);
    }
  }

  /// Runs what the cache does not hold of the chat.
  void Read(const std::vector<TokenId>& ids, ChatAnswer& answer) {
    const Stopwatch watch;
    const auto length = static_cast<Index>(ids.size());
    const auto differ = std::ranges::mismatch(ids, cached_).in1;
    const Index kept = std::min<Index>(differ - ids.begin(), length - 1);  // logits need a token
    decoder_.Rewind(kept);
    cached_.assign(ids.begin(), ids.begin() + kept);
    logits_ = decoder_.Append({ids.data() + kept, 1, length - kept});
    cached_ = ids;
    answer.prompt_tokens = length;
    answer.read_tokens = length - kept;
    answer.prompt_seconds = watch.seconds();
  }

  void Write(const std::vector<TokenId>& ids, ChatAnswer& answer,
             const std::function<void(const std::string&)>& piece) {
    Sampler sampler(sampling_, request_.seed, turn_);
    sampler.See(ids);
    TextStream stream(tokenizer_);
    const auto show = [&](const std::string& text) {
      answer.text += text;
      if (piece && !text.empty()) piece(text);
    };
    const Stopwatch watch;
    // Rows of logits beyond the tokenizer's tokens are padding, and have no text.
    const Index vocab = tokenizer_.vocab();
    while (true) {
      session_.context().ThrowIfStopped();
      const TokenId token = sampler.Next(logits_.Row(0).first(Size(vocab)));
      if (std::ranges::binary_search(ends_, token)) break;
      show(stream.Add(token));
      if (++answer.tokens == request_.new_tokens) {
        answer.end = AnswerEnd::kNewTokens;
        break;
      }
      if (decoder_.length() == capacity_) {
        answer.end = AnswerEnd::kContext;
        break;
      }
      logits_ = decoder_.Append({&token, 1, 1});
      cached_.push_back(token);
    }
    show(stream.Finish());
    answer.seconds = watch.seconds();
  }

  const ChatRequest request_;
  Session& session_;
  ModelFolder model_;
  Tokenizer tokenizer_;
  ChatTemplate template_;
  std::vector<TokenId> ends_;
  SamplingOptions sampling_;
  Index capacity_;
  Decoder decoder_;
  View<const float, 2> logits_;  // of the token after the last one
  Conversation chat_;
  std::vector<TokenId> cached_;  // that the decoder has run
  std::uint64_t turn_ = 0;       // the stream of an answer's draws
};

ChatSession::ChatSession(const ChatRequest& request, Session& session) {
  if (request.system && !request.messages.empty()) {
    throw UsageError("--system and --messages: the messages have the system's among them");
  }
  work_ = std::make_unique<Work>(request, session);
}

ChatSession::~ChatSession() = default;

ChatAnswer ChatSession::Answer(const std::string& message,
                               const std::function<void(const std::string&)>& piece) {
  return work_->Answer(message, piece);
}

void ChatSession::Clear() {
  work_->Clear();
}

const Record& ChatSession::messages() const noexcept {
  return work_->messages();
}

const SamplingOptions& ChatSession::sampling() const noexcept {
  return work_->sampling();
}

}  // namespace lieq
