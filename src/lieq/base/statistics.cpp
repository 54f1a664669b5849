#include "lieq/base/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/rng.h"

namespace lieq {
namespace {

/// Pearson's correlation; none where a spread is 0.
std::optional<double> Correlation(std::span<const double> x, std::span<const double> y) {
  const auto n = static_cast<double>(x.size());
  const double mean_x = std::accumulate(x.begin(), x.end(), 0.0) / n;
  const double mean_y = std::accumulate(y.begin(), y.end(), 0.0) / n;
  double xx = 0, yy = 0, xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double dx = x[i] - mean_x, dy = y[i] - mean_y;
    xx += dx * dx;
    yy += dy * dy;
    xy += dx * dy;
  }
  if (xx == 0 || yy == 0) return std::nullopt;
  return std::clamp(xy / std::sqrt(xx * yy), -1.0, 1.0);
}

int Order(double a, double b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

}  // namespace

std::vector<double> AverageRanks(std::span<const double> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    // The ranks begin + 1 .. end, shared.
    for (std::size_t i = begin; i < end; ++i) {
      ranks[order[i]] = static_cast<double>(begin + 1 + end) / 2;
    }
    begin = end;
  }
  return ranks;
}

std::optional<double> SpearmanRho(std::span<const double> x, std::span<const double> y) {
  LIEQ_ASSERT(x.size() == y.size());
  if (x.size() < 2) return std::nullopt;
  return Correlation(AverageRanks(x), AverageRanks(y));
}

std::optional<double> KendallTau(std::span<const double> x, std::span<const double> y) {
  LIEQ_ASSERT(x.size() == y.size());
  Index balance = 0, pairs_x = 0, pairs_y = 0;  // pairs_*: those that are not tied
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = i + 1; j < x.size(); ++j) {
      const int in_x = Order(x[i], x[j]), in_y = Order(y[i], y[j]);
      balance += in_x * in_y;
      pairs_x += in_x != 0 ? 1 : 0;
      pairs_y += in_y != 0 ? 1 : 0;
    }
  }
  if (pairs_x == 0 || pairs_y == 0) return std::nullopt;
  const double scale = std::sqrt(static_cast<double>(pairs_x)) *  // no product that overflows
                       std::sqrt(static_cast<double>(pairs_y));
  return std::clamp(static_cast<double>(balance) / scale, -1.0, 1.0);
}

std::optional<double> Median(std::vector<double> values) {
  return Quantile(std::move(values), 0.5);
}

std::optional<double> Quantile(std::vector<double> values, double share) {
  LIEQ_ASSERT(share >= 0 && share <= 1);
  if (values.empty()) return std::nullopt;
  const double position = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const double weight = position - static_cast<double>(below);
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), middle, values.end());
  const double low = *middle;
  if (weight == 0) return low;
  const double high = *std::min_element(middle + 1, values.end());
  return low + weight * (high - low);
}

std::optional<Interval> Bootstrap(Index count, const Statistic& statistic,
                                  const BootstrapOptions& options) {
  LIEQ_ASSERT(count >= 1 && options.resamples >= 1);
  LIEQ_ASSERT(options.level > 0 && options.level < 1);
  std::vector<Index> indices(Size(count));
  std::vector<double> values;
  for (int resample = 0; resample < options.resamples; ++resample) {
    Rng rng(options.seed, static_cast<std::uint64_t>(resample));
    for (Index& index : indices) {
      index = static_cast<Index>(rng.Below(static_cast<std::uint32_t>(count)));
    }
    const std::optional<double> value = statistic(indices);
    if (value && !std::isnan(*value)) values.push_back(*value);
  }
  if (values.empty()) return std::nullopt;
  const double tail = (1 - options.level) / 2;
  return Interval{.low = *Quantile(values, tail),
                  .high = *Quantile(values, 1 - tail),
                  .resamples = static_cast<int>(values.size())};
}

}  // namespace lieq
