// What calibration tells about the input of a unit.
//
// u is the unit's input in the model whose earlier parts are quantized already, x the same in the
// float model; r and r_u the residual stream to which the unit's output is added, likewise.
#pragma once

#include <optional>

#include "lieq/tensor/view.h"

namespace lieq {

/// Sums over the tokens of some calibration windows.
struct UnitStatistics {
  Matrix<double> gram;     // [in, in], lower triangle of uᵀu
  Matrix<float> drift;     // [in, in], (x - u)ᵀu; empty where x was not followed
  Matrix<float> residual;  // [hidden, in], (r - r_u)ᵀu; for o and down where x was followed
};

/// What the output error of any rounding is made of (OutputErrors).
struct OutputStatistics {
  Matrix<float> gram;             // [in, in], uᵀu whole
  Matrix<float> drift, residual;  // as of UnitStatistics
};

/// Windows that nothing is fitted to: what is tried is judged on them. The last eighth, none of
/// fewer than eight.
[[nodiscard]] constexpr Index HeldOutWindows(Index windows) noexcept {
  return windows / 8;
}

struct CalibrationStatistics {
  UnitStatistics fit;
  std::optional<OutputStatistics> held_out;  // empty where nothing is held out
};

}  // namespace lieq
