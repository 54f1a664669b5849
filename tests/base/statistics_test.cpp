#include "lieq/base/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lieq/base/rng.h"

namespace lieq {
namespace {

using Values = std::vector<double>;

TEST(AverageRanks, AreSharedByEqualValues) {
  EXPECT_EQ(AverageRanks(Values{10, 30, 20}), (Values{1, 3, 2}));
  EXPECT_EQ(AverageRanks(Values{5, 1, 5, 5, 2}), (Values{4, 1, 4, 4, 2}));
  EXPECT_EQ(AverageRanks(Values{7, 7}), (Values{1.5, 1.5}));
  EXPECT_EQ(AverageRanks(Values{}), Values{});
  EXPECT_EQ(AverageRanks(Values{std::numeric_limits<double>::infinity(), 1e308}), (Values{2, 1}));
}

TEST(SpearmanRho, IsOneForTheSameOrderAndMinusOneForTheReverse) {
  EXPECT_EQ(SpearmanRho(Values{1, 2, 3}, Values{10, 1000, 1e9}), 1);
  EXPECT_EQ(SpearmanRho(Values{1, 2, 3}, Values{3, 2, 1}), -1);
}

TEST(SpearmanRho, OfHandWorkedValues) {
  // Without ties: 1 - 6 sum d² / (n (n² - 1)); d = 0, 1, -1, 1, -1 over n = 5: 1 - 24/120.
  EXPECT_NEAR(*SpearmanRho(Values{1, 2, 3, 4, 5}, Values{1, 3, 2, 5, 4}), 0.8, 1e-15);
  // Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5.
  EXPECT_NEAR(*SpearmanRho(Values{1, 2, 2, 3}, Values{1, 2, 3, 4}), std::sqrt(0.9), 1e-15);
}

TEST(KendallTau, OfHandWorkedValues) {
  EXPECT_EQ(KendallTau(Values{1, 2, 3}, Values{5, 6, 7}), 1);
  EXPECT_EQ(KendallTau(Values{1, 2, 3}, Values{7, 6, 5}), -1);
  // Ten pairs, two of them turned: (8 - 2) / 10.
  EXPECT_NEAR(*KendallTau(Values{1, 2, 3, 4, 5}, Values{1, 3, 2, 5, 4}), 0.6, 1e-15);
  // Six pairs, one tied in x: 5 concordant / sqrt(5 * 6).
  EXPECT_NEAR(*KendallTau(Values{1, 2, 2, 3}, Values{1, 2, 3, 4}), 5 / std::sqrt(30.0), 1e-15);
}

TEST(Correlations, HaveNoValueWhereThereIsNothingToOrder) {
  for (const auto& correlation : {SpearmanRho, KendallTau}) {
    EXPECT_FALSE(correlation(Values{}, Values{}));
    EXPECT_FALSE(correlation(Values{1}, Values{2}));
    EXPECT_FALSE(correlation(Values{1, 1, 1}, Values{1, 2, 3}));
    EXPECT_FALSE(correlation(Values{1, 2, 3}, Values{4, 4, 4}));
  }
}

class CorrelationProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed
INSTANTIATE_TEST_SUITE_P(Seeds, CorrelationProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{40}));

/// Values with many ties.
Values Draw(std::size_t n, Rng& rng) {
  Values values(n);
  for (double& value : values) value = rng.Below(8);
  return values;
}

TEST_P(CorrelationProperty, AreThoseOfTheirDefinitions) {
  Rng rng(GetParam());
  const std::size_t n = 5 + rng.Below(30);
  const Values x = Draw(n, rng), y = Draw(n, rng);
  // Rank: one more than the number of smaller values, plus half of the other equal ones.
  const auto rank = [](const Values& values, double of) {
    double smaller = 0, equal = 0;
    for (const double value : values) {
      smaller += value < of ? 1 : 0;
      equal += value == of ? 1 : 0;
    }
    return smaller + (equal + 1) / 2;
  };
  double xx = 0, yy = 0, xy = 0, concordant = 0, discordant = 0, tied_x = 0, tied_y = 0;
  const double middle = static_cast<double>(n + 1) / 2;
  for (std::size_t i = 0; i < n; ++i) {
    const double a = rank(x, x[i]) - middle, b = rank(y, y[i]) - middle;
    xx += a * a;
    yy += b * b;
    xy += a * b;
    for (std::size_t j = 0; j < i; ++j) {
      const double product = (x[i] - x[j]) * (y[i] - y[j]);
      concordant += product > 0 ? 1 : 0;
      discordant += product < 0 ? 1 : 0;
      tied_x += x[i] == x[j] ? 1 : 0;
      tied_y += y[i] == y[j] ? 1 : 0;
    }
  }
  const double pairs = static_cast<double>(n * (n - 1)) / 2;

  EXPECT_NEAR(SpearmanRho(x, y).value(), xy / std::sqrt(xx * yy), 1e-12);
  EXPECT_NEAR(KendallTau(x, y).value(),
              (concordant - discordant) / std::sqrt((pairs - tied_x) * (pairs - tied_y)), 1e-12);
  EXPECT_EQ(SpearmanRho(x, y), SpearmanRho(y, x));
  EXPECT_EQ(KendallTau(x, y), KendallTau(y, x));
}

TEST(Quantile, IsLinearBetweenNeighbours) {
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 3, 2}), 2.5);
  EXPECT_EQ(Median({7}), 7);
  EXPECT_FALSE(Median({}));
  EXPECT_EQ(Quantile({40, 10, 30, 20, 50}, 0), 10);
  EXPECT_EQ(Quantile({40, 10, 30, 20, 50}, 1), 50);
  EXPECT_NEAR(*Quantile({40, 10, 30, 20, 50}, 0.3), 22, 1e-12);
}

