// One linear by what calibration tells: target, GPTQ, refinement, and a look at windows that
// nothing was fitted to.
#pragma once

#include <memory>
#include <vector>

#include "lieq/quantize/quantizers.h"

namespace lieq {

/// The solver of `gptq` and `best`. Each row of a matrix ends with the codes of the step, GPTQ or
/// refinement, whose output error on the held-out windows is the smaller.
[[nodiscard]] std::unique_ptr<UnitSolver> BeginCalibrated(CalibrationStatistics statistics,
                                                          const QuantOptions& options,
                                                          Context& context);

/// The diagonal of the Gram matrix: what an error of one input alone costs. [in], empty where there
/// is none.
[[nodiscard]] std::vector<float> Importance(const UnitStatistics& statistics);

/// The same sums as what output errors are made of.
[[nodiscard]] OutputStatistics OutputStatisticsOf(const UnitStatistics& statistics);

/// Output errors of any rounding of some rows: sum over tokens of |W x + r - (Q u + r_u)|² less
/// what does not depend on Q, which is e H eᵀ + 2 e (W D + M)ᵀ with e = W - Q, or by tokens |e u|²
/// + 2 (e u) m.
class RowJudge {
 public:
  /// w [rows, in]: rows first, first + 1, ... of the matrix, and `multiple` of the model's weights:
  /// M and m are multiplied by it. w and statistics outlive this.
  RowJudge(View<const float, 2> w, Index first, const OutputStatistics& statistics,
           double multiple);
  /// levels [rows, in]: Q. [rows]
  [[nodiscard]] std::vector<double> Errors(View<const float, 2> levels) const;

 private:
  View<const float, 2> w_;
  const OutputStatistics& statistics_;
  Matrix<float> linear_;  // [rows, in]: 2 (W D + M), or [rows, tokens]: 2 m; empty where 0
};

/// Those of a whole matrix, by row. [out]
[[nodiscard]] std::vector<double> OutputErrors(View<const float, 2> w, const QMatrix& q,
                                               const OutputStatistics& statistics, Context& context,
                                               double multiple = 1);

/// A symmetric matrix whole, of its lower triangle. [n, n]
[[nodiscard]] Matrix<float> BothTriangles(View<const double, 2> lower);

}  // namespace lieq
