// GPTQ with a thread to a row: rows know nothing of one another, so a block of columns is rounded
// without a barrier, and what it leaves to the blocks behind it is a product of matrices.
#include <algorithm>

#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/grid_code.cuh"
#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 64;  // rows of a block: with its part of the feedback 96 KiB
constexpr int kSub = 32;      // positions whose targets a thread has in registers

constexpr int kTransposeTile = 32, kTransposeRows = 8;
template <class T>
__global__ void TransposeKernel(const T* from, Index rows, Index cols, const std::int32_t* order,
                                T* to) {
  __shared__ T tile[kTransposeTile][kTransposeTile + 1];
  const Index row = Index{blockIdx.x} * kTransposeTile, col = Index{blockIdx.y} * kTransposeTile;
  const int x = threadIdx.x % kTransposeTile, y = threadIdx.x / kTransposeTile;
  for (int i = y; i < kTransposeTile; i += kTransposeRows) {
    if (row + i >= rows || col + x >= cols) continue;
    const Index source = order == nullptr ? col + x : Index{order[col + x]};
    tile[i][x] = from[(row + i) * cols + source];
  }
  __syncthreads();
  for (int i = y; i < kTransposeTile; i += kTransposeRows) {
    if (col + i < cols && row + x < rows) to[(col + i) * rows + row + x] = tile[x][i];
  }
}

constexpr int kPermuteThreads = 256;
__global__ void PermuteKernel(const double* gram, const double* diagonal, const std::int32_t* order,
                              Index n, double* to) {
  const Index p = blockIdx.x, q = Index{blockIdx.y} * kPermuteThreads + threadIdx.x;
  if (q > p) return;
  const Index row = order[p], col = order[q];
  to[p * n + q] = p == q ? diagonal[row] : row > col ? gram[row * n + col] : gram[col * n + row];
}

__global__ void NormalizeKernel(const double* l, Index n, float* feedback, float* pivots) {
  const Index p = blockIdx.x, q = Index{blockIdx.y} * kPermuteThreads + threadIdx.x;
  if (q >= n) return;
  feedback[p * n + q] = q < p ? static_cast<float>(l[p * n + q] * (1 / l[q * n + q])) : 0.0f;
  if (p == q) pivots[p] = static_cast<float>(l[p * n + p]);
}

/// One group of a row: its values and their importance, `pitch` apart.
struct Group {
  const float* values;
  Index pitch;
  const float* importance;
  const std::int32_t* rows_of;  // of values, or null: one after another
  int columns;
  float top;  // the highest code

  __device__ float Value(int i) const {
    return values[(rows_of == nullptr ? i : Index{rows_of[i]}) * pitch];
  }
  /// Calls use(value, importance, code - zero) of the nearest levels, as WeightedGroup.
  template <class Use>
  __device__ void ForCodes(float scale, float zero, const Use& use) const {
    const float inverse = 1.0f / scale, whole = floorf(zero), part = zero - whole;
    for (int i = 0; i < columns; ++i) {
      const float value = Value(i);
      const float step = fminf(fmaxf(value * inverse + part, -whole), top - whole);
      use(value, importance[i], rintf(step) - part);
    }
  }
  __device__ float Error(float scale, float zero) const {
    float sum = 0;
    ForCodes(scale, zero, [&](float value, float weight, float step) {
      const float miss = value - step * scale;
      sum += weight * miss * miss;
    });
    return sum;
  }
  __device__ float Refit(float scale, float zero) const {
    float products = 0, squares = 0;
    ForCodes(scale, zero, [&](float value, float weight, float step) {
      products += weight * value * step;
      squares += weight * step * step;
    });
    return squares > 0 ? products / squares : scale;
  }
};

struct Best {
  float error = INFINITY, scale = 0, zero = 0;

