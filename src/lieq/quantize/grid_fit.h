// Scales and offsets of one group of weights.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "lieq/quantize/options.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// w is approximated by scale * code + minimum, whatever the kind of offset: where a zero is stored
/// or implied, minimum is -scale * zero, which float holds exactly for a scale by RoundScale.
struct GroupFit {
  float scale = 0;
  float minimum = 0;

  [[nodiscard]] static GroupFit AtZero(float scale, float zero) noexcept {
    return {scale, -scale * zero};
  }
  /// What the code means: the very value of QMatrix::Dequantize.
  [[nodiscard]] double Level(int code) const noexcept {
    return static_cast<double>(scale * static_cast<float>(code) + minimum);
  }
  /// The zero-point of a fit by AtZero.
  [[nodiscard]] std::uint8_t zero() const noexcept {
    return static_cast<std::uint8_t>(std::lround(-minimum / scale));
  }
};

/// Fits one group.
///
/// w           [n], finite
/// importance  [n], >= 0: weight of each squared error; empty: all equal
///
/// kSymmetric: the scale may be negative, so that the one level more on the negative side faces the
/// longer tail. kInteger: every zero-point for 2 and 3 bits, those next to the min-max one above.
/// Clip::kSearch tries the outermost level at 1.15 down to 0.3 times the extreme weight in steps of
/// 0.025, then refits the scale to the codes by least squares. kFloat: SearchOffset up to 4 bits,
/// ranges shrunk by those steps above; then scales next to the rounded one, each with the minimum
/// that its codes want. Scales are rounded by RoundScale, minima by RoundMinimum, and errors are
/// those of the rounded values. A group of zeros gets RoundScale(0). Deterministic: of equal
/// errors the first candidate wins.
[[nodiscard]] GroupFit FitGroup(std::span<const float> w, std::span<const float> importance,
                                const Grid& grid, Clip clip);

/// Writes the fit of a group into a matrix of the grid that it was made for.
inline void StoreFit(const GroupFit& fit, Index row, Index group, QMatrix& matrix) {
  matrix.scales()(row, group) = fit.scale;
  if (matrix.grid().offset == Offset::kInteger) matrix.zeros()(row, group) = fit.zero();
  if (matrix.grid().offset == Offset::kFloat) matrix.minima()(row, group) = fit.minimum;
}

/// The fit that StoreFit wrote.
[[nodiscard]] inline GroupFit StoredFit(const QMatrix& matrix, Index row, Index group) noexcept {
  const float scale = matrix.scales()(row, group);
  switch (matrix.grid().offset) {
    case Offset::kInteger:
      return GroupFit::AtZero(scale, static_cast<float>(matrix.zeros()(row, group)));
    case Offset::kFloat:
      return {scale, matrix.minima()(row, group)};
    default:
      return GroupFit::AtZero(scale, matrix.grid().shared_zero());
  }
}

/// Nearest code of w on the grid, ties to even, clamped.
[[nodiscard]] inline std::uint8_t NearestCode(double w, const GroupFit& fit, int levels) noexcept {
  const double code = (w - static_cast<double>(fit.minimum)) / static_cast<double>(fit.scale);
  // fmin/fmax order: a NaN cannot get here, inputs are checked to be finite.
  const double clamped = code < 0.0 ? 0.0 : code > levels - 1 ? levels - 1 : code;
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  return static_cast<std::uint8_t>((clamped + kRound) - kRound);
}

}  // namespace lieq
