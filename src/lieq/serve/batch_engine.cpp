#include "lieq/serve/batch_engine.h"

#include <fmt/format.h>

#include <algorithm>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"

namespace lieq {
namespace {

// Rows of prompts in one step: many enough for products at full speed, few enough that answers
// beside them do not wait long.
constexpr Index kPromptRows = 256;

EngineOptions Bounded(EngineOptions options, const ModelConfig& config) {
  if (config.max_positions > 0) options.context = std::min(options.context, config.max_positions);
  return options;
}

}  // namespace

BatchEngine::BatchEngine(Weights weights, const Tokenizer& tokenizer,
                         std::vector<TokenId> end_tokens, const EngineOptions& options,
                         Session& session)
    : tokenizer_(tokenizer),
      ends_(std::move(end_tokens)),
      options_(Bounded(options, weights.config)),
      session_(session),
      decoder_(std::move(weights), session.device(), options_.sequences, options_.context),
      slots_(Size(options_.sequences)) {}

std::shared_ptr<Reply> BatchEngine::Submit(EngineRequest request) {
  LIEQ_ASSERT(!request.prompt.empty() && request.new_tokens >= 1);
  const auto length = static_cast<Index>(request.prompt.size());
  if (length > options_.context) {
    throw Error({.what = "the prompt is longer than the context has room for",
                 .where = "prompt",
                 .expected = fmt::format("at most {} tokens", options_.context),
                 .found = fmt::format("{} tokens", length)});
  }
  auto reply = std::make_shared<Reply>();
  const std::lock_guard lock(mutex_);
  if (ended_) {
    reply->End(Finish::kCancelled, {.prompt_tokens = length});
    return reply;
  }
  const Index free = options_.sequences - running_;
  if (static_cast<Index>(waiting_.size()) >= options_.waiting + free) return nullptr;
  waiting_.push_back({std::move(request), reply});
  wake_.notify_all();
  return reply;
}

BatchEngine::Load BatchEngine::load() const {
  const std::lock_guard lock(mutex_);
  return {.running = running_, .waiting = static_cast<Index>(waiting_.size())};
}

void BatchEngine::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, stop, [&] { return running_ > 0 || !waiting_.empty(); });
    }
    if (stop.stop_requested()) break;
    Admit();
    try {
      Step();
    } catch (const Error& error) {  // of the whole batch: nobody else's answer can be trusted
      for (Slot& slot : slots_) {
        if (slot.reply) End(slot, Finish::kFailed, error.problem().what);
        slot.cached.clear();
      }
      session_.log().Warning(error.what());
    }
  }
  EndAll();
}

void BatchEngine::Admit() {
  while (true) {
    std::optional<Waiting> next;
    {
      const std::lock_guard lock(mutex_);
      if (waiting_.empty() || running_ == options_.sequences) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
      if (next->reply->cancelled()) {
        next->reply->End(Finish::kCancelled, {});
        continue;
      }
      ++running_;
    }
    Begin(*std::move(next));
  }
}

void BatchEngine::Begin(Waiting waiting) {
  // Of the free sequences the one that has run most of the prompt; a chat's next turn begins with
  // all the turns before it.
  const std::vector<TokenId>& prompt = waiting.request.prompt;
  Slot* best = nullptr;
  Index most = -1;
  for (Slot& slot : slots_) {
    if (slot.reply) continue;
    const Index common = std::ranges::mismatch(prompt, slot.cached).in1 - prompt.begin();
    if (common > most || (common == most && slot.cached.size() < best->cached.size())) {
      best = &slot;
      most = common;
    }
  }
  LIEQ_ASSERT(best != nullptr);
  Slot& slot = *best;
  const auto length = static_cast<Index>(prompt.size());
  slot.read = std::min(most, length - 1);  // logits need a token
  decoder_.Rewind(slot.read, &slot - slots_.data());
  slot.cached.resize(Size(slot.read));
  slot.counts = {.prompt_tokens = length, .cached_tokens = slot.read};
  slot.next.clear();
  slot.request = std::move(waiting.request);
  slot.reply = std::move(waiting.reply);
  slot.sampler.emplace(slot.request.sampling, slot.request.seed);
  slot.sampler->See(slot.request.prompt);
  slot.stream.emplace(tokenizer_, !slot.request.goes_on);
  slot.stops = StopText(slot.request.stop);
}

