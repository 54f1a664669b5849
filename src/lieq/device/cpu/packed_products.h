// Products of activations and packed matrices on the threads of a pool.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lieq/base/thread_pool.h"
#include "lieq/device/cpu/packed_kernels.h"
#include "lieq/device/cpu/packed_matrix.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// y [n, out] = x wᵀ + bias, or y += where `add`; bias null: none.
struct PackedWork {
  const PackedMatrix* w;
  const float* bias;
  View<float, 2> y;
};

/// Work is cut by shapes alone, and a result does not depend on the rows or matrices beside it, so
/// that bytes are the same for any number of threads and sequences.
class PackedProducts {
 public:
  /// Both outlive this.
  PackedProducts(ThreadPool& pool, const PackedKernels& kernels, Activations activations);

  /// x [n, in] is rounded once for all matrices of one layout.
  void Multiply(View<const float, 2> x, std::span<const PackedWork> works, bool add);

  [[nodiscard]] Activations activations() const noexcept { return activations_; }
  [[nodiscard]] const PackedKernels& kernels() const noexcept { return kernels_; }

 private:
  /// Rows of one layout, and the memory that they lie in.
  struct Rounded {
    PackedShape shape;
    Matrix<std::int8_t> codes;
    Matrix<float> values, scales, totals;
    Matrix<std::int32_t> sums;
  };
  [[nodiscard]] RoundedRows Round(View<const float, 2> x, const PackedShape& shape,
                                  Rounded& rounded);

  ThreadPool& pool_;
  const PackedKernels& kernels_;
  const Activations activations_;
  std::vector<Rounded> rounded_;  // kept from call to call, so that memory is
};

/// Blocks of a matrix [16 * blocks, in] that a task takes, for that many rows of x: by what there
/// is to do.
[[nodiscard]] Index BlocksOfTask(Index rows, Index blocks, Index in);

}  // namespace lieq
