#include "lieq/quantize/target.h"

#include <algorithm>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"

namespace lieq {
namespace {

constexpr Index kRowsPerTask = 64;

}  // namespace

Matrix<double> CorrectedTarget(View<const float, 2> w, const UnitStatistics& statistics,
                               const GptqFactor& factor, double drift, double residual,
                               Context& context) {
  const Index n = w.cols();
  LIEQ_ASSERT(static_cast<Index>(factor.order.size()) == n);
  Matrix<double> target(w.rows(), n);
  const bool drifts = drift != 0 && statistics.drift.size() > 0;
  const bool streams = residual != 0 && statistics.residual.size() > 0;
  context.pool.ParallelFor(CeilDiv(w.rows(), kRowsPerTask), [&](Index task, int) {
    const Index first = task * kRowsPerTask, rows = std::min(kRowsPerTask, w.rows() - first);
    const View<double, 2> out = target.view().Rows(first, rows);
    Matrix<double> wide(rows, n);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < n; ++c) wide(r, c) = static_cast<double>(w(first + r, c));
    }
    if (drifts || streams) {
      if (streams) {
        for (Index r = 0; r < rows; ++r) {
          for (Index c = 0; c < n; ++c) out(r, c) = residual * statistics.residual(first + r, c);
        }
      }
      if (drifts) {
        Gemm(drift, wide.view(), Transpose::kNo, statistics.drift.view(), Transpose::kNo, 1.0, out);
      }
      DivideByGram(out, factor);
    }
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < n; ++c) out(r, c) += wide(r, c);
    }
  });
  return target;
}

}  // namespace lieq
