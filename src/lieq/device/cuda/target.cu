// What GPTQ approximates in place of weights whose inputs have drifted: solves with a factor, a
// block of positions with a thread to a row; the blocks' effect on one another is a product.
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 64;

/// t = F⁻¹ t, or F⁻ᵀ t, inside a block; negated [width, rows] = -t. f: the block of F.
template <bool kForward>
__global__ void SolveKernel(const float* f, Index n, int width, Index rows, float* values,
                            float* negated) {
  extern __shared__ float shared[];  // [width, kThreads]
  const Index row = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= rows) return;
  float* t = shared + threadIdx.x;
  for (int p = 0; p < width; ++p) t[p * kThreads] = values[p * rows + row];
  if constexpr (kForward) {
    for (int p = 1; p < width; ++p) {
      float even = t[p * kThreads], odd = 0;
      int k = 0;
      for (; k + 2 <= p; k += 2) {
        even = fmaf(-__ldg(f + p * n + k), t[k * kThreads], even);
        odd = fmaf(-__ldg(f + p * n + k + 1), t[(k + 1) * kThreads], odd);
      }
      if (k < p) even = fmaf(-__ldg(f + p * n + k), t[k * kThreads], even);
      t[p * kThreads] = even + odd;
    }
  } else {
    for (int p = width - 1; p > 0; --p) {
      const float known = t[p * kThreads];
#pragma unroll 4
      for (int k = 0; k < p; ++k) {
        t[k * kThreads] = fmaf(-known, __ldg(f + p * n + k), t[k * kThreads]);
      }
    }
  }
  for (int p = 0; p < width; ++p) {
    values[p * rows + row] = t[p * kThreads];
    negated[p * rows + row] = -t[p * kThreads];
  }
}

constexpr int kWide = 256;

__global__ void DivideByPivotsKernel(const float* pivots, Index rows, float* values) {
  const Index row = Index{blockIdx.y} * kWide + threadIdx.x, p = blockIdx.x;
  if (row < rows) values[p * rows + row] /= pivots[p] * pivots[p];
}

__global__ void PermuteRowsKernel(const float* from, const std::int32_t* map, Index rows,
                                  float* to) {
  const Index row = Index{blockIdx.y} * kWide + threadIdx.x, i = blockIdx.x;
  if (row < rows) to[i * rows + row] = from[Index{map[i]} * rows + row];
}

__global__ void AddMultipleKernel(const float* from, float factor, Index count, float* to) {
  const Index i = Index{blockIdx.x} * kWide + threadIdx.x;
  if (i < count) to[i] = fmaf(factor, from[i], to[i]);
}

__global__ void MetricKernel(const double* gram, const double* diagonal, Index n, float* h) {
  const Index i = blockIdx.x, j = Index{blockIdx.y} * kWide + threadIdx.x;
  if (j >= n) return;
  const double value = i == j ? diagonal[i] : i > j ? gram[i * n + j] : gram[j * n + i];
  h[i * n + j] = static_cast<float>(value);
}

}  // namespace

void SolveInBlock(const float* f, Index n, Index width, Index rows, bool forward, float* values,
                  float* negated, cudaStream_t stream) {
  const auto launch = [&](auto* kernel) {
    kernel<<<static_cast<unsigned>(CeilDiv(rows, kThreads)), kThreads,
             Size(width) * kThreads * sizeof(float), stream>>>(f, n, static_cast<int>(width), rows,
                                                               values, negated);
  };
  if (forward) return launch(SolveKernel<true>);
  launch(SolveKernel<false>);
}

void DivideByPivots(const float* pivots, Index n, Index rows, float* values, cudaStream_t stream) {
  DivideByPivotsKernel<<<RowsByColumns(n, rows, kWide), kWide, 0, stream>>>(pivots, rows, values);
}

void PermuteRows(const float* from, const std::int32_t* map, Index n, Index rows, float* to,
                 cudaStream_t stream) {
  PermuteRowsKernel<<<RowsByColumns(n, rows, kWide), kWide, 0, stream>>>(from, map, rows, to);
}

void AddMultiple(const float* from, float factor, Index count, float* to, cudaStream_t stream) {
  AddMultipleKernel<<<static_cast<unsigned>(CeilDiv(count, kWide)), kWide, 0, stream>>>(
      from, factor, count, to);
}

void MakeMetric(const double* gram, const double* diagonal, Index n, float* h,
                cudaStream_t stream) {
  MetricKernel<<<RowsByColumns(n, n, kWide), kWide, 0, stream>>>(gram, diagonal, n, h);
}

}  // namespace lieq::cuda
