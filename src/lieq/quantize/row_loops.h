// The inner loops of rounding, on rows side by side.
//
// What is rounded lies with columns in dimension 0 and some rows of a matrix, padded to whole
// vectors, in dimension 1: rows know nothing of one another, so each loop is plain vector
// arithmetic without tails. Compiled for several instruction sets, of which the best that runs is
// taken; all of them add and round in the same order, so that codes do not depend on it.
#pragma once

#include <cstdint>

#include "lieq/base/types.h"

namespace lieq {

inline constexpr Index kLanes = 16;  // rows are padded to a multiple of it

[[nodiscard]] constexpr Index PaddedRows(Index rows) noexcept {
  return (rows + kLanes - 1) / kLanes * kLanes;
}

/// Levels scale * code + minimum of one group, by row; each [rows].
struct GridLines {
  const float* scale;
  const float* inverse;  // 1 / scale
  const float* minimum;
  float top;  // the highest code
};

/// to[k] += factors[k] * from for k < count. from [rows]; to [count, rows], one after another; rows
/// a multiple of kLanes.
void AddMultiples(const float* from, const float* factors, Index count, float* to, Index rows);

/// The nearest code of each target, ties to even, clamped, and its level. All [rows].
void RoundToLines(const float* targets, const GridLines& lines, Index rows, std::uint8_t* codes,
                  float* levels);

/// What codes mean. codes, levels [rows].
void LevelsOf(const std::uint8_t* codes, const GridLines& lines, Index rows, float* levels);

// Below, F is `feedback` with ones on its diagonal: strictly lower, [width, width] by rows of
// `stride`. With pivots D^(1/2) a small H is F D Fᵀ (GptqFactor). b, x and out [width, rows].

/// b = F⁻¹ b.
void SolveForward(const float* feedback, Index stride, Index width, float* b, Index rows);
/// b = F⁻ᵀ b.
void SolveBackward(const float* feedback, Index stride, Index width, float* b, Index rows);
/// out = Fᵀ x. out must not overlap x.
void MultiplyTransposed(const float* feedback, Index stride, Index width, const float* x,
                        Index rows, float* out);

/// Error feedback (GPTQ) over `width` columns on one grid a row, from the last position to the
/// first.
///
/// targets   [width, rows], spoiled
/// errors    [width, rows]: the targets once more; become targets less levels
/// pivots    [width]
/// codes     [columns, rows]; those of position p are written at row codes_at[p]
/// losses    [rows]: sum over columns of (pivot * (target - level))², which is e H eᵀ
void RoundWithFeedback(const float* feedback, Index stride, const float* pivots,
                       const Index* codes_at, const GridLines& lines, Index width, Index rows,
                       float* targets, float* errors, std::uint8_t* codes, float* losses);

/// One column of coordinate descent: each row's code moves to the level nearest to its best value
/// without a grid, which lies gradient / curvature from where it is.
///
/// gradient  [rows]
/// codes     [rows], changed
/// steps     [rows]: by how much the levels changed
/// gains     [rows]: by how much the losses fell is added
/// Returns how many codes changed.
Index MoveCodes(const float* gradient, float curvature, const GridLines& lines, Index rows,
                std::uint8_t* codes, float* steps, float* gains);

}  // namespace lieq
