// Scales and zero-points of one group of weights.
#pragma once

#include <cstdint>
#include <span>

#include "lieq/quantize/options.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// w is approximated by scale * (code - zero).
struct GroupFit {
  float scale = 0;
  std::uint8_t zero = 0;
};

/// Fits one group.
///
/// w           [n], finite
/// importance  [n], >= 0: weight of each squared error; empty: all equal
///
/// Symmetric: zero is 2^(bits-1); the scale may be negative, so that the one level more on the
/// negative side faces the longer tail. Asymmetric: every zero-point for 2 and 3 bits, those next
/// to the min-max one above. Clip::kSearch tries the outermost level at 1.15 down to 0.3 times the
/// extreme weight in steps of 0.025, then refits the scale to the codes by least squares. The scale
/// is rounded by RoundScale. A group of zeros gets the smallest scale. Deterministic: of equal
/// errors the first candidate wins.
[[nodiscard]] GroupFit FitGroup(std::span<const float> w, std::span<const float> importance,
                                const Grid& grid, Clip clip);

/// Nearest code of w on the grid, ties to even, clamped.
[[nodiscard]] inline std::uint8_t NearestCode(double w, const GroupFit& fit, int levels) noexcept {
  const double code = w / static_cast<double>(fit.scale) + static_cast<double>(fit.zero);
  // fmin/fmax order: a NaN cannot get here, inputs are checked to be finite.
  const double clamped = code < 0.0 ? 0.0 : code > levels - 1 ? levels - 1 : code;
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  return static_cast<std::uint8_t>((clamped + kRound) - kRound);
}

}  // namespace lieq
