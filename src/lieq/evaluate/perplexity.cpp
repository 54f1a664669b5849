#include "lieq/evaluate/perplexity.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace lieq {
namespace {

/// Sums over scored positions, window by window.
class Sums {
 public:
  void Add(std::span<const double> nll) {
    double sum = 0;
    for (const double value : nll) {
      sum += value;
      squares_ += value * value;
    }
    counts_.push_back(static_cast<double>(nll.size()));
    sums_.push_back(sum);
    total_ += sum;
    count_ += counts_.back();
  }
  [[nodiscard]] double Mean() const { return total_ / count_; }

  void Finish(PerplexityResult& result) const {
    const double mean = Mean();
    result.mean_nll = mean;
    result.perplexity = std::exp(mean);
    result.windows = static_cast<Index>(sums_.size());
    result.tokens_scored = static_cast<Index>(count_);
    double spread = 0;
    for (std::size_t i = 0; i < sums_.size(); ++i) {
      result.window_nll.push_back(sums_[i] / counts_[i]);
      // Of a ratio of two sums (Cochran, "Sampling techniques", section 6.2).
      const double rest = sums_[i] - counts_[i] * mean;
      spread += rest * rest;
    }
    const auto n = static_cast<double>(sums_.size());
    if (n > 1) result.standard_error = std::sqrt(spread * n / (n - 1)) / count_;
    if (count_ > 1) {
      const double variance = std::max(0.0, squares_ / count_ - mean * mean);
      result.token_error = std::sqrt(variance / (count_ - 1));
    }
  }

 private:
  std::vector<double> sums_, counts_;
  double total_ = 0, count_ = 0, squares_ = 0;
};

}  // namespace

PerplexityResult MeasurePerplexity(const Weights& weights, Device& device, const ScoredText& text,
                                   Context& context) {
  LIEQ_ASSERT(!text.windows.empty());
  const auto windows = static_cast<Index>(text.windows.size());
  Forward forward(weights, device, text.length);
  const Index most = forward.BatchWindows(text.length);
  PerplexityResult result{.context = text.length};
  Sums sums;
  context.progress.Begin("evaluating", "window", windows);
  for (Index begin = 0, end = 0; begin < windows; begin = end) {
    // A batch is of windows of one shape: all, but perhaps the first or the last.
    const ScoredWindow shape = text.windows[Size(begin)];
    while (end < windows && end - begin < most && text.windows[Size(end)].length == shape.length &&
           text.windows[Size(end)].first == shape.first) {
      ++end;
    }
    const Index count = end - begin;
    Matrix<TokenId> tokens(count, shape.length);
    for (Index w = 0; w < count; ++w) {
      const auto from = text.ids.begin() + text.windows[Size(begin + w)].begin;
      std::copy_n(from, shape.length, tokens.view().Row(w).begin());
      if (text.bos) tokens(w, 0) = *text.bos;
    }
    Hidden hidden = forward.Embed(tokens.view());
    for (Index layer = 0; layer < weights.config.layers; ++layer) {
      context.ThrowIfStopped();
      forward.Layer(layer, hidden);
    }
    Matrix<double> nll(count, shape.scored());
    forward.Nll(hidden, tokens.view(), nll.view(), shape.first);
    for (Index w = 0; w < count; ++w) sums.Add(nll.view().Row(w));
    context.progress.Update(end, "perplexity " + std::to_string(std::exp(sums.Mean())));
  }
  context.progress.End();
  sums.Finish(result);
  return result;
}

PerplexityResult MeasurePerplexity(const Weights& weights, Device& device,
                                   View<const TokenId, 2> tokens, Context& context) {
  LIEQ_ASSERT(tokens.rows() > 0 && tokens.cols() >= 2);
  ScoredText text{.ids = {}, .bos = {}, .windows = {}, .length = tokens.cols()};
  for (Index w = 0; w < tokens.rows(); ++w) {
    const std::span<const TokenId> row = tokens.Row(w);
    text.ids.insert(text.ids.end(), row.begin(), row.end());
    text.windows.push_back({w * tokens.cols(), tokens.cols(), 0});
  }
  return MeasurePerplexity(weights, device, text, context);
}

}  // namespace lieq
