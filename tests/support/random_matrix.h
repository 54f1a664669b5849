// Random matrices from a seed.
#pragma once

#include "lieq/base/rng.h"
#include "lieq/tensor/view.h"

namespace lieq {

template <class T = float>
[[nodiscard]] Matrix<T> RandomMatrix(Index rows, Index cols, std::uint64_t seed, double size = 1) {
  Rng rng(seed);
  Matrix<T> matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<T>(size * rng.Normal());
  return matrix;
}

/// Inputs whose channels depend on one another, as activations do: x = z M with M random.
[[nodiscard]] inline Matrix<float> CorrelatedInputs(Index rows, Index cols, std::uint64_t seed) {
  const Matrix<float> z = RandomMatrix(rows, cols, seed);
  const Matrix<float> mix = RandomMatrix(cols, cols, seed + 1, 0.5);
  Matrix<float> x(rows, cols);
  for (Index r = 0; r < rows; ++r) {
    for (Index c = 0; c < cols; ++c) {
      float sum = 2 * z(r, c);
      for (Index k = 0; k < cols; ++k) sum += z(r, k) * mix(k, c) * (c % 7 == 0 ? 2.0f : 0.3f);
      x(r, c) = sum;
    }
  }
  return x;
}

/// Full xᵀx in double.
[[nodiscard]] inline Matrix<double> GramOf(View<const float, 2> x) {
  Matrix<double> gram(x.cols(), x.cols());
  for (Index i = 0; i < x.cols(); ++i) {
    for (Index j = 0; j < x.cols(); ++j) {
      double sum = 0;
      for (Index r = 0; r < x.rows(); ++r) {
        sum += static_cast<double>(x(r, i)) * static_cast<double>(x(r, j));
      }
      gram(i, j) = sum;
    }
  }
  return gram;
}

}  // namespace lieq
