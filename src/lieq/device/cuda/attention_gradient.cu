// Gradients of causal attention, whose probabilities are computed again and never written, by tiles
// of queries and keys (Dao et al., arXiv:2205.14135). Every sum is added in a fixed order: one
// block of threads owns a tile of queries, for dq, or of keys, for dk and dv, and goes along the
// others.
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/gradient_kernels.h"
#include "lieq/device/cuda/split_products.cuh"

namespace lieq::cuda {
namespace {

using Arguments = AttentionGradientArguments;

/// Columns of heads, padded; rows of the tile that a block owns, those of the tiles that it goes
/// along, and the warps that share 16 own rows, each with a part of the columns of what is summed.
template <int kColumns_, int kOwn_, int kOther_, int kShare_, bool kExact_>
struct Tiling {
  static constexpr int kColumns = kColumns_, kOwn = kOwn_, kOther = kOther_, kShare = kShare_;
  static constexpr bool kExact = kExact_;
  static constexpr int kWarps = kOwn / 16 * kShare, kThreads = kWarps * kWarp;
  static constexpr int kPitch = kColumns + 4;  // what a fragment reads lies in 32 banks
  static constexpr int kEights = kOther / 8, kSums = kColumns / 8 / kShare;
  static constexpr int kFloats = 2 * (kOwn + kOther) * kPitch;
};

/// Rows `first` .. of a head, those from `count` on as zeros.
template <class T, int kRows>
__device__ void Load(Block<const float> from, Index first, Index column, std::int32_t count,
                     std::int32_t head_dim, float factor, float* to) {
  for (int i = threadIdx.x; i < kRows * T::kColumns; i += T::kThreads) {
    const int r = i / T::kColumns, c = i % T::kColumns;
    float value = 0;
    if (r < count && c < head_dim) value = from.data[(first + r) * from.stride + column + c];
    to[r * T::kPitch + c] = value * factor;
  }
}

template <class T>
__device__ void Multiply(float (&sums)[4], const Fragment& a, float b0, float b1) {
  if constexpr (T::kExact) {
    MultiplyAdd(sums, a, b0, b1);
  } else {
    MultiplyAddRounded(sums, a, b0, b1);
  }
}

/// Where a thread stands: lane (group, pair) has rows group and group + 8 of its warp's 16, and of
/// 8 columns 2 pair and 2 pair + 1.
template <class T>
struct Place {
  int rows, part, group, pair;  // first row of the warp; its part of the columns

  __device__ Place() {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    rows = warp / T::kShare * 16;
    part = warp % T::kShare;
    group = lane / 4;
    pair = lane % 4;
  }
  __device__ int Row(int half) const { return rows + group + 8 * half; }
};

/// scores = own otherᵀ. own [kOwn, kPitch], other [kOther, kPitch].
template <class T>
__device__ void Scores(const Place<T>& at, const float* own, const float* other,
                       float (&scores)[T::kEights][4]) {
#pragma unroll
  for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[n][i] = 0;
  }
#pragma unroll 2
  for (int step = 0; step < T::kColumns / 8; ++step) {
    const float* of = own + (at.rows + at.group) * T::kPitch + step * 8 + at.pair;
    Fragment row;
    row.Set(0, of[0]);
    row.Set(1, of[8 * T::kPitch]);
    row.Set(2, of[4]);
    row.Set(3, of[8 * T::kPitch + 4]);
#pragma unroll
    for (int n = 0; n < T::kEights; ++n) {
      const float* column = other + (n * 8 + at.group) * T::kPitch + step * 8 + at.pair;
      Multiply<T>(scores[n], row, column[0], column[4]);
    }
  }
}

/// sums += weights other, of this warp's part of the columns. weights: as Scores has them.
template <class T>
__device__ void AddWeighted(const Place<T>& at, const float (&weights)[T::kEights][4],
                            const float* other, float (&sums)[T::kSums][4]) {
#pragma unroll
  for (int eight = 0; eight < T::kEights; ++eight) {
    // The order within a product is free: row 2 pair of `other` stands where PTX has `pair`, row
    // 2 pair + 1 where it has `pair` + 4, so that weights need not change lanes.
    Fragment weight;
    weight.Set(0, weights[eight][0]);
    weight.Set(1, weights[eight][2]);
    weight.Set(2, weights[eight][1]);
    weight.Set(3, weights[eight][3]);
    const float* row = other + (eight * 8 + 2 * at.pair) * T::kPitch + at.part * T::kSums * 8;
#pragma unroll
    for (int n = 0; n < T::kSums; ++n) {
      const float* value = row + n * 8 + at.group;
      Multiply<T>(sums[n], weight, value[0], value[T::kPitch]);
    }
  }
}

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
  float* const queries = shared;
  float* const gradients = queries + T::kOwn * T::kPitch;
  float* const keys = gradients + T::kOwn * T::kPitch;
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
  Load<T, T::kOwn>(a.q, first + begin, column, rows, a.head_dim, scale, queries);
  Load<T, T::kOwn>(a.dout, first + begin, column, rows, a.head_dim, 1.0f, gradients);

