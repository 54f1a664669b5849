// Losses over rows of logits: a block of threads a row, sums in double.
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 1024;  // of a row of logits: there are few rows, and they are long

unsigned Blocks(Index rows) {
  return static_cast<unsigned>(rows);
}

__global__ void __launch_bounds__(kRowThreads)
    LogSumExpKernel(Block<const float> x, double* log_sums) {
  const float* row = x.data + Index{blockIdx.x} * x.stride;
  float most = row[0];
  for (Index c = threadIdx.x; c < x.cols; c += kRowThreads) most = fmaxf(most, row[c]);
  most = OverBlock<kRowThreads>(most, Most{});
  double sum = 0;
  float poison = 0;  // x * 0 is NaN for NaN and infinity, which a largest value and exp may hide
  for (Index c = threadIdx.x; c < x.cols; c += kRowThreads) {
    poison += row[c] * 0.0f;
    sum += static_cast<double>(expf(row[c] - most));
  }
  sum = OverBlock<kRowThreads>(sum, Add{});
  poison = OverBlock<kRowThreads>(poison, Add{});
  if (threadIdx.x != 0) return;
  log_sums[blockIdx.x] = static_cast<double>(most) + log(sum) + static_cast<double>(poison);
}

__global__ void __launch_bounds__(kRowThreads)
    SoftmaxKlKernel(Block<const float> reference, Block<const float> x,
                    const double* reference_sums, const double* sums, double* kl) {
  const Index row = blockIdx.x;
  const float* a = reference.data + row * reference.stride;
  const float* b = x.data + row * x.stride;
  const float most = static_cast<float>(reference_sums[row]);
  const float shift = static_cast<float>(reference_sums[row] - sums[row]);
  double total = 0;
  for (Index c = threadIdx.x; c < x.cols; c += kRowThreads) {
    const float difference = (a[c] - b[c]) - shift;
    total += static_cast<double>(expf(a[c] - most) * difference + difference * 0.0f);
  }
  total = OverBlock<kRowThreads>(total, Add{});
  if (threadIdx.x == 0) kl[row] = total;
}

__global__ void NllKernel(Block<const float> x, const std::int32_t* targets, const double* log_sums,
                          double* nll) {
  const Index row = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= x.rows) return;
  nll[row] = log_sums[row] - static_cast<double>(x.data[row * x.stride + targets[row]]);
}

__global__ void PickKernel(Block<const float> x, const Pick* picks, Index count,
                           const double* log_sums, double* out) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const Pick pick = picks[i];
  out[i] = static_cast<double>(x.data[pick.row * x.stride + pick.token]) - log_sums[pick.row];
}

/// A value and where it stands: of equals the lower column is the larger.
struct Placed {
  float value;
  std::int32_t column;  // below 0: none
};
__device__ bool Above(Placed a, Placed b) {
  if (b.column < 0) return a.column >= 0;
  if (a.column < 0) return false;
  return a.value > b.value || (a.value == b.value && a.column < b.column);
}

/// k passes, each of which finds the largest below the one before.
__global__ void TopColumnsKernel(Block<const float> x, Index k, std::int32_t* columns) {
  constexpr int kWarps = kThreads / kWarp;
  __shared__ Placed of_warps[kWarps];
  const float* row = x.data + Index{blockIdx.x} * x.stride;
  Placed last{0, -1};
  for (Index i = 0; i < k; ++i) {
    Placed best{0, -1};
    for (Index c = threadIdx.x; c < x.cols; c += kThreads) {
      const Placed here{row[c], static_cast<std::int32_t>(c)};
      if (last.column >= 0 && !Above(last, here)) continue;
      if (Above(here, best)) best = here;
    }
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      const Placed other{__shfl_xor_sync(kAllLanes, best.value, offset),
                         __shfl_xor_sync(kAllLanes, best.column, offset)};
      if (Above(other, best)) best = other;
    }
    __syncthreads();
    if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = best;
    __syncthreads();
    last = of_warps[0];
    for (int warp = 1; warp < kWarps; ++warp) {
      if (Above(of_warps[warp], last)) last = of_warps[warp];
    }
    if (threadIdx.x == 0) columns[Index{blockIdx.x} * k + i] = last.column;
  }
}

}  // namespace

void LogSumExp(Block<const float> x, double* log_sums, cudaStream_t stream) {
  if (x.rows > 0) LogSumExpKernel<<<Blocks(x.rows), kRowThreads, 0, stream>>>(x, log_sums);
}

void PickLogProbabilities(Block<const float> x, const Pick* picks, Index count,
                          const double* log_sums, double* out, cudaStream_t stream) {
  if (count == 0) return;
  PickKernel<<<Blocks(CeilDiv(count, kThreads)), kThreads, 0, stream>>>(x, picks, count, log_sums,
                                                                        out);
}

void Nll(Block<const float> x, const std::int32_t* targets, const double* log_sums, double* nll,
         cudaStream_t stream) {
  if (x.rows == 0) return;
  NllKernel<<<Blocks(CeilDiv(x.rows, kThreads)), kThreads, 0, stream>>>(x, targets, log_sums, nll);
}

void SoftmaxKl(Block<const float> reference, Block<const float> x, const double* reference_sums,
               const double* sums, double* kl, cudaStream_t stream) {
  if (x.rows == 0) return;
  SoftmaxKlKernel<<<Blocks(x.rows), kRowThreads, 0, stream>>>(reference, x, reference_sums, sums,
                                                              kl);
}

void TopColumns(Block<const float> x, Index k, std::int32_t* columns, cudaStream_t stream) {
  if (x.rows > 0) TopColumnsKernel<<<Blocks(x.rows), kThreads, 0, stream>>>(x, k, columns);
}

}  // namespace lieq::cuda
