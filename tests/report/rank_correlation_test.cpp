#include "lieq/report/rank_correlation.h"

#include <gtest/gtest.h>

#include <vector>

namespace lieq {
namespace {

TEST(RankCorrelation, IsOneForTheSameOrderAndMinusOneForTheOther) {
  const std::vector<double> a{1, 2, 3, 4}, rising{10, 20, 1000, 1001}, falling{4, 3, 2, -9};

  EXPECT_DOUBLE_EQ(*RankCorrelation(a, rising), 1);
  EXPECT_DOUBLE_EQ(*RankCorrelation(a, falling), -1);
}

TEST(RankCorrelation, GivesTiesTheMeanOfTheirRanks) {
  // Ranks 0.5 0.5 2 3 and 0 1 2 3: rho = 4.5 / sqrt(4.5 * 5).
  const std::vector<double> a{1, 1, 2, 3}, b{1, 2, 3, 4};

  EXPECT_NEAR(*RankCorrelation(a, b), 0.9486832980505138, 1e-15);
}

TEST(RankCorrelation, IsNothingWhereThereIsNoOrder) {
  const std::vector<double> two{1, 2}, constant{5, 5, 5}, three{1, 2, 3};

  EXPECT_FALSE(RankCorrelation(two, two));
  EXPECT_FALSE(RankCorrelation(constant, three));
}

}  // namespace
}  // namespace lieq
