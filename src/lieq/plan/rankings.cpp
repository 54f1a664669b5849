#include "lieq/plan/rankings.h"

#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/base/rows.h"
#include "lieq/plan/ranking_rows.h"

namespace lieq {
namespace {

/// A stream that no diagnostic uses: those count sites in bits 25-27 up to 6.
constexpr std::uint64_t kRandomStream = ~std::uint64_t{0};

/// A row that is one measurement as it stands.
template <std::optional<double> LayerDiagnosis::* kValue>
std::vector<double> Measured(const Diagnosis& diagnosis, const RankingOptions&) {
  std::vector<double> values;
  for (const LayerDiagnosis& layer : diagnosis.layers) values.push_back(*(layer.*kValue));
  return values;
}

std::vector<double> First(const Diagnosis& diagnosis, const RankingOptions&) {
  std::vector<double> scores;
  for (std::size_t i = diagnosis.layers.size(); i > 0; --i) {
    scores.push_back(static_cast<double>(i));
  }
  return scores;
}
std::vector<double> Last(const Diagnosis& diagnosis, const RankingOptions&) {
  std::vector<double> scores;
  for (std::size_t i = 1; i <= diagnosis.layers.size(); ++i) {
    scores.push_back(static_cast<double>(i));
  }
  return scores;
}
/// 0, L - 1, 1, L - 2, ...
std::vector<double> Ends(const Diagnosis& diagnosis, const RankingOptions&) {
  std::vector<double> scores(diagnosis.layers.size());
  std::size_t first = 0, last = scores.size();
  for (std::size_t left = scores.size(); left > 0; --left) {
    scores[(scores.size() - left) % 2 == 0 ? first++ : --last] = static_cast<double>(left);
  }
  return scores;
}
std::vector<double> Random(const Diagnosis& diagnosis, const RankingOptions&) {
  Rng rng(diagnosis.seed, kRandomStream);
  std::vector<double> scores;
  for (std::size_t i = 0; i < diagnosis.layers.size(); ++i) scores.push_back(rng.Uniform());
  return scores;
}

constexpr std::array kRankings{
    Ranking{"compactness",
            "how much training narrowed the spectrum of activations (the paper's score)",
            {.compactness = true},
            Measured<&LayerDiagnosis::compactness>},
    Ranking{"energy",
            "rise of the share of the largest tenth of the spectrum over random weights",
            {.top_k_energy = true},
            Measured<&LayerDiagnosis::top_k_energy>},
    // The NLL, not the perplexity: the same order, and finite where removal destroys the model.
    Ranking{"perplexity-drop",
            "rise of the log perplexity of a text when the layer is left out",
            {.perplexity_drop = true},
            Measured<&LayerDiagnosis::nll_drop>},
    Ranking{"combined",
            "weighted sum of perplexity drop, compactness and energy, each scaled to 0..1",
            {.compactness = true, .top_k_energy = true, .perplexity_drop = true},
            ScoreCombined},
    Ranking{"solo",
            "damage measured with this layer alone quantized",
            {.solo_damage = true},
            Measured<&LayerDiagnosis::solo_damage>},
    Ranking{"context",
            "damage measured inside a quantized model",
            {.context_damage = true},
            Measured<&LayerDiagnosis::context_damage>},
    Ranking{"block-influence",
            "how far the layer turns its input: 1 - cosine of input and output (ShortGPT)",
            {.block_influence = true},
            Measured<&LayerDiagnosis::block_influence>},
    Ranking{"first", "the first layers, for comparison", {}, First},
    Ranking{"last", "the last layers, for comparison", {}, Last},
    Ranking{"ends", "first and last layers in turn, for comparison", {}, Ends},
    Ranking{"random", "layers drawn by the seed, for comparison", {}, Random},
    Ranking{"file", "scores from a JSON file", {.file_scores = true}, ScoreFile},
};

/// A measurement that rankings may need, and what makes it.
struct Requirement {
  bool Needs::* needed;
  std::optional<double> LayerDiagnosis::* value;
  const char* key;
  const char* hint;
};
constexpr const char* kCalibrate = "diagnose with --calibration FILE";
constexpr const char* kMeasureDamage = "measure it with `lieq sensitivity`";
constexpr std::array kRequirements{
    Requirement{&Needs::compactness, &LayerDiagnosis::compactness, "compactness", kCalibrate},
    Requirement{&Needs::top_k_energy, &LayerDiagnosis::top_k_energy, "top_k_energy", kCalibrate},
    Requirement{&Needs::perplexity_drop, &LayerDiagnosis::nll_drop, "nll_drop",
                "diagnose with --text FILE"},
    Requirement{&Needs::block_influence, &LayerDiagnosis::block_influence, "block_influence",
                kCalibrate},
    Requirement{&Needs::solo_damage, &LayerDiagnosis::solo_damage, "solo_damage", kMeasureDamage},
    Requirement{&Needs::context_damage, &LayerDiagnosis::context_damage, "context_damage",
                kMeasureDamage},
};

void Require(const Diagnosis& diagnosis, const Ranking& ranking, const Requirement& requirement) {
  if (!(ranking.needs.*requirement.needed)) return;
  for (std::size_t i = 0; i < diagnosis.layers.size(); ++i) {
    const std::optional<double>& measured = diagnosis.layers[i].*requirement.value;
    if (measured && std::isfinite(*measured)) continue;
    throw Error({.what = "the ranking '" + std::string(ranking.name) +
                         "' needs a measurement that was not made",
                 .where = "layer " + std::to_string(i),
                 .expected = requirement.key,
                 .found = measured ? std::to_string(*measured) : "nothing",
                 .hint = requirement.hint});
  }
}

}  // namespace

std::span<const Ranking> Rankings() noexcept {
  return kRankings;
}

const Ranking& FindRanking(std::string_view name) {
  return FindRow(kRankings, name, "no ranking of that name", "ranking");
}

std::string_view RankingNames() {
  static const std::string names = NamesOfRows(kRankings);
  return names;
}

std::vector<double> Score(const Ranking& ranking, const Diagnosis& diagnosis,
                          const RankingOptions& options) {
  for (const Requirement& requirement : kRequirements) Require(diagnosis, ranking, requirement);
  std::vector<double> scores = ranking.score(diagnosis, options);
  LIEQ_ASSERT(scores.size() == diagnosis.layers.size());
  return scores;
}

}  // namespace lieq
