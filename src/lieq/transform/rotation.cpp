#include "lieq/transform/rotation.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/assert.h"
#include "lieq/base/rng.h"

namespace lieq {
namespace {

bool IsPrime(Index n) {
  if (n < 2) return false;
  for (Index d = 2; d * d <= n; ++d) {
    if (n % d == 0) return false;
  }
  return true;
}

/// Legendre's symbol of every residue of p: 0 of 0, 1 of squares, -1 of the others.
std::vector<int> Characters(Index p) {
  std::vector<int> chi(Size(p), -1);
  chi[0] = 0;
  for (Index i = 1; i < p; ++i) chi[Size(i * i % p)] = 1;
  return chi;
}

/// [[0, 1], [sign, Q]], Q_ij = chi(i - j): a conference matrix of order p + 1. sign: chi(-1).
Matrix<double> Conference(Index p) {
  const std::vector<int> chi = Characters(p);
  Matrix<double> c(p + 1, p + 1);
  for (Index i = 1; i <= p; ++i) {
    c(0, i) = 1;
    c(i, 0) = p % 4 == 1 ? 1 : -1;
    for (Index j = 1; j <= p; ++j) c(i, j) = chi[Size((i - j + p) % p)];
  }
  return c;
}

bool HasPaley(Index order) {
  if (order == 1) return true;
  return (order % 4 == 0 && IsPrime(order - 1)) ||
         (order % 4 == 0 && (order / 2 - 1) % 4 == 1 && IsPrime(order / 2 - 1));
}

/// Entries 1 and -1 with orthogonal rows (Paley, 1933). HasPaley(order).
Matrix<double> Paley(Index order) {
  Matrix<double> h(order, order);
  if (order == 1) {
    h(0, 0) = 1;
  } else if (IsPrime(order - 1)) {
    const Matrix<double> c = Conference(order - 1);
    for (Index i = 0; i < order; ++i) {
      for (Index j = 0; j < order; ++j) h(i, j) = c(i, j) + (i == j ? 1.0 : 0.0);
    }
  } else {
    // Zeros become [[1, -1], [-1, -1]], ones [[1, 1], [1, -1]].
    const Matrix<double> c = Conference(order / 2 - 1);
    for (Index i = 0; i < order; ++i) {
      for (Index j = 0; j < order; ++j) {
        const double value = c(i / 2, j / 2);
        const bool corner = i % 2 == 1 && j % 2 == 1;
        if (value == 0) {
          h(i, j) = i % 2 == 0 && j % 2 == 0 ? 1 : -1;
        } else {
          h(i, j) = corner ? -value : value;
        }
      }
    }
  }
  return h;
}

/// Rows of a Gaussian matrix made orthonormal; twice, so that they are to double precision.
Matrix<double> RandomOrthogonal(Index n, Rng& rng) {
  Matrix<double> q(n, n);
  for (Index i = 0; i < q.size(); ++i) q.data()[i] = rng.Normal();
  for (Index i = 0; i < n; ++i) {
    for (int pass = 0; pass < 2; ++pass) {
      for (Index before = 0; before < i; ++before) {
        double dot = 0;
        for (Index c = 0; c < n; ++c) dot += q(i, c) * q(before, c);
        for (Index c = 0; c < n; ++c) q(i, c) -= dot * q(before, c);
      }
      double norm = 0;
      for (Index c = 0; c < n; ++c) norm += q(i, c) * q(i, c);
      for (Index c = 0; c < n; ++c) q(i, c) /= std::sqrt(norm);
    }
  }
  return q;
}

constexpr Index kRowsPerTask = 16;

/// The largest Paley factor worth its square of arithmetic; beyond it a random odd part is smaller.
constexpr Index kMostBase = 512;

}  // namespace

Rotation::Rotation(Index size, std::uint64_t seed, std::uint64_t stream) : signs_(Size(size)) {
  LIEQ_ASSERT(size >= 1);
  Rng rng(seed, stream);
  for (double& sign : signs_) sign = rng.Below(2) == 0 ? -1.0 : 1.0;
  Index odd = size;
  while (odd % 2 == 0) odd /= 2;
  for (Index order = odd; order <= std::min(size, odd == 1 ? 1 : kMostBase); order *= 2) {
    if (!HasPaley(order)) continue;
    base_ = Paley(order);
    for (Index i = 0; i < base_.size(); ++i) base_.data()[i] /= std::sqrt(order);
    return;
  }
  base_ = RandomOrthogonal(odd, rng);
}

void Rotation::Apply(std::span<double> row) const {
  const Index n = size(), m = base_.rows(), blocks = n / m;
  LIEQ_ASSERT(static_cast<Index>(row.size()) == n);
  for (Index i = 0; i < n; ++i) row[Size(i)] *= signs_[Size(i)];
  if (m > 1) {
    std::vector<double> product(Size(m));
    for (Index b = 0; b < blocks; ++b) {
      const auto block = row.subspan(Size(b * m), Size(m));
      std::ranges::fill(product, 0.0);
      for (Index i = 0; i < m; ++i) {
        for (Index j = 0; j < m; ++j) product[Size(j)] += block[Size(i)] * base_(i, j);
      }
      std::ranges::copy(product, block.begin());
    }
  }
  for (Index half = m; half < n; half *= 2) {
    for (Index first = 0; first < n; first += 2 * half) {
      for (Index i = first; i < first + half; ++i) {
        const double a = row[Size(i)], b = row[Size(i + half)];
        row[Size(i)] = a + b;
        row[Size(i + half)] = a - b;
      }
    }
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(blocks));
  for (double& value : row) value *= scale;
}

void RotateColumns(const Rotation& rotation, Index first, View<float, 2> w, Context& context) {
  const View<float, 2> part = w.Cols(first, rotation.size());
  context.pool.ParallelFor(CeilDiv(w.rows(), kRowsPerTask), [&](Index task, int) {
    std::vector<double> row(Size(part.cols()));
    for (Index r = task * kRowsPerTask; r < std::min(w.rows(), (task + 1) * kRowsPerTask); ++r) {
      std::ranges::copy(part.Row(r), row.begin());
      rotation.Apply(row);
      for (Index c = 0; c < part.cols(); ++c) part(r, c) = static_cast<float>(row[Size(c)]);
    }
  });
}

void RotateRows(const Rotation& rotation, Index first, View<float, 2> w, Context& context) {
  const View<float, 2> part = w.Rows(first, rotation.size());
  // A task's columns side by side: one pass over the rows fills whole cache lines.
  context.pool.ParallelFor(CeilDiv(w.cols(), kRowsPerTask), [&](Index task, int) {
    const Index begin = task * kRowsPerTask, count = std::min(kRowsPerTask, w.cols() - begin);
    Matrix<double> columns(count, part.rows());
    for (Index r = 0; r < part.rows(); ++r) {
      for (Index c = 0; c < count; ++c) {
        columns(c, r) = static_cast<double>(part(r, begin + c));
      }
    }
    for (Index c = 0; c < count; ++c) rotation.Apply(columns.view().Row(c));
    for (Index r = 0; r < part.rows(); ++r) {
      for (Index c = 0; c < count; ++c) part(r, begin + c) = static_cast<float>(columns(c, r));
    }
  });
}

void RotateBias(const Rotation& rotation, Index first, std::span<float> bias) {
  if (bias.empty()) return;
  const auto part = bias.subspan(Size(first), Size(rotation.size()));
  std::vector<double> row(part.begin(), part.end());
  rotation.Apply(row);
  std::ranges::transform(row, part.begin(), [](double value) { return static_cast<float>(value); });
}

}  // namespace lieq
