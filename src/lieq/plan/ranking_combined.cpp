// The combined score of the paper's first version (arXiv:2508.03332v1). It does not say the
// weights; a third each unless told otherwise.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>

#include "lieq/base/error.h"
#include "lieq/plan/ranking_rows.h"

namespace lieq {
namespace {

using Measurement = std::optional<double> LayerDiagnosis::*;

/// (value - least) / (most - least); 0 where all layers measure the same.
std::vector<double> Scaled(const Diagnosis& diagnosis, Measurement measurement) {
  std::vector<double> values;
  for (const LayerDiagnosis& layer : diagnosis.layers) values.push_back(*(layer.*measurement));
  const auto [least, most] = std::ranges::minmax(values);
  for (double& value : values) {
    // Halves, so that the spread of the largest doubles does not overflow.
    value = most > least ? (value / 2 - least / 2) / (most / 2 - least / 2) : 0;
  }
  return values;
}

void CheckWeights(const std::array<double, 3>& weights) {
  double sum = 0;
  for (const double weight : weights) {
    if (!(weight >= 0)) sum = std::nan("");
    sum += weight;
  }
  if (std::isfinite(sum) && sum > 0) return;
  throw Error({.what = "weights of the combined ranking out of range",
               .where = "ranking weights",
               .expected = "three numbers, none below 0, at least one above"});
}

}  // namespace

std::vector<double> ScoreCombined(const Diagnosis& diagnosis, const RankingOptions& options) {
  CheckWeights(options.weights);
  // The NLL, not the perplexity: one layer whose removal destroys the model would otherwise be at 1
  // and all others at 0.
  constexpr std::array<Measurement, 3> kMeasurements{
      &LayerDiagnosis::nll_drop, &LayerDiagnosis::compactness, &LayerDiagnosis::top_k_energy};
  std::vector<double> scores(diagnosis.layers.size());
  for (std::size_t i = 0; i < kMeasurements.size(); ++i) {
    const std::vector<double> scaled = Scaled(diagnosis, kMeasurements[i]);
    for (std::size_t layer = 0; layer < scores.size(); ++layer) {
      scores[layer] += options.weights[i] * scaled[layer];
    }
  }
  return scores;
}

}  // namespace lieq
