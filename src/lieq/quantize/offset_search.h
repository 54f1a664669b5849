// Scale and minimum of one group where both are real numbers.
//
// For codes c the best scale and minimum are a weighted line through (c, w), and its error is known
// from three sums. For one scale, a minimum that falls from far above carries each code from 0 to
// the top one by one, so all codes that rounding at that scale can give are met in one walk; one
// step of it updates the three sums. So a walk finds the best line of all codes along it, and few
// scales suffice. (NeUQI, arXiv:2505.17595, walks so for the best offset of each given scale.)
#pragma once

#include <cstddef>
#include <span>

namespace lieq {

/// Levels are scale * code + minimum, scale > 0.
struct RealFit {
  double scale = 0;
  double minimum = 0;
};

/// The fit of least weighted squared error that walks at a row of scales find, from 1.05 times the
/// step of the min-max grid down to half a step of the best one for a normal distribution.
///
/// w           [n], finite
/// importance  [n], >= 0, or empty: all equal; where none is above 0, all are taken as equal
/// levels      2 to 256
///
/// A scale of 0 where all w are equal. Deterministic: of equal errors the first wins.
[[nodiscard]] RealFit SearchOffset(std::span<const float> w, std::span<const float> importance,
                                   int levels);

}  // namespace lieq
