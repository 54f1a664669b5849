#include "lieq/model/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"

namespace lieq {
namespace {

// A vocabulary has 150,000 tokens and more, and few of them can come. So one pass over the logits
// finds the largest of each block, in integers, whose maxima compilers vectorize; what follows
// looks into few blocks.
constexpr Index kBlock = 64;
/// Above that all weights are sorted.
constexpr Index kMostTopK = 1024;

/// Ordered as logits are; -0 as 0.
std::int32_t KeyOf(float logit) noexcept {
  const auto bits = std::bit_cast<std::int32_t>(logit + 0.0f);
  return bits ^ static_cast<std::int32_t>(static_cast<std::uint32_t>(bits >> 31) >> 1);
}
std::int32_t MagnitudeOf(float logit) noexcept {
  return std::bit_cast<std::int32_t>(logit) & 0x7fffffff;
}
constexpr std::int32_t kInfinity = 0x7f800000;

struct BlockMost {
  std::int32_t key, magnitude;
};
BlockMost MostOf(const float* logits, Index count) noexcept {
  BlockMost most{KeyOf(logits[0]), 0};
  for (Index i = 0; i < count; ++i) {
    most.key = std::max(most.key, KeyOf(logits[i]));
    most.magnitude = std::max(most.magnitude, MagnitudeOf(logits[i]));
  }
  return most;
}

}  // namespace

void Sampler::See(std::span<const TokenId> tokens) {
  if (options_.repetition_penalty != 1) seen_.insert(tokens.begin(), tokens.end());
}

TokenId Sampler::Next(std::span<const float> logits) {
  LIEQ_ASSERT(!logits.empty());
  if (!ReadBlocks(logits)) {
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
  (void)ReadBlocks(penalized_);
  const TokenId token = Choose(penalized_);
  See({&token, 1});
  return token;
}

bool Sampler::ReadBlocks(std::span<const float> logits) {
  const auto count = static_cast<Index>(logits.size()), whole = count / kBlock;
  blocks_.clear();
  std::int32_t magnitude = 0;
  const auto add = [&](BlockMost most) {
    blocks_.push_back(most.key);
    magnitude = std::max(magnitude, most.magnitude);
  };
  for (Index b = 0; b < whole; ++b) add(MostOf(logits.data() + b * kBlock, kBlock));
  if (whole * kBlock < count) add(MostOf(logits.data() + whole * kBlock, count % kBlock));
  return magnitude < kInfinity;
}

TokenId Sampler::Likeliest(std::span<const float> logits) const {
  const auto best = std::ranges::max_element(blocks_);
  auto token = static_cast<Index>(best - blocks_.begin()) * kBlock;
  while (KeyOf(logits[Size(token)]) != *best) ++token;
  return static_cast<TokenId>(token);
}

TokenId Sampler::Choose(std::span<const float> logits) {
  const TokenId best = Likeliest(logits);
  if (options_.temperature == 0) return best;
  const auto largest = static_cast<double>(logits[Size(best)]);
  const auto count = static_cast<Index>(logits.size());
  if ((options_.top_k == 0 || options_.top_k >= count) && options_.top_p >= 1 &&
      options_.min_p <= 0) {
    WeighAll(logits, largest);
    return static_cast<TokenId>(Draw(weights_, [](double weight) { return weight; }));
  }
  candidates_.clear();
  if (options_.top_k > 0 && options_.top_k < count && options_.top_k <= kMostTopK) {
    TakeTopK(logits, largest);
  } else if (options_.min_p > 0 && options_.top_p >= 1 && options_.top_k == 0) {
    TakeLikely(logits, largest);
  } else {
    TakeAll(logits, largest);
  }
  return candidates_[Draw(candidates_, [](const Candidate& each) { return each.weight; })].token;
}

template <class Choice, class WeightOfChoice>
std::size_t Sampler::Draw(const std::vector<Choice>& choices, const WeightOfChoice& weight_of) {
  double total = 0;
  for (const Choice& choice : choices) total += weight_of(choice);
  const double drawn = rng_.Uniform() * total;
  double sum = 0;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    sum += weight_of(choices[i]);
    if (drawn < sum) return i;
  }
  // drawn < total in exact arithmetic; its rounding may reach it.
  return choices.size() - 1;
}

void Sampler::WeighAll(std::span<const float> logits, double largest) {
  weights_.resize(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) weights_[i] = Weight(logits[i], largest);
}

bool Sampler::Likelier(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}

double Sampler::Weight(float logit, double largest) const {
  return std::exp((static_cast<double>(logit) - largest) / options_.temperature);
}

/// A heap of the k largest, the least in front: a block whose largest is no larger has none.
void Sampler::TakeTopK(std::span<const float> logits, double largest) {
  const std::size_t k = Size(options_.top_k);
  // Of equal logits the lower id is the larger.
  const auto larger = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  top_.clear();
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    if (top_.size() == k && blocks_[b] <= top_.front().first) continue;
    const std::size_t begin = b * kBlock, end = std::min(begin + kBlock, logits.size());
    for (std::size_t i = begin; i < end; ++i) {
      const std::int32_t key = KeyOf(logits[i]);
      if (top_.size() == k) {
        if (key <= top_.front().first) continue;
        std::ranges::pop_heap(top_, larger);
        top_.pop_back();
      }
      top_.emplace_back(key, static_cast<TokenId>(i));
      std::ranges::push_heap(top_, larger);
    }
  }
  for (const auto& [key, token] : top_) {
    candidates_.push_back({token, Weight(logits[Size(token)], largest)});
  }
  SortByWeight();
  TruncateByShare();
  TruncateByLeast();
}

