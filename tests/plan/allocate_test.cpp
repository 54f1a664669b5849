#include "lieq/plan/allocate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "tests/support/row_grid.h"

namespace lieq {
namespace {

ModelConfig Config(Index layers) {
  return {
      .layers = layers, .hidden = 8, .intermediate = 24, .heads = 2, .kv_heads = 1, .head_dim = 4};
}

std::vector<double> Falling(Index layers) {
  std::vector<double> scores(Size(layers));
  for (Index i = 0; i < layers; ++i) scores[Size(i)] = -static_cast<double>(i);
  return scores;
}

Index CountAt(const Plan& plan, int bits) {
  std::array<int, kUnits> row{};
  row.fill(bits);
  Index count = 0;
  for (Index layer = 0; layer < plan.layers(); ++layer) count += WidthsOf(plan, layer) == row;
  return count;
}

std::string ErrorOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.problem().where + " | " + error.problem().expected + " | " + error.problem().found;
  }
  return "no Error";
}

struct Golden {
  Index layers;
  double bits;
  Index m;
  double code_bits;
};
class TopM : public testing::TestWithParam<Golden> {};
// The paper's figures (method.md 1.5) and the edges of the rule.
INSTANTIATE_TEST_SUITE_P(
    Figures, TopM,
    testing::Values(Golden{28, 2.25, 4, 2.2857142857142856},
                    Golden{36, 2.05, 1, 2.0555555555555554},
                    Golden{28, 2.05, 1, 2.0714285714285716}, Golden{24, 2.25, 3, 2.25},
                    Golden{30, 2.25, 4, 2.2666666666666666}, Golden{6, 2.33, 1, 2.3333333333333335},
                    Golden{20, 2.05, 1, 2.1},  // f L = 1/2, which 2.05 just misses in binary
                    Golden{28, 2.0, 0, 2.0}, Golden{28, 4.0, 28, 4.0}, Golden{1, 2.99, 0, 2.0},
                    Golden{1, 3.0, 1, 4.0}, Golden{10, 3.9, 10, 4.0}));

TEST_P(TopM, WidensTheNumberOfLayersThatTheRuleSays) {
  const Golden& golden = GetParam();
  const ModelConfig config = Config(golden.layers);

  const Plan plan = Allocate(Falling(golden.layers), "first",
                             {.bits = golden.bits, .rounding = Rounding::kPaper}, config);

  EXPECT_EQ(CountAt(plan, 4), golden.m);
  EXPECT_EQ(CountAt(plan, 2), golden.layers - golden.m);
  EXPECT_DOUBLE_EQ(CodeBits(plan, config), golden.code_bits);
  EXPECT_DOUBLE_EQ(CodeCompression(plan, config), 16 / golden.code_bits);
  EXPECT_EQ(plan.requested_bits, golden.bits);
  EXPECT_EQ(plan.ranking, "first");
}

class Below : public testing::TestWithParam<Golden> {};
INSTANTIATE_TEST_SUITE_P(Figures, Below,
                         testing::Values(Golden{28, 2.25, 3, 2.2142857142857144},
                                         Golden{30, 2.5, 7, 2.4666666666666668},
                                         Golden{24, 2.25, 3, 2.25}, Golden{6, 2.33, 0, 2.0},
                                         Golden{6, 2.34, 1, 2.3333333333333335},
                                         Golden{20, 2.1, 1, 2.1}, Golden{28, 2.0, 0, 2.0},
                                         Golden{28, 4.0, 28, 4.0}, Golden{1, 3.99, 0, 2.0}));

TEST_P(Below, AsManyLayersAsStayBelowTheBudgetUnlessThePaperIsNamed) {
  const Golden& golden = GetParam();
  const ModelConfig config = Config(golden.layers);

  const Plan plan = Allocate(Falling(golden.layers), "first", {.bits = golden.bits}, config);

  EXPECT_EQ(CountAt(plan, 4), golden.m);
  EXPECT_DOUBLE_EQ(CodeBits(plan, config), golden.code_bits);
  EXPECT_EQ(plan.requested_bits, golden.bits);
}

class AllocateProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed
INSTANTIATE_TEST_SUITE_P(Seeds, AllocateProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{200}));

TEST_P(AllocateProperty, EqualLayersKeepTheBudgetOrMeetItToHalfALayerAndKeepTheBest) {
  Rng rng(GetParam());
  const Index layers = 1 + rng.Below(48);
  const std::vector<int> widths{2, 3, 4, 8};
  const std::size_t low = rng.Below(3),
                    high = low + 1 + rng.Below(static_cast<std::uint32_t>(3 - low));
  const bool paper = rng.Below(2) == 1;
  const Budget budget{widths[low] + rng.Uniform() * (widths[high] - widths[low]),
                      RowGrid(widths[low]), RowGrid(widths[high]),
                      paper ? Rounding::kPaper : Rounding::kDown};
  std::vector<double> scores(Size(layers));
  for (double& score : scores) score = static_cast<double>(rng.Below(5)) - 2;  // many ties
  const ModelConfig config = Config(layers);

  const Plan plan = Allocate(scores, "test", budget, config);

  const double a_layer = (budget.high.bits - budget.low.bits) / static_cast<double>(layers);
  const double above = CodeBits(plan, config) - budget.bits;
  EXPECT_LE(above, (paper ? a_layer / 2 : 0) + 1e-9);
  EXPECT_GE(above, (paper ? -a_layer / 2 : -a_layer) - 1e-9);
  EXPECT_EQ(CountAt(plan, budget.low.bits) + CountAt(plan, budget.high.bits), layers);
  for (Index a = 0; a < layers; ++a) {
    for (Index b = 0; b < layers; ++b) {
      const bool a_first =
          scores[Size(a)] > scores[Size(b)] || (scores[Size(a)] == scores[Size(b)] && a < b);
      if (a_first) {
        EXPECT_GE(plan.BitsOf(a, Unit::kO), plan.BitsOf(b, Unit::kO)) << a << " before " << b;
      }
    }
  }
}

TEST_P(AllocateProperty, UnequalLayersGetTheRunThatHoldsTheShare) {
  Rng rng(GetParam());
  const std::size_t layers = 2 + rng.Below(11);
  std::vector<std::int64_t> weights(layers);
  std::vector<double> scores(layers);
  for (auto& weight : weights) weight = 1 + rng.Below(1000);
  weights[0] = 1001;  // so that not all are equal
  for (double& score : scores) score = static_cast<double>(rng.Below(6));
  const bool paper = rng.Below(2) == 1;
  const Budget budget{2 + 2 * rng.Uniform(), RowGrid(2), RowGrid(4),
                      paper ? Rounding::kPaper : Rounding::kDown};
  const double total =
      static_cast<double>(std::accumulate(weights.begin(), weights.end(), std::int64_t{0}));
  const double share = (budget.bits - 2) / 2 * total;

  const std::vector<Index> top = TopLayers(scores, weights, budget);

  // Brute force: of all sets of layers that are closed under "comes before", the smallest that
  // holds the share, or the largest that holds no more.
  const auto before = [&](std::size_t a, std::size_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
  };
  std::vector<Index> best;
  bool found = false;
  for (unsigned set = 0; set < (1u << layers); ++set) {
    double held = 0;
    bool closed = true;
    std::vector<Index> members;
    for (std::size_t i = 0; i < layers; ++i) {
      if ((set >> i & 1) == 0) continue;
      members.push_back(static_cast<Index>(i));
      held += static_cast<double>(weights[i]);
      for (std::size_t j = 0; j < layers; ++j) closed &= !before(j, i) || (set >> j & 1) == 1;
    }
    if (!closed || (paper ? held < share : held > share)) continue;
    if (!found || (members.size() < best.size()) == paper) best = members;
    found = true;
  }
  EXPECT_EQ(top, best);
}

