#include "lieq/quantize/kquant_fit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/quantize/offset_search.h"
#include "lieq/quantize/weighted_group.h"
#include "lieq/tensor/dtype.h"

namespace lieq {
namespace {

constexpr double kSmallest = 0x1.0p-24, kLargest = 65504;  // of f16, above 0
constexpr int kRounds = 3;

/// Of d and of dmin, around the numbers that hold the largest scale and offset.
constexpr std::array kStretches{1.0, 0.97, 0.94, 0.91, 0.88, 1.03, 1.06, 1.1};

class SuperFitter {
 public:
  SuperFitter(std::span<const float> w, std::span<const float> importance, const KQuant& kind)
      : kind_(kind), levels_(kind.grid.levels()) {
    const std::size_t width = Size(kind.grid.group_size);
    for (std::size_t begin = 0; begin < w.size(); begin += width) {
      groups_.emplace_back(w.subspan(begin, width),
                           importance.empty() ? importance : importance.subspan(begin, width));
    }
  }

  /// Codes each group's own grid; offsets (-minimum) are >= 0. Keeps the best of `stretches` of the
  /// d and dmin that hold the largest.
  void Code(std::span<const RealFit> real, std::span<const double> stretches) {
    double scale = 0, offset = 0;
    for (const RealFit& fit : real) {
      scale = std::max(scale, std::fabs(fit.scale));
      offset = std::max(offset, -fit.minimum);
    }
    const double d = scale / kind_.most_scale(), dmin = offset / kind_.most_minimum();
    for (const double stretch : stretches) {
      for (const double stretch_minimum : stretches) {
        Take(Coded(real, stretch * d, stretch_minimum * dmin));
        if (!kind_.has_minima()) break;
      }
    }
  }

  /// Factors and (d, dmin) in turn.
  void Descend() {
    for (int round = 0; round < kRounds; ++round) {
      const float before = best_.error;
      MoveFactors();
      Refit();
      if (!(best_.error < before)) break;
    }
  }

  [[nodiscard]] const SuperBlock& best() const noexcept { return best_.super; }

 private:
  struct State {
    SuperBlock super;
    std::array<float, SuperBlock::kMostGroups> errors{};
    float error = 0;
  };

  [[nodiscard]] SuperBlock Coded(std::span<const RealFit> real, double d, double dmin) const {
    SuperBlock super{.d = RoundSuperScale(d)};
    if (kind_.has_minima()) super.dmin = RoundSuperMinimum(dmin);
    for (std::size_t g = 0; g < real.size(); ++g) {
      const double most = kind_.most_scale();
      const double wanted = std::clamp(real[g].scale / static_cast<double>(super.d), -most, most);
      const int scale = static_cast<int>(std::nearbyint(wanted));
      super.scales[g] = static_cast<std::int8_t>(MovedScale(scale, 0, kind_));
      if (!(super.dmin > 0)) continue;
      const double minimum = std::min(-real[g].minimum / static_cast<double>(super.dmin), 255.0);
      super.minima[g] = static_cast<std::uint8_t>(
          MovedMinimum(static_cast<int>(std::nearbyint(minimum)), 0, kind_));
    }
    return super;
  }

  [[nodiscard]] float Error(const SuperBlock& super, std::size_t group) const {
    return groups_[group].Error(FitOf(super, group, kind_), levels_);
  }

  /// Keeps a super-block that is better than the best so far, or the first.
  void Take(const SuperBlock& super) {
    State state{.super = super};
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      state.errors[g] = Error(super, g);
      state.error += state.errors[g];
    }
    if (!started_ || state.error < best_.error) best_ = state;
    started_ = true;
  }

  /// Every group's factors to the best neighbours there are, as long as that helps.
  void MoveFactors() {
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      bool moved = true;
      for (int i = 0; moved && i < kRounds; ++i) {
        moved = false;
        const int scale = best_.super.scales[g], minimum = best_.super.minima[g];
        for (const int a : {0, -1, 1}) {
          for (const int b : {0, -1, 1}) {
            if (b != 0 && !kind_.has_minima()) continue;
            SuperBlock tried = best_.super;
            tried.scales[g] = static_cast<std::int8_t>(MovedScale(scale, a, kind_));
            if (kind_.has_minima()) {
              tried.minima[g] = static_cast<std::uint8_t>(MovedMinimum(minimum, b, kind_));
            }
            const float error = Error(tried, g);
            if (!(error < best_.errors[g])) continue;
            best_.super = tried;
            best_.errors[g] = error;
            moved = true;
          }
        }
      }
    }
    best_.error = 0;
    for (std::size_t g = 0; g < groups_.size(); ++g) best_.error += best_.errors[g];
  }