/// Those that min_p may leave: a logit below the least is no candidate, one near it may be.
void Sampler::TakeLikely(std::span<const float> logits, double largest) {
  const double apart = -options_.temperature * std::log(options_.min_p);
  const double least = largest - apart - 1e-6 * (1 + apart + std::fabs(largest));
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (static_cast<double>(logits[i]) < least) continue;
    candidates_.push_back({static_cast<TokenId>(i), Weight(logits[i], largest)});
  }
  SortByWeight();
  TruncateByLeast();
}

void Sampler::TakeAll(std::span<const float> logits, double largest) {
  WeighAll(logits, largest);
  double total = 0;
  for (const double weight : weights_) total += weight;
  const auto count = static_cast<Index>(logits.size());
  const bool all = options_.top_k == 0 || options_.top_k >= count;
  const bool by_share = all && options_.top_p < 1;
  // Those below this add up to less than what top_p leaves out, so that the others reach it by
  // themselves. Half of it: sums are rounded.
  const double least =
      by_share ? 0.5 * std::max(0.0, 1 - options_.top_p) * total / static_cast<double>(count) : 0;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] >= least) candidates_.push_back({static_cast<TokenId>(i), weights_[i]});
  }
  if (by_share) KeepLikeliestShare(total);
  SortByWeight();
  if (!all) candidates_.resize(Size(options_.top_k));
  if (all) {
    TruncateByShareOf(total);
  } else {
    TruncateByShare();
  }
  TruncateByLeast();
}

/// Drops what the likeliest that reach top_p do not need, without sorting: the candidates are cut
/// where the sums of the likelier ones say.
void Sampler::KeepLikeliestShare(double total) {
  constexpr double kRoom = 1 + 1e-9;  // sums in another order round otherwise
  constexpr std::ptrdiff_t kFew = 64, kPart = 8;
  const double wanted = kRoom * options_.top_p * total;
  double sum = 0;  // of those before `begin`, which are needed
  auto begin = candidates_.begin(), end = candidates_.end();
  while (end - begin > kFew) {
    const auto cut = begin + (end - begin) / kPart;
    std::nth_element(begin, cut, end, Likelier);
    double part = 0;
    for (auto each = begin; each != cut; ++each) part += each->weight;
    if (sum + part >= wanted) {
      end = cut;
    } else {
      sum += part;
      begin = cut;
    }
  }
  candidates_.erase(end, candidates_.end());
}

void Sampler::SortByWeight() {
  std::ranges::sort(candidates_, Likelier);
}

void Sampler::TruncateByShare() {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  TruncateByShareOf(total);
}

void Sampler::TruncateByShareOf(double total) {
  if (options_.top_p >= 1) return;
  double sum = 0;
  std::size_t needed = 0;
  while (needed < candidates_.size() && sum < options_.top_p * total) {
    sum += candidates_[needed++].weight;
  }
  candidates_.resize(std::max<std::size_t>(needed, 1));
}

void Sampler::TruncateByLeast() {
  const double least = options_.min_p * candidates_.front().weight;
  while (candidates_.back().weight < least) candidates_.pop_back();
}

}  // namespace lieq
