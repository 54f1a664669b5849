#include "lieq/quantize/bias.h"

#include "lieq/base/assert.h"

namespace lieq {
namespace {

constexpr Index kRowsPerTask = 64;

/// Sum over the tokens of the row's output error; w and q: the row's weights and levels.
double ErrorSum(std::span<const float> w, std::span<const float> q, Index row,
                const TokenSums& sums, double drift, double residual) {
  double sum = sums.residual.size() > 0 ? residual * sums.residual(0, row) : 0.0;
  for (std::size_t c = 0; c < w.size(); ++c) {
    const auto column = static_cast<Index>(c);
    const auto wide = static_cast<double>(w[c]);
    sum += (wide - static_cast<double>(q[c])) * sums.input(0, column);
    if (sums.drift.size() > 0) sum += drift * wide * sums.drift(0, column);
  }
  return sum;
}

}  // namespace

std::vector<float> CorrectedBias(const BiasedLinear& linear, const CalibrationStatistics& measured,
                                 const QuantOptions& options, Context& context,
                                 LinearReport& report) {
  const TokenSums& fit = measured.fit.sums;
  const TokenSums& judge = measured.held_out.tokens > 0 ? measured.held_out.sums : fit;
  const Index rows = linear.w.rows(), n = linear.w.cols();
  LIEQ_ASSERT(static_cast<Index>(linear.bias.size()) == rows && fit.input.cols() == n);
  LIEQ_ASSERT(judge.input.cols() == n);
  const int bits = linear.q.grid().bits;
  const double drift = options.drift->At(bits), residual = options.residual->At(bits);
  std::vector<float> corrected(linear.bias.begin(), linear.bias.end());
  std::vector<double> changes(Size(rows));
  context.pool.ParallelFor(CeilDiv(rows, kRowsPerTask), [&](Index task, int) {
    const Index first = task * kRowsPerTask, count = std::min(kRowsPerTask, rows - first);
    Matrix<float> levels(count, n);
    linear.q.Dequantize(first, levels.view());
    for (Index r = 0; r < count; ++r) {
      const Index row = first + r;
      const std::span<const float> w = linear.w.Row(row), q = levels.view().Row(r);
      const auto before = static_cast<double>(linear.bias[Size(row)]);
      const double mean = ErrorSum(w, q, row, fit, drift, residual) / fit.weight;
      const float after = Stored(static_cast<float>(before + mean), linear.type);
      const double added = static_cast<double>(after) - before;
      const double change = added * (judge.weight * added - 2 * ErrorSum(w, q, row, judge, 1, 1));
      if (!(change < 0)) continue;
      corrected[Size(row)] = after;
      changes[Size(row)] = change;
    }
  });
  Index better = 0;
  for (const double change : changes) {
    better += change < 0 ? 1 : 0;
    report.bias_change += change;
  }
  report.bias_rows = static_cast<double>(better) / static_cast<double>(rows);
  return corrected;
}

}  // namespace lieq