  __device__ void Try(const Group& group, float exact, float at) {
    const float stored = StoredScale(exact);
    const float found = group.Error(stored, at);
    if (found < error) {
      error = found;
      scale = stored;
      zero = at;
    }
  }
};

/// Scale and zero of a group's extreme weights.
__device__ void MinMax(const GptqGrid& grid, float low, float high, float& scale, float& zero) {
  if (grid.zeros != Zeros::kInteger) {
    zero = SharedZero(grid);
    scale = StoredScale(-(-low > high ? low : high) / zero);
    return;
  }
  const float top = static_cast<float>(grid.levels - 1);
  scale = StoredScale((high - low) / top);
  zero = fminf(fmaxf(rintf(-low / scale), 0.0f), top);
}

/// Where the squared error is least, as FitGroup of quantize/grid_fit.h.
__device__ void Search(const Group& group, const GptqGrid& grid, float low, float high,
                       float& scale, float& zero) {
  constexpr int kSteps = 35;  // 1.15 down to 0.3 by 0.025
  Best best;
  for (int step = 0; step < kSteps; ++step) {
    const float shrink = static_cast<float>(1.15 - 0.025 * step);
    if (grid.zeros != Zeros::kInteger) {
      const float shared = SharedZero(grid), exact = fmaxf(-low, high) / shared * shrink;
      best.Try(group, exact, shared);
      if (grid.zeros == Zeros::kSymmetric) best.Try(group, -exact, shared);
      continue;
    }
    const int top = grid.levels - 1;
    if (grid.levels <= 8) {
      for (int at = 0; at <= top; ++at) {
        const float below = at > 0 ? -low / static_cast<float>(at) : 0.0f;
        const float above = at < top ? high / static_cast<float>(top - at) : 0.0f;
        best.Try(group, shrink * fmaxf(below, above), static_cast<float>(at));
      }
      continue;
    }
    const float exact = shrink * (high - low) / static_cast<float>(top);
    if (!(exact > 0)) continue;
    const int nearest = static_cast<int>(rintf(shrink * -low / exact));
    for (int at = max(0, nearest - 1); at <= min(top, nearest + 1); ++at) {
      best.Try(group, exact, static_cast<float>(at));
    }
  }
  if (!(best.error < INFINITY)) return MinMax(grid, low, high, scale, zero);
  for (int round = 0; round < 3; ++round) {
    const float before = best.error;
    best.Try(group, group.Refit(best.scale, best.zero), best.zero);
    if (!(best.error < before)) break;
  }
  scale = best.scale;
  zero = best.zero;
}

/// A thread to a row, blockIdx.y the group. Values lie in shared memory where `staged`.
__global__ void FitKernel(const float* values, Index rows, const std::int32_t* positions,
                          const float* pivots, GptqGrid grid, bool staged, float* scales,
                          float* minima) {
  extern __shared__ float shared[];  // importance [columns], then values [columns, kThreads]
  const int columns = grid.group_columns;
  const std::int32_t* of_group = positions + Index{blockIdx.y} * columns;
  const Index row = Index{blockIdx.x} * kThreads + threadIdx.x;
  for (int i = threadIdx.x; i < columns; i += kThreads) {
    const float pivot = pivots[of_group[i]];
    shared[i] = pivot * pivot;
  }
  if (staged && row < rows) {
    for (int i = 0; i < columns; ++i) {
      shared[columns + i * kThreads + threadIdx.x] = values[Index{of_group[i]} * rows + row];
    }
  }
  __syncthreads();
  if (row >= rows) return;
  const Group group{.values = staged ? shared + columns + threadIdx.x : values + row,
                    .pitch = staged ? kThreads : rows,
                    .importance = shared,
                    .rows_of = staged ? nullptr : of_group,
                    .columns = columns,
                    .top = static_cast<float>(grid.levels - 1)};
  float low = 0, high = 0;
  for (int i = 0; i < columns; ++i) {
    low = fminf(low, group.Value(i));
    high = fmaxf(high, group.Value(i));
  }
  float scale = StoredScale(0);
  float zero = grid.zeros == Zeros::kHalf ? SharedZero(grid) : static_cast<float>(grid.levels / 2);
  if (low != 0 || high != 0) {
    if (grid.search) {
      Search(group, grid, low, high, scale, zero);
    } else {
      MinMax(grid, low, high, scale, zero);
    }
  }
  scales[Index{blockIdx.y} * rows + row] = scale;
  minima[Index{blockIdx.y} * rows + row] = -scale * zero;
}

