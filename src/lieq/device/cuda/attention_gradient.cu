// Gradients of causal attention, whose probabilities are computed again and never written, by tiles
// of queries and keys (Dao et al., arXiv:2205.14135). Every sum is added in a fixed order: one
// block of threads owns a tile of queries, for dq, or of keys, for dk and dv, and goes along the
// others.
#include "lieq/device/cuda/attention_tiles.cuh"
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/gradient_kernels.h"

namespace lieq::cuda {
namespace {

using Arguments = AttentionGradientArguments;

template <class T>
__device__ void Store(const Place<T>& at, const float (&sums)[T::kSums][4], float factor,
                      Block<float> to, Index first, Index column, std::int32_t count,
                      std::int32_t head_dim) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = at.Row(half);
    if (r >= count) continue;
    float* row = to.data + (first + r) * to.stride + column;
#pragma unroll
    for (int n = 0; n < T::kSums; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int c = (at.part * T::kSums + n) * 8 + 2 * at.pair + j;
        if (c < head_dim) row[c] = sums[n][2 * half + j] * factor;
      }
    }
  }
}

__device__ bool Sees(const Arguments& a, std::int32_t query, std::int32_t key) {
  return key <= query && query < a.length && (a.window == 0 || key > query - a.window);
}
__device__ float ScaleOf(const Arguments& a) {
  return static_cast<float>(1.0 / sqrt(static_cast<double>(a.head_dim)));
}

/// dq of a tile of queries, and for KeyKernel what their probabilities are made of: the log of the
/// sum of exponentials of their scores, and the mean of dp = dout vᵀ by their probabilities.
template <class T>
__global__ void __launch_bounds__(T::kThreads) QueryKernel(Arguments a) {
  extern __shared__ __align__(16) float shared[];
  float* const queries = shared;                           // [kOwn, kPitch]
  float* const gradients = queries + T::kOwn * T::kPitch;  // the same, of the output
  float* const keys = gradients + T::kOwn * T::kPitch;     // [kOther, kPitch]
  float* const values = keys + T::kOther * T::kPitch;

  const std::int32_t tiles = (a.length + T::kOwn - 1) / T::kOwn, head = blockIdx.y;
  // The longest first: they see the most keys.
  const std::int32_t begin = (tiles - 1 - blockIdx.x % tiles) * T::kOwn;
  const Index first = Index{blockIdx.x / tiles} * a.length;
  const Index column = Index{head} * a.head_dim;
  const Index kv_column = Index{head / (a.heads / a.kv_heads)} * a.head_dim;
  const std::int32_t rows = min(T::kOwn, a.length - begin), end = begin + rows;
  const std::int32_t seen = a.window == 0 ? 0 : max(0, begin + 1 - a.window);
  const std::int32_t start = seen / T::kOther * T::kOther;
  const float scale = ScaleOf(a);
  const Place<T> at;
  const auto own_row = [&](int r) { return first + begin + r; };
  Load<T, T::kOwn>(a.q, own_row, column, rows, a.head_dim, scale, queries);
  Load<T, T::kOwn>(a.dout, own_row, column, rows, a.head_dim, 1.0f, gradients);

  float scores[T::kEights][4], dp[T::kEights][4];
  const auto tile = [&](std::int32_t t) {
    const std::int32_t count = min(T::kOther, end - t);
    __syncthreads();  // the tile before has been read
    const auto row = [&](int r) { return first + t + r; };
    Load<T, T::kOther>(a.k, row, kv_column, count, a.head_dim, 1.0f, keys);
    Load<T, T::kOther>(a.v, row, kv_column, count, a.head_dim, 1.0f, values);
    __syncthreads();
    Scores<T>(at, queries, keys, scores);
    Scores<T>(at, gradients, values, dp);
  };
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {}, dot[2] = {};
  for (std::int32_t t = start; t < end; t += T::kOther) {
    tile(t);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int32_t query = begin + at.Row(half);
      float largest = most[half];
#pragma unroll
      for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[n][2 * half + j];
          if (!Sees(a, query, t + n * 8 + 2 * at.pair + j)) score = -INFINITY;
          largest = fmaxf(largest, score);
        }
      }
      largest = OverLanes<4>(largest, Most{});
      float some = 0, of_dp = 0;
      if (largest != -INFINITY) {
        const float factor = most[half] == -INFINITY ? 0.0f : expf(most[half] - largest);
        sum[half] *= factor;
        dot[half] *= factor;
#pragma unroll
        for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const float score = scores[n][2 * half + j];
            const float p = score == -INFINITY ? 0.0f : expf(score - largest);
            some += p;
            of_dp += p * dp[n][2 * half + j];
          }
        }
      }
      most[half] = largest;
      sum[half] += OverLanes<4>(some, Add{});
      dot[half] += OverLanes<4>(of_dp, Add{});
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    dot[half] /= sum[half];
    most[half] += logf(sum[half]);
    if (at.pair == 0 && at.part == 0 && at.Row(half) < rows) {
      const Index row = first + begin + at.Row(half);
      a.rows[Index{head} * a.windows * a.length + row] = {most[half], dot[half]};
    }
  }
  float sums[T::kSums][4] = {};
  for (std::int32_t t = start; t < end; t += T::kOther) {
    tile(t);
#pragma unroll
    for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int half = i / 2;
        const bool sees = Sees(a, begin + at.Row(half), t + n * 8 + 2 * at.pair + i % 2);
        const float p = sees ? expf(scores[n][i] - most[half]) : 0.0f;
        dp[n][i] = sees ? p * (dp[n][i] - dot[half]) : 0.0f;
      }
    }
    AddWeighted<T>(at, dp, keys, sums);
  }
  Store<T>(at, sums, scale, a.dq, first + begin, column, rows, a.head_dim);
}

