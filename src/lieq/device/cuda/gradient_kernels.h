// The GPU's kernels of gradients, as kernels.h has those of a forward pass.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {

// Operations of a layer and losses (gradients.cu), each as the one of its name of GradientOps.
void RmsNormGradient(Block<const float> x, const float* weight, double eps, Block<const float> dy,
                     Block<float> dx, bool add, cudaStream_t stream);
/// As Device::SwiGluInto.
void SwiGluInto(Block<const float> gate, Block<const float> up, Block<float> out,
                cudaStream_t stream);
void SwiGluGradient(Block<float> gate, Block<float> up, Block<const float> d, cudaStream_t stream);
/// x = softmax(x) - onehot(targets), by the logs of the sums of exponentials of rows.
void NllGradient(Block<float> x, const std::int32_t* targets, const double* log_sums, double* nll,
                 cudaStream_t stream);
/// x = softmax(x) - softmax(reference).
void KlGradient(Block<float> x, Block<const float> reference, const double* sums,
                const double* reference_sums, double* kl, cudaStream_t stream);

/// Doubles of scratch that NormSums and ColumnSums need.
[[nodiscard]] Index ColumnSumsScratch(Index rows, Index cols) noexcept;
/// sums[c] = the sum over rows of dy x / rms(x), in a fixed order.
void NormSums(Block<const float> x, Block<const float> dy, double eps, double* scratch,
              double* sums, cudaStream_t stream);
/// sums[c] = the sum over rows of dy.
void ColumnSums(Block<const float> dy, double* scratch, double* sums, cudaStream_t stream);

// Attention (attention_gradient.cu). Neither scores nor probabilities are written.
struct AttentionGradientArguments {
  Block<const float> q, k, v, dout;
  Block<float> dq, dk, dv;
  std::int32_t windows, length, heads, kv_heads, head_dim, window;
  float2* rows;  // [heads, windows * length] of scratch: what queries know of their probabilities
  bool exact;    // products of float32; else of factors of 16 bits
};
void AttentionGradient(const AttentionGradientArguments& arguments, cudaStream_t stream);

}  // namespace lieq::cuda
