// Weight matrices in the memory of a GPU.
#pragma once

#include "lieq/device/cuda/kernels.h"
#include "lieq/device/cuda/queue.h"
#include "lieq/device/device.h"
#include "lieq/tensor/any_matrix.h"

namespace lieq::cuda {

/// The matrix in the form that it is given in: floats of 32 or 16 bits, or codes with what belongs
/// to them (of K-quant grids the scales and minima of groups). Nothing of the host's is kept.
class CudaPrepared final : public PreparedMatrix {
 public:
  /// packs: codes in units (packed.h), where the grid allows it.
  CudaPrepared(const AnyMatrix& matrix, bool packs, Queue& queue);
  ~CudaPrepared() override { queue_.Give(block_); }
  CudaPrepared(const CudaPrepared&) = delete;
  CudaPrepared& operator=(const CudaPrepared&) = delete;

  [[nodiscard]] Index rows() const noexcept override { return source_.rows; }
  [[nodiscard]] Index cols() const noexcept override { return source_.cols; }
  [[nodiscard]] const Source& source() const noexcept { return source_; }

 private:
  template <class T>
  void Hold(View<const T, 2> matrix, Form form);
  void Hold(const QMatrix& matrix);
  /// Codes that lie in a block of their own become units.
  void Pack(const QMatrix& matrix);

  Queue& queue_;
  void* block_ = nullptr;
  Source source_;
};

/// Of a matrix that this device prepared.
[[nodiscard]] inline const Source& SourceOf(const PreparedMatrix& matrix) {
  return static_cast<const CudaPrepared&>(matrix).source();
}

}  // namespace lieq::cuda
