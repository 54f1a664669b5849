#include "lieq/plan/rankings.h"

#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/base/rng.h"

namespace lieq {
namespace {

/// A stream that no diagnostic uses: those count sites in bits 25-27 up to 6.
constexpr std::uint64_t kRandomStream = ~std::uint64_t{0};

std::vector<double> Values(const Diagnosis& diagnosis,
                           std::optional<double> LayerDiagnosis::* value) {
  std::vector<double> values;
  for (const LayerDiagnosis& layer : diagnosis.layers) values.push_back(*(layer.*value));
  return values;
}

std::vector<double> Compactness(const Diagnosis& diagnosis) {
  return Values(diagnosis, &LayerDiagnosis::compactness);
}
std::vector<double> Energy(const Diagnosis& diagnosis) {
  return Values(diagnosis, &LayerDiagnosis::top_k_energy);
}
/// The NLL, not the perplexity: the same order, and finite where removal destroys the model.
std::vector<double> PerplexityDrop(const Diagnosis& diagnosis) {
  return Values(diagnosis, &LayerDiagnosis::nll_drop);
}
std::vector<double> First(const Diagnosis& diagnosis) {
  std::vector<double> scores;
  for (std::size_t i = diagnosis.layers.size(); i > 0; --i) {
    scores.push_back(static_cast<double>(i));
  }
  return scores;
}
std::vector<double> Random(const Diagnosis& diagnosis) {
  Rng rng(diagnosis.seed, kRandomStream);
  std::vector<double> scores;
  for (std::size_t i = 0; i < diagnosis.layers.size(); ++i) scores.push_back(rng.Uniform());
  return scores;
}

constexpr std::array kRankings{
    Ranking{"compactness",
            "how much training narrowed the spectrum of activations (the paper's score)",
            {.compactness = true},
            Compactness},
    Ranking{"energy",
            "rise of the share of the largest tenth of the spectrum over random weights",
            {.top_k_energy = true},
            Energy},
    Ranking{"perplexity-drop",
            "rise of the log perplexity of a text when the layer is left out",
            {.perplexity_drop = true},
            PerplexityDrop},
    Ranking{"first", "the first layers, for comparison", {}, First},
    Ranking{"random", "layers drawn by the seed, for comparison", {}, Random},
};

void Require(const Diagnosis& diagnosis, const Ranking& ranking, bool needed,
             std::optional<double> LayerDiagnosis::* value, const std::string& key) {
  if (!needed) return;
  for (std::size_t i = 0; i < diagnosis.layers.size(); ++i) {
    const std::optional<double>& measured = diagnosis.layers[i].*value;
    if (measured && std::isfinite(*measured)) continue;
    throw Error({.what = "the ranking '" + std::string(ranking.name) +
                         "' needs a measurement that was not made",
                 .where = "layer " + std::to_string(i),
                 .expected = key,
                 .found = measured ? std::to_string(*measured) : "nothing",
                 .hint = ranking.needs.perplexity_drop ? "diagnose with --text FILE"
                                                       : "diagnose with --calibration FILE"});
  }
}

}  // namespace

std::span<const Ranking> Rankings() noexcept {
  return kRankings;
}

const Ranking& FindRanking(std::string_view name) {
  std::string names;
  for (const Ranking& ranking : kRankings) {
    if (ranking.name == name) return ranking;
    names += (names.empty() ? "" : ", ") + std::string(ranking.name);
  }
  throw Error({.what = "no ranking of that name",
               .where = "ranking",
               .expected = names,
               .found = std::string(name)});
}

std::vector<double> Score(const Ranking& ranking, const Diagnosis& diagnosis) {
  const Needs& needs = ranking.needs;
  Require(diagnosis, ranking, needs.compactness, &LayerDiagnosis::compactness, "compactness");
  Require(diagnosis, ranking, needs.top_k_energy, &LayerDiagnosis::top_k_energy, "top_k_energy");
  Require(diagnosis, ranking, needs.perplexity_drop, &LayerDiagnosis::nll_drop, "nll_drop");
  std::vector<double> scores = ranking.score(diagnosis);
  LIEQ_ASSERT(scores.size() == diagnosis.layers.size());
  return scores;
}

}  // namespace lieq
