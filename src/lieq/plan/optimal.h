// The optimal allocation: from the damage of every candidate of every unit to one candidate each,
// under a budget. Rows are units in order of layer, then Unit: [layers * kUnits]. Behind them,
// fewer than kUnits, may stand ends of the model with candidates of their own.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lieq/plan/sensitivities.h"

namespace lieq {

/// What may have a grid of its own.
enum class Granularity : std::uint8_t {
  kLayer,  // a layer: the paper's
  kGroup,  // a unit: qkv, o, gate_up or down
};
[[nodiscard]] std::string_view Name(Granularity granularity) noexcept;  // "layer", "group"

/// [rows][candidates]; absent where a candidate does not fit.
using DamageTable = std::vector<std::vector<std::optional<double>>>;
/// [rows][candidates], in whatever the budget is in: bits or bytes.
using CostTable = std::vector<std::vector<std::int64_t>>;
using Choice = std::vector<std::size_t>;  // [rows]: index of a candidate

/// PredictDamage of every unit, and what was measured of the ends.
[[nodiscard]] DamageTable PredictAll(const Sensitivities& sensitivities);

/// The choice of least total damage whose costs sum to at most `budget` (SolveKnapsack). What is
/// left over then raises units to costlier candidates that add no damage, so that the budget is
/// used up to the last unit that fits. None where even the cheapest candidates exceed the budget,
/// or by layer, where no candidate fits all units of a layer.
[[nodiscard]] std::optional<Choice> OptimalChoice(const DamageTable& damage, const CostTable& costs,
                                                  Granularity granularity, std::int64_t budget);

/// `count` choices that all use the budget, from the best predicted to the worst: the damage of a
/// unit is raised to a power that falls from 1 to -1, so that the last ones spend the bits where
/// they help least, with factors drawn by the seed. The first is OptimalChoice.
[[nodiscard]] std::vector<Choice> SpreadChoices(const DamageTable& damage, const CostTable& costs,
                                                Granularity granularity, std::int64_t budget,
                                                std::size_t count, std::uint64_t seed);

[[nodiscard]] std::int64_t TotalCost(const CostTable& costs, const Choice& choice);
/// base_kl plus the damages: the additive prediction, nats.
[[nodiscard]] double PredictedKl(const Sensitivities& sensitivities, const DamageTable& damage,
                                 const Choice& choice);

}  // namespace lieq
