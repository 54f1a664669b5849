// What kernels of attention share: which keys a query sees, and where they lie.
#pragma once

#include <cstdint>

#include "lieq/device/cuda/device_code.cuh"

namespace lieq::cuda {

__device__ inline float4 WidenedFour(const float* four) {
  return *reinterpret_cast<const float4*>(four);
}
__device__ inline float Widened(float value) {
  return value;
}
__device__ inline float Widened(std::uint16_t half) {
  return __half2float(__ushort_as_half(half));
}
__device__ inline float4 WidenedFour(const std::uint16_t* four) {
  const ushort4 halves = *reinterpret_cast<const ushort4*>(four);
  return {Widened(halves.x), Widened(halves.y), Widened(halves.z), Widened(halves.w)};
}

/// Row of k and v of a token of the span's sequence.
__device__ inline Index KeyRow(const Span& span, std::int32_t token) {
  return token < span.past ? Index{span.past_keys} + token : Index{span.keys} + token - span.past;
}
/// The first token that the one at `position` sees. window: 0 for all before it.
__device__ inline std::int32_t FirstSeen(std::int32_t window, std::int32_t position) {
  return window == 0 ? 0 : max(0, position + 1 - window);
}

}  // namespace lieq::cuda
