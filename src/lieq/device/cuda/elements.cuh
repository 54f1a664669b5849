// Operations of one element after another: columns one by one, or in fours that are read as one.
#pragma once

#include <cstdint>

#include "lieq/device/cuda/device_code.cuh"

namespace lieq::cuda {

/// Calls use(row, column) for a block's 4 kThreads columns of a row.
template <int kThreads, class Use>
__device__ void ForColumns(Index cols, const Use& use) {
  Index col = Index{blockIdx.y} * (4 * kThreads) + threadIdx.x;
#pragma unroll
  for (int i = 0; i < 4 && col < cols; ++i, col += kThreads) use(Index{blockIdx.x}, col);
}

/// The same of four columns that lie in memory as one: use(row, column / 4).
template <int kThreads, class Use>
__device__ void ForFours(Index cols, const Use& use) {
  const Index four = Index{blockIdx.y} * kThreads + threadIdx.x;
  if (4 * four < cols) use(Index{blockIdx.x}, four);
}

__device__ inline float4& FourAt(const Block<float>& x, Index row, Index four) {
  return reinterpret_cast<float4*>(x.data + row * x.stride)[four];
}
__device__ inline const float4& FourAt(const Block<const float>& x, Index row, Index four) {
  return reinterpret_cast<const float4*>(x.data + row * x.stride)[four];
}

/// Whether columns lie in fours that are read as one.
template <class... Blocks>
[[nodiscard]] bool InFours(const Blocks&... blocks) {
  const auto one = [](const auto& x) {
    return x.cols % 4 == 0 && x.stride % 4 == 0 &&
           reinterpret_cast<std::uintptr_t>(x.data) % sizeof(float4) == 0;
  };
  return (one(blocks) && ...);
}

}  // namespace lieq::cuda