std::span<const TokenId> BatchEngine::Part(Slot& slot, Index& room) const {
  if (!slot.next.empty()) return slot.next;
  const auto left = static_cast<Index>(slot.request.prompt.size()) - slot.read;
  const Index count = std::min(room, left);
  room -= count;
  return std::span<const TokenId>(slot.request.prompt).subspan(Size(slot.read), Size(count));
}

void BatchEngine::Step() {
  std::vector<SequenceTokens> parts;
  Index room = kPromptRows;
  for (Slot& slot : slots_) {
    if (!slot.reply) continue;
    if (slot.reply->cancelled()) {
      End(slot, Finish::kCancelled);
      continue;
    }
    const std::span<const TokenId> part = Part(slot, room);
    if (!part.empty()) parts.push_back({&slot - slots_.data(), part});
  }
  if (parts.empty()) return;
  const View<const float, 2> logits = decoder_.Append(parts);
  struct Ready {
    Slot& slot;
    std::span<const float> logits;
    TokenId token = 0;
  };
  std::vector<Ready> ready;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    Slot& slot = slots_[Size(parts[p].sequence)];
    const std::span<const TokenId> added = parts[p].tokens;
    slot.cached.insert(slot.cached.end(), added.begin(), added.end());
    if (slot.next.empty()) {
      slot.read += static_cast<Index>(added.size());
      if (slot.read < static_cast<Index>(slot.request.prompt.size())) continue;
    }
    // Rows of logits beyond the tokenizer's tokens are padding, and have no text.
    ready.push_back({slot, logits.Row(static_cast<Index>(p)).first(Size(tokenizer_.vocab()))});
  }
  session_.pool().ParallelFor(static_cast<Index>(ready.size()), [&](Index i, int) {
    Ready& each = ready[Size(i)];
    each.token = each.slot.sampler->Next(each.logits);
  });
  for (const Ready& each : ready) Take(each.slot, each.token);
}

void BatchEngine::Take(Slot& slot, TokenId token) {
  if (std::ranges::binary_search(ends_, token)) {
    End(slot, Finish::kEndToken);
    return;
  }
  ++slot.counts.tokens;
  const std::string text = slot.stops.Add(slot.stream->Add(token));
  slot.reply->Add(text, slot.counts);
  slot.next = {token};
  if (slot.stops.hit()) {
    End(slot, Finish::kStopText);
  } else if (slot.counts.tokens == slot.request.new_tokens) {
    End(slot, Finish::kNewTokens);
  } else if (static_cast<Index>(slot.cached.size()) == options_.context) {
    End(slot, Finish::kContext);
  }
}

void BatchEngine::End(Slot& slot, Finish finish, std::string error) {
  if (finish != Finish::kStopText) {
    std::string rest = slot.stops.Add(slot.stream->Finish());
    rest += slot.stops.Finish();
    slot.reply->Add(rest, slot.counts);
  }
  slot.reply->End(finish, slot.counts, std::move(error));
  slot.reply.reset();
  slot.next.clear();
  const std::lock_guard lock(mutex_);
  --running_;
}

void BatchEngine::EndAll() {
  for (Slot& slot : slots_) {
    if (slot.reply) End(slot, Finish::kCancelled);
  }
  const std::lock_guard lock(mutex_);
  ended_ = true;
  for (Waiting& waiting : waiting_) waiting.reply->End(Finish::kCancelled, {});
  waiting_.clear();
}

}  // namespace lieq
