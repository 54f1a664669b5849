// One linear by what calibration tells: target, GPTQ, refinement, and a look at windows that
// nothing was fitted to.
#pragma once

#include "lieq/quantize/quantizers.h"

namespace lieq {

/// The quantize function of the rows that need calibration. Each row of the matrix ends with the
/// codes of the step, GPTQ or refinement, whose output error on the held-out windows is the
/// smaller.
[[nodiscard]] QMatrix QuantizeCalibrated(View<const float, 2> w, const InputStatistics* statistics,
                                         const Grid& grid, const QuantOptions& options,
                                         Context& context, LinearReport& report);

/// The diagonal of the Gram matrix: what an error of one input alone costs. [in]
[[nodiscard]] std::vector<float> Importance(const UnitStatistics& statistics);

/// By row, sum over the tokens of `share` of |W x + r - (Q u + r_u)|² less what does not depend on
/// Q: e H eᵀ + 2 e (W D + F)ᵀ with e = W - Q. [out]. residual_scale: what w is a multiple of the
/// model's weights by; F is multiplied by it.
[[nodiscard]] std::vector<double> OutputErrors(View<const float, 2> w, const QMatrix& q,
                                               const UnitStatistics& share, Context& context,
                                               double residual_scale = 1);

/// A symmetric matrix whole, of its lower triangle. [n, n]
[[nodiscard]] Matrix<double> BothTriangles(View<const double, 2> lower);

}  // namespace lieq