  /// d and dmin by least squares, given the codes.
  void Refit() {
    double aa = 0, ab = 0, bb = 0, aw = 0, bw = 0;  // basis a = s (c - zero) and b = -m
    const double zero = kind_.has_minima() ? 0 : kind_.grid.middle();
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      const auto sums = groups_[g].Sums(FitOf(best_.super, g, kind_), levels_);
      const double s = best_.super.scales[g], m = best_.super.minima[g];
      aa += s * s * (sums.cc - 2 * zero * sums.c + zero * zero * sums.one);
      ab -= s * m * sums.c;
      bb += m * m * sums.one;
      aw += s * (sums.wc - zero * sums.w);
      bw -= m * sums.w;
    }
    const double determinant = aa * bb - ab * ab;
    SuperBlock super = best_.super;
    if (determinant > 1e-9 * aa * bb) {
      super.d = RoundSuperScale((aw * bb - bw * ab) / determinant);
    } else if (aa > 0) {
      super.d = RoundSuperScale((aw - static_cast<double>(super.dmin) * ab) / aa);
    }
    if (bb > 0) super.dmin = RoundSuperMinimum((bw - static_cast<double>(super.d) * ab) / bb);
    Take(super);
  }

  const KQuant& kind_;
  int levels_;
  std::vector<WeightedGroup> groups_;
  State best_;
  bool started_ = false;
};

/// The grid of one group on its own, with an offset that is not below 0.
RealFit FitAlone(std::span<const float> w, std::span<const float> importance, const KQuant& kind,
                 Clip clip) {
  if (!kind.has_minima()) {
    Grid grid = kind.grid;
    grid.k_quant = false;
    return {.scale = static_cast<double>(FitGroup(w, importance, grid, clip).scale)};
  }
  const auto [low, high] = std::ranges::minmax(w);
  const int top = kind.grid.levels() - 1;
  if (clip == Clip::kSearch) {
    const RealFit fit = SearchOffset(w, importance, kind.grid.levels());
    if (fit.scale > 0 && fit.minimum <= 0) return fit;
  }
  const double minimum = std::min(0.0, static_cast<double>(low));
  return {.scale = (std::max(0.0, static_cast<double>(high)) - minimum) / top, .minimum = minimum};
}

}  // namespace

float RoundSuperScale(double d) noexcept {
  return ToFloat(ToF16(static_cast<float>(d > kSmallest ? std::min(d, kLargest) : kSmallest)));
}

float RoundSuperMinimum(double dmin) noexcept {
  return ToFloat(ToF16(static_cast<float>(dmin > 0 ? std::min(dmin, kLargest) : 0.0)));
}

int MovedScale(int scale, int step, const KQuant& kind) noexcept {
  int moved = scale + step;
  if (moved == 0) moved = step < 0 && kind.least_scale() < 0 ? -1 : 1;
  // A scale of the other sign is another grid: where there are minima it is not one of theirs.
  return std::clamp(moved, kind.least_scale() < 0 ? kind.least_scale() : 1, kind.most_scale());
}

int MovedMinimum(int minimum, int step, const KQuant& kind) noexcept {
  return std::clamp(minimum + step, 0, kind.most_minimum());
}

SuperBlock FitSuper(std::span<const float> w, std::span<const float> importance, const KQuant& kind,
                    Clip clip) {
  LIEQ_ASSERT(static_cast<Index>(w.size()) == kSuperColumns);
  const std::size_t width = Size(kind.grid.group_size);
  const auto alone = [&](Clip each) {
    std::vector<RealFit> real;
    for (std::size_t begin = 0; begin < w.size(); begin += width) {
      real.push_back(FitAlone(w.subspan(begin, width),
                              importance.empty() ? importance : importance.subspan(begin, width),
                              kind, each));
    }
    return real;
  };
  SuperFitter fitter(w, importance, kind);
  fitter.Code(alone(Clip::kNone), std::array{1.0});
  if (clip == Clip::kSearch) {
    fitter.Code(alone(Clip::kSearch), kStretches);
    fitter.Descend();
  }
  return fitter.best();
}

}  // namespace lieq
