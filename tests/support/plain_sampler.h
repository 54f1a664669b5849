// Sampling as its definition says it, by sorting all tokens: what Sampler is compared with.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/model/sampling.h"

namespace lieq {

class PlainSampler {
 public:
  PlainSampler(const SamplingOptions& options, std::uint64_t seed)
      : options_(options), rng_(seed, 0) {}

  [[nodiscard]] TokenId Next(std::span<const float> logits) {
    const auto best = std::ranges::max_element(logits);
    if (options_.temperature == 0) return static_cast<TokenId>(best - logits.begin());
    const auto largest = static_cast<double>(*best);
    std::vector<Candidate> candidates;
    for (const float logit : logits) {
      candidates.push_back(
          {static_cast<TokenId>(candidates.size()),
           std::exp((static_cast<double>(logit) - largest) / options_.temperature)});
    }
    Truncate(candidates);
    double total = 0;
    for (const Candidate& candidate : candidates) total += candidate.weight;
    const double drawn = rng_.Uniform() * total;
    double sum = 0;
    for (const Candidate& candidate : candidates) {
      sum += candidate.weight;
      if (drawn < sum) return candidate.token;
    }
    return candidates.back().token;
  }

 private:
  struct Candidate {
    TokenId token = 0;
    double weight = 0;
  };

  void Truncate(std::vector<Candidate>& candidates) const {
    const auto count = static_cast<Index>(candidates.size());
    const Index kept = options_.top_k > 0 ? std::min(options_.top_k, count) : count;
    if (kept == count && options_.top_p >= 1 && options_.min_p <= 0) return;
    std::ranges::sort(candidates, [](const Candidate& a, const Candidate& b) {
      return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
    });
    candidates.resize(Size(kept));
    if (options_.top_p < 1) {
      double total = 0, sum = 0;
      for (const Candidate& candidate : candidates) total += candidate.weight;
      std::size_t needed = 0;
      while (needed < candidates.size() && sum < options_.top_p * total) {
        sum += candidates[needed++].weight;
      }
      candidates.resize(std::max<std::size_t>(needed, 1));
    }
    const double least = options_.min_p * candidates.front().weight;
    while (candidates.back().weight < least) candidates.pop_back();
  }

  SamplingOptions options_;
  Rng rng_;
};

}  // namespace lieq