TEST(Allocate, UnequalLayersAtTheEndsOfTheRange) {
  const std::vector<double> scores{1, 2, 3};
  const std::vector<std::int64_t> weights{10, 20, 30};

  EXPECT_EQ(TopLayers(scores, weights, {2, 2, 4}), std::vector<Index>{});
  EXPECT_EQ(TopLayers(scores, weights, {4, 2, 4}), (std::vector<Index>{0, 1, 2}));
  EXPECT_EQ(TopLayers(scores, weights, {3, 2, 4}), (std::vector<Index>{2}));  // exactly half
  EXPECT_EQ(TopLayers(scores, weights, {3.01, RowGrid(2), RowGrid(4)}), (std::vector<Index>{2}));
  EXPECT_EQ(TopLayers(scores, weights, {3.01, RowGrid(2), RowGrid(4), Rounding::kPaper}),
            (std::vector<Index>{1, 2}));
}

TEST(Allocate, TiesGoToTheLowerLayer) {
  const Plan plan = Allocate({1, 1, 1, 1}, "test", {.bits = 3}, Config(4));

  EXPECT_EQ(plan.BitsOf(0, Unit::kDown), 4);
  EXPECT_EQ(plan.BitsOf(1, Unit::kDown), 4);
  EXPECT_EQ(plan.BitsOf(2, Unit::kDown), 2);
  EXPECT_EQ(plan.BitsOf(3, Unit::kDown), 2);
}

TEST(Allocate, SaysWhichAveragesTheWidthsReach) {
  const auto with = [](Budget budget) {
    return ErrorOf([=] { (void)Allocate(Falling(4), "test", budget, Config(4)); });
  };

  EXPECT_EQ(with({1.9, RowGrid(2), RowGrid(4)}), "bits | 2 to 4 | 1.9");
  EXPECT_EQ(with({4.25, RowGrid(2), RowGrid(4)}), "bits | 2 to 4 | 4.25");
  EXPECT_EQ(with({2.5, RowGrid(3), RowGrid(8)}), "bits | 3 to 8 | 2.5");
  EXPECT_EQ(with({std::numeric_limits<double>::quiet_NaN(), RowGrid(2), RowGrid(4)}),
            "bits | 2 to 4 | nan");
  EXPECT_EQ(with({4, RowGrid(4), RowGrid(4)}),
            "widths | two of 2, 3, 4, 5, 6, 8, the smaller one first | 4,4");
  EXPECT_EQ(with({4, RowGrid(4), RowGrid(2)}),
            "widths | two of 2, 3, 4, 5, 6, 8, the smaller one first | 4,2");
  EXPECT_EQ(with({7, RowGrid(7), RowGrid(8)}),
            "widths | two of 2, 3, 4, 5, 6, 8, the smaller one first | 7,8");
}

TEST(Allocate, NamesTheLayerWhoseScoreIsNotFinite) {
  EXPECT_EQ(ErrorOf([] { (void)Allocate({1, NAN, 2}, "test", {}, Config(3)); }),
            "layer 1 | a finite number | nan");
}

TEST(Allocate, RefusesScoresOfAnotherModel) {
  EXPECT_EQ(ErrorOf([] { (void)Allocate({1, 2, 3}, "test", {}, Config(4)); }),
            "diagnostics | 4 layers | 3");
}

TEST(HighestLayers, AreThoseOfHighestScoreInOrder) {
  const std::vector<double> scores{1, 5, 3, 5, -2};

  EXPECT_EQ(HighestLayers(scores, 0), std::vector<Index>{});
  EXPECT_EQ(HighestLayers(scores, 1), (std::vector<Index>{1}));
  EXPECT_EQ(HighestLayers(scores, 3), (std::vector<Index>{1, 2, 3}));
  EXPECT_EQ(HighestLayers(scores, 5), (std::vector<Index>{0, 1, 2, 3, 4}));
  EXPECT_EQ(ErrorOf([&] { (void)HighestLayers(scores, 6); }), "--high-layers | 0 to 5 | 6");
  EXPECT_EQ(ErrorOf([&] { (void)HighestLayers(scores, -1); }), "--high-layers | 0 to 5 | -1");
  EXPECT_EQ(ErrorOf([] { (void)HighestLayers(std::vector<double>{1, NAN}, 1); }),
            "layer 1 | a finite number | nan");
}

