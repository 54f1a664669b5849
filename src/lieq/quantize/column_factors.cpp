#include "lieq/quantize/column_factors.h"

#include <cmath>
#include <numeric>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"

namespace lieq {
namespace {

constexpr Index kRowsPerTask = 64;
/// Pulls factors towards 1, so that channels that hardly matter stay where they are.
constexpr double kRidge = 1e-3;
/// A factor outside says that the channel's codes are noise: it stays 1.
constexpr double kLeast = 0.5, kMost = 2.0;

/// Solves (normal + ridge) x = right on the channels `free`; empty where that is not possible.
std::vector<double> Solve(View<const double, 2> normal, std::span<const double> right, double ridge,
                          std::span<const Index> free) {
  const auto n = static_cast<Index>(free.size());
  Matrix<double> a(n, n), x(1, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) a(i, j) = normal(free[Size(i)], free[Size(j)]);
    a(i, i) += ridge;
    x(0, i) = right[Size(free[Size(i)])];
  }
  if (!Cholesky(a.view())) return {};
  std::vector<double> pivots(free.size());
  for (Index i = 0; i < n; ++i) {  // a = L Lᵀ with L = unit * diag(pivots)
    pivots[Size(i)] = a(i, i);
    for (Index j = i + 1; j < n; ++j) a(j, i) /= pivots[Size(i)];
  }
  DivideByUnitLower(x.view(), a.view(), Transpose::kYes);
  for (Index i = 0; i < n; ++i) x(0, i) /= pivots[Size(i)] * pivots[Size(i)];
  DivideByUnitLower(x.view(), a.view(), Transpose::kNo);
  return {x.data(), x.data() + n};
}

/// The factors of the normal equations in f - 1, those that leave the bounds held at 1 and the
/// others solved for without them: so the loss is never above that of factors 1.
std::vector<double> Bounded(View<const double, 2> normal, std::span<const double> right) {
  const Index channels = normal.rows();
  const std::vector<double> ones(Size(channels), 1.0);
  double mean = 0;
  for (Index i = 0; i < channels; ++i) mean += normal(i, i) / static_cast<double>(channels);
  if (!(mean > 0) || !std::isfinite(mean)) return ones;
  std::vector<Index> free(Size(channels));
  std::iota(free.begin(), free.end(), Index{0});
  while (!free.empty()) {
    const std::vector<double> x = Solve(normal, right, kRidge * mean, free);
    if (x.empty()) return ones;
    std::vector<Index> kept;
    std::vector<double> factors = ones;
    for (std::size_t i = 0; i < free.size(); ++i) {
      const double factor = 1.0 + x[i];
      if (!std::isfinite(factor)) return ones;
      if (!(factor > kLeast && factor < kMost)) continue;
      kept.push_back(free[i]);
      factors[Size(free[i])] = factor;
    }
    if (kept.size() == free.size()) return factors;
    free = std::move(kept);
  }
  return ones;
}

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
  return Bounded(normal.view(), right.view().Row(0));
}

}  // namespace lieq
