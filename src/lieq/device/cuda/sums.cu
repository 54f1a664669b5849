// Sums over activations for calibration.
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr Index kRowsOfPart = 64;  // that one thread of ColumnSquares adds

__global__ void RowSquaresKernel(Block<const float> x, double* sums) {
  const float* row = x.data + Index{blockIdx.x} * x.stride;
  double sum = 0;
  for (Index c = threadIdx.x; c < x.cols; c += kThreads) {
    const double value = static_cast<double>(row[c]);
    sum += value * value;
  }
  sum = OverBlock<kThreads>(sum, Add{});
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void ColumnPartsKernel(Block<const float> x, double* parts) {
  const Index begin = Index{blockIdx.x} * kRowsOfPart;
  const Index end = begin + kRowsOfPart < x.rows ? begin + kRowsOfPart : x.rows;
  const Index col = Index{blockIdx.y} * kThreads + threadIdx.x;
  if (col >= x.cols) return;
  double sum = 0;
  for (Index r = begin; r < end; ++r) {
    const double value = static_cast<double>(x.data[r * x.stride + col]);
    sum += value * value;
  }
  parts[Index{blockIdx.x} * x.cols + col] = sum;
}

__global__ void AddPartsKernel(const double* parts, Index count, Index cols, double* sums) {
  const Index col = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (col >= cols) return;
  double sum = sums[col];
  for (Index i = 0; i < count; ++i) sum += parts[i * cols + col];
  sums[col] = sum;
}

__global__ void AddLowerKernel(Block<const float> part, double* sums) {
  const Index row = blockIdx.x, col = Index{blockIdx.y} * kThreads + threadIdx.x;
  if (col > row) return;
  sums[row * part.cols + col] += static_cast<double>(part.data[row * part.stride + col]);
}

template <class T>
__global__ void DiagonalKernel(const T* sums, Index n, T* to) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i < n) to[i] = sums[i * n + i];
}

template <class T>
void LaunchDiagonal(const T* sums, Index n, T* to, cudaStream_t stream) {
  if (n == 0) return;
  DiagonalKernel<<<static_cast<unsigned>(CeilDiv(n, kThreads)), kThreads, 0, stream>>>(sums, n, to);
}

}  // namespace

void Diagonal(const double* sums, Index n, double* to, cudaStream_t stream) {
  LaunchDiagonal(sums, n, to, stream);
}

void Diagonal(const float* sums, Index n, float* to, cudaStream_t stream) {
  LaunchDiagonal(sums, n, to, stream);
}

void RowSquares(Block<const float> x, double* sums, cudaStream_t stream) {
  if (x.rows == 0) return;
  RowSquaresKernel<<<static_cast<unsigned>(x.rows), kThreads, 0, stream>>>(x, sums);
}

Index ColumnSquaresScratch(Index rows, Index cols) noexcept {
  return CeilDiv(rows, kRowsOfPart) * cols;
}

void ColumnSquares(Block<const float> x, double* scratch, double* sums, cudaStream_t stream) {
  if (x.rows == 0) return;
  const Index parts = CeilDiv(x.rows, kRowsOfPart);
  ColumnPartsKernel<<<RowsByColumns(parts, x.cols, kThreads), kThreads, 0, stream>>>(x, scratch);
  AddPartsKernel<<<static_cast<unsigned>(CeilDiv(x.cols, kThreads)), kThreads, 0, stream>>>(
      scratch, parts, x.cols, sums);
}

void AddLower(Block<const float> part, double* sums, cudaStream_t stream) {
  if (part.rows == 0) return;
  AddLowerKernel<<<RowsByColumns(part.rows, part.cols, kThreads), kThreads, 0, stream>>>(part,
                                                                                         sums);
}

}  // namespace lieq::cuda
