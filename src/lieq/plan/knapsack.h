// The multiple-choice knapsack: one choice for each item, least damage within a budget.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lieq {

struct KnapsackChoice {
  std::int64_t cost = 0;  // >= 0
  double damage = 0;      // finite, any sign
};

/// items[i]: the choices of item i, at least one. The index of one choice for each item, so that
/// the costs sum to at most `budget` and the damages to the least possible; none where even the
/// cheapest choices exceed the budget.
///
/// Exact: dynamic programming over the items that keeps every pair (cost, damage) of the items so
/// far which no other one dominates. Where those become more than 2^16, each cost above the item's
/// least is rounded up to a multiple of (budget - least cost) / 2^16: never over the budget, and no
/// worse than the best within a budget smaller by that step for each item. Of equal damages the
/// cheaper set wins, then the lower index in the last item, in the one before it, and so on.
[[nodiscard]] std::optional<std::vector<std::size_t>> SolveKnapsack(
    std::span<const std::vector<KnapsackChoice>> items, std::int64_t budget);

}  // namespace lieq
