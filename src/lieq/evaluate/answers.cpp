#include "lieq/evaluate/answers.h"

#include <algorithm>

#include "lieq/base/assert.h"
#include "lieq/model/continuation.h"

namespace lieq {

bool EndsInRepetition(std::span<const TokenId> ids) {
  for (std::size_t period = 1; period * kRepeatTimes <= ids.size(); ++period) {
    std::size_t run = period;  // tokens at the end that repeat with this period
    while (run < ids.size() && ids[ids.size() - 1 - run] == ids[ids.size() - 1 - run + period]) {
      ++run;
    }
    if (run >= std::max(period * kRepeatTimes, kRepeatTokens)) return true;
  }
  return false;
}

AnswerCounts Judge(std::span<const Answer> answers, std::span<const Answer> reference) {
  LIEQ_ASSERT(reference.empty() || reference.size() == answers.size());
  AnswerCounts counts;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const Answer& answer = answers[i];
    counts.empty += answer.ended && answer.ids.empty() ? 1 : 0;
    counts.repeating += !answer.ended && EndsInRepetition(answer.ids) ? 1 : 0;
    counts.cut += answer.ended ? 0 : 1;
    if (reference.empty()) continue;
    counts.missed_end += !answer.ended && reference[i].ended ? 1 : 0;
    const bool same = answer.ended == reference[i].ended && answer.ids == reference[i].ids;
    counts.same += same ? 1 : 0;
  }
  return counts;
}

std::vector<Answer> AnswerPrompts(const Weights& weights, Device& device,
                                  std::span<const std::vector<TokenId>> prompts, Index vocab,
                                  std::span<const TokenId> ends, Index most, Context& context) {
  std::size_t longest = 0;
  for (const std::vector<TokenId>& prompt : prompts) longest = std::max(longest, prompt.size());
  Decoder decoder(weights, device, 1, static_cast<Index>(longest) + most);
  Sampler greedy({}, 0);
  Stage stage(context.progress, "answering", "prompt", static_cast<Index>(prompts.size()));
  std::vector<Answer> answers;
  for (const std::vector<TokenId>& prompt : prompts) {
    Continuation written = Continue(decoder, prompt, vocab, {ends, most}, greedy, context);
    answers.push_back({std::move(written.ids), written.end.has_value()});
    stage.Done();
  }
  return answers;
}

}  // namespace lieq
