#include "lieq/plan/sensitivities.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"

namespace lieq {
namespace {

/// A point of the curve that a unit's damage follows, counted from the base.
struct Point {
  double loss = 0;
  double damage = 0;
};

double Distance(double a, double b) {
  constexpr double kLeast = 1e-12;
  return std::fabs(std::log(std::max(a, kLeast)) - std::log(std::max(b, kLeast)));
}

}  // namespace

std::string_view Name(DamageMode mode) noexcept {
  return mode == DamageMode::kSolo ? "solo" : "context";
}

std::vector<std::optional<double>> PredictDamage(const Sensitivities& sensitivities,
                                                 std::size_t unit) {
  const UnitSensitivity& row = sensitivities.units[unit];
  const bool in_context = sensitivities.mode == DamageMode::kContext;
  const double base_loss = in_context ? row.loss[sensitivities.base[unit]].value() : 0.0;
  std::vector<std::optional<double>> predicted(row.loss.size());
  for (std::size_t c = 0; c < row.loss.size(); ++c) {
    if (!row.loss[c]) continue;
    if (in_context && c == sensitivities.base[unit]) {
      predicted[c] = 0;
      continue;
    }
    if (row.measured.empty()) {
      throw Error(
          {.what = "the damage of a unit was not measured",
           .where = "layer " + std::to_string(row.layer) + ", " + std::string(Name(row.unit)),
           .expected = "at least one candidate"});
    }
    const MeasuredDamage* nearest = nullptr;
    double distance = 0;
    for (const MeasuredDamage& measured : row.measured) {
      const double apart =
          measured.candidate == c ? -1 : Distance(*row.loss[measured.candidate], *row.loss[c]);
      if (nearest == nullptr || apart < distance) {
        nearest = &measured;
        distance = apart;
      }
    }
    const double damage = nearest->kl - sensitivities.base_kl;
    if (nearest->candidate == c) {
      predicted[c] = damage;
      continue;
    }
    const double run = *row.loss[nearest->candidate] - base_loss;
    const double slope = run == 0 ? 0 : std::max(0.0, damage / run);
    predicted[c] = slope * (*row.loss[c] - base_loss);
  }
  return predicted;
}

std::vector<double> LayerDamage(const Sensitivities& sensitivities, Index group_size) {
  constexpr double kRow = 1e9;  // columns of a whole row, for comparing
  const auto width = [](Index size) { return size == 0 ? kRow : static_cast<double>(size); };
  std::vector<double> layers(Size(sensitivities.layers()));
  for (std::size_t u = 0; u < sensitivities.units.size(); ++u) {
    const std::vector<std::optional<double>> damage = PredictDamage(sensitivities, u);
    std::optional<std::size_t> narrowest;
    double least = 0;
    for (std::size_t c = 0; c < damage.size(); ++c) {
      if (!damage[c]) continue;
      least = std::min(least, *damage[c]);
      const Grid& grid = sensitivities.candidates[c];
      const auto closer = [&](const Grid& other) {
        if (grid.bits != other.bits) return grid.bits < other.bits;
        return Distance(width(grid.group_size), width(group_size)) <
               Distance(width(other.group_size), width(group_size));
      };
      if (!narrowest || closer(sensitivities.candidates[*narrowest])) narrowest = c;
    }
    const bool in_context = sensitivities.mode == DamageMode::kContext;
    layers[u / kUnits] += *damage[narrowest.value()] - (in_context ? least : 0.0);
  }
  return layers;
}

}  // namespace lieq
