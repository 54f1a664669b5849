#include "lieq/base/deal_out.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <span>
#include <vector>

namespace lieq {
namespace {

/// What each part takes.
std::vector<double> Loads(std::span<const PieceCost> costs, std::span<const Index> owners,
                          double preparation, Index parts) {
  std::vector<double> loads(Size(parts));
  std::vector<bool> prepares(Size(parts));
  for (std::size_t i = 0; i < costs.size(); ++i) {
    const std::size_t owner = Size(owners[i]);
    loads[owner] += costs[i].work;
    if (costs[i].prepared && !prepares[owner]) loads[owner] += preparation;
    prepares[owner] = prepares[owner] || costs[i].prepared;
  }
  return loads;
}

TEST(DealOut, WhatIsPreparedStaysTogetherWhereThatIsShorter) {
  std::vector<PieceCost> costs(6, {.work = 10});
  costs[4].prepared = costs[5].prepared = true;

  const std::vector<Index> dear = DealOut(costs, 20, 2), cheap = DealOut(costs, 1, 2);

  EXPECT_EQ(dear[4], dear[5]);
  EXPECT_EQ(std::ranges::max(Loads(costs, dear, 20, 2)), 40);
  EXPECT_EQ(std::ranges::max(Loads(costs, cheap, 1, 2)), 31);
}

TEST(DealOut, MorePartsThanPiecesLeaveSomeWithout) {
  const std::vector<PieceCost> costs{{.work = 1}, {.work = 3, .prepared = true}};

  EXPECT_EQ(DealOut(costs, 5, 1), (std::vector<Index>{0, 0}));
  EXPECT_EQ(DealOut(costs, 5, 100000), (std::vector<Index>{1, 0}));
  EXPECT_TRUE(DealOut({}, 5, 3).empty());
}

class DealOutProperty : public testing::TestWithParam<std::uint32_t> {};  // the seed

TEST_P(DealOutProperty, NoPartTakesMuchLongerThanItMust) {
  std::mt19937 rng(GetParam());
  const auto draw = [&](int low, int up) { return std::uniform_int_distribution(low, up)(rng); };
  std::vector<PieceCost> costs(Size(Index{draw(1, 30)}));
  double sum = 0, largest = 0, most_prepared = 0;
  const double preparation = draw(0, 100);
  for (PieceCost& cost : costs) {
    cost = {.work = static_cast<double>(draw(0, 50)), .prepared = draw(0, 3) == 0};
    sum += cost.work;
    largest = std::max(largest, cost.work);
    if (cost.prepared) most_prepared = preparation;
  }
  const Index parts = draw(1, 12);

  const std::vector<Index> owners = DealOut(costs, preparation, parts);

  ASSERT_EQ(owners.size(), costs.size());
  EXPECT_TRUE(std::ranges::all_of(owners, [&](Index o) { return o >= 0 && o < parts; }));
  EXPECT_EQ(owners, DealOut(costs, preparation, parts));
  // List scheduling with one part that prepares, or with all: the longest is at most what all would
  // take on average when each prepares, and one piece more.
  const std::vector<double> loads = Loads(costs, owners, preparation, parts);
  EXPECT_LE(std::ranges::max(loads),
            sum / static_cast<double>(std::min<Index>(parts, std::ssize(costs))) + largest +
                most_prepared + 1e-9);
}
INSTANTIATE_TEST_SUITE_P(Seeds, DealOutProperty, testing::Range(0u, 200u));

}  // namespace
}  // namespace lieq
