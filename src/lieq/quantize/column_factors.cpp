#include "lieq/quantize/column_factors.h"

#include <cmath>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"

namespace lieq {
namespace {

constexpr Index kRowsPerTask = 64;
/// Pulls factors towards 1, so that channels that hardly matter stay where they are.
constexpr double kRidge = 1e-3;

}  // namespace

std::vector<double> ColumnFactors(std::span<const FactoredLinear> linears, View<const double, 2> h,
                                  std::span<const Index> channel, Index channels,
                                  Context& context) {
  const Index n = h.rows();
  LIEQ_ASSERT(h.cols() == n && static_cast<Index>(channel.size()) == n);
  Matrix<double> gram(n, n);           // sum of QᵀQ
  std::vector<double> slope(Size(n));  // sum over rows of Q_ij ((W* - Q) H)_ij
  for (const FactoredLinear& linear : linears) {
    const Index rows = linear.target.rows(), tasks = CeilDiv(rows, kRowsPerTask);
    Matrix<double> q(rows, n), parts(tasks, n);
    context.pool.ParallelFor(tasks, [&](Index task, int) {
      const Index first = task * kRowsPerTask, count = std::min(kRowsPerTask, rows - first);
      Matrix<float> levels(count, n);
      linear.q->Dequantize(first, levels.view());
      Matrix<double> error(count, n), product(count, n);
      for (Index r = 0; r < count; ++r) {
        for (Index c = 0; c < n; ++c) {
          q(first + r, c) = static_cast<double>(levels(r, c));
          error(r, c) = linear.target(first + r, c) - q(first + r, c);
        }
      }
      Gemm(1.0, error.view(), Transpose::kNo, h, Transpose::kNo, 0.0, product.view());
      for (Index r = 0; r < count; ++r) {
        for (Index c = 0; c < n; ++c) parts(task, c) += q(first + r, c) * product(r, c);
      }
    });
    for (Index task = 0; task < tasks; ++task) {
      for (Index c = 0; c < n; ++c) slope[Size(c)] += parts(task, c);
    }
    constexpr Index kColumns = 64;
    context.pool.ParallelFor(CeilDiv(n, kColumns), [&](Index task, int) {
      const Index first = task * kColumns, count = std::min(kColumns, n - first);
      Gemm(1.0, q.view().Cols(first, count), Transpose::kYes, q.view(), Transpose::kNo, 1.0,
           gram.view().Rows(first, count));
    });
  }

  Matrix<double> normal(channels, channels), right(1, channels);
  for (Index i = 0; i < n; ++i) {
    right(0, channel[Size(i)]) += slope[Size(i)];
    for (Index j = 0; j < n; ++j) {
      normal(channel[Size(i)], channel[Size(j)]) += gram(i, j) * h(i, j);
    }
  }
  std::vector<double> factors(Size(channels), 1.0);
  double mean = 0;
  for (Index i = 0; i < channels; ++i) mean += normal(i, i) / static_cast<double>(channels);
  if (!(mean > 0)) return factors;
  for (Index i = 0; i < channels; ++i) normal(i, i) += kRidge * mean;
  if (!Cholesky(normal.view())) return factors;
  for (Index i = 0; i < channels; ++i) {  // right = right L⁻ᵀ L⁻¹ with L = unit * diagonal
    const double pivot = normal(i, i);
    for (Index j = i + 1; j < channels; ++j) normal(j, i) /= pivot;
  }
  DivideByUnitLower(right.view(), normal.view(), Transpose::kYes);
  for (Index i = 0; i < channels; ++i) right(0, i) /= normal(i, i) * normal(i, i);
  DivideByUnitLower(right.view(), normal.view(), Transpose::kNo);
  for (Index i = 0; i < channels; ++i) {
    const double factor = 1.0 + right(0, i);
    // A factor far from 1, or of the other sign, says that the channel's codes are noise.
    if (std::isfinite(factor) && factor > 0.5 && factor < 2.0) factors[Size(i)] = factor;
  }
  return factors;
}

}  // namespace lieq
