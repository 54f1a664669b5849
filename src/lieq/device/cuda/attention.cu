// Causal attention that never writes the scores: softmax as it goes along the keys
// (Milakov and Gimelshein, arXiv:1805.02867), by tiles of queries and keys
// (Dao et al., arXiv:2205.14135).
#include "lieq/device/cuda/attention_tiles.cuh"
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSide = 16;  // threads along keys and columns; as many along queries

struct Head {
  Index query, key;  // first columns of the head in q and out, and in k and v
  float scale;
};
template <class Key>
__device__ Head HeadOf(const AttentionArguments<Key>& a, int head) {
  const Index kv_head = head / (a.heads / a.kv_heads);
  return {Index{head} * a.head_dim, kv_head * a.head_dim,
          static_cast<float>(1.0 / sqrt(static_cast<double>(a.head_dim)))};
}

/// What a row of queries knows so far: its largest score, and the sum of exponentials below it.
struct Running {
  float most = -INFINITY, sum = 0;

  /// The largest score so far becomes `next` at least; what was summed before shrinks by it.
  __device__ float Raise(float next) {
    const float risen = fmaxf(most, next);
    const float factor = most == -INFINITY ? 0.0f : expf(most - risen);
    most = risen;
    sum *= factor;
    return factor;
  }
};
__device__ float Probability(float score, float most) {
  return score == -INFINITY ? 0.0f : expf(score - most);
}

/// kTile queries by tiles of kTile keys. Thread (down, across) has rows down + 16 i of both the
/// scores and the result, columns across + 16 j of the scores and 4 across + 64 j of the result.
template <int kTile, int kColumns,  // kColumns: 64 times the quarters of head_dim, rounded up
          class Key>
