// Statistics of short lists of numbers: rank correlations, the median, bootstrap intervals.
//
// All in double, on the calling thread, and a function of the arguments alone. What has no value
// (a correlation with a constant, the median of nothing) is absent, never 0 or NaN.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "lieq/base/types.h"

namespace lieq {

/// Ranks from 1 to n in rising order; equal values share the mean of the ranks they take.
/// values: no NaN; infinities are values like others.
[[nodiscard]] std::vector<double> AverageRanks(std::span<const double> values);

/// Spearman's rho: Pearson's correlation of the average ranks, -1..1 (Spearman, "The proof and
/// measurement of association between two things", 1904). x and y of one length, no NaN.
/// None where either is constant or holds fewer than two values.
[[nodiscard]] std::optional<double> SpearmanRho(std::span<const double> x,
                                                std::span<const double> y);

/// Kendall's tau-b, -1..1: (concordant - discordant) / sqrt((pairs - ties in x) (pairs - ties in
/// y)) (Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945). All pairs are
/// looked at: n² steps. Arguments and none as above.
[[nodiscard]] std::optional<double> KendallTau(std::span<const double> x,
                                               std::span<const double> y);

/// The middle value, or the mean of the two in the middle. No NaN. None where there are no values.
[[nodiscard]] std::optional<double> Median(std::vector<double> values);

/// The value below which `share` (0..1) of the values lie, linear between neighbours (type 7 of
/// Hyndman and Fan, "Sample quantiles in statistical packages", 1996). None where there are none.
[[nodiscard]] std::optional<double> Quantile(std::vector<double> values, double share);

struct BootstrapOptions {
  int resamples = 1000;    // >= 1
  double level = 0.95;     // share of the statistic's distribution between the ends, in (0, 1)
  std::uint64_t seed = 0;  // resample i draws from stream i
};

struct Interval {
  double low = 0;
  double high = 0;
  int resamples = 0;  // those on which the statistic had a value
};

/// A statistic of the observations whose indices are given, repeats included. None (or NaN) where
/// it has no value there: such resamples are left out.
using Statistic = std::function<std::optional<double>(std::span<const Index> indices)>;

/// Percentile bootstrap (Efron, "Bootstrap methods: another look at the jackknife", 1979): draws
/// `count` of the indices 0 .. count - 1 with replacement, again and again, and gives the quantiles
/// of the statistic that leave out (1 - level) / 2 on either side. count >= 1.
/// None where the statistic has no value on any resample.
[[nodiscard]] std::optional<Interval> Bootstrap(Index count, const Statistic& statistic,
                                                const BootstrapOptions& options = {});

}  // namespace lieq