/// dk and dv of a tile of keys, over all queries of all heads that see it.
template <class T>
__global__ void __launch_bounds__(T::kThreads) KeyKernel(Arguments a) {
  extern __shared__ __align__(16) float shared[];
  float* const keys = shared;                           // [kOwn, kPitch]
  float* const values = keys + T::kOwn * T::kPitch;     // the same
  float* const queries = values + T::kOwn * T::kPitch;  // [kOther, kPitch]
  float* const gradients = queries + T::kOther * T::kPitch;

  const std::int32_t tiles = (a.length + T::kOwn - 1) / T::kOwn, kv_head = blockIdx.y;
  const std::int32_t begin = blockIdx.x % tiles * T::kOwn;  // the first are seen by the most
  const Index first = Index{blockIdx.x / tiles} * a.length;
  const Index kv_column = Index{kv_head} * a.head_dim;
  const std::int32_t rows = min(T::kOwn, a.length - begin);
  const std::int32_t end = a.window == 0 ? a.length : min(a.length, begin + rows - 1 + a.window);
  const float scale = ScaleOf(a);
  const Place<T> at;
  const auto own_row = [&](int r) { return first + begin + r; };
  Load<T, T::kOwn>(a.k, own_row, kv_column, rows, a.head_dim, 1.0f, keys);
  Load<T, T::kOwn>(a.v, own_row, kv_column, rows, a.head_dim, 1.0f, values);

  float dk[T::kSums][4] = {}, dv[T::kSums][4] = {};
  const std::int32_t shared_by = a.heads / a.kv_heads;
  for (std::int32_t head = kv_head * shared_by; head < (kv_head + 1) * shared_by; ++head) {
    const Index column = Index{head} * a.head_dim;
    const float2* known = a.rows + Index{head} * a.windows * a.length + first;
    for (std::int32_t t = begin / T::kOther * T::kOther; t < end; t += T::kOther) {
      const std::int32_t count = min(T::kOther, a.length - t);
      __syncthreads();  // the tile before has been read
      const auto row = [&](int r) { return first + t + r; };
      Load<T, T::kOther>(a.q, row, column, count, a.head_dim, scale, queries);
      Load<T, T::kOther>(a.dout, row, column, count, a.head_dim, 1.0f, gradients);
      __syncthreads();
      float scores[T::kEights][4], dp[T::kEights][4];
      Scores<T>(at, keys, queries, scores);
      Scores<T>(at, values, gradients, dp);
#pragma unroll
      for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const std::int32_t query = t + n * 8 + 2 * at.pair + j;
          const float2 row = query < a.length ? known[query] : float2{0, 0};
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int i = 2 * half + j;
            const bool sees = Sees(a, query, begin + at.Row(half));
            const float p = sees ? expf(scores[n][i] - row.x) : 0.0f;
            scores[n][i] = p;
            dp[n][i] = sees ? p * (dp[n][i] - row.y) : 0.0f;
          }
        }
      }
      AddWeighted<T>(at, scores, gradients, dv);
      AddWeighted<T>(at, dp, queries, dk);
    }
  }
  Store<T>(at, dk, 1.0f, a.dk, first + begin, kv_column, rows, a.head_dim);
  Store<T>(at, dv, 1.0f, a.dv, first + begin, kv_column, rows, a.head_dim);
}

template <class T>
void Launch(const Arguments& a, cudaStream_t stream) {
  const int bytes = 2 * (T::kOwn + T::kOther) * T::kPitch * static_cast<int>(sizeof(float));
  const Index tiles = CeilDiv(a.length, Index{T::kOwn}) * a.windows;
  const auto launch = [&](auto* kernel, std::int32_t heads) {
    // More than 48 KiB has to be asked for; the call is cheap, and of this device.
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    kernel<<<dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(heads), 1), T::kThreads,
             bytes, stream>>>(a);
  };
  launch(QueryKernel<T>, a.heads);
  launch(KeyKernel<T>, a.kv_heads);
}

}  // namespace

/// Tiles are such that 99 KiB of shared memory are enough.
void AttentionGradient(const Arguments& arguments, cudaStream_t stream) {
  if (arguments.windows * arguments.length == 0) return;
  if (arguments.head_dim <= 64) {
    Launch<Tiling<64, 64, 64, 1>>(arguments, stream);
  } else if (arguments.head_dim <= 128) {
    Launch<Tiling<128, 64, 32, 1>>(arguments, stream);
  } else {
    Launch<Tiling<kMostHeadDim, 32, 16, 2>>(arguments, stream);
  }
}

}  // namespace lieq::cuda
