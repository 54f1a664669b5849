#include "lieq/quantize/grid_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

// The search is the hot loop of RTN: 16 lanes of plain arithmetic, which the compiler maps to
// whatever vectors the target has, always in the same order.
constexpr std::size_t kLanes = 16;
using Floats [[gnu::vector_size(64)]] = float;
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds |x| < 2^22 to even

constexpr double kWidest = 1.15, kNarrowest = 0.3, kStep = 0.025;

/// The group padded to whole vectors; padding has importance 0.
class Group {
 public:
  Group(std::span<const float> w, std::span<const float> importance)
      : w_((w.size() + kLanes - 1) / kLanes), h_(w_.size()) {
    LIEQ_ASSERT(importance.empty() || importance.size() == w.size());
    for (std::size_t i = 0; i < w.size(); ++i) {
      w_[i / kLanes][i % kLanes] = w[i];
      h_[i / kLanes][i % kLanes] = importance.empty() ? 1.0f : importance[i];
      low_ = std::min(low_, w[i]);
      high_ = std::max(high_, w[i]);
    }
  }

  [[nodiscard]] float low() const noexcept { return low_; }    // <= 0
  [[nodiscard]] float high() const noexcept { return high_; }  // >= 0

  /// Weighted squared error of rounding to the nearest level.
  [[nodiscard]] float Error(float scale, int zero, int levels) const noexcept {
    Floats sum{};
    ForCodes(scale, zero, levels, [&](Floats w, Floats h, Floats step) {
      const Floats error = w - step * scale;
      sum += h * error * error;
    });
    return Total(sum);
  }

  /// The scale of least error for the codes that `scale` gives; `scale` itself where none is.
  [[nodiscard]] float Refit(float scale, int zero, int levels) const noexcept {
    Floats products{}, squares{};
    ForCodes(scale, zero, levels, [&](Floats w, Floats h, Floats step) {
      products += h * w * step;
      squares += h * step * step;
    });
    const float total = Total(squares);
    return total > 0 ? Total(products) / total : scale;
  }

 private:
  /// Calls use(w, h, code - zero) for every vector.
  template <class Function>
  void ForCodes(float scale, int zero, int levels, const Function& use) const noexcept {
    const float inverse = 1.0f / scale;
    const Floats lowest = Floats{} - static_cast<float>(zero);
    const Floats highest = Floats{} + static_cast<float>(levels - 1 - zero);
    for (std::size_t i = 0; i < w_.size(); ++i) {
      Floats step = w_[i] * inverse;
      step = step > lowest ? step : lowest;
      step = step < highest ? step : highest;
      step = (step + kRound) - kRound;
      use(w_[i], h_[i], step);
    }
  }
  static float Total(Floats v) noexcept {
    float total = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) total += v[lane];
    return total;
  }

  std::vector<Floats> w_, h_;
  float low_ = 0, high_ = 0;
};

struct Best {
  float error = std::numeric_limits<float>::infinity();
  float scale = 0;
  int zero = 0;
};

/// Errors are those of the scale as it will be stored: at 8 bits its rounding is worth half a step
/// at the extreme weight.
void Try(const Group& group, float exact_scale, int zero, int levels, Best& best) {
  const float scale = RoundScale(exact_scale);
  const float error = group.Error(scale, zero, levels);
  if (error < best.error) best = {error, scale, zero};
}

/// Both signs of the scale at every shrink of the extreme weight.
void SearchSymmetric(const Group& group, const Grid& grid, Best& best) {
  const float extreme = std::max(-group.low(), group.high());
  const float widest = extreme / static_cast<float>(grid.middle());
  for (int step = 0; kWidest - kStep * step >= kNarrowest - 1e-9; ++step) {
    const float scale = widest * static_cast<float>(kWidest - kStep * step);
    Try(group, scale, grid.middle(), grid.levels(), best);
    Try(group, -scale, grid.middle(), grid.levels(), best);
  }
}

void SearchAsymmetric(const Group& group, const Grid& grid, Best& best) {
  const int top = grid.levels() - 1;
  for (int step = 0; kWidest - kStep * step >= kNarrowest - 1e-9; ++step) {
    const auto shrink = static_cast<float>(kWidest - kStep * step);
    if (grid.bits <= 3) {
      for (int zero = 0; zero <= top; ++zero) {
        const float below = zero > 0 ? -group.low() / static_cast<float>(zero) : 0.0f;
        const float above = zero < top ? group.high() / static_cast<float>(top - zero) : 0.0f;
        Try(group, shrink * std::max(below, above), zero, grid.levels(), best);
      }
      continue;
    }
    const float scale = shrink * (group.high() - group.low()) / static_cast<float>(top);
    if (!(scale > 0)) continue;
    const int nearest = static_cast<int>(std::nearbyint(shrink * -group.low() / scale));
    for (int zero = std::max(0, nearest - 1); zero <= std::min(top, nearest + 1); ++zero) {
      Try(group, scale, zero, grid.levels(), best);
    }
  }
}

GroupFit MinMax(const Group& group, const Grid& grid) {
  if (grid.symmetric) {
    // The extreme weight meets the outermost level, which lies on the negative side of the codes.
    const float extreme = -group.low() > group.high() ? group.low() : group.high();
    return {RoundScale(-extreme / static_cast<float>(grid.middle())),
            static_cast<std::uint8_t>(grid.middle())};
  }
  const int top = grid.levels() - 1;
  const float scale = RoundScale((group.high() - group.low()) / static_cast<float>(top));
  const int zero = static_cast<int>(std::nearbyint(-group.low() / scale));
  return {scale, static_cast<std::uint8_t>(std::clamp(zero, 0, top))};
}

}  // namespace

GroupFit FitGroup(std::span<const float> w, std::span<const float> importance, const Grid& grid,
                  Clip clip) {
  const Group group(w, importance);
  if (group.low() == 0 && group.high() == 0) {
    return {RoundScale(0), static_cast<std::uint8_t>(grid.middle())};
  }
  if (clip == Clip::kNone) return MinMax(group, grid);
  Best best;
  if (grid.symmetric) {
    SearchSymmetric(group, grid, best);
  } else {
    SearchAsymmetric(group, grid, best);
  }
  if (!(best.error < std::numeric_limits<float>::infinity())) return MinMax(group, grid);
  for (int round = 0; round < 3; ++round) {
    const float before = best.error;
    Try(group, group.Refit(best.scale, best.zero, grid.levels()), best.zero, grid.levels(), best);
    if (!(best.error < before)) break;
  }
  return {best.scale, static_cast<std::uint8_t>(best.zero)};
}

}  // namespace lieq
