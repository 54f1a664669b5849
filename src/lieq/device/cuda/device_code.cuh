// What kernels share: sums over a warp or a block in a fixed order, and grids that cover a matrix.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Most {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// Of `kLanes` neighbours, in every one of them.
template <int kLanes = kWarp, class T, class Operation>
__device__ T OverLanes(T value, Operation operation) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value = operation(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

/// Of a block of kThreads, in every thread of it. All of them call it.
template <int kThreads, class T, class Operation>
__device__ T OverBlock(T value, Operation operation) {
  constexpr int kWarps = kThreads / kWarp;
  __shared__ T of_warps[kWarps];
  value = OverLanes(value, operation);
  __syncthreads();  // those before have read it
  if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = of_warps[0];
  for (int warp = 1; warp < kWarps; ++warp) value = operation(value, of_warps[warp]);
  return value;
}

/// In f16; numbers beyond its range as its largest, infinity and NaN as they are.
__device__ inline std::uint16_t BoundedHalf(float value) {
  const bool finite = fabsf(value) <= 3.40282347e38f;
  const float bounded = finite ? fminf(fmaxf(value, -65504.0f), 65504.0f) : value;
  return __half_as_ushort(__float2half_rn(bounded));
}

/// Rows by blockIdx.x, which may be many; columns by blockIdx.y.
[[nodiscard]] inline dim3 RowsByColumns(Index rows, Index cols, Index cols_of_block) {
  return {static_cast<unsigned>(rows), static_cast<unsigned>(CeilDiv(cols, cols_of_block)), 1};
}

}  // namespace lieq::cuda
