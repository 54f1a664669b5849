// Orthogonal matrices that spread every channel over all others, for any size.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// R = diag(signs) (B x S) / norm: random signs, S the Hadamard matrix of Sylvester of the largest
/// order 2^k that leaves a factor B: a Hadamard matrix of Paley's (of order p + 1 or 2 (p + 1) for
/// a prime p), the smallest there is, or a random orthogonal matrix of the odd part where there is
/// none. R Rᵀ = 1 to double precision.
class Rotation {
 public:
  /// size >= 1. Equal arguments give equal matrices.
  Rotation(Index size, std::uint64_t seed, std::uint64_t stream);

  /// row = row R, [size]
  void Apply(std::span<double> row) const;
  [[nodiscard]] Index size() const noexcept { return static_cast<Index>(signs_.size()); }
  /// The order of the factor B: 1 where size is a power of 2.
  [[nodiscard]] Index base_order() const noexcept { return base_.rows(); }

 private:
  std::vector<double> signs_;
  Matrix<double> base_;  // orthogonal
};

/// W = W R on columns first .. first + R.size() - 1: what reads channels that were rotated.
/// w [out, in]
void RotateColumns(const Rotation& rotation, Index first, View<float, 2> w, Context& context);
/// W = Rᵀ W for rows first .. first + R.size() - 1: what writes channels that are to be rotated.
void RotateRows(const Rotation& rotation, Index first, View<float, 2> w, Context& context);
/// b = b R
void RotateBias(const Rotation& rotation, Index first, std::span<float> bias);

}  // namespace lieq