/// Numbers of positions within the block count from its end: the order of rounding.
__global__ void __launch_bounds__(kThreads) BlockKernel(GptqBlock block, GptqGrid grid) {
  extern __shared__ __align__(16) float shared[];
  float* const feedback = shared;                           // [kGptqBlock, kGptqBlock]
  float* const targets = shared + kGptqBlock * kGptqBlock;  // [kGptqBlock, kThreads]
  const int width = static_cast<int>(block.end - block.begin);
  const Index last = block.end - 1;
  const int lane = threadIdx.x;
  const Index row = Index{blockIdx.x} * kThreads + lane;
  const bool here = row < block.rows;
  const Index at = here ? row : block.rows - 1;  // threads behind the last row do it once more
  for (int i = lane; i < kGptqBlock * kGptqBlock; i += kThreads) {
    const int from = i / kGptqBlock, to = i % kGptqBlock;
    feedback[i] =
        to > from && to < width ? block.feedback[(last - from) * block.n + last - to] : 0.0f;
  }
  for (int i = 0; i < width; ++i) {
    targets[i * kThreads + lane] = block.targets[(width - 1 - i) * block.rows + at];
  }
  __syncthreads();
  const float top = static_cast<float>(grid.levels - 1);
  float error = 0;
  int clamped = 0;
  for (int sub = 0; sub < width; sub += kSub) {
    float target[kSub], miss[kSub], weight[kSub], scale[kSub], minimum[kSub];
#pragma unroll
    for (int k = 0; k < kSub; ++k) {
      target[k] = miss[k] = weight[k] = minimum[k] = 0;
      scale[k] = 1;
      if (sub + k >= width) continue;
      const Index position = last - sub - k;
      const Index group = block.order[position] / grid.group_columns;
      target[k] = targets[(sub + k) * kThreads + lane];
      weight[k] = block.weights[position * block.rows + at];
      scale[k] = block.scale[group * block.rows + at];
      minimum[k] = block.minimum[group * block.rows + at];
    }
#pragma unroll
    for (int k = 0; k < kSub; ++k) {
      if (sub + k >= width) break;
      const Index position = last - sub - k;
      const float inverse = 1.0f / scale[k];
      const float code = rintf(fminf(fmaxf((target[k] - minimum[k]) * inverse, 0.0f), top));
      const float level = __fadd_rn(__fmul_rn(scale[k], code), minimum[k]);
      const float off = target[k] - level, weighed = block.pivots[position] * off;
      error += weighed * weighed;
      clamped += fabsf(off) > 0.50001f * fabsf(scale[k]) ? 1 : 0;
      miss[k] = weight[k] - level;
      if (here) {
        block.codes[Index{block.order[position]} * block.rows + row] =
            static_cast<std::uint8_t>(code);
        block.errors[position * block.rows + row] = miss[k];
        if (block.seen != nullptr) block.seen[position * block.rows + row] = target[k];
      }
      const float* factors = feedback + (sub + k) * kGptqBlock + sub;
#pragma unroll
      for (int j = k + 1; j < kSub; ++j) target[j] = fmaf(miss[k], factors[j], target[j]);
    }
    for (int j = sub + kSub; j < width; j += 4) {  // the feedback is 0 from width on
      float next[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        next[i] = j + i < width ? targets[(j + i) * kThreads + lane] : 0.0f;
      }
#pragma unroll
      for (int k = 0; k < kSub; ++k) {
        const float4 factors =
            *reinterpret_cast<const float4*>(feedback + (sub + k) * kGptqBlock + j);
        next[0] = fmaf(miss[k], factors.x, next[0]);
        next[1] = fmaf(miss[k], factors.y, next[1]);
        next[2] = fmaf(miss[k], factors.z, next[2]);
        next[3] = fmaf(miss[k], factors.w, next[3]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (j + i < width) targets[(j + i) * kThreads + lane] = next[i];
      }
    }
  }
  if (!here) return;
  block.error[row] += static_cast<double>(error);
  block.clamped[row] += static_cast<double>(clamped);
}

__global__ void SignalKernel(const float* values, Index count, Index rows, const float* pivots,
                             double* signal) {
  const Index row = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= rows) return;
  float squares = 0;
  for (Index i = 0; i < count; ++i) {
    const float value = pivots[i] * values[i * rows + row];
    squares += value * value;
  }
  signal[row] += static_cast<double>(squares);
}