__global__ void __launch_bounds__(kThreads) TiledKernel(AttentionArguments<Key> a) {
  constexpr int kPerSide = kTile / kSide, kQuarters = kColumns / 64;
  constexpr int kPitch = kColumns + 4, kScorePitch = kTile + 4;
  extern __shared__ __align__(16) float shared[];
  float* const queries = shared;                 // [kTile, kPitch]
  float* const keys = queries + kTile * kPitch;  // [kTile, kPitch]: keys, then values
  float* const weights = keys + kTile * kPitch;  // [kTile, kScorePitch]

  const QueryTile tile = a.tiles[blockIdx.x];
  const Span span = a.spans[tile.span];
  const Head head = HeadOf(a, blockIdx.y);
  const int down = threadIdx.x / kSide, across = threadIdx.x % kSide;
  const std::int32_t rows = min(kTile, span.length - tile.begin);

  const auto load = [&](const auto& from, Index first_column, const auto& row_of,
                        std::int32_t count, float factor, float* to) {
    for (int i = threadIdx.x; i < kTile * kColumns; i += kThreads) {
      const int r = i / kColumns, c = i % kColumns;
      float value = 0;
      if (r < count && c < a.head_dim) {
        value = Widened(from.data[row_of(r) * from.stride + first_column + c]) * factor;
      }
      to[r * kPitch + c] = value;
    }
  };
  load(
      a.q, head.query, [&](int r) { return Index{span.begin} + tile.begin + r; }, rows, head.scale,
      queries);

  float result[kPerSide][kQuarters * 4] = {};
  Running running[kPerSide];
  const std::int32_t first_position = span.past + tile.begin, end = first_position + rows;
  const std::int32_t begin = FirstSeen(a.window, first_position) / kTile * kTile;
  for (std::int32_t t = begin; t < end; t += kTile) {
    const std::int32_t count = min(kTile, end - t);
    const auto key_row = [&](int r) { return KeyRow(span, t + r); };
    __syncthreads();  // the values of the tile before have been read
    load(a.k, head.key, key_row, count, 1.0f, keys);
    __syncthreads();
    float scores[kPerSide][kPerSide] = {};
    for (int c = 0; c < kColumns; c += 4) {
      float4 of_q[kPerSide], of_k[kPerSide];
#pragma unroll
      for (int i = 0; i < kPerSide; ++i) {
        of_q[i] = *reinterpret_cast<const float4*>(queries + (down + kSide * i) * kPitch + c);
        of_k[i] = *reinterpret_cast<const float4*>(keys + (across + kSide * i) * kPitch + c);
      }
#pragma unroll
      for (int i = 0; i < kPerSide; ++i) {
#pragma unroll
        for (int j = 0; j < kPerSide; ++j) {
          float& s = scores[i][j];
          s = fmaf(of_q[i].x, of_k[j].x, s);
          s = fmaf(of_q[i].y, of_k[j].y, s);
          s = fmaf(of_q[i].z, of_k[j].z, s);
          s = fmaf(of_q[i].w, of_k[j].w, s);
        }
      }
    }
    __syncthreads();  // all keys have been read
    load(a.v, head.key, key_row, count, 1.0f, keys);
#pragma unroll
    for (int i = 0; i < kPerSide; ++i) {
      const std::int32_t position = first_position + down + kSide * i;
      const std::int32_t first = FirstSeen(a.window, position);
      float most = -INFINITY;
#pragma unroll
      for (int j = 0; j < kPerSide; ++j) {
        const std::int32_t token = t + across + kSide * j;
        if (token > position || token < first || token >= end) scores[i][j] = -INFINITY;
        most = fmaxf(most, scores[i][j]);
      }
      most = OverLanes<kSide>(most, Most{});
      const float factor = running[i].Raise(most);
      float sum = 0;
#pragma unroll
      for (int j = 0; j < kPerSide; ++j) {
        const float p = Probability(scores[i][j], running[i].most);
        weights[(down + kSide * i) * kScorePitch + across + kSide * j] = p;
        sum += p;
      }
      running[i].sum += OverLanes<kSide>(sum, Add{});
#pragma unroll
      for (int c = 0; c < kQuarters * 4; ++c) result[i][c] *= factor;
    }
    __syncthreads();
    for (int key = 0; key < count; ++key) {
      float4 of_v[kQuarters];
#pragma unroll
      for (int j = 0; j < kQuarters; ++j) {
        of_v[j] = *reinterpret_cast<const float4*>(keys + key * kPitch + 4 * across + 64 * j);
      }
#pragma unroll
      for (int i = 0; i < kPerSide; ++i) {
        const float p = weights[(down + kSide * i) * kScorePitch + key];
#pragma unroll
        for (int j = 0; j < kQuarters; ++j) {
          result[i][4 * j] = fmaf(p, of_v[j].x, result[i][4 * j]);
          result[i][4 * j + 1] = fmaf(p, of_v[j].y, result[i][4 * j + 1]);
          result[i][4 * j + 2] = fmaf(p, of_v[j].z, result[i][4 * j + 2]);
          result[i][4 * j + 3] = fmaf(p, of_v[j].w, result[i][4 * j + 3]);
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kPerSide; ++i) {
    const int r = down + kSide * i;
    if (r >= rows) continue;
    float* to = a.out.data + (Index{span.begin} + tile.begin + r) * a.out.stride + head.query;
    const float factor = 1.0f / running[i].sum;
#pragma unroll
    for (int c = 0; c < kQuarters * 4; ++c) {
      const int column = 4 * across + 64 * (c / 4) + c % 4;
      if (column < a.head_dim) to[column] = result[i][c] * factor;
    }
  }
}

/// As TiledKernel, on tensor cores: each of four warps has 16 of 64 queries. Lane (group, pair) has
/// rows group and group + 8, and of 8 columns or keys 2 pair and 2 pair + 1.
constexpr int kSplitTile = 64;
template <class T, class Key>
__global__ void __launch_bounds__(T::kThreads) SplitKernel(AttentionArguments<Key> a) {
  static_assert(T::kOwn == kSplitTile && T::kOther == kSplitTile && T::kShare == 1);
  extern __shared__ __align__(16) float shared[];
  float* const queries = shared;                         // [kSplitTile, kPitch]
  float* const keys = queries + kSplitTile * T::kPitch;  // the same: keys, then values

  const QueryTile tile = a.tiles[blockIdx.x];
  const Span span = a.spans[tile.span];
  const Head head = HeadOf(a, blockIdx.y);
  const Place<T> at;
  const std::int32_t rows = min(kSplitTile, span.length - tile.begin);
  const auto query_row = [&](int r) { return Index{span.begin} + tile.begin + r; };
  Load<T, kSplitTile>(a.q, query_row, head.query, rows, a.head_dim, head.scale, queries);

  float result[T::kSums][4] = {};
  Running running[2];
  const std::int32_t first_position = span.past + tile.begin, end = first_position + rows;
  const std::int32_t begin = FirstSeen(a.window, first_position) / kSplitTile * kSplitTile;
  for (std::int32_t t = begin; t < end; t += kSplitTile) {
    const std::int32_t count = min(kSplitTile, end - t);
    const auto key_row = [&](int r) { return KeyRow(span, t + r); };
    __syncthreads();  // the values of the tile before have been read
    Load<T, kSplitTile>(a.k, key_row, head.key, count, a.head_dim, 1.0f, keys);
    __syncthreads();
    float scores[T::kEights][4];
    Scores(at, queries, keys, scores);
    __syncthreads();  // all keys have been read
    Load<T, kSplitTile>(a.v, key_row, head.key, count, a.head_dim, 1.0f, keys);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int32_t position = first_position + at.Row(half);
      const std::int32_t first = FirstSeen(a.window, position);
      float most = -INFINITY;
#pragma unroll
      for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const std::int32_t token = t + n * 8 + 2 * at.pair + j;
          float& score = scores[n][2 * half + j];
          if (token > position || token < first || token >= end) score = -INFINITY;
          most = fmaxf(most, score);
        }
      }
      most = OverLanes<4>(most, Most{});
      const float factor = running[half].Raise(most);
      float sum = 0;
#pragma unroll
      for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[n][2 * half + j];
          score = Probability(score, running[half].most);
          sum += score;
        }
      }
      running[half].sum += OverLanes<4>(sum, Add{});
#pragma unroll
      for (int n = 0; n < T::kSums; ++n) {
        result[n][2 * half] *= factor;
        result[n][2 * half + 1] *= factor;
      }
    }
    __syncthreads();
    AddWeighted(at, scores, keys, result);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = at.Row(half);
    if (r >= rows) continue;
    float* to = a.out.data + (Index{span.begin} + tile.begin + r) * a.out.stride + head.query;
    const float factor = 1.0f / running[half].sum;
