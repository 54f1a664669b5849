// What calibration tells about the input of a unit.
//
// u is the unit's input in the model whose earlier parts are quantized already, x the same in the
// float model; r and r_u the residual stream to which the unit's output is added, likewise. What
// W u misses of the output that the float model would have there is W (x - u), and r - r_u beside
// it where the unit adds to the stream.
#pragma once

#include <optional>

#include "lieq/device/sums.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// Sums over the tokens of some calibration windows.
struct UnitStatistics {
  Sums<double> gram;  // [in, in], lower triangle of uᵀu
  // Where x was followed, one of two. Units that add to the stream have as many outputs as it has
  // columns, o and down most often fewer than inputs: W is multiplied before the sums are made.
  Sums<float> drift;    // [in, in], (x - u)ᵀu; of units that do not add to the stream
  Sums<float> missing;  // [out, in], mᵀu, m = a W (x - u) + b (r - r_u); of those that do

  /// Those of other windows.
  void Add(const UnitStatistics& others) {
    gram.Add(others.gram);
    drift.Add(others.drift);
    missing.Add(others.missing);
  }
};

/// What the output error of any rounding is made of (OutputErrors): sums, or the tokens themselves
/// where these are fewer than inputs.
struct OutputStatistics {
  Sums<float> gram;            // [in, in], uᵀu whole
  Sums<float> drift, missing;  // as of UnitStatistics, of full strength
  Matrix<float> inputs;        // [tokens, in], u; empty where there are sums
  Matrix<float> missed;        // [tokens, out], m; empty where nothing is missed

  /// Sums over other windows; there are no tokens.
  void Add(const OutputStatistics& others) {
    gram.Add(others.gram);
    drift.Add(others.drift);
    missing.Add(others.missing);
  }
};

/// Windows that nothing is fitted to: what is tried is judged on them. The last eighth, none of
/// fewer than eight.
[[nodiscard]] constexpr Index HeldOutWindows(Index windows) noexcept {
  return windows / 8;
}

/// Whether a unit is judged by held-out tokens as they are, in place of sums over them: where those
/// are fewer than inputs. adds: to the stream; followed: the float model's inputs beside its own.
[[nodiscard]] constexpr bool JudgedByTokens(Index tokens, Index in, bool adds,
                                            bool followed) noexcept {
  return tokens < in && (adds || !followed);
}

struct CalibrationStatistics {
  UnitStatistics fit;
  std::optional<OutputStatistics> held_out;  // empty where nothing is held out

  /// The same on another device, sums alone.
  [[nodiscard]] CalibrationStatistics On(CalibrationOps& device) const {
    CalibrationStatistics copy{.fit = {.gram = fit.gram.On(device),
                                       .drift = fit.drift.On(device),
                                       .missing = fit.missing.On(device)},
                               .held_out = {}};
    if (!held_out) return copy;
    copy.held_out.emplace();
    copy.held_out->gram = held_out->gram.On(device);
    copy.held_out->drift = held_out->drift.On(device);
    copy.held_out->missing = held_out->missing.On(device);
    return copy;
  }
};

}  // namespace lieq
