// Training of the numbers of quantized matrices in the memory of a GPU.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "lieq/device/cuda/cuda_gradients.h"
#include "lieq/device/cuda/queue.h"
#include "lieq/device/tuning_ops.h"

namespace lieq::cuda {

/// Matrices that lie on a GPU already, by where they lie with the host.
class HeldMatrices {
 public:
  void Add(const AnyMatrix& matrix, const Prepared& prepared);
  /// Null: nobody holds it.
  [[nodiscard]] Prepared Find(const AnyMatrix& matrix) const;

 private:
  using Key = std::tuple<const void*, std::size_t, Index, Index>;  // where, form, shape
  [[nodiscard]] static Key KeyOf(const AnyMatrix& matrix);

  std::map<Key, std::weak_ptr<const PreparedMatrix>> held_;
};

class CudaTuning final : public CudaGradients, public TuningOps {
 public:
  /// All outlive this.
  CudaTuning(Queue& queue, CudaProducts& products, Arithmetic arithmetic)
      : CudaGradients(queue, products, arithmetic), queue_(queue), sums_(queue) {}

  /// What Prepare gives again; null: nothing.
  [[nodiscard]] Prepared Find(const AnyMatrix& matrix) const { return held_.Find(matrix); }
  [[nodiscard]] Prepared Hold(const AnyMatrix& matrix) override;
  [[nodiscard]] Index free_memory() override;

  [[nodiscard]] std::unique_ptr<TrainedMatrices> Train(
      std::span<const TrainedStart> matrices) override;
  void NormSums(DeviceView<const float> x, DeviceView<const float> dy, double eps,
                std::span<double> sums) override;
  void ColumnSums(DeviceView<const float> dy, std::span<double> sums) override;
  void AddRows(DeviceView<const float> x, std::span<const TokenId> rows, float factor,
               PlacedSums<float>& to) override;

 private:
  void Deliver(const double* found, std::span<double> sums);

  Queue& queue_;
  HeldMatrices held_;
  Scratch sums_;
};

}  // namespace lieq::cuda
