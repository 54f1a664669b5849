#include "lieq/quantize/grid_fit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "lieq/quantize/instruction_sets.h"
#include "lieq/quantize/offset_search.h"
#include "lieq/quantize/weighted_group.h"

namespace lieq {
namespace {

constexpr double kWidest = 1.15, kNarrowest = 0.3, kStep = 0.025;

struct Best {
  float error = std::numeric_limits<float>::infinity();
  float scale = 0;
  float zero = 0;
};

/// Errors are those of the scale as it will be stored: at 8 bits its rounding is worth half a step
/// at the extreme weight.
void Try(const WeightedGroup& group, float exact_scale, float zero, int levels, Best& best) {
  const float scale = RoundScale(exact_scale);
  const float error = group.Error(scale, zero, levels);
  if (error < best.error) best = {error, scale, zero};
}

/// Both signs of the scale at every shrink of the extreme weight; one where the levels on both
/// sides are alike.
void SearchShared(const WeightedGroup& group, const Grid& grid, Best& best) {
  const float extreme = std::max(-group.low(), group.high());
  const float zero = grid.shared_zero(), widest = extreme / zero;
  for (int step = 0; kWidest - kStep * step >= kNarrowest - 1e-9; ++step) {
    const float scale = widest * static_cast<float>(kWidest - kStep * step);
    Try(group, scale, zero, grid.levels(), best);
    if (grid.symmetric()) Try(group, -scale, zero, grid.levels(), best);
  }
}

void SearchInteger(const WeightedGroup& group, const Grid& grid, Best& best) {
  const int top = grid.levels() - 1;
  for (int step = 0; kWidest - kStep * step >= kNarrowest - 1e-9; ++step) {
    const auto shrink = static_cast<float>(kWidest - kStep * step);
    if (grid.bits <= 3) {
      for (int zero = 0; zero <= top; ++zero) {
        const float below = zero > 0 ? -group.low() / static_cast<float>(zero) : 0.0f;
        const float above = zero < top ? group.high() / static_cast<float>(top - zero) : 0.0f;
        Try(group, shrink * std::max(below, above), static_cast<float>(zero), grid.levels(), best);
      }
      continue;
    }
    const float scale = shrink * (group.high() - group.low()) / static_cast<float>(top);
    if (!(scale > 0)) continue;
    const int nearest = static_cast<int>(std::nearbyint(shrink * -group.low() / scale));
    for (int zero = std::max(0, nearest - 1); zero <= std::min(top, nearest + 1); ++zero) {
      Try(group, scale, static_cast<float>(zero), grid.levels(), best);
    }
  }
}

/// Neighbours of a scale among those of 8 significant bits: at 2 bits the nearest is best, at 8 its
/// rounding and that of the minimum are a good part of a step.
constexpr int kNeighbours = 2;

/// The least error of scales next to a real one, stored, with the stored minima they want.
void TryStored(const WeightedGroup& group, const RealFit& real, int levels, GroupFit& best,
               float& least_error) {
  const auto scale = RoundScale(static_cast<float>(real.scale));
  for (int next = 0; next <= 2 * kNeighbours; ++next) {
    const int up = next % 2 == 0 ? next / 2 : -(next + 1) / 2;  // the nearest first
    constexpr int kUnit = 1 << 16;                              // of the 8th bit
    GroupFit fit{RoundScale(std::bit_cast<float>(std::bit_cast<std::int32_t>(scale) + up * kUnit)),
                 static_cast<float>(real.minimum)};
    for (int round = 0; round < 2; ++round) {
      fit.minimum = RoundMinimum(group.RefitMinimum(fit, levels));
      const float error = group.Error(fit, levels);
      if (!(error < least_error)) break;
      least_error = error;
      best = fit;
    }
  }
}

GroupFit MinMaxFloat(float low, float high, const Grid& grid) {
  const float minimum = RoundMinimum(low);
  // Where all weights are equal, code 1 makes up for what the minimum's rounding took.
  const float step =
      high > low ? (high - low) / static_cast<float>(grid.levels() - 1) : low - minimum;
  return {RoundScale(step), minimum};
}

GroupFit FitFloat(const WeightedGroup& group, std::span<const float> w,
                  std::span<const float> importance, const Grid& grid, Clip clip) {
  const auto [low, high] = std::ranges::minmax(w);
  GroupFit best = MinMaxFloat(low, high, grid);
  if (clip == Clip::kNone || low == high) return best;
  float error = group.Error(best, grid.levels());
  if (!(error >= 0)) error = std::numeric_limits<float>::infinity();
  if (grid.bits <= 4) {
    TryStored(group, SearchOffset(w, importance, grid.levels()), grid.levels(), best, error);
    return best;
  }
  // The walks of SearchOffset grow with the levels, and what they find is lost in the rounding.
  const double width = static_cast<double>(high) - static_cast<double>(low);
  for (int step = 0; kWidest - kStep * step >= kNarrowest - 1e-9; ++step) {
    const double shrink = kWidest - kStep * step;
    const RealFit real{.scale = shrink * width / (grid.levels() - 1),
                       .minimum = static_cast<double>(low) + 0.5 * (1 - shrink) * width};
    TryStored(group, real, grid.levels(), best, error);
  }
  return best;
}

GroupFit MinMax(const WeightedGroup& group, const Grid& grid) {
  if (grid.offset != Offset::kInteger) {
    // The extreme weight meets the outermost level, which lies on the negative side of the codes.
    const float extreme = -group.low() > group.high() ? group.low() : group.high();
    return GroupFit::AtZero(RoundScale(-extreme / grid.shared_zero()), grid.shared_zero());
  }
  const int top = grid.levels() - 1;
  const float scale = RoundScale((group.high() - group.low()) / static_cast<float>(top));
  const int zero = static_cast<int>(std::nearbyint(-group.low() / scale));
  return GroupFit::AtZero(scale, static_cast<float>(std::clamp(zero, 0, top)));
}

}  // namespace

LIEQ_FOR_EACH_SET
GroupFit FitGroup(std::span<const float> w, std::span<const float> importance, const Grid& grid,
                  Clip clip) {
  const WeightedGroup group(w, importance);
  if (grid.offset == Offset::kFloat) return FitFloat(group, w, importance, grid, clip);
  if (group.low() == 0 && group.high() == 0) {
    return GroupFit::AtZero(RoundScale(0), grid.offset == Offset::kHalf
                                               ? grid.shared_zero()
                                               : static_cast<float>(grid.middle()));
  }
  if (clip == Clip::kNone) return MinMax(group, grid);
  Best best;
  if (grid.offset == Offset::kInteger) {
    SearchInteger(group, grid, best);
  } else {
    SearchShared(group, grid, best);
  }
  if (!(best.error < std::numeric_limits<float>::infinity())) return MinMax(group, grid);
  for (int round = 0; round < 3; ++round) {
    const float before = best.error;
    Try(group, group.Refit(best.scale, best.zero, grid.levels()), best.zero, grid.levels(), best);
    if (!(best.error < before)) break;
  }
  return GroupFit::AtZero(best.scale, best.zero);
}

}  // namespace lieq
