#include "lieq/plan/allocate.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"

namespace lieq {
namespace {

/// Budgets are written in decimal: (2.05 - 2) / 2 is a hair below 1/40 in binary, and 20 layers at
/// 2.05 bits would lose the layer that the rule gives them.
constexpr double kRounding = 1e-9;

std::string WidthList() {
  return fmt::format("{}", fmt::join(kWidths, ", "));
}

void CheckBudget(const Budget& budget) {
  if (!IsWidth(budget.low) || !IsWidth(budget.high) || budget.low >= budget.high) {
    throw Error({.what = "widths cannot be mixed",
                 .where = "widths",
                 .expected = "two of " + WidthList() + ", the smaller one first",
                 .found = fmt::format("{},{}", budget.low, budget.high)});
  }
  if (!(budget.bits >= budget.low && budget.bits <= budget.high)) {
    throw Error({.what = "average bits out of reach of the widths",
                 .where = "bits",
                 .expected = fmt::format("{} to {}", budget.low, budget.high),
                 .found = fmt::format("{}", budget.bits),
                 .hint = "other widths reach other averages: any two of " + WidthList()});
  }
}

}  // namespace

std::vector<Index> TopLayers(std::span<const double> scores, std::span<const std::int64_t> weights,
                             const Budget& budget) {
  LIEQ_ASSERT(scores.size() == weights.size());
  CheckBudget(budget);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (std::isfinite(scores[i])) continue;  // a NaN would make the sort below undefined
    throw Error({.what = "the score of a layer is not finite",
                 .where = "layer " + std::to_string(i),
                 .expected = "a finite number",
                 .found = std::to_string(scores[i])});
  }
  std::vector<Index> order(scores.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(),  // stable: ties go to the lower layer
                   [&](Index a, Index b) { return scores[Size(a)] > scores[Size(b)]; });

  const double f = (budget.bits - budget.low) / (budget.high - budget.low);
  std::size_t m = 0;
  if (std::ranges::adjacent_find(weights, std::not_equal_to<>()) == weights.end()) {
    m = static_cast<std::size_t>(
        std::floor(f * static_cast<double>(order.size()) + 0.5 + kRounding));
    m = std::min(m, order.size());
  } else {
    const double total =
        static_cast<double>(std::accumulate(weights.begin(), weights.end(), std::int64_t{0}));
    std::int64_t held = 0;
    while (static_cast<double>(held) < (f - kRounding) * total) held += weights[Size(order[m++])];
  }
  order.resize(m);
  std::ranges::sort(order);
  return order;
}

Plan Allocate(std::vector<double> scores, std::string ranking, const Budget& budget,
              const ModelConfig& config) {
  if (static_cast<Index>(scores.size()) != config.layers) {
    throw Error({.what = "scores of another model",
                 .where = "diagnostics",
                 .expected = std::to_string(config.layers) + " layers",
                 .found = std::to_string(scores.size())});
  }
  const std::vector<std::int64_t> weights(scores.size(), config.LayerWeightCount());
  const std::vector<Index> top = TopLayers(scores, weights, budget);
  std::array<int, kUnits> low{}, high{};
  low.fill(budget.low);
  high.fill(budget.high);
  Plan plan{.bits = std::vector(scores.size(), low),
            .scores = std::move(scores),
            .ranking = std::move(ranking),
            .requested_bits = budget.bits,
            .low = budget.low,
            .high = budget.high};
  for (const Index layer : top) plan.bits[Size(layer)] = high;
  return plan;
}

Plan Allocate(const Ranking& ranking, const Diagnosis& diagnosis, const Budget& budget,
              const ModelConfig& config, const RankingOptions& options) {
  Plan plan =
      Allocate(Score(ranking, diagnosis, options), std::string(ranking.name), budget, config);
  if (ranking.name == "combined") {
    plan.ranking_weights.assign(options.weights.begin(), options.weights.end());
  }
  plan.model_hash = diagnosis.model_hash;
  plan.calibration_hash = diagnosis.calibration_hash;
  return plan;
}

Plan UniformPlan(int bits, const ModelConfig& config) {
  if (!IsWidth(bits)) {
    throw Error({.what = "no such width",
                 .where = "uniform",
                 .expected = WidthList(),
                 .found = std::to_string(bits)});
  }
  std::array<int, kUnits> width{};
  width.fill(bits);
  return {.bits = std::vector(Size(config.layers), width),
          .ranking = "uniform",
          .requested_bits = static_cast<double>(bits),
          .low = bits,
          .high = bits};
}

}  // namespace lieq
