#include "lieq/quantize/calibrated.h"

#include <chrono>
#include <numeric>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"
#include "lieq/quantize/refine.h"
#include "lieq/quantize/target.h"

namespace lieq {
namespace {

constexpr Index kRowsPerTask = 64;

Matrix<float> Narrowed(View<const double, 2> wide) {
  Matrix<float> narrow(wide.rows(), wide.cols());
  for (Index r = 0; r < wide.rows(); ++r) {
    for (Index c = 0; c < wide.cols(); ++c) narrow(r, c) = static_cast<float>(wide(r, c));
  }
  return narrow;
}

double Sum(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

/// Refines, and takes back the rows that lost by it on the windows held out.
void RefineRows(View<const float, 2> w, View<const double, 2> target,
                const InputStatistics& statistics, const QuantOptions& options, Context& context,
                QMatrix& q, LinearReport& report) {
  const QMatrix start = q;
  const RefineReport refined =
      Refine(target, statistics.h.view(), {.rounds = *options.rounds, .search = *options.search},
             context, q);
  report.start_error = refined.before;
  report.error = refined.after;
  report.moves = refined.moves;
  if (statistics.held_out == nullptr) return;
  const std::vector<double> before =
      OutputErrors(w, start, *statistics.held_out, context, statistics.residual_scale);
  const std::vector<double> after =
      OutputErrors(w, q, *statistics.held_out, context, statistics.residual_scale);
  report.held_out_start = Sum(before);
  Index kept = 0;
  for (Index r = 0; r < w.rows(); ++r) {
    const bool better = after[Size(r)] <= before[Size(r)];
    report.held_out += better ? after[Size(r)] : before[Size(r)];
    if (better) continue;
    q.CopyRow(r, start);
    ++kept;
  }
  report.kept_rows = static_cast<double>(kept) / static_cast<double>(w.rows());
}

}  // namespace

std::vector<float> Importance(const UnitStatistics& statistics) {
  std::vector<float> importance(Size(statistics.gram.rows()));
  for (std::size_t j = 0; j < importance.size(); ++j) {
    const auto column = static_cast<Index>(j);
    importance[j] = static_cast<float>(statistics.gram(column, column));
  }
  return importance;
}

Matrix<double> BothTriangles(View<const double, 2> lower) {
  const Index n = lower.rows();
  Matrix<double> whole(n, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j <= i; ++j) whole(i, j) = whole(j, i) = lower(i, j);
  }
  return whole;
}

std::vector<double> OutputErrors(View<const float, 2> w, const QMatrix& q,
                                 const UnitStatistics& share, Context& context,
                                 double residual_scale) {
  const Index n = w.cols();
  LIEQ_ASSERT(q.rows() == w.rows() && q.cols() == n && share.gram.rows() == n);
  const Matrix<double> h = BothTriangles(share.gram.view());
  std::vector<double> errors(Size(w.rows()));
  context.pool.ParallelFor(CeilDiv(w.rows(), kRowsPerTask), [&](Index task, int) {
    const Index first = task * kRowsPerTask, rows = std::min(kRowsPerTask, w.rows() - first);
    Matrix<float> levels(rows, n);
    q.Dequantize(first, levels.view());
    Matrix<double> wide(rows, n), error(rows, n), product(rows, n);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < n; ++c) {
        wide(r, c) = static_cast<double>(w(first + r, c));
        error(r, c) = wide(r, c) - static_cast<double>(levels(r, c));
      }
    }
    Gemm(1.0, error.view(), Transpose::kNo, h.view(), Transpose::kNo, 0.0, product.view());
    if (share.drift.size() > 0) {
      Gemm(2.0, wide.view(), Transpose::kNo, share.drift.view(), Transpose::kNo, 1.0,
           product.view());
    }
    for (Index r = 0; r < rows; ++r) {
      double sum = 0;
      for (Index c = 0; c < n; ++c) {
        const double residual =
            share.residual.size() > 0 ? 2 * residual_scale * share.residual(first + r, c) : 0.0;
        sum += error(r, c) * (product(r, c) + residual);
      }
      errors[Size(first + r)] = sum;
    }
  });
  return errors;
}

QMatrix QuantizeCalibrated(View<const float, 2> w, const InputStatistics* statistics,
                           const Grid& grid, const QuantOptions& options, Context& context,
                           LinearReport& report) {
  LIEQ_ASSERT(statistics != nullptr && statistics->fit != nullptr);
  const auto begin = std::chrono::steady_clock::now();
  const GptqFactor& factor = statistics->factor;
  QMatrix q;
  if (factor.order.empty()) {
    report.fell_back = true;
    report.retries = factor.retries;
    report.dead_columns = factor.dead_columns;
    q = QuantizeRtn(w, Importance(*statistics->fit), grid, options.clip, context, report);
  } else if (!options.judges()) {
    q = QuantizeGptq(w, factor, grid, options, context, report);
  } else {
    const Matrix<double> target =
        CorrectedTarget(w, *statistics->fit, factor, options.drift->At(grid.bits),
                        statistics->residual_scale * options.residual->At(grid.bits), context);
    q = QuantizeGptq(Narrowed(target.view()).view(), factor, grid, options, context, report);
    if (*options.rounds > 0) {
      RefineRows(w, target.view(), *statistics, options, context, q, report);
    }
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return q;
}

InputStatistics Prepare(const UnitStatistics& fit, const UnitStatistics* held_out, const Grid& grid,
                        const QuantOptions& options) {
  InputStatistics statistics{.fit = &fit,
                             .held_out = held_out,
                             .factor = FactorGram(fit.gram.view(), grid, options),
                             .h = {}};
  const GptqFactor& factor = statistics.factor;
  if (*options.rounds == 0 || factor.order.empty()) return statistics;
  statistics.h = BothTriangles(fit.gram.view());
  for (Index i = 0; i < statistics.h.rows(); ++i) statistics.h(i, i) = factor.diagonal[Size(i)];
  return statistics;
}

}  // namespace lieq