TEST_P(AllocateProperty, LayersWithinKeepTheCeilingAndLeaveNoRoom) {
  Rng rng(GetParam());
  const Index layers = 1 + rng.Below(12);
  const ModelConfig config = Config(layers);
  std::vector<double> scores(Size(layers));
  std::vector<std::int64_t> weights(Size(layers));
  for (double& score : scores) score = static_cast<double>(rng.Below(4));
  for (std::int64_t& weight : weights) weight = 1 + rng.Below(20);
  const auto cost = [&](const Plan& plan) {
    std::int64_t sum = 7;  // what no plan changes
    for (Index i = 0; i < layers; ++i) sum += plan.BitsOf(i, Unit::kO) * weights[Size(i)];
    return sum;
  };
  const std::int64_t least = cost(UniformPlan(RowGrid(2), config)),
                     most = cost(UniformPlan(RowGrid(4), config));
  const std::int64_t budget = least + rng.Below(static_cast<std::uint32_t>(most - least + 3));

  const std::vector<Index> raised =
      LayersWithin(scores, RowGrid(2), RowGrid(4), config, cost, budget, "--size");

  EXPECT_TRUE(std::ranges::is_sorted(raised));
  EXPECT_LE(cost(RaiseLayers(raised, RowGrid(2), RowGrid(4), config)), budget);
  for (Index layer = 0; layer < layers; ++layer) {
    if (std::ranges::find(raised, layer) != raised.end()) continue;
    std::vector<Index> more = raised;
    more.push_back(layer);
    EXPECT_GT(cost(RaiseLayers(more, RowGrid(2), RowGrid(4), config)), budget)
        << "room for layer " << layer;
  }
  if (weights[0] * 2 + least <= budget && HighestLayers(scores, 1).front() == 0) {
    EXPECT_EQ(raised.front(), 0) << "the first that fits is the highest";
  }
}

TEST(LayersWithin, PassesOverALayerThatDoesNotFitForASmallerOne) {
  const auto cost = [](const Plan& plan) {
    return std::int64_t{plan.BitsOf(0, Unit::kO)} * 10 + plan.BitsOf(1, Unit::kO) * 100 +
           plan.BitsOf(2, Unit::kO);
  };

  EXPECT_EQ(LayersWithin(std::vector<double>{1, 3, 2}, RowGrid(2), RowGrid(4), Config(3), cost, 244,
                         "--bpw"),
            (std::vector<Index>{0, 2}));
}

TEST(LayersWithin, NamesTheOptionThatLeavesNoRoomForTheNarrowWidth) {
  const auto cost = [](const Plan&) { return std::int64_t{100}; };

  EXPECT_EQ(ErrorOf([&] {
              (void)LayersWithin(std::vector<double>{1, 2}, RowGrid(2), RowGrid(4), Config(2), cost,
                                 99, "--size");
            }),
            "--size | at least 100 | 99");
}

TEST(Uniform, GivesEveryUnitTheSameWidth) {
  const Plan plan = UniformPlan(RowGrid(3), Config(5));

  EXPECT_EQ(CountAt(plan, 3), 5);
  EXPECT_EQ(CodeBits(plan, Config(5)), 3);
  EXPECT_EQ(ErrorOf([] { (void)UniformPlan(RowGrid(7), Config(5)); }),
            "uniform | 2, 3, 4, 5, 6, 8 | 7");
}

TEST(CodeBits, WeighsUnitsByTheirWeights) {
  const ModelConfig config = Config(1);  // q 8x8, k 4x8, v 4x8, o 8x8, gate and up 24x8, down 8x24
  Plan plan = UniformPlan(RowGrid(2), config);

  plan.grids.layers.clear();
  plan.grids.AddLayer({RowGrid(8), RowGrid(4), RowGrid(3), RowGrid(2)});

  EXPECT_DOUBLE_EQ(CodeBits(plan, config),
                   (8 * 128 + 4 * 64 + 3 * 384 + 2 * 192) / double{128 + 64 + 384 + 192});
}

}  // namespace
}  // namespace lieq