std::optional<double> MeanOf(const Values& values, std::span<const Index> indices) {
  double sum = 0;
  for (const Index index : indices) sum += values[Size(index)];
  return sum / static_cast<double>(indices.size());
}

TEST(Bootstrap, OfAMeanIsTheIntervalOfItsStandardError) {
  Rng rng(5);
  constexpr Index kCount = 400;
  Values values(Size(kCount));
  for (double& value : values) value = 3 + 2 * rng.Normal();
  std::vector<Index> all;
  for (Index i = 0; i < kCount; ++i) all.push_back(i);
  const double mean = *MeanOf(values, all);

  const auto interval =
      Bootstrap(kCount, [&](auto indices) { return MeanOf(values, indices); }, {.resamples = 4000});

  // 1.96 * 2 / sqrt(400) = 0.196 on either side; the ends of 4,000 resamples are good to 5 %, the
  // spread of 400 values to 4 %.
  ASSERT_TRUE(interval);
  EXPECT_NEAR(interval->low, mean - 0.196, 0.03);
  EXPECT_NEAR(interval->high, mean + 0.196, 0.03);
  EXPECT_EQ(interval->resamples, 4000);
}

TEST(Bootstrap, DrawsEveryIndexAndDependsOnTheSeedAlone) {
  const Values values{1, 2, 4, 8, 16, 32};
  std::vector<int> seen(values.size());
  const auto statistic = [&](std::span<const Index> indices) {
    EXPECT_EQ(indices.size(), values.size());
    for (const Index index : indices) ++seen.at(Size(index));
    return MeanOf(values, indices);
  };

  const auto first = Bootstrap(6, statistic, {.resamples = 50, .seed = 3});
  const auto again = Bootstrap(6, statistic, {.resamples = 50, .seed = 3});
  const auto other = Bootstrap(6, statistic, {.resamples = 50, .seed = 4});

  ASSERT_TRUE(first && again && other);
  EXPECT_EQ(first->low, again->low);
  EXPECT_EQ(first->high, again->high);
  EXPECT_TRUE(first->low != other->low || first->high != other->high);
  EXPECT_GT(*std::min_element(seen.begin(), seen.end()), 0);
}

TEST(Bootstrap, LeavesOutResamplesWithoutAValue) {
  const auto statistic = [](std::span<const Index> indices) -> std::optional<double> {
    if (indices[0] == 0) return std::nullopt;
    if (indices[0] == 1) return std::numeric_limits<double>::quiet_NaN();
    return 7;
  };

  const auto some = Bootstrap(3, statistic, {.resamples = 300});

  ASSERT_TRUE(some);
  EXPECT_EQ(some->low, 7);
  EXPECT_EQ(some->high, 7);
  EXPECT_GT(some->resamples, 50);
  EXPECT_LT(some->resamples, 150);
  EXPECT_FALSE(Bootstrap(3, [](auto) { return std::optional<double>(); }));
}

}  // namespace
}  // namespace lieq
