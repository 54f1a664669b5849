// Super-blocks of K-quant grids: what 256 weights of a row share.
#pragma once

#include <span>

#include "lieq/quantize/grid_fit.h"
#include "lieq/quantize/options.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// Fits one super-block.
///
/// w           [kSuperColumns], finite
/// importance  [kSuperColumns], >= 0: weight of each squared error; empty: all equal
///
/// Each group's grid is fitted alone (FitGroup, SearchOffset); d and dmin are tried around those
/// that hold the largest scale and offset, factors are rounded; then in turn factors move by one
/// and (d, dmin) are refitted by least squares as they are stored, codes re-rounded each time. What
/// does not lower the error is not taken. Clip::kNone: min-max grids, and no search beside the
/// rounding of factors.
///
/// d is positive and no scale factor is 0, so that every group has levels apart; dmin >= 0.
/// Deterministic: of equal errors the first wins.
[[nodiscard]] SuperBlock FitSuper(std::span<const float> w, std::span<const float> importance,
                                  const KQuant& kind, Clip clip);

/// The grid of one group of a super-block.
[[nodiscard]] inline GroupFit FitOf(const SuperBlock& super, std::size_t group,
                                    const KQuant& kind) noexcept {
  return kind.has_minima()
             ? GroupFit{super.Scale(group), super.Minimum(group)}
             : GroupFit::AtZero(super.Scale(group), static_cast<float>(kind.grid.middle()));
}

/// A number above 0 as d is stored: the nearest of f16 from its smallest to its largest.
[[nodiscard]] float RoundSuperScale(double d) noexcept;
/// The same for dmin, which may be 0; below 0 it is 0.
[[nodiscard]] float RoundSuperMinimum(double dmin) noexcept;
/// A scale factor moved by `step`: within its range and never 0, which is stepped over.
[[nodiscard]] int MovedScale(int scale, int step, const KQuant& kind) noexcept;
/// A minimum factor moved by `step`, within its range.
[[nodiscard]] int MovedMinimum(int minimum, int step, const KQuant& kind) noexcept;

}  // namespace lieq
