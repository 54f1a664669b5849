#include "lieq/diagnose/spectrum.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"

namespace lieq {
namespace {

constexpr double kFirstRidge = 1e-12;  // a few times n * 2^-53, the error of the factorization
constexpr double kLastRidge =
    1e-3;  // Gram matrices are added up in float tiles: errors of 1e-7 and more

double Sum(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

enum class Triangle { kLower, kUpper };

/// Fills the other strict triangle from the one named, in blocks that both fit the cache.
void CopyAcrossDiagonal(View<double, 2> a, Triangle from) {
  constexpr Index kBlock = 64;
  const Index n = a.rows();
  for (Index begin_i = 0; begin_i < n; begin_i += kBlock) {
    for (Index begin_j = 0; begin_j <= begin_i; begin_j += kBlock) {
      for (Index i = begin_i; i < std::min(n, begin_i + kBlock); ++i) {
        for (Index j = begin_j; j < std::min(i, begin_j + kBlock); ++j) {
          double& lower = a(i, j);
          double& upper = a(j, i);
          (from == Triangle::kLower ? upper : lower) = from == Triangle::kLower ? lower : upper;
        }
      }
    }
  }
}

}  // namespace

double EffectiveRank(std::span<const double> energies) {
  const double total = Sum(energies);
  if (total == 0) return 0;
  if (!std::isfinite(total)) return std::numeric_limits<double>::quiet_NaN();
  double entropy = 0;
  for (const double energy : energies) {
    const double p = energy / total;
    if (p > 0) entropy -= p * std::log(p);  // p ln p -> 0; the quotient may also underflow
  }
  return std::exp(entropy);
}

double TopEnergy(std::span<const double> energies, Index k) {
  LIEQ_ASSERT(k >= 0);
  const double total = Sum(energies);
  if (total == 0) return 0;
  if (!std::isfinite(total)) return std::numeric_limits<double>::quiet_NaN();
  const std::size_t count = std::min(Size(k), energies.size());
  return Sum(energies.last(count)) / total;
}

std::optional<InputFactor> FactorInputs(Matrix<double> gram, Index tokens) {
  const View<double, 2> c = gram.view();
  LIEQ_ASSERT(c.rows() == c.cols() && tokens >= 1);
  const Index n = c.rows();
  std::vector<double> diagonal(Size(n));
  for (Index i = 0; i < n; ++i) {
    diagonal[Size(i)] = c(i, i);
    for (const double value : c.Row(i).first(Size(i + 1))) {
      if (!std::isfinite(value)) return std::nullopt;
    }
    if (c(i, i) < 0) return std::nullopt;
  }
  CopyAcrossDiagonal(c, Triangle::kLower);  // the factorization leaves the upper one alone
  for (double ridge = 0; ridge < 2 * kLastRidge; ridge = ridge == 0 ? kFirstRidge : ridge * 10) {
    if (ridge > 0) CopyAcrossDiagonal(c, Triangle::kUpper);
    for (Index i = 0; i < n; ++i) {
      const double entry = diagonal[Size(i)];
      c(i, i) = entry == 0 ? 1 : entry * (1 + ridge);  // 1: a pivot for a channel that is always 0
    }
    if (!Cholesky(c)) continue;
    for (Index i = 0; i < n; ++i) {
      if (diagonal[Size(i)] == 0) c(i, i) = 0;
    }
    return InputFactor{.lower = std::move(gram), .tokens = tokens, .ridge = ridge};
  }
  return std::nullopt;
}

namespace {

/// The `most` largest squared singular values of a matrix, in rising order.
std::vector<double> SquaredSingularValues(View<const double, 2> w, Index most) {
  const Index out = w.rows(), in = w.cols(), side = std::min(out, in);
  Matrix<double> gram(side, side);
  Gram(w, out <= in ? Transpose::kNo : Transpose::kYes, gram.view());
  // LAPACK may loop or fail on NaN; the trace is not finite then, and neither is the answer.
  double trace = 0;
  for (Index i = 0; i < side; ++i) trace += gram(i, i);
  const Index length = std::min(side, most);
  if (!std::isfinite(trace)) return std::vector<double>(Size(length), trace);

  std::vector<double> energies = SymmetricEigenvalues(gram.view());
  energies.erase(energies.begin(), energies.end() - length);
  for (double& energy : energies) energy = std::max(energy, 0.0);  // rounding, of some 1e-16 * max
  return energies;
}

}  // namespace

std::vector<double> Spectrum(View<double, 2> w, const InputFactor& inputs) {
  LIEQ_ASSERT(w.cols() == inputs.lower.rows());
  MultiplyByLower(w, inputs.lower.view());
  return SquaredSingularValues(w, inputs.tokens);
}

std::vector<double> WeightSpectrum(View<const double, 2> w) {
  return SquaredSingularValues(w, std::min(w.rows(), w.cols()));
}

double Chi(Index degrees, Rng& rng) {
  LIEQ_ASSERT(degrees >= 1);
  if (degrees == 1) return std::fabs(rng.Normal());
  // chi² is twice a gamma variable of half the degrees; exact rejection by Marsaglia and Tsang,
  // "A simple method for generating gamma variables", ACM TOMS 26(3), 2000. Shape >= 1 here.
  const double d = static_cast<double>(degrees) / 2 - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = rng.Normal();
    const double t = 1 + c * x;
    if (t <= 0) continue;
    const double v = t * t * t;
    if (std::log(1.0 - rng.Uniform()) < x * x / 2 + d - d * v + d * std::log(v)) {
      return std::sqrt(2 * d * v);
    }
  }
}

Matrix<double> RandomProjection(Index out, Index in, Rng& rng) {
  Matrix<double> r(std::min(out, in), in);
  for (Index i = 0; i < r.rows(); ++i) {
    r(i, i) = Chi(out - i, rng);
    for (Index j = i + 1; j < in; ++j) r(i, j) = rng.Normal();
  }
  return r;
}

}  // namespace lieq
