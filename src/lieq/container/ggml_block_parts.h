// What the blocks of ggml's types have in common: shared by ggml_blocks.cpp and
// ggml_super_blocks.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "lieq/tensor/dtype.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

using Codes = std::span<const std::uint8_t>;
using Blocks = std::span<std::byte>;
using ConstBlocks = std::span<const std::byte>;

inline constexpr std::size_t kSuper = kSuperColumns;

inline std::uint8_t Byte(unsigned value) noexcept {
  return static_cast<std::uint8_t>(value);
}

inline std::uint8_t ByteAt(ConstBlocks bytes, std::size_t at) noexcept {
  return std::to_integer<std::uint8_t>(bytes[at]);
}

inline float HalfAt(ConstBlocks bytes, std::size_t at) noexcept {
  F16 half;
  std::memcpy(&half, bytes.data() + at, sizeof(half));
  return ToFloat(half);
}

inline void PutHalf(Blocks bytes, std::size_t at, float value) noexcept {
  const F16 half = ToF16(value);
  std::memcpy(bytes.data() + at, &half, sizeof(half));
}

inline bool IsHalf(float value) noexcept {
  return std::isfinite(value) && ToFloat(ToF16(value)) == value;
}

// ---- what grids and types have in common -------------------------------------------------------

/// A group as w = unit * (factor * code - zero), all but the unit whole numbers.
struct WholeSteps {
  float unit;
  int factor, zero;
};

/// Nothing of grids with minima of their own. The halves of half offsets go into the unit.
inline std::optional<WholeSteps> StepsOf(const QMatrix& matrix, Index row, Index group) {
  const Grid& grid = matrix.grid();
  if (grid.k_quant || grid.offset == Offset::kFloat) return std::nullopt;
  const float scale = matrix.scales()(row, group);
  if (grid.offset == Offset::kHalf) return WholeSteps{0.5f * scale, 2, grid.levels() - 1};
  const int zero = grid.offset == Offset::kInteger ? matrix.zeros()(row, group) : grid.middle();
  return WholeSteps{scale, 1, zero};
}

/// A group as w = d * step, with step = sign * factor * code + add of the type's own range.
struct Ladder {
  float d;
  int factor, add;

  [[nodiscard]] int Step(int code) const noexcept { return factor * code + add; }
};

/// Codes from `least` to `most` on the steps low .. high of a type, as they stand or mirrored:
/// s (q - z) = -s (z - q). Nothing where they do not fit, or f16 does not hold the unit.
inline std::optional<Ladder> LadderOf(const QMatrix& matrix, Index row, Index group, int low,
                                      int high, int least, int most, bool mirrored_first = false) {
  const std::optional<WholeSteps> steps = StepsOf(matrix, row, group);
  if (!steps || !IsHalf(steps->unit)) return std::nullopt;
  const Ladder straight{steps->unit, steps->factor, -steps->zero};
  const Ladder mirrored{-steps->unit, -steps->factor, steps->zero};
  for (const bool mirror : {mirrored_first, !mirrored_first}) {
    const Ladder& ladder = mirror ? mirrored : straight;
    const int begin = ladder.Step(least), end = ladder.Step(most);
    if (std::min(begin, end) >= low && std::max(begin, end) <= high) return ladder;
  }
  return std::nullopt;
}

/// Calls unpack(bytes of the block, its number, its codes) until one gives false.
template <class Unpack>
bool DecodeEach(ConstBlocks blocks, std::size_t bytes, std::span<std::uint8_t> codes,
                const Unpack& unpack) {
  const std::size_t count = blocks.size() / bytes, columns = codes.size() / count;
  for (std::size_t block = 0; block < count; ++block) {
    if (!unpack(blocks.subspan(block * bytes, bytes), static_cast<Index>(block),
                codes.subspan(block * columns, columns))) {
      return false;
    }
  }
  return true;
}

/// The scale of a group; false where it is not finite.
inline bool SetScale(QMatrix& matrix, Index row, Index group, float scale) {
  matrix.scales()(row, group) = scale;
  return std::isfinite(scale);
}

/// A group as w = d * code + m.
struct Line {
  float d, m;
  friend bool operator==(const Line&, const Line&) = default;
};

/// Nothing of K-quants, or where f16 does not hold one of the two.
inline std::optional<Line> LineOf(const QMatrix& matrix, Index row, Index group) {
  if (matrix.grid().k_quant) return std::nullopt;
  const float scale = matrix.scales()(row, group);
  float minimum = 0;
  if (matrix.grid().offset == Offset::kFloat) {
    minimum = matrix.minima()(row, group);
  } else {
    const WholeSteps steps = *StepsOf(matrix, row, group);
    minimum = -(steps.unit * static_cast<float>(steps.zero));
  }
  if (!IsHalf(scale) || !IsHalf(minimum)) return std::nullopt;
  return Line{scale, minimum};
}

/// Byte 32 (e / 128) + e % 32 holds column e at bits 2 ((e % 128) / 32): planes of llama.cpp's.
constexpr std::size_t PlaneByte(std::size_t e) noexcept {
  return 32 * (e / 128) + e % 32;
}
constexpr unsigned PlaneShift(std::size_t e) noexcept {
  return static_cast<unsigned>(2 * (e % 128 / 32));
}

inline void PutPlanes(Codes codes, Blocks out) noexcept {
  for (std::size_t e = 0; e < kSuper; ++e) {
    out[PlaneByte(e)] |= std::byte{Byte((codes[e] & 3u) << PlaneShift(e))};
  }
}
inline void GetPlanes(ConstBlocks bytes, std::span<std::uint8_t> codes) noexcept {
  for (std::size_t e = 0; e < kSuper; ++e) {
    codes[e] = (ByteAt(bytes, PlaneByte(e)) >> PlaneShift(e)) & 3;
  }
}

}  // namespace lieq
