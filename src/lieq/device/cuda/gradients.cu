// Gradients of operations of a layer beside products and attention, and of losses.
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/elements.cuh"
#include "lieq/device/cuda/gradient_kernels.h"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 1024;  // of a row of logits: there are few rows, and they are long

/// As RmsNormKernel: a group of kLanes threads takes a row.
template <int kLanes>
__global__ void RmsNormGradientKernel(Block<const float> x, const float* weight, double eps,
                                      Block<const float> dy, Block<float> dx, bool add) {
  constexpr int kRows = kThreads / kLanes;
  const Index row = Index{blockIdx.x} * kRows + threadIdx.x / kLanes;
  const int lane = threadIdx.x % kLanes;
  const bool here = row < x.rows;  // those behind the last row take part in the sums
  const float* values = x.data + row * x.stride;
  const float* gradients = dy.data + row * dy.stride;
  double squares = 0, dot = 0;
  if (here) {
    for (Index c = lane; c < x.cols; c += kLanes) {
      const double value = static_cast<double>(values[c]);
      squares += value * value;
      dot += value * static_cast<double>(gradients[c] * weight[c]);
    }
  }
  if constexpr (kLanes == kWarp) {
    squares = OverLanes(squares, Add{});
    dot = OverLanes(dot, Add{});
  } else {
    squares = OverBlock<kThreads>(squares, Add{});
    dot = OverBlock<kThreads>(dot, Add{});
  }
  if (!here) return;
  const double count = static_cast<double>(x.cols);
  const double exact = 1.0 / sqrt(squares / count + eps);
  const float scale = static_cast<float>(exact);
  const float along = static_cast<float>(exact * exact * exact * dot / count);
  float* to = dx.data + row * dx.stride;
  for (Index c = lane; c < x.cols; c += kLanes) {
    const float d = gradients[c] * weight[c] * scale - values[c] * along;
    to[c] = add ? to[c] + d : d;
  }
}

__device__ void SwiGluGradientOf(float& gate, float& up, float d) {
  // Clamped as the forward pass: exp(-gate) stays finite.
  const float sigmoid = 1.0f / (1.0f + expf(fminf(-gate, 88.0f))), silu = gate * sigmoid;
  gate = d * up * (sigmoid + silu * (1.0f - sigmoid));
  up = d * silu;
}

__global__ void SwiGluGradientKernel(Block<float> gate, Block<float> up, Block<const float> d) {
  ForColumns<kThreads>(gate.cols, [&](Index row, Index col) {
    SwiGluGradientOf(gate.data[row * gate.stride + col], up.data[row * up.stride + col],
                     d.data[row * d.stride + col]);
  });
}
__global__ void SwiGluGradientByFours(Block<float> gate, Block<float> up, Block<const float> d) {
  ForFours<kThreads>(gate.cols, [&](Index row, Index four) {
    float4 g = FourAt(gate, row, four), u = FourAt(up, row, four);
    const float4 of = FourAt(d, row, four);
    SwiGluGradientOf(g.x, u.x, of.x);
    SwiGluGradientOf(g.y, u.y, of.y);
    SwiGluGradientOf(g.z, u.z, of.z);
    SwiGluGradientOf(g.w, u.w, of.w);
    FourAt(gate, row, four) = g;
    FourAt(up, row, four) = u;
  });
}

__global__ void __launch_bounds__(kRowThreads)
    NllGradientKernel(Block<float> x, const std::int32_t* targets, const double* log_sums,
                      double* nll) {
  const Index row = blockIdx.x;
  float* values = x.data + row * x.stride;
  const std::int32_t target = targets[row];
  const double log_sum = log_sums[row];
  const float most = static_cast<float>(log_sum);
  if (threadIdx.x == 0) nll[row] = log_sum - static_cast<double>(values[target]);
  __syncthreads();  // it was read before it is overwritten
  for (Index c = threadIdx.x; c < x.cols; c += kRowThreads) {
    values[c] = expf(values[c] - most) - (c == target ? 1.0f : 0.0f);
  }
}

__global__ void __launch_bounds__(kRowThreads)
    KlGradientKernel(Block<float> x, Block<const float> reference, const double* sums,
                     const double* reference_sums, double* kl) {
  const Index row = blockIdx.x;
  const float* a = reference.data + row * reference.stride;
  float* b = x.data + row * x.stride;
  const float of_a = static_cast<float>(reference_sums[row]), of_b = static_cast<float>(sums[row]);
  const float shift = static_cast<float>(reference_sums[row] - sums[row]);
  double total = 0;
  for (Index c = threadIdx.x; c < x.cols; c += kRowThreads) {
    const float difference = (a[c] - b[c]) - shift, p = expf(a[c] - of_a);
    total += static_cast<double>(p * difference + difference * 0.0f);
    b[c] = expf(b[c] - of_b) - p;
  }
  total = OverBlock<kRowThreads>(total, Add{});
  if (threadIdx.x == 0) kl[row] = total;
}

/// inverse[r] = 1 / sqrt(mean(x²) + eps). A warp takes a row.
__global__ void InverseKernel(Block<const float> x, double eps, double* inverse) {
  const Index row = Index{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= x.rows) return;  // a whole warp
  const float* from = x.data + row * x.stride;
  double squares = 0;
  for (Index c = threadIdx.x % kWarp; c < x.cols; c += kWarp) {
    const double value = static_cast<double>(from[c]);
    squares += value * value;
  }
  squares = OverLanes(squares, Add{});
  if (threadIdx.x % kWarp == 0) {
    inverse[row] = 1.0 / sqrt(squares / static_cast<double>(x.cols) + eps);
  }
}

