#include "lieq/plan/optimal.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/assert.h"
#include "lieq/base/rng.h"
#include "lieq/plan/knapsack.h"

namespace lieq {
namespace {

/// What is chosen at once: one unit, or the units of a layer together.
struct Item {
  std::size_t first = 0, count = 0;     // units
  std::vector<std::size_t> candidates;  // those that fit all of them
  std::vector<KnapsackChoice> choices;  // of the same length
};

std::vector<Item> Items(const DamageTable& damage, const CostTable& costs,
                        Granularity granularity) {
  const std::size_t units = damage.size() - damage.size() % kUnits;  // without the ends
  std::vector<Item> items;
  for (std::size_t first = 0; first < damage.size();) {
    const std::size_t step = granularity == Granularity::kLayer && first < units ? kUnits : 1;
    Item item{.first = first, .count = step};
    for (std::size_t c = 0; c < damage[first].size(); ++c) {
      KnapsackChoice choice;
      bool fits = true;
      for (std::size_t u = first; u < first + step; ++u) {
        fits = fits && damage[u][c].has_value();
        choice.cost += costs[u][c];
        choice.damage += damage[u][c].value_or(0);
      }
      if (!fits) continue;
      item.candidates.push_back(c);
      item.choices.push_back(choice);
    }
    items.push_back(std::move(item));
    first += step;
  }
  return items;
}

/// Raises items while something fits that adds no damage, the largest step first.
void SpendRest(const std::vector<Item>& items, std::int64_t left,
               std::vector<std::size_t>& chosen) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    std::size_t best = chosen[i];
    const KnapsackChoice& now = items[i].choices[chosen[i]];
    for (std::size_t c = 0; c < items[i].choices.size(); ++c) {
      const KnapsackChoice& choice = items[i].choices[c];
      if (choice.damage > now.damage || choice.cost - now.cost > left) continue;
      if (choice.cost > items[i].choices[best].cost) best = c;
    }
    left -= items[i].choices[best].cost - now.cost;
    chosen[i] = best;
  }
}

std::optional<Choice> Solve(const std::vector<Item>& items, std::size_t units,
                            std::int64_t budget) {
  std::vector<std::vector<KnapsackChoice>> choices;
  for (const Item& item : items) {
    if (item.choices.empty()) return std::nullopt;
    choices.push_back(item.choices);
  }
  std::optional<std::vector<std::size_t>> chosen = SolveKnapsack(choices, budget);
  if (!chosen) return std::nullopt;
  std::int64_t left = budget;
  for (std::size_t i = 0; i < items.size(); ++i) left -= choices[i][(*chosen)[i]].cost;
  SpendRest(items, left, *chosen);
  Choice choice(units);
  for (std::size_t i = 0; i < items.size(); ++i) {
    std::fill_n(choice.begin() + static_cast<std::ptrdiff_t>(items[i].first), items[i].count,
                items[i].candidates[(*chosen)[i]]);
  }
  return choice;
}

}  // namespace

std::string_view Name(Granularity granularity) noexcept {
  return granularity == Granularity::kLayer ? "layer" : "group";
}

DamageTable PredictAll(const Sensitivities& sensitivities) {
  DamageTable table;
  for (std::size_t u = 0; u < sensitivities.units.size(); ++u) {
    table.push_back(PredictDamage(sensitivities, u));
  }
  for (const EndSensitivity& end : sensitivities.ends) {
    table.emplace_back(end.kl.begin(), end.kl.end());
  }
  return table;
}

std::optional<Choice> OptimalChoice(const DamageTable& damage, const CostTable& costs,
                                    Granularity granularity, std::int64_t budget) {
  return Solve(Items(damage, costs, granularity), damage.size(), budget);
}

std::vector<Choice> SpreadChoices(const DamageTable& damage, const CostTable& costs,
                                  Granularity granularity, std::int64_t budget, std::size_t count,
                                  std::uint64_t seed) {
  constexpr std::uint64_t kStream = 0x5d1ce5;
  constexpr double kNoise = 0.5;  // standard deviation of the logarithm of the factors
  const std::vector<Item> items = Items(damage, costs, granularity);
  std::vector<Choice> mixes;
  Rng rng(seed, kStream);
  for (std::size_t i = 0; i < count; ++i) {
    const double power =
        count == 1 ? 1 : 1 - 2 * static_cast<double>(i) / static_cast<double>(count - 1);
    std::vector<Item> skewed = items;
    for (Item& item : skewed) {
      // Damage above the item's best candidate, so that damages in a context, which may be
      // negative, have a size too.
      const auto [low, high] =
          std::ranges::minmax_element(item.choices, {}, &KnapsackChoice::damage);
      const double least = low->damage, spread = high->damage - low->damage;
      const double noise = i == 0 ? 1 : std::exp(kNoise * rng.Normal());
      if (!(spread > 0)) continue;
      const double factor = std::pow(spread, power - 1) * noise;
      for (KnapsackChoice& choice : item.choices) {
        choice.damage = (choice.damage - least) * factor;
      }
    }
    std::optional<Choice> choice = Solve(skewed, damage.size(), budget);
    if (!choice) return {};
    mixes.push_back(std::move(*choice));
  }
  return mixes;
}

std::int64_t TotalCost(const CostTable& costs, const Choice& choice) {
  LIEQ_ASSERT(costs.size() == choice.size());
  std::int64_t total = 0;
  for (std::size_t u = 0; u < choice.size(); ++u) total += costs[u][choice[u]];
  return total;
}

double PredictedKl(const Sensitivities& sensitivities, const DamageTable& damage,
                   const Choice& choice) {
  double kl = sensitivities.base_kl;
  for (std::size_t u = 0; u < choice.size(); ++u) kl += damage[u][choice[u]].value_or(0);
  return kl;
}

}  // namespace lieq