#pragma unroll
    for (int n = 0; n < T::kSums; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int column = n * 8 + 2 * at.pair + j;
        if (column < a.head_dim) to[column] = result[n][2 * half + j] * factor;
      }
    }
  }
}

/// One query, as of a token that is generated: each warp takes every eighth key.
template <class Key>
__global__ void __launch_bounds__(kThreads) QueryKernel(AttentionArguments<Key> a) {
  constexpr int kWarps = kThreads / kWarp, kPerLane = kMostHeadDim / kWarp;
  __shared__ float of_warps[kWarps][kMostHeadDim];
  __shared__ float mosts[kWarps], sums[kWarps];
  const QueryTile tile = a.tiles[blockIdx.x];
  const Span span = a.spans[tile.span];
  const Head head = HeadOf(a, blockIdx.y);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const Index row = Index{span.begin} + tile.begin;
  const std::int32_t position = span.past + tile.begin;

  float query[kPerLane], result[kPerLane] = {};
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int c = lane + kWarp * i;
    query[i] = c < a.head_dim ? a.q.data[row * a.q.stride + head.query + c] * head.scale : 0.0f;
  }
  Running running;
  for (std::int32_t t = FirstSeen(a.window, position) + warp; t <= position; t += kWarps) {
    const Index key = KeyRow(span, t);
    float score = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int c = lane + kWarp * i;
      if (c < a.head_dim) {
        score = fmaf(query[i], Widened(a.k.data[key * a.k.stride + head.key + c]), score);
      }
    }
    score = OverLanes(score, Add{});
    const float factor = running.Raise(score);
    const float p = Probability(score, running.most);
    running.sum += p;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int c = lane + kWarp * i;
      if (c >= a.head_dim) continue;
      result[i] = fmaf(p, Widened(a.v.data[key * a.v.stride + head.key + c]), result[i] * factor);
    }
  }
  if (lane == 0) {
    mosts[warp] = running.most;
    sums[warp] = running.sum;
  }
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) of_warps[warp][lane + kWarp * i] = result[i];
  __syncthreads();
  float most = -INFINITY, sum = 0;
  for (int w = 0; w < kWarps; ++w) most = fmaxf(most, mosts[w]);
  for (int w = 0; w < kWarps; ++w) sum += sums[w] * Probability(mosts[w], most);
  for (int c = threadIdx.x; c < a.head_dim; c += kThreads) {
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += of_warps[w][c] * Probability(mosts[w], most);
    a.out.data[row * a.out.stride + head.query + c] = total / sum;
  }
}

template <class Kernel, class Key>
void Launch(Kernel* kernel, std::size_t floats, int threads, const AttentionArguments<Key>& a,
            dim3 grid, cudaStream_t stream) {
  const int bytes = static_cast<int>(floats * sizeof(float));
  // More than 48 KiB has to be asked for; the call is cheap, and of this device.
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  kernel<<<grid, threads, bytes, stream>>>(a);
}

template <int kColumns, class Key>
void LaunchSplit(const AttentionArguments<Key>& a, dim3 grid, cudaStream_t stream) {
  using T = Tiling<kColumns, kSplitTile, kSplitTile, 1>;
  Launch(SplitKernel<T, Key>, 2 * kSplitTile * T::kPitch, T::kThreads, a, grid, stream);
}

constexpr int kTileOfWideHeads = 32;  // so that 99 KiB of shared memory are enough

template <class Key>
void Attend(const AttentionArguments<Key>& arguments, bool by_query, cudaStream_t stream) {
  if (arguments.tile_count == 0) return;
  const dim3 grid(static_cast<unsigned>(arguments.tile_count),
                  static_cast<unsigned>(arguments.heads), 1);
  if (by_query) {
    Launch(QueryKernel<Key>, 0, kThreads, arguments, grid, stream);
  } else if (arguments.head_dim <= 64) {
    LaunchSplit<64>(arguments, grid, stream);
  } else if (arguments.head_dim <= 128) {
    LaunchSplit<128>(arguments, grid, stream);
  } else {
    constexpr int kTile = kTileOfWideHeads;
    Launch(TiledKernel<kTile, kMostHeadDim, Key>,
           2 * kTile * (kMostHeadDim + 4) + kTile * (kTile + 4), kThreads, arguments, grid, stream);
  }
}

}  // namespace

Index QueriesOfTile(Index head_dim, bool by_query) noexcept {
  if (by_query) return 1;
  return head_dim > 128 ? kTileOfWideHeads : kSplitTile;
}

void Attention(const AttentionArguments<float>& arguments, bool by_query, cudaStream_t stream) {
  Attend(arguments, by_query, stream);
}

void Attention(const AttentionArguments<std::uint16_t>& arguments, bool by_query,
               cudaStream_t stream) {
  Attend(arguments, by_query, stream);
}

}  // namespace lieq::cuda
