// What GPTQ and the refinement approximate instead of W where the inputs have drifted.
#pragma once

#include "lieq/quantize/gptq.h"

namespace lieq {

/// Sums that say how far the inputs are from the float model's, and how much of it is corrected.
struct Correction {
  View<const float, 2> drift;    // [in, in]; may be empty
  View<const float, 2> missing;  // [out, in]; may be empty
  double drift_strength = 0;
  double multiple = 1;  // what w is of the weights that `missing` was made with
};

/// Rows first, first + 1, ... of W* = W + (a W D + M) (H + damping)⁻¹, the minimum of E|W x + r -
/// (Q u + r_u)|² over Q for full strengths, where D = (x - u)ᵀu and M is what is missing
/// (UnitStatistics). w [rows, in]: those rows. [rows, in]
[[nodiscard]] Matrix<float> CorrectedTarget(View<const float, 2> w, Index first,
                                            const Correction& correction, const GptqFactor& factor);

}  // namespace lieq