unsigned RowBlocks(Index rows) {
  return static_cast<unsigned>(CeilDiv(rows, kThreads));
}

template <class T>
void LaunchTranspose(const T* from, Index rows, Index cols, const std::int32_t* order, T* to,
                     cudaStream_t stream) {
  TransposeKernel<<<RowsByColumns(CeilDiv(rows, kTransposeTile), cols, kTransposeTile),
                    kTransposeTile * kTransposeRows, 0, stream>>>(from, rows, cols, order, to);
}

}  // namespace

void Transpose(const float* from, Index rows, Index cols, const std::int32_t* order, float* to,
               cudaStream_t stream) {
  LaunchTranspose(from, rows, cols, order, to, stream);
}

void Transpose(const std::uint8_t* from, Index rows, Index cols, std::uint8_t* to,
               cudaStream_t stream) {
  LaunchTranspose(from, rows, cols, nullptr, to, stream);
}

void Permute(const double* gram, const double* diagonal, const std::int32_t* order, Index n,
             double* to, cudaStream_t stream) {
  PermuteKernel<<<RowsByColumns(n, n, kPermuteThreads), kPermuteThreads, 0, stream>>>(
      gram, diagonal, order, n, to);
}

void Normalize(const double* l, Index n, float* feedback, float* pivots, cudaStream_t stream) {
  NormalizeKernel<<<RowsByColumns(n, n, kPermuteThreads), kPermuteThreads, 0, stream>>>(
      l, n, feedback, pivots);
}

void FitGroups(const float* values, Index rows, const std::int32_t* positions, const float* pivots,
               GptqGrid grid, float* scale, float* minimum, cudaStream_t stream) {
  constexpr int kMostBytes = 96 << 10;
  const int importance = grid.group_columns * static_cast<int>(sizeof(float));
  const bool staged = importance * (1 + kThreads) <= kMostBytes;
  const int bytes = staged ? importance * (1 + kThreads) : std::min(importance, kMostBytes);
  cudaFuncSetAttribute(FitKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostBytes);
  FitKernel<<<dim3(RowBlocks(rows), static_cast<unsigned>(grid.groups), 1), kThreads, bytes,
              stream>>>(values, rows, positions, pivots, grid, staged, scale, minimum);
}

void RoundBlock(const GptqBlock& block, GptqGrid grid, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(kGptqBlock * (kGptqBlock + kThreads) * sizeof(float));
  cudaFuncSetAttribute(BlockKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  BlockKernel<<<RowBlocks(block.rows), kThreads, kBytes, stream>>>(block, grid);
}

void AddSignal(const float* values, Index count, Index rows, const float* pivots, double* signal,
               cudaStream_t stream) {
  SignalKernel<<<RowBlocks(rows), kThreads, 0, stream>>>(values, count, rows, pivots, signal);
}

}  // namespace lieq::cuda