  float scores[T::kEights][4], dp[T::kEights][4];
  const auto tile = [&](std::int32_t t) {
    const std::int32_t count = min(T::kOther, end - t);
    __syncthreads();  // the tile before has been read
    Load<T, T::kOther>(a.k, first + t, kv_column, count, a.head_dim, 1.0f, keys);
    Load<T, T::kOther>(a.v, first + t, kv_column, count, a.head_dim, 1.0f, values);
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
  float* const keys = shared;
  float* const values = keys + T::kOwn * T::kPitch;
  float* const queries = values + T::kOwn * T::kPitch;
  float* const gradients = queries + T::kOther * T::kPitch;

  const std::int32_t tiles = (a.length + T::kOwn - 1) / T::kOwn, kv_head = blockIdx.y;
  const std::int32_t begin = blockIdx.x % tiles * T::kOwn;  // the first are seen by the most
  const Index first = Index{blockIdx.x / tiles} * a.length;
  const Index kv_column = Index{kv_head} * a.head_dim;
  const std::int32_t rows = min(T::kOwn, a.length - begin);
  const std::int32_t end = a.window == 0 ? a.length : min(a.length, begin + rows - 1 + a.window);
  const float scale = ScaleOf(a);
  const Place<T> at;
  Load<T, T::kOwn>(a.k, first + begin, kv_column, rows, a.head_dim, 1.0f, keys);
  Load<T, T::kOwn>(a.v, first + begin, kv_column, rows, a.head_dim, 1.0f, values);

  float dk[T::kSums][4] = {}, dv[T::kSums][4] = {};
  const std::int32_t shared_by = a.heads / a.kv_heads;
  for (std::int32_t head = kv_head * shared_by; head < (kv_head + 1) * shared_by; ++head) {
    const Index column = Index{head} * a.head_dim;
    const float2* known = a.rows + Index{head} * a.windows * a.length + first;
    for (std::int32_t t = begin / T::kOther * T::kOther; t < end; t += T::kOther) {
      const std::int32_t count = min(T::kOther, a.length - t);
      __syncthreads();  // the tile before has been read
      Load<T, T::kOther>(a.q, first + t, column, count, a.head_dim, scale, queries);
      Load<T, T::kOther>(a.dout, first + t, column, count, a.head_dim, 1.0f, gradients);
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
  const int bytes = T::kFloats * static_cast<int>(sizeof(float));
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

/// Tiles are such that 99 KiB of shared memory are enough.
template <bool kExact>
void ByWidth(const Arguments& a, cudaStream_t stream) {
  if (a.head_dim <= 64) {
    Launch<Tiling<64, 64, 64, 1, kExact>>(a, stream);
  } else if (a.head_dim <= 128) {
    Launch<Tiling<128, 64, 32, 1, kExact>>(a, stream);
  } else {
    Launch<Tiling<kMostHeadDim, 32, 16, 2, kExact>>(a, stream);
  }
}

}  // namespace

void AttentionGradient(const Arguments& arguments, cudaStream_t stream) {
  if (arguments.windows * arguments.length == 0) return;
  if (arguments.exact) {
    ByWidth<true>(arguments, stream);
  } else {
    ByWidth<false>(arguments, stream);
  }
}

}  // namespace lieq::cuda
