// What the graph of a step reads that differs from step to step (recording.h).
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/recording.h"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void SetStepKernel(const __grid_constant__ StepInputs inputs, StepInputs* to) {
  constexpr int kWords = sizeof(StepInputs) / sizeof(std::int32_t);
  const auto* from = reinterpret_cast<const std::int32_t*>(&inputs);
  for (int i = threadIdx.x; i < kWords; i += kThreads) {
    reinterpret_cast<std::int32_t*>(to)[i] = from[i];
  }
}

template <class T>
__global__ void StoreTokenKernel(Block<const float> from, T* cache, Index stride, const Span* spans,
                                 Index span) {
  const Index col = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (col >= from.cols) return;
  const float value = from.data[col];
  T* to = cache + spans[span].keys * stride + col;
  if constexpr (sizeof(T) == sizeof(float)) {
    *to = value;
  } else {
    *to = BoundedHalf(value);
  }
}

}  // namespace

void SetStep(const StepInputs& inputs, StepInputs* to, cudaStream_t stream) {
  SetStepKernel<<<1, kThreads, 0, stream>>>(inputs, to);
}

void StoreToken(Block<const float> from, void* cache, bool half, Index stride, const Span* spans,
                Index span, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(CeilDiv(from.cols, kThreads));
  if (half) {
    StoreTokenKernel<<<blocks, kThreads, 0, stream>>>(from, static_cast<std::uint16_t*>(cache),
                                                      stride, spans, span);
  } else {
    StoreTokenKernel<<<blocks, kThreads, 0, stream>>>(from, static_cast<float*>(cache), stride,
                                                      spans, span);
  }
}

}  // namespace lieq::cuda
