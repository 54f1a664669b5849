// Which token comes next: the likeliest, or one drawn from the distribution of the logits.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/base/types.h"

namespace lieq {

struct SamplingOptions {
  double temperature = 0;  // logits are divided by it; 0: the likeliest token (greedy)
  Index top_k = 0;         // so many of the likeliest tokens can come; 0: all
  double top_p = 1;  // of those the fewest whose probabilities add up to this share; in (0, 1]
  double min_p = 0;  // of those the ones at least so likely, as a share of the likeliest's; [0, 1]
  double repetition_penalty = 1;  // logits of tokens that came are divided by it, or multiplied
                                  // where they are negative (Keskar et al., arXiv:1909.05858)
};

/// Draws token after token. What comes depends on the options, seed, stream and logits alone.
class Sampler {
 public:
  /// stream: tells sequences of one seed apart.
  Sampler(const SamplingOptions& options, std::uint64_t seed, std::uint64_t stream = 0)
      : options_(options), rng_(seed, stream) {}

  /// Tokens that repetition_penalty counts as having come; those that Next gives are among them.
  void See(std::span<const TokenId> tokens);

  /// logits [vocab]. The penalty comes first, then temperature, top_k, top_p and min_p, as in
  /// transformers; of equal logits the lower id counts as likelier. Probabilities are in double.
  /// Throws Error where a logit is not finite.
  [[nodiscard]] TokenId Next(std::span<const float> logits);

 private:
  struct Candidate {
    TokenId token = 0;
    double weight = 0;  // probability relative to that of the likeliest
  };

  [[nodiscard]] static bool Likelier(const Candidate& a, const Candidate& b);

  [[nodiscard]] TokenId Choose(std::span<const float> logits);
  /// False where one is not finite.
  [[nodiscard]] bool ReadBlocks(std::span<const float> logits);
  [[nodiscard]] TokenId Likeliest(std::span<const float> logits) const;
  void WeighAll(std::span<const float> logits, double largest);
  /// Which of them, as likely as its weight is of all.
  template <class Choice, class WeightOfChoice>
  [[nodiscard]] std::size_t Draw(const std::vector<Choice>& choices,
                                 const WeightOfChoice& weight_of);
  // Candidates, in the order in which their weights are added up.
  void TakeTopK(std::span<const float> logits, double largest);
  void TakeLikely(std::span<const float> logits, double largest);
  void TakeAll(std::span<const float> logits, double largest);
  void KeepLikeliestShare(double total);
  void SortByWeight();
  void TruncateByShare();
  void TruncateByShareOf(double total);
  void TruncateByLeast();
  [[nodiscard]] double Weight(float logit, double largest) const;

  SamplingOptions options_;
  Rng rng_;
  std::vector<std::int32_t> blocks_;  // the largest logit of each block, as an ordered number
  std::vector<std::pair<std::int32_t, TokenId>> top_;
  std::vector<double> weights_;  // of all tokens
  std::vector<Candidate> candidates_;
  std::set<TokenId> seen_;        // where there is a penalty
  std::vector<float> penalized_;  // logits
};

}  // namespace lieq
