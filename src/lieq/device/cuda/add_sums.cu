#include "lieq/device/cuda/add_sums.h"

#include <algorithm>

namespace lieq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr Index kMostBlocks = 4096;

template <class T>
__global__ void AddToKernel(const T* more, Index count, T* sums) {
  const Index step = Index{gridDim.x} * kThreads;
  for (Index i = Index{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    sums[i] += more[i];
  }
}

template <class T>
void Launch(const T* more, Index count, T* sums, cudaStream_t stream) {
  if (count == 0) return;
  const auto blocks = static_cast<unsigned>(std::min(kMostBlocks, CeilDiv(count, kThreads)));
  AddToKernel<<<blocks, kThreads, 0, stream>>>(more, count, sums);
}

}  // namespace

void AddTo(const double* more, Index count, double* sums, cudaStream_t stream) {
  Launch(more, count, sums, stream);
}

void AddTo(const float* more, Index count, float* sums, cudaStream_t stream) {
  Launch(more, count, sums, stream);
}

}  // namespace lieq::cuda
