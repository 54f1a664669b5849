#include "lieq/model/sampling.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"

namespace lieq {

void Sampler::See(std::span<const TokenId> tokens) {
  if (options_.repetition_penalty != 1) seen_.insert(tokens.begin(), tokens.end());
}

TokenId Sampler::Next(std::span<const float> logits) {
  LIEQ_ASSERT(!logits.empty());
  if (!std::ranges::all_of(logits, [](float logit) { return std::isfinite(logit); })) {
    throw Error({.what = "the model's output is not finite",
                 .where = "logits of the next token",
                 .hint = "the weights hold or produce NaN or infinity"});
  }
  if (seen_.empty()) {
    const TokenId token = Choose(logits);
    See({&token, 1});
    return token;
  }
  penalized_.assign(logits.begin(), logits.end());
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  for (const TokenId token : seen_) {
    if (Size(token) >= penalized_.size()) continue;
    float& logit = penalized_[Size(token)];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
  const TokenId token = Choose(penalized_);
  See({&token, 1});
  return token;
}

TokenId Sampler::Choose(std::span<const float> logits) {
  const auto best = std::ranges::max_element(logits);
  if (options_.temperature == 0) return static_cast<TokenId>(best - logits.begin());
  const auto largest = static_cast<double>(*best);
  candidates_.clear();
  for (const float logit : logits) {
    candidates_.push_back(
        {static_cast<TokenId>(candidates_.size()),
         std::exp((static_cast<double>(logit) - largest) / options_.temperature)});
  }
  Truncate();
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  const double drawn = rng_.Uniform() * total;
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    sum += candidate.weight;
    if (drawn < sum) return candidate.token;
  }
  // drawn < total in exact arithmetic; its rounding may reach it.
  return candidates_.back().token;
}

void Sampler::Truncate() {
  const auto count = static_cast<Index>(candidates_.size());
  const Index kept = options_.top_k > 0 ? std::min(options_.top_k, count) : count;
  if (kept == count && options_.top_p >= 1 && options_.min_p <= 0) return;
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  };
  std::partial_sort(candidates_.begin(), candidates_.begin() + kept, candidates_.end(), likelier);
  candidates_.resize(Size(kept));
  TruncateByShare();
  const double least = options_.min_p * candidates_.front().weight;
  while (candidates_.back().weight < least) candidates_.pop_back();
}

void Sampler::TruncateByShare() {
  if (options_.top_p >= 1) return;
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  double sum = 0;
  std::size_t needed = 0;
  while (needed < candidates_.size() && sum < options_.top_p * total) {
    sum += candidates_[needed++].weight;
  }
  candidates_.resize(std::max<std::size_t>(needed, 1));
}

}  // namespace lieq
