// What a model answers where the likeliest token comes each time, and what is plainly wrong with
// it: models of few bits are known to end at once, to go round in circles, or not to end.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device.h"
#include "lieq/model/weights.h"

namespace lieq {

struct Answer {
  std::vector<TokenId> ids;  // without the end token
  bool ended = false;        // by an end token; else as long as it may be
};

/// Tokens repeat endlessly where their end is one run of tokens over and over: at least so many
/// times, the last perhaps cut, and over at least so many tokens.
inline constexpr std::size_t kRepeatTimes = 3, kRepeatTokens = 32;
[[nodiscard]] bool EndsInRepetition(std::span<const TokenId> ids);

/// How many answers are what. An answer may be several of these.
struct AnswerCounts {
  Index empty = 0;       // ended at once
  Index repeating = 0;   // as long as may be, and EndsInRepetition
  Index cut = 0;         // as long as may be
  Index missed_end = 0;  // cut, where the reference's ended
  Index same = 0;        // token for token those of the reference
};

/// reference: of the same prompts, or empty.
[[nodiscard]] AnswerCounts Judge(std::span<const Answer> answers,
                                 std::span<const Answer> reference = {});

/// Answers to prompts, each on its own; prompts are not empty. vocab: tokens that have a text.
/// ends: end tokens, sorted. most: tokens of an answer. Deterministic for any number of threads.
/// Throws Error where logits are not finite, Stopped.
[[nodiscard]] std::vector<Answer> AnswerPrompts(const Weights& weights, Device& device,
                                                std::span<const std::vector<TokenId>> prompts,
                                                Index vocab, std::span<const TokenId> ends,
                                                Index most, Context& context);

}  // namespace lieq
