#include "lieq/plan/optimal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lieq/base/rng.h"
#include "lieq/base/statistics.h"
#include "lieq/model/config.h"

namespace lieq {
namespace {

/// A model by its damages: candidates rise in cost and mostly fall in damage; some do not fit.
struct Tables {
  Tables(Index layers, std::uint64_t seed) {
    Rng rng(seed);
    for (Index u = 0; u < layers * kUnits; ++u) {
      const std::int64_t weights = 64 * (1 + rng.Below(4));
      const double size = std::exp(2 * rng.Normal());
      auto& damages = damage.emplace_back();
      auto& prices = costs.emplace_back();
      for (const double bits : {2.125, 2.25, 2.5, 3.125, 4.125}) {
        const double noise = 1 + 0.3 * rng.Normal();
        const bool fits = bits != 2.125 || u % kUnits != 1;
        damages.push_back(fits ? std::optional(size * noise * std::exp2(-2 * bits)) : std::nullopt);
        prices.push_back(fits ? static_cast<std::int64_t>(bits * static_cast<double>(weights)) : 0);
      }
    }
    for (std::size_t u = 0; u < costs.size(); ++u) {
      least += costs[u][damage[u][0] ? 0 : 1];
      most += costs[u].back();
    }
  }
  std::int64_t Budget(double share) const {
    return least + static_cast<std::int64_t>(share * static_cast<double>(most - least));
  }

  DamageTable damage;
  CostTable costs;
  std::int64_t least = 0, most = 0;  // by group
};

double Sum(const DamageTable& damage, const Choice& choice) {
  double sum = 0;
  for (std::size_t u = 0; u < choice.size(); ++u) sum += damage[u][choice[u]].value();
  return sum;
}

class OptimalProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed
INSTANTIATE_TEST_SUITE_P(Seeds, OptimalProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{20}));

TEST_P(OptimalProperty, KeepsTheBudgetAndUsesItUpToTheLastUnitThatFits) {
  const Tables tables(6, GetParam());
  for (const double share : {0.0, 0.1, 0.37, 0.8, 1.0, 2.0}) {
    const std::int64_t budget = tables.Budget(share);

    const auto choice = OptimalChoice(tables.damage, tables.costs, Granularity::kGroup, budget);

    ASSERT_TRUE(choice.has_value());
    const std::int64_t cost = TotalCost(tables.costs, *choice);
    EXPECT_LE(cost, budget);
    for (std::size_t u = 0; u < choice->size(); ++u) {
      const std::size_t now = (*choice)[u];
      ASSERT_TRUE(tables.damage[u][now].has_value()) << "unit " << u << " has one that fits it";
      for (std::size_t c = 0; c < 5; ++c) {
        const std::int64_t more = tables.costs[u][c] - tables.costs[u][now];
        if (more <= 0 || tables.damage[u][c] > tables.damage[u][now]) continue;
        EXPECT_GT(cost + more, budget) << "unit " << u << " could have had candidate " << c;
      }
    }
  }
}

TEST_P(OptimalProperty, ByLayerGivesOneGridToALayerAndNoLessDamageThanByGroup) {
  const Tables tables(6, GetParam());
  for (const double share : {0.1, 0.37, 0.8}) {
    const std::int64_t budget = tables.Budget(share);

    const auto by_layer = OptimalChoice(tables.damage, tables.costs, Granularity::kLayer, budget);
    const auto by_group = OptimalChoice(tables.damage, tables.costs, Granularity::kGroup, budget);

    ASSERT_TRUE(by_layer.has_value() && by_group.has_value());
    EXPECT_LE(TotalCost(tables.costs, *by_layer), budget);
    for (std::size_t u = 0; u < by_layer->size(); ++u) {
      EXPECT_EQ((*by_layer)[u], (*by_layer)[u - u % kUnits]);
      EXPECT_NE((*by_layer)[u], 0u) << "does not fit o";
    }
    EXPECT_LE(Sum(tables.damage, *by_group), Sum(tables.damage, *by_layer) + 1e-12);
    EXPECT_LT(Sum(tables.damage, *by_group), 0.999 * Sum(tables.damage, *by_layer));
  }
}

TEST_P(OptimalProperty, MoreBitsNeverHarm) {
  const Tables tables(4, GetParam());
  double before = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= 20; ++i) {
    const auto choice =
        OptimalChoice(tables.damage, tables.costs, Granularity::kGroup, tables.Budget(i / 20.0));
    ASSERT_TRUE(choice.has_value());
    EXPECT_LE(Sum(tables.damage, *choice), before + 1e-12);
    before = Sum(tables.damage, *choice);
  }
}

