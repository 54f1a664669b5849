// GPTQ of whole matrices on a GPU.
#pragma once

#include <cstdint>
#include <span>

#include "lieq/device/cuda/cuda_products.h"
#include "lieq/device/cuda/cusolver.h"
#include "lieq/device/cuda/queue.h"
#include "lieq/device/device.h"

namespace lieq::cuda {

/// The factor as kernels read it.
class CudaGptqFactor final : public GptqFactorOnDevice {
 public:
  CudaGptqFactor(std::span<const Index> order, Queue& queue);

  [[nodiscard]] Index n() const noexcept { return n_; }
  [[nodiscard]] float* feedback() const { return feedback_.Get<float>(n_ * n_); }
  [[nodiscard]] float* pivots() const { return pivots_.Get<float>(n_); }
  [[nodiscard]] const std::int32_t* order() const { return order_.Get<std::int32_t>(n_); }
  [[nodiscard]] const std::int32_t* positions() const { return positions_.Get<std::int32_t>(n_); }
  /// H by column, both triangles; of no meaning where nobody wanted it.
  [[nodiscard]] float* h() const { return h_.Get<float>(n_ * n_); }

 private:
  Index n_;
  mutable Scratch feedback_, pivots_, order_, positions_, h_;
};

/// As the operations of RoundingOps; what they take outlives the call. gram [n, n]: on the device.
[[nodiscard]] PlacedGptqFactor Factorize(const double* gram, std::span<const double> diagonal,
                                         std::span<const Index> order, bool refines,
                                         Cusolver& solver, Queue& queue);
[[nodiscard]] PlacedGptqFactor PlaceFactor(View<const float, 2> feedback,
                                           std::span<const float> pivots,
                                           std::span<const Index> order, View<const float, 2> h,
                                           Queue& queue);
void DownloadBlocks(const GptqFactorOnDevice& factor, View<float, 2> blocks, Queue& queue);
void RoundMatrix(const RoundingWork& work, const RoundingResult& result, CudaProducts& products,
                 Queue& queue);

}  // namespace lieq::cuda
