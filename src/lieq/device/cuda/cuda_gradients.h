// Gradients of the forward pass on a GPU.
#pragma once

#include "lieq/device/cuda/cuda_products.h"
#include "lieq/device/cuda/queue.h"
#include "lieq/device/device.h"

namespace lieq::cuda {

/// Products in bf16 where the arithmetic is; attention then rounds its factors to tf32.
class CudaGradients : public GradientOps {
 public:
  /// Both outlive this.
  CudaGradients(Queue& queue, CudaProducts& products, Arithmetic arithmetic);

  void MatmulGradient(DeviceView<const float> dy, const PreparedMatrix& w, DeviceView<float> dx,
                      bool add) override;
  void ProductsGradient(DeviceView<const float> x, std::span<const ProductGradient> products,
                        DeviceView<float> dx, bool add) override;
  void RmsNormGradient(DeviceView<const float> x, DeviceView<const float> weight, double eps,
                       DeviceView<const float> dy, DeviceView<float> dx, bool add) override;
  void AttentionGradient(DeviceView<const float> q, DeviceView<const float> k,
                         DeviceView<const float> v, DeviceView<const float> dout,
                         const AttentionShape& shape, DeviceView<float> dq, DeviceView<float> dk,
                         DeviceView<float> dv) override;
  void SwiGluGradient(DeviceView<float> gate, DeviceView<float> up,
                      DeviceView<const float> d) override;
  void NllGradient(DeviceView<float> logits, std::span<const TokenId> targets,
                   std::span<double> nll) override;
  void KlGradient(DeviceView<float> logits, DeviceView<float> reference,
                  std::span<double> kl) override;

 private:
  Queue& queue_;
  CudaProducts& products_;
  const Arithmetic arithmetic_;
  Scratch log_sums_, other_log_sums_, of_queries_;
};

}  // namespace lieq::cuda
