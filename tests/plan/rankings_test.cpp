#include "lieq/plan/rankings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"

namespace lieq {
namespace {

Diagnosis Measured(std::size_t layers, Rng& rng) {
  Diagnosis diagnosis{.layers = std::vector<LayerDiagnosis>(layers), .seed = rng.Bits()};
  for (LayerDiagnosis& layer : diagnosis.layers) {
    layer = {.perplexity_drop = rng.Normal(),
             .nll_drop = rng.Normal(),
             .compactness = rng.Normal(),
             .top_k_energy = rng.Normal()};
  }
  return diagnosis;
}

class EveryRanking : public testing::TestWithParam<std::size_t> {
 protected:
  const Ranking& ranking = Rankings()[GetParam()];
};
INSTANTIATE_TEST_SUITE_P(Rows, EveryRanking, testing::Range(std::size_t{0}, Rankings().size()),
                         [](const auto& row) {
                           std::string name(Rankings()[row.param].name);
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST_P(EveryRanking, GivesOneFiniteScorePerLayerAndTheSameTwice) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Rng rng(seed);
    const Diagnosis diagnosis = Measured(1 + rng.Below(40), rng);

    const std::vector<double> scores = Score(ranking, diagnosis);

    EXPECT_EQ(scores.size(), diagnosis.layers.size());
    for (const double score : scores) EXPECT_TRUE(std::isfinite(score));
    EXPECT_EQ(scores, Score(ranking, diagnosis));
  }
}

TEST_P(EveryRanking, FollowsItsLayersWhereItMeasuresThem) {
  if (!ranking.needs.spectra() && !ranking.needs.perplexity_drop) {
    return;  // it reads no measurement, and there is nothing to follow
  }
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Rng rng(seed);
    const Diagnosis diagnosis = Measured(2 + rng.Below(30), rng);
    std::vector<std::size_t> order(diagnosis.layers.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[rng.Below(static_cast<std::uint32_t>(i))]);
    }
    Diagnosis permuted = diagnosis;
    for (std::size_t i = 0; i < order.size(); ++i) {
      permuted.layers[i] = diagnosis.layers[order[i]];
    }

    const std::vector<double> scores = Score(ranking, diagnosis);
    const std::vector<double> permuted_scores = Score(ranking, permuted);

    for (std::size_t i = 0; i < order.size(); ++i) {
      EXPECT_EQ(permuted_scores[i], scores[order[i]]);
    }
  }
}

TEST_P(EveryRanking, ReadsNothingButWhatItNeeds) {
  Rng rng(7);
  Diagnosis diagnosis = Measured(12, rng);
  const std::vector<double> scores = Score(ranking, diagnosis);

  for (LayerDiagnosis& layer : diagnosis.layers) {
    if (!ranking.needs.compactness) layer.compactness.reset();
    if (!ranking.needs.top_k_energy) layer.top_k_energy.reset();
    if (!ranking.needs.perplexity_drop) layer.nll_drop.reset();
    layer.perplexity_drop.reset();
  }

  EXPECT_EQ(Score(ranking, diagnosis), scores);
}

TEST_P(EveryRanking, NamesTheLayerThatWasNotMeasured) {
  Rng rng(7);
  for (const bool infinite : {false, true}) {
    Diagnosis diagnosis = Measured(12, rng);
    const std::optional<double> bad =
        infinite ? std::optional(std::numeric_limits<double>::infinity()) : std::nullopt;
    diagnosis.layers[5] = {.nll_drop = bad, .compactness = bad, .top_k_energy = bad};
    if (!ranking.needs.spectra() && !ranking.needs.perplexity_drop) {
      EXPECT_NO_THROW((void)Score(ranking, diagnosis));
      continue;
    }
    try {
      (void)Score(ranking, diagnosis);
      FAIL() << "no Error";
    } catch (const Error& error) {
      EXPECT_EQ(error.problem().where, "layer 5");
      EXPECT_FALSE(error.problem().expected.empty());
      EXPECT_FALSE(error.problem().hint.empty());
    }
  }
}

TEST(Rankings, AreNamedOnceAndThePapersComesFirst) {
  std::set<std::string_view> names;
  for (const Ranking& ranking : Rankings()) {
    EXPECT_TRUE(names.insert(ranking.name).second) << ranking.name;
    EXPECT_FALSE(ranking.description.empty());
    EXPECT_EQ(ranking.description.find('\n'), std::string_view::npos);
    EXPECT_EQ(&FindRanking(ranking.name), &ranking);
  }
  EXPECT_EQ(Rankings().front().name, "compactness");
}

TEST(Rankings, AnUnknownNameIsToldTheKnownOnes) {
  try {
    (void)FindRanking("compact");
    FAIL() << "no Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.problem().found, "compact");
    EXPECT_NE(error.problem().expected.find("compactness, energy, perplexity-drop"),
              std::string::npos);
  }
}

TEST(Rankings, FirstPrefersTheFirstAndRandomTheSeed) {
  Diagnosis diagnosis{.layers = std::vector<LayerDiagnosis>(24), .seed = 1};

  const std::vector<double> first = Score(FindRanking("first"), diagnosis);
  const std::vector<double> random = Score(FindRanking("random"), diagnosis);
  diagnosis.seed = 2;
  const std::vector<double> other = Score(FindRanking("random"), diagnosis);

  EXPECT_TRUE(std::ranges::is_sorted(first, std::greater<>()));
  EXPECT_NE(random, other);
  EXPECT_EQ(std::set(random.begin(), random.end()).size(), random.size());
}

}  // namespace
}  // namespace lieq
