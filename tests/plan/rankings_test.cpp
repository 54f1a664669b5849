#include "lieq/plan/rankings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
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
             .top_k_energy = rng.Normal(),
             .block_influence = rng.Uniform(),
             .solo_damage = rng.Normal(),
             .context_damage = rng.Normal()};
  }
  return diagnosis;
}

/// Options that every ranking can be scored with on that many layers.
RankingOptions OptionsFor(std::size_t layers) {
  RankingOptions options{.weights = {0.5, 0.25, 2}};
  Rng rng(layers);
  for (std::size_t i = 0; i < layers; ++i) options.file_scores.push_back(rng.Normal());
  return options;
}
std::vector<double> ScoreAny(const Ranking& ranking, const Diagnosis& diagnosis) {
  return Score(ranking, diagnosis, OptionsFor(diagnosis.layers.size()));
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

    const std::vector<double> scores = ScoreAny(ranking, diagnosis);

    EXPECT_EQ(scores.size(), diagnosis.layers.size());
    for (const double score : scores) EXPECT_TRUE(std::isfinite(score));
    EXPECT_EQ(scores, ScoreAny(ranking, diagnosis));
  }
}

TEST_P(EveryRanking, FollowsItsLayersWhereItMeasuresThem) {
  if (!ranking.needs.measurements()) {
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

    const std::vector<double> scores = ScoreAny(ranking, diagnosis);
    const std::vector<double> permuted_scores = ScoreAny(ranking, permuted);

    for (std::size_t i = 0; i < order.size(); ++i) {
      EXPECT_EQ(permuted_scores[i], scores[order[i]]);
    }
  }
}

TEST_P(EveryRanking, ReadsNothingButWhatItNeeds) {
  Rng rng(7);
  Diagnosis diagnosis = Measured(12, rng);
  const std::vector<double> scores = ScoreAny(ranking, diagnosis);

  for (LayerDiagnosis& layer : diagnosis.layers) {
    if (!ranking.needs.compactness) layer.compactness.reset();
    if (!ranking.needs.top_k_energy) layer.top_k_energy.reset();
    if (!ranking.needs.perplexity_drop) layer.nll_drop.reset();
    if (!ranking.needs.block_influence) layer.block_influence.reset();
    if (!ranking.needs.solo_damage) layer.solo_damage.reset();
    if (!ranking.needs.context_damage) layer.context_damage.reset();
    layer.perplexity_drop.reset();
  }

  EXPECT_EQ(ScoreAny(ranking, diagnosis), scores);
}

TEST_P(EveryRanking, NamesTheLayerThatWasNotMeasured) {
  Rng rng(7);
  for (const bool infinite : {false, true}) {
    Diagnosis diagnosis = Measured(12, rng);
    const std::optional<double> bad =
        infinite ? std::optional(std::numeric_limits<double>::infinity()) : std::nullopt;
    diagnosis.layers[5] = {.nll_drop = bad,
                           .compactness = bad,
                           .top_k_energy = bad,
                           .block_influence = bad,
                           .solo_damage = bad,
                           .context_damage = bad};
    if (!ranking.needs.measurements()) {
      EXPECT_NO_THROW((void)ScoreAny(ranking, diagnosis));
      continue;
    }
    try {
      (void)ScoreAny(ranking, diagnosis);
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

TEST(Rankings, LastAndEndsCountFromTheirEnds) {
  const auto order = [](std::string_view name, std::size_t layers) {
    const std::vector<double> scores =
        Score(FindRanking(name), {.layers = std::vector<LayerDiagnosis>(layers)});
    std::vector<std::size_t> by_score(layers);
    std::iota(by_score.begin(), by_score.end(), std::size_t{0});
    std::ranges::stable_sort(by_score, [&](auto a, auto b) { return scores[a] > scores[b]; });
    return by_score;
  };
  using Order = std::vector<std::size_t>;
  EXPECT_EQ(order("last", 4), (Order{3, 2, 1, 0}));
  EXPECT_EQ(order("ends", 5), (Order{0, 4, 1, 3, 2}));
  EXPECT_EQ(order("ends", 4), (Order{0, 3, 1, 2}));
  EXPECT_EQ(order("ends", 1), (Order{0}));
}

TEST(Rankings, CombinedAddsDiagnosticsScaledToOne) {
  Diagnosis diagnosis{.layers = std::vector<LayerDiagnosis>(3)};
  const std::vector<double> drop{10, 30, 20}, energy{-1, -3, -2};
  for (std::size_t i = 0; i < 3; ++i) {
    diagnosis.layers[i] = {.nll_drop = drop[i], .compactness = 0.5, .top_k_energy = energy[i]};
  }
  const Ranking& combined = FindRanking("combined");

  // Scaled: drop 0, 1, 1/2; compactness, the same everywhere, 0; energy 1, 0, 1/2.
  const std::vector<double> thirds = Score(combined, diagnosis);
  for (const double score : thirds) EXPECT_NEAR(score, 1.0 / 3, 1e-15);
  EXPECT_EQ(Score(combined, diagnosis, {.weights = {3, 5, 1}}), (std::vector<double>{1, 3, 2}));
  for (const std::array<double, 3>& bad :
       {std::array<double, 3>{0, 0, 0}, {1, -1, 1}, {1, std::nan(""), 1}, {1, HUGE_VAL, 1}}) {
    EXPECT_THROW((void)Score(combined, diagnosis, {.weights = bad}), Error);
  }
}

TEST(Rankings, FileTakesOneScoreALayer) {
  const Diagnosis diagnosis{.layers = std::vector<LayerDiagnosis>(3)};
  const auto scores = [](const char* text) {
    return ScoresFromJson(ParseJson(text, "scores.json"), "scores.json");
  };
  EXPECT_EQ(scores("[1, 2.5, -3]"), (std::vector<double>{1, 2.5, -3}));
  EXPECT_EQ(scores(R"({"by": "hand", "scores": [1, 2]})"), (std::vector<double>{1, 2}));
  EXPECT_EQ(Score(FindRanking("file"), diagnosis, {.file_scores = {3, 1, 2}}),
            (std::vector<double>{3, 1, 2}));
  EXPECT_THROW((void)Score(FindRanking("file"), diagnosis, {.file_scores = {3, 1}}), Error);

  const std::vector<std::pair<const char*, std::string>> bad{
      {"7", "scores.json"},
      {"[]", "scores.json"},
      {"{}", "scores.json: /scores"},
      {R"({"scores": 1})", "scores.json: /scores"},
      {R"([1, "2"])", "scores.json: /1"},
      {R"({"scores": [null]})", "scores.json: /scores/0"}};
  for (const auto& [text, where] : bad) {
    try {
      (void)scores(text);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_NE(error.problem().where.find(where), std::string::npos) << error.problem().where;
    }
  }
}

}  // namespace
}  // namespace lieq
