#include "lieq/quantize/target.h"

#include <algorithm>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"

namespace lieq {

Matrix<float> CorrectedTarget(View<const float, 2> w, Index first, const Correction& correction,
                              const GptqFactor& factor) {
  const Index rows = w.rows(), n = w.cols();
  LIEQ_ASSERT(static_cast<Index>(factor.order.size()) == n);
  Matrix<float> target(rows, n);
  const bool drifts = correction.drift_strength != 0 && correction.drift.size() > 0;
  const bool misses = correction.missing.size() > 0;
  if (misses) {
    const auto multiple = static_cast<float>(correction.multiple);
    for (Index r = 0; r < rows; ++r) {
      std::ranges::transform(correction.missing.Row(first + r), target.view().Row(r).begin(),
                             [&](float value) { return multiple * value; });
    }
  }
  if (drifts) {
    Gemm(static_cast<float>(correction.drift_strength), w, Transpose::kNo, correction.drift,
         Transpose::kNo, 1.0f, target.view());
  }
  if (drifts || misses) DivideByGram(target.view(), factor);
  for (Index r = 0; r < rows; ++r) {
    for (Index c = 0; c < n; ++c) target(r, c) += w(r, c);
  }
  return target;
}

}  // namespace lieq
