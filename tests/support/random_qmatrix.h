// Quantized matrices with random content, for round trips.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/tensor/dtype.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// Factors uniform over all there are, d and dmin of either sign.
[[nodiscard]] inline SuperBlock RandomSuper(const KQuant& kind, Rng& rng) {
  SuperBlock super{.d = ToFloat(ToF16(static_cast<float>(0.002 * rng.Normal())))};
  if (kind.has_minima()) super.dmin = ToFloat(ToF16(static_cast<float>(0.002 * rng.Normal())));
  const auto codes = std::uint32_t{1} << kind.scale_bits;
  for (std::size_t g = 0; g < Size(kind.groups()); ++g) {
    super.scales[g] =
        static_cast<std::int8_t>(static_cast<int>(rng.Below(codes)) - kind.scale_zero);
    if (kind.has_minima()) super.minima[g] = static_cast<std::uint8_t>(rng.Below(codes));
  }
  return super;
}

/// Codes and zero-points uniform, scales and minima of either sign that f16 and bf16 both hold, and
/// scales whose halves f16 holds too, as biases of half offsets are in MLX.
[[nodiscard]] inline QMatrix RandomQMatrix(Index rows, Index cols, const Grid& grid,
                                           std::uint64_t seed) {
  Rng rng(seed);
  QMatrix matrix(rows, cols, grid);
  std::vector<std::uint8_t> codes(Size(cols));
  const auto levels = static_cast<std::uint32_t>(grid.levels());
  for (Index row = 0; row < rows; ++row) {
    for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(rng.Below(levels));
    matrix.SetRow(row, codes);
    for (Index block = 0; block < matrix.supers(); ++block) {
      matrix.SetSuper(row, block, RandomSuper(KQuantOf(grid), rng));
    }
    if (grid.k_quant) continue;
    for (float& scale : matrix.scales().Row(row)) {
      const auto drawn = static_cast<float>(0.02 * rng.Normal());
      scale = RoundScale(std::copysign(std::max(std::fabs(drawn), 0x1.0p-16f), drawn));
    }
    if (grid.offset == Offset::kInteger) {
      for (std::uint8_t& zero : matrix.zeros().Row(row)) {
        zero = static_cast<std::uint8_t>(rng.Below(levels));
      }
    }
    if (grid.offset == Offset::kFloat) {
      for (float& minimum : matrix.minima().Row(row)) {
        minimum = RoundMinimum(static_cast<float>(0.02 * rng.Normal()));
      }
    }
  }
  return matrix;
}

}  // namespace lieq
