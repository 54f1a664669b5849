#include "lieq/plan/knapsack.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/assert.h"
#include "lieq/base/types.h"

namespace lieq {
namespace {

constexpr std::int64_t kMostStates = std::int64_t{1} << 16;

/// The best way to one cost, over the items so far.
struct State {
  std::int64_t cost = 0;
  double damage = 0;
  std::uint32_t before = 0;  // index of the state of the items before
  std::uint32_t choice = 0;
};

std::int64_t LeastCost(const std::vector<KnapsackChoice>& choices) {
  return std::ranges::min(choices, {}, &KnapsackChoice::cost).cost;
}

/// States of one more item: rising in cost, falling in damage.
std::vector<State> Extend(const std::vector<State>& states,
                          const std::vector<KnapsackChoice>& choices, std::int64_t most,
                          std::int64_t step) {
  std::vector<State> all;
  for (std::uint32_t s = 0; s < states.size(); ++s) {
    for (std::uint32_t c = 0; c < choices.size(); ++c) {
      const std::int64_t cost = states[s].cost + CeilDiv(choices[c].cost, step) * step;
      if (cost <= most) all.push_back({cost, states[s].damage + choices[c].damage, s, c});
    }
  }
  // Complete order: the result depends on the values alone.
  std::ranges::sort(all, [](const State& a, const State& b) {
    if (a.cost != b.cost) return a.cost < b.cost;
    if (a.damage != b.damage) return a.damage < b.damage;
    return a.choice != b.choice ? a.choice < b.choice : a.before < b.before;
  });
  std::vector<State> kept;
  for (const State& state : all) {
    if (kept.empty() || state.damage < kept.back().damage) kept.push_back(state);
  }
  return kept;
}

/// States before the first item and after each one. Ends early where there are more than `limit`.
std::vector<std::vector<State>> Stages(const std::vector<std::vector<KnapsackChoice>>& items,
                                       std::int64_t most, std::int64_t step, std::size_t limit) {
  std::vector<std::vector<State>> stages{{State{}}};
  for (const std::vector<KnapsackChoice>& choices : items) {
    stages.push_back(Extend(stages.back(), choices, most, step));
    if (stages.back().size() > limit) break;
  }
  return stages;
}

}  // namespace

std::optional<std::vector<std::size_t>> SolveKnapsack(
    std::span<const std::vector<KnapsackChoice>> items, std::int64_t budget) {
  // Costs count from each item's cheapest choice, which keeps them small.
  std::vector<std::vector<KnapsackChoice>> extra(items.begin(), items.end());
  std::int64_t left = budget;
  for (std::vector<KnapsackChoice>& choices : extra) {
    LIEQ_ASSERT(!choices.empty());
    const std::int64_t least = LeastCost(choices);
    left -= least;
    for (KnapsackChoice& choice : choices) {
      LIEQ_ASSERT(std::isfinite(choice.damage) && choice.cost >= 0);
      choice.cost -= least;
    }
  }
  if (left < 0) return std::nullopt;
  constexpr auto kLimit = static_cast<std::size_t>(kMostStates);
  std::vector<std::vector<State>> stages = Stages(extra, left, 1, kLimit);
  if (stages.back().size() > kLimit) {
    stages = Stages(extra, left, CeilDiv(left, kMostStates), kLimit + 1);  // multiples and 0
  }
  // The last state is the one of least damage.
  std::vector<std::size_t> chosen(extra.size());
  std::size_t state = stages.back().size() - 1;
  for (std::size_t i = extra.size(); i > 0; --i) {
    const State& at = stages[i][state];
    chosen[i - 1] = at.choice;
    state = at.before;
  }
  return chosen;
}

}  // namespace lieq
