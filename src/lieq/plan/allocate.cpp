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
  const int low = budget.low.bits, high = budget.high.bits;
  if (!IsWidth(low) || !IsWidth(high) || low >= high) {
    throw Error({.what = "widths cannot be mixed",
                 .where = "widths",
                 .expected = "two of " + WidthList() + ", the smaller one first",
                 .found = fmt::format("{},{}", low, high)});
  }
  if (!(budget.bits >= low && budget.bits <= high)) {
    throw Error({.what = "average bits out of reach of the widths",
                 .where = "bits",
                 .expected = fmt::format("{} to {}", low, high),
                 .found = fmt::format("{}", budget.bits),
                 .hint = "other widths reach other averages: any two of " + WidthList()});
  }
}

/// Layers, the one most worth protecting first.
std::vector<Index> ByFallingScore(std::span<const double> scores) {
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
  return order;
}

}  // namespace

std::vector<Index> TopLayers(std::span<const double> scores, std::span<const std::int64_t> weights,
                             const Budget& budget) {
  LIEQ_ASSERT(scores.size() == weights.size());
  CheckBudget(budget);
  std::vector<Index> order = ByFallingScore(scores);

  const double f = (budget.bits - budget.low.bits) / (budget.high.bits - budget.low.bits);
  const bool paper = budget.rounding == Rounding::kPaper;
  std::size_t m = 0;
  if (std::ranges::adjacent_find(weights, std::not_equal_to<>()) == weights.end()) {
    m = static_cast<std::size_t>(
        std::floor(f * static_cast<double>(order.size()) + (paper ? 0.5 : 0.0) + kRounding));
    m = std::min(m, order.size());
  } else {
    const double total =
        static_cast<double>(std::accumulate(weights.begin(), weights.end(), std::int64_t{0}));
    const auto wanted = [&](std::int64_t held, Index next) {
      return paper ? static_cast<double>(held) < (f - kRounding) * total
                   : static_cast<double>(held + weights[Size(next)]) <= (f + kRounding) * total;
    };
    std::int64_t held = 0;
    while (m < order.size() && wanted(held, order[m])) held += weights[Size(order[m++])];
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
  const std::vector<std::int64_t> weights = LayerWeightCounts(config);
  Plan plan = RaiseLayers(TopLayers(scores, weights, budget), budget.low, budget.high, config);
  plan.scores = std::move(scores);
  plan.ranking = std::move(ranking);
  plan.requested_bits = budget.bits;
  plan.requested.bits = budget.bits;
  plan.requested.rounding = budget.rounding;
  return plan;
}

std::vector<Index> HighestLayers(std::span<const double> scores, Index count) {
  std::vector<Index> order = ByFallingScore(scores);
  if (count < 0 || count > static_cast<Index>(order.size())) {
    throw Error({.what = "more layers than the model has",
                 .where = "--high-layers",
                 .expected = "0 to " + std::to_string(order.size()),
                 .found = std::to_string(count)});
  }
  order.resize(Size(count));
  std::ranges::sort(order);
  return order;
}

Plan RaiseLayers(std::span<const Index> layers, const Grid& low, const Grid& high,
                 const ModelConfig& config) {
  Plan plan{.grids = ModelGrids::Uniform(config.layers, low), .low = low.bits, .high = high.bits};
  for (const Index layer : layers) plan.grids.SetLayer(layer, high);
  return plan;
}

std::vector<Index> LayersWithin(std::span<const double> scores, const Grid& low, const Grid& high,
                                const ModelConfig& config,
                                const std::function<std::int64_t(const Plan&)>& cost,
                                std::int64_t budget, const std::string& option) {
  std::vector<Index> raised;
  const std::int64_t least = cost(RaiseLayers(raised, low, high, config));
  if (least > budget) {
    throw Error({.what = "the budget is below the narrowest width everywhere",
                 .where = option,
                 .expected = "at least " + std::to_string(least),
                 .found = std::to_string(budget)});
  }
  for (const Index layer : ByFallingScore(scores)) {
    raised.push_back(layer);
    if (cost(RaiseLayers(raised, low, high, config)) > budget) raised.pop_back();
  }
  std::ranges::sort(raised);
  return raised;
}

Plan UniformPlan(const Grid& grid, const ModelConfig& config) {
  const int bits = grid.bits;
  if (!IsWidth(bits) && !grid.k_quant) {
    throw Error({.what = "no such width",
                 .where = "uniform",
                 .expected = WidthList(),
                 .found = std::to_string(bits)});
  }
  return {.grids = ModelGrids::Uniform(config.layers, grid),
          .ranking = "uniform",
          .allocation = "uniform",
          .requested_bits = static_cast<double>(bits),
          .low = bits,
          .high = bits};
}

}  // namespace lieq
