// What kernels that round know of grids.
#pragma once

#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {

/// As RoundScale of tensor/qmatrix.h.
__device__ inline float StoredScale(float scale) {
  if (scale == 0) return copysignf(0x1.0p-14f, scale);
  const float magnitude = fminf(fabsf(scale), 65280.0f);
  const float rounded = magnitude < 0x1.0p-17f ? rintf(magnitude * 0x1.0p24f) * 0x1.0p-24f
                                               : __bfloat162float(__float2bfloat16_rn(magnitude));
  return copysignf(fmaxf(rounded, 0x1.0p-24f), scale);
}

/// Of grids that have one zero for all groups.
__device__ inline float SharedZero(const GptqGrid& grid) {
  return grid.zeros == Zeros::kHalf ? 0.5f * static_cast<float>(grid.levels - 1)
                                    : static_cast<float>(grid.levels / 2);
}

}  // namespace lieq::cuda