constexpr Index kRowsOfPart = 256;

/// parts[part][c]: the sum over some rows of dy, or of dy x inverse. A warp takes 32 columns of
/// every eighth row.
__global__ void PartSumsKernel(Block<const float> x, Block<const float> dy, const double* inverse,
                               double* parts) {
  constexpr int kWarps = kThreads / kWarp;
  __shared__ double of_warps[kWarps][kWarp];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const Index begin = Index{blockIdx.x} * kRowsOfPart, col = Index{blockIdx.y} * kWarp + lane;
  const Index end = begin + kRowsOfPart < dy.rows ? begin + kRowsOfPart : dy.rows;
  double sum = 0;
  if (col < dy.cols) {
    for (Index r = begin + warp; r < end; r += kWarps) {
      double term = static_cast<double>(dy.data[r * dy.stride + col]);
      if (inverse != nullptr) {
        term *= static_cast<double>(x.data[r * x.stride + col]) * inverse[r];
      }
      sum += term;
    }
  }
  of_warps[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || col >= dy.cols) return;
  for (int w = 1; w < kWarps; ++w) sum += of_warps[w][lane];
  parts[Index{blockIdx.x} * dy.cols + col] = sum;
}

/// A warp takes every eighth part of 32 columns.
__global__ void AddPartsKernel(const double* parts, Index count, Index cols, double* sums) {
  constexpr int kWarps = kThreads / kWarp;
  __shared__ double of_warps[kWarps][kWarp];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const Index col = Index{blockIdx.x} * kWarp + lane;
  double sum = 0;
  for (Index i = warp; col < cols && i < count; i += kWarps) sum += parts[i * cols + col];
  of_warps[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || col >= cols) return;
  for (int w = 1; w < kWarps; ++w) sum += of_warps[w][lane];
  sums[col] = sum;
}

void SumColumns(Block<const float> x, Block<const float> dy, const double* inverse, double* parts,
                double* sums, cudaStream_t stream) {
  const Index count = CeilDiv(dy.rows, kRowsOfPart);
  if (dy.rows > 0) {
    PartSumsKernel<<<RowsByColumns(count, dy.cols, kWarp), kThreads, 0, stream>>>(x, dy, inverse,
                                                                                  parts);
  }
  AddPartsKernel<<<static_cast<unsigned>(CeilDiv(dy.cols, kWarp)), kThreads, 0, stream>>>(
      parts, count, dy.cols, sums);
}

}  // namespace

void RmsNormGradient(Block<const float> x, const float* weight, double eps, Block<const float> dy,
                     Block<float> dx, bool add, cudaStream_t stream) {
  if (x.rows == 0) return;
  if (x.cols <= 512) {
    constexpr int kRows = kThreads / kWarp;
    RmsNormGradientKernel<kWarp>
        <<<static_cast<unsigned>(CeilDiv(x.rows, kRows)), kThreads, 0, stream>>>(x, weight, eps, dy,
                                                                                 dx, add);
  } else {
    RmsNormGradientKernel<kThreads>
        <<<static_cast<unsigned>(x.rows), kThreads, 0, stream>>>(x, weight, eps, dy, dx, add);
  }
}

void SwiGluGradient(Block<float> gate, Block<float> up, Block<const float> d, cudaStream_t stream) {
  if (gate.rows * gate.cols == 0) return;
  const auto kernel = InFours(gate, up, d) ? SwiGluGradientByFours : SwiGluGradientKernel;
  kernel<<<RowsByColumns(gate.rows, gate.cols, 4 * kThreads), kThreads, 0, stream>>>(gate, up, d);
}

void NllGradient(Block<float> x, const std::int32_t* targets, const double* log_sums, double* nll,
                 cudaStream_t stream) {
  if (x.rows == 0) return;
  NllGradientKernel<<<static_cast<unsigned>(x.rows), kRowThreads, 0, stream>>>(x, targets, log_sums,
                                                                               nll);
}

void KlGradient(Block<float> x, Block<const float> reference, const double* sums,
                const double* reference_sums, double* kl, cudaStream_t stream) {
  if (x.rows == 0) return;
  KlGradientKernel<<<static_cast<unsigned>(x.rows), kRowThreads, 0, stream>>>(x, reference, sums,
                                                                              reference_sums, kl);
}

Index ColumnSumsScratch(Index rows, Index cols) noexcept {
  return rows + CeilDiv(rows, kRowsOfPart) * cols;
}

void NormSums(Block<const float> x, Block<const float> dy, double eps, double* scratch,
              double* sums, cudaStream_t stream) {
  constexpr int kRows = kThreads / kWarp;
  if (x.rows > 0) {
    InverseKernel<<<static_cast<unsigned>(CeilDiv(x.rows, kRows)), kThreads, 0, stream>>>(x, eps,
                                                                                          scratch);
  }
  SumColumns(x, dy, scratch, scratch + x.rows, sums, stream);
}

void ColumnSums(Block<const float> dy, double* scratch, double* sums, cudaStream_t stream) {
  SumColumns(dy, dy, nullptr, scratch, sums, stream);
}

}  // namespace lieq::cuda
