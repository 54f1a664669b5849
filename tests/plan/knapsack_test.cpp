#include "lieq/plan/knapsack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <ranges>
#include <string>

#include "lieq/base/rng.h"
#include "lieq/base/types.h"

namespace lieq {
namespace {

using Items = std::vector<std::vector<KnapsackChoice>>;
using Chosen = std::vector<std::size_t>;

struct Total {
  std::int64_t cost = 0;
  double damage = 0;
};

Total Sum(const Items& items, const Chosen& chosen) {
  Total total;
  for (std::size_t i = 0; i < items.size(); ++i) {
    total.cost += items[i][chosen[i]].cost;
    total.damage += items[i][chosen[i]].damage;
  }
  return total;
}

/// All ways there are, in order of damage, cost, and the choice of the last item, the one before...
std::optional<Chosen> BruteForce(const Items& items, std::int64_t budget) {
  std::optional<Chosen> best;
  Total best_total;
  Chosen chosen(items.size());
  while (true) {
    const Total total = Sum(items, chosen);
    if (total.cost <= budget) {
      const bool better = !best || total.damage < best_total.damage ||
                          (total.damage == best_total.damage &&
                           (total.cost < best_total.cost ||
                            (total.cost == best_total.cost &&
                             std::ranges::lexicographical_compare(std::views::reverse(chosen),
                                                                  std::views::reverse(*best)))));
      if (better) {
        best = chosen;
        best_total = total;
      }
    }
    std::size_t i = 0;
    while (i < items.size() && ++chosen[i] == items[i].size()) chosen[i++] = 0;
    if (i == items.size()) return best;
  }
}

/// Small whole damages: ties are many, and sums in any order are exact.
Items SmallItems(Rng& rng, std::uint32_t most_cost) {
  Items items(1 + rng.Below(6));
  for (auto& choices : items) {
    choices.resize(1 + rng.Below(5));
    for (KnapsackChoice& choice : choices) {
      choice = {.cost = rng.Below(most_cost + 1), .damage = static_cast<double>(rng.Below(9)) - 4};
    }
  }
  return items;
}

class KnapsackProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed
INSTANTIATE_TEST_SUITE_P(Seeds, KnapsackProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{100}));

TEST_P(KnapsackProperty, IsTheBestOfAllWays) {
  for (const std::uint32_t most_cost : {3u, 20u, 4'000'000'000u}) {
    Rng rng(GetParam());
    const Items items = SmallItems(rng, most_cost);
    std::int64_t least = 0, most = 0;
    for (const auto& choices : items) {
      const auto [low, high] = std::ranges::minmax(choices, {}, &KnapsackChoice::cost);
      least += low.cost;
      most += high.cost;
    }
    const std::int64_t middle =
        least + static_cast<std::int64_t>(rng.Uniform() * static_cast<double>(most - least));
    const Chosen some(items.size());
    for (const std::int64_t budget : {least - 1, least, middle, Sum(items, some).cost, most}) {
      EXPECT_EQ(SolveKnapsack(items, budget), BruteForce(items, budget)) << budget;
    }
  }
}

TEST_P(KnapsackProperty, OfManyCostsStaysWithinTheBudgetAndNearTheBest) {
  Rng rng(GetParam() % 4);
  Items items(50);
  std::int64_t least = 0, most = 0;
  for (auto& choices : items) {
    std::int64_t cost = 1'000'000;
    double damage = std::exp(rng.Normal());
    for (int c = 0; c < 4; ++c) {
      choices.push_back({.cost = cost, .damage = damage});
      cost += 1 + rng.Below(1'000'000'007);  // no divisor in common
      damage *= 0.2 + 0.3 * rng.Uniform();
    }
    least += choices.front().cost;
    most += choices.back().cost;
  }
  const std::int64_t budget = least + (most - least) / 3;

  const auto chosen = SolveKnapsack(items, budget);

  ASSERT_TRUE(chosen.has_value());
  const Total total = Sum(items, *chosen);
  EXPECT_LE(total.cost, budget);
  // Lagrange's bound: whatever bits cost, no way within the budget has less damage than this.
  double bound = 0;
  for (double price = 1e-13; price < 1e-6; price *= 1.01) {
    double at_price = -price * static_cast<double>(budget);
    for (const auto& choices : items) {
      double cheapest = std::numeric_limits<double>::infinity();
      for (const KnapsackChoice& choice : choices) {
        cheapest = std::min(cheapest, choice.damage + price * static_cast<double>(choice.cost));
      }
      at_price += cheapest;
    }
    bound = std::max(bound, at_price);
  }
  EXPECT_GE(total.damage, bound - 1e-9);
  EXPECT_LE(total.damage, 1.03 * bound);
  EXPECT_EQ(SolveKnapsack(items, budget), chosen);
}

TEST(Knapsack, TakesChoicesInAnyOrder) {
  const Items items{{{8, 1.0}, {2, 9.0}, {4, 3.0}}, {{4, 2.0}, {8, 1.5}, {2, 2.5}}};

  EXPECT_EQ(SolveKnapsack(items, 12), (Chosen{0, 0}));
  EXPECT_EQ(SolveKnapsack(items, 10), (Chosen{0, 2}));
  EXPECT_EQ(SolveKnapsack(items, 7), (Chosen{2, 2}));
  EXPECT_EQ(SolveKnapsack(items, 4), (Chosen{1, 2}));
  EXPECT_EQ(SolveKnapsack(items, 3), std::nullopt);
}

TEST(Knapsack, OfEqualDamagesTakesTheCheaperSet) {
  EXPECT_EQ(SolveKnapsack(Items{{{5, 1.0}, {3, 1.0}}, {{2, 0.0}, {1, 0.0}}}, 100), (Chosen{1, 1}));
}

TEST(Knapsack, TakesDamagesBelowNothingAndCostsOfNothing) {
  const Items items{{{0, 0.0}, {0, -2.0}}, {{0, 0.0}, {7, -1.0}}};

  EXPECT_EQ(SolveKnapsack(items, 0), (Chosen{1, 0}));
  EXPECT_EQ(SolveKnapsack(items, 7), (Chosen{1, 1}));
  EXPECT_EQ(SolveKnapsack(items, -1), std::nullopt);
}

TEST(Knapsack, OfNoItemsIsEmpty) {
  EXPECT_EQ(SolveKnapsack({}, 0), Chosen{});
}

}  // namespace
}  // namespace lieq