TEST_P(OptimalProperty, SpreadChoicesRunFromTheBestToBadOnesWithinTheBudget) {
  const Tables tables(6, GetParam());
  const std::int64_t budget = tables.Budget(0.4);
  constexpr std::size_t kCount = 16;

  const std::vector<Choice> mixes =
      SpreadChoices(tables.damage, tables.costs, Granularity::kGroup, budget, kCount, GetParam());

  ASSERT_EQ(mixes.size(), kCount);
  EXPECT_EQ(mixes.front(), OptimalChoice(tables.damage, tables.costs, Granularity::kGroup, budget));
  std::vector<double> place, damage;
  for (const Choice& mix : mixes) {
    EXPECT_LE(TotalCost(tables.costs, mix), budget);
    EXPECT_GE(static_cast<double>(TotalCost(tables.costs, mix)), 0.9 * static_cast<double>(budget));
    place.push_back(static_cast<double>(place.size()));
    damage.push_back(Sum(tables.damage, mix));
  }
  EXPECT_EQ(std::ranges::min_element(damage), damage.begin());
  EXPECT_GT(SpearmanRho(place, damage).value(), 0.8);
  EXPECT_GT(damage.back(), 1.5 * damage.front());
  EXPECT_EQ(
      SpreadChoices(tables.damage, tables.costs, Granularity::kGroup, budget, kCount, GetParam()),
      mixes);
}

TEST(Optimal, BelowTheCheapestThereIsNone) {
  const Tables tables(3, 1);

  EXPECT_FALSE(OptimalChoice(tables.damage, tables.costs, Granularity::kGroup, tables.least - 1)
                   .has_value());
  EXPECT_TRUE(
      OptimalChoice(tables.damage, tables.costs, Granularity::kGroup, tables.least).has_value());
  EXPECT_TRUE(
      SpreadChoices(tables.damage, tables.costs, Granularity::kGroup, tables.least - 1, 4, 0)
          .empty());
}

TEST(Optimal, WhereNoCandidateFitsAWholeLayerThereIsNoneByLayer) {
  DamageTable damage(kUnits, {1.0, std::nullopt});
  damage[2] = {std::nullopt, 1.0};
  const CostTable costs(kUnits, {1, 1});

  EXPECT_FALSE(OptimalChoice(damage, costs, Granularity::kLayer, 100).has_value());
  EXPECT_EQ(OptimalChoice(damage, costs, Granularity::kGroup, 100), (Choice{0, 0, 1, 0}));
}

TEST(Optimal, EndsAreChosenByThemselvesAlsoByLayer) {
  // A layer at 1 or 3, and two ends with candidates of their own.
  DamageTable damage(kUnits, {4.0, 1.0});
  damage.push_back({9.0, 0.5, 0.0});
  damage.push_back({2.0, 0.0});
  CostTable costs(kUnits, {1, 3});
  costs.push_back({2, 4, 10});
  costs.push_back({1, 5});

  for (const Granularity granularity : {Granularity::kLayer, Granularity::kGroup}) {
    EXPECT_EQ(OptimalChoice(damage, costs, granularity, 7), (Choice{0, 0, 0, 0, 0, 0}));
    EXPECT_EQ(OptimalChoice(damage, costs, granularity, 9), (Choice{0, 0, 0, 0, 1, 0}))
        << "of the embedding 2 more buy 8.5, of a unit 3";
    EXPECT_EQ(OptimalChoice(damage, costs, granularity, 17), (Choice{1, 1, 1, 1, 1, 0}));
    EXPECT_EQ(OptimalChoice(damage, costs, granularity, 27), (Choice{1, 1, 1, 1, 2, 1}));
    EXPECT_FALSE(OptimalChoice(damage, costs, granularity, 6).has_value());
    EXPECT_EQ(SpreadChoices(damage, costs, granularity, 17, 3, 1).size(), 3u);
  }
}

TEST(Optimal, TheRestRaisesUnitsThatLoseNothing) {
  // Damages of 0 throughout: the knapsack alone would leave everything at the cheapest.
  const DamageTable damage(kUnits, {0.0, 0.0, 0.0});
  const CostTable costs(kUnits, {2, 3, 4});

  EXPECT_EQ(OptimalChoice(damage, costs, Granularity::kGroup, 11), (Choice{2, 1, 0, 0}));
}

TEST(Optimal, PredictsTheSumOfDamagesAndThatOfTheBase) {
  const Sensitivities sensitivities{.base_kl = 0.5};
  const DamageTable damage{{0.25, 1.0}, {-0.125, 2.0}};

  EXPECT_EQ(PredictedKl(sensitivities, damage, {0, 0}), 0.625);
  EXPECT_EQ(PredictedKl(sensitivities, damage, {1, 1}), 3.5);
}

}  // namespace
}  // namespace lieq
