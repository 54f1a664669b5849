// Attention of one new token of each sequence, with what comes before it in a layer, as one kernel
// (compute capability 9.0 and newer).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {

/// Rows of q, k, v and out are tokens; token i is span i: of length 1, behind `past` others whose
/// rows of the caches are past_keys .. past_keys + past - 1, and its own is the next one.
struct TokenAttention {
  const float *q, *k, *v;  // as their products gave them
  Index q_stride, k_stride, v_stride;
  const float *q_norm, *k_norm;  // [head_dim], of RmsNorm of each head; null: none
  double eps;
  const float *cosine, *sine;  // [positions, head_dim / 2]; null: heads do not turn
  Index angle_stride;
  void *keys, *values;  // the caches: floats, or the bits of f16
  Index cache_stride;   // of rows, in elements
  bool half_cache;
  std::int32_t heads, kv_heads, head_dim, window, sequences;
  float scale;
  const Span* spans;
  float* out;
  Index out_stride;
};

/// Whether there is a kernel for heads of this shape: 64 or 128 columns, up to 8 heads that share
/// keys.
[[nodiscard]] bool AttendsTokens(Index heads, Index kv_heads, Index head_dim) noexcept;
/// Adds the tokens' rows to the caches, after norm and rotation, and attends. Sums are in an order
/// that depends on lengths, key heads and the number of sequences alone.
void AttendTokens(const TokenAttention& a, cudaStream_t stream);

}  // namespace lieq::cuda
