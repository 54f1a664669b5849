// Attention of tokens that are generated, one of each sequence, with all that comes before it in a
// layer: norms of heads, rotation, and the new rows of the caches. Keys of a sequence are split
// among the blocks of a cluster, which add what they found in the order of their ranks (split
// keys: Dao et al., Flash-Decoding, 2023). Clusters are the smaller, the more sequences there are:
// all blocks are to be at work at once.
#include "lieq/device/cuda/attend_token.h"

#include "lieq/device/cuda/hopper.cuh"

namespace lieq::cuda {
namespace {

// The kernel is empty in code for older GPUs, which leaves what is here without a use there.
[[maybe_unused]] constexpr int kThreads = 256, kWarps = kThreads / kWarp;
// Two blocks fit on a multiprocessor, and they are 132 on an H200.
constexpr std::int64_t kMostBlocks = 256;
constexpr int kMostSplits = 8;                   // blocks of a cluster
[[maybe_unused]] constexpr int kHeldKeys = 256;  // of a cluster, that registers hold, in f16

/// Four numbers of a cache as they lie there, and as floats.
[[maybe_unused]] __device__ float4 LoadFour(const float* from) {
  return *reinterpret_cast<const float4*>(from);
}
[[maybe_unused]] __device__ uint2 LoadFour(const std::uint16_t* from) {
  return *reinterpret_cast<const uint2*>(from);
}
[[maybe_unused]] __device__ float4 Widened(float4 four) {
  return four;
}
[[maybe_unused]] __device__ float4 Widened(uint2 four) {
  const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&four.x));
  const float2 b = __half22float2(*reinterpret_cast<const __half2*>(&four.y));
  return {a.x, a.y, b.x, b.y};
}
[[maybe_unused]] __device__ void StoreOne(float* to, float value) {
  *to = value;
}
[[maybe_unused]] __device__ void StoreOne(std::uint16_t* to, float value) {
  *to = BoundedHalf(value);
}
[[maybe_unused]] __device__ void PrefetchLine(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

/// What a lane needs of a norm and of the angles: of columns lane + 32 i.
template <int kDim>
struct HeadWeights {
  static constexpr int kEach = kDim / kWarp;
  float norm[kEach], cosine[kEach / 2], sine[kEach / 2];

  __device__ HeadWeights(const TokenAttention& a, const float* of_norm, std::int32_t position,
                         int lane) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) norm[i] = of_norm == nullptr ? 1 : of_norm[lane + kWarp * i];
#pragma unroll
    for (int i = 0; i < kEach / 2; ++i) {
      const Index at = position * a.angle_stride + lane + kWarp * i;
      cosine[i] = a.cosine == nullptr ? 1 : a.cosine[at];
      sine[i] = a.sine == nullptr ? 0 : a.sine[at];
    }
  }

  /// A warp norms (where `norms`) and rotates a head in place.
  __device__ void Apply(bool norms, double eps, float (&values)[kEach]) const {
    if (norms) {
      double squares = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        squares += static_cast<double>(values[i]) * static_cast<double>(values[i]);
      }
      const float all = OverLanes(static_cast<float>(squares), Add{});
      const float scale = rsqrtf(all / kDim + static_cast<float>(eps));
#pragma unroll
      for (int i = 0; i < kEach; ++i) values[i] = values[i] * scale * norm[i];
    }
#pragma unroll
    for (int i = 0; i < kEach / 2; ++i) {
      const float x = values[i], y = values[i + kEach / 2];
      values[i] = x * cosine[i] - y * sine[i];
      values[i + kEach / 2] = y * cosine[i] + x * sine[i];
    }
  }
};

template <int kDim, int kHeads, int kSplits, class Key>
__global__ void __launch_bounds__(kThreads, kSplits == kMostSplits && kHeads < 8 ? 3 : 2)
    TokenKernel(const __grid_constant__ TokenAttention a) {
#if __CUDA_ARCH__ >= 900
  constexpr int kChunk = kHeads < 8 ? 256 : 128;  // keys whose scores are there at once
  constexpr int kEach = kDim / kWarp;             // columns of a head that a lane of a warp has
  constexpr int kParts = 8, kKeys = kThreads / kParts;               // lanes of a key; keys at once
  constexpr int kRowLanes = kDim / 4, kRows = kThreads / kRowLanes;  // of values, by fours
  constexpr int kShare = kHeads * kDim / kSplits;  // numbers of the result that a block adds up
  __shared__ __align__(16) float queries[kHeads][kDim];
  __shared__ float scores[kHeads][kChunk];
  __shared__ __align__(16) float partial[kRows][kHeads][kDim];
  __shared__ float mosts[kHeads], sums[kHeads], factors[kHeads];
  // What the blocks of the cluster hand this one, counted by the barrier.
  __shared__ float shares[kSplits][kShare], all_mosts[kSplits][kHeads], all_sums[kSplits][kHeads];
  __shared__ std::uint64_t counted;

  const std::uint32_t barrier = SharedAddress(&counted);
  if (threadIdx.x == 0) {
    InitBarrier(barrier);
    FenceBarrierInits();
    ExpectBytes(barrier, sizeof shares + sizeof all_mosts + sizeof all_sums);
  }
  __syncwarp();
  ArriveAtCluster();  // its barrier is there

  const int rank = blockIdx.x, kv_head = blockIdx.y, sequence = blockIdx.z;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int heads = a.heads / a.kv_heads;  // that read this key head; at most kHeads
  const Span span = a.spans[sequence];
  const std::int32_t first = a.window == 0 ? 0 : max(0, span.past + 1 - a.window);
  const std::int32_t count = span.past + 1 - first;  // the token itself is the last one
  const std::int32_t begin = first + static_cast<std::int32_t>(Index{count} * rank / kSplits);
  const std::int32_t end = first + static_cast<std::int32_t>(Index{count} * (rank + 1) / kSplits);
  const Index column = Index{kv_head} * kDim;
  Key* const keys = static_cast<Key*>(a.keys) + span.past_keys * a.cache_stride + column;
  Key* const values = static_cast<Key*>(a.values) + span.past_keys * a.cache_stride + column;
  // What earlier steps wrote may be asked for before the kernels of this one have run: some keys
  // and values of each thread, and into the second cache the others.
  using Four = decltype(LoadFour(keys));
  constexpr int kHeld = kHeldKeys * 2 / static_cast<int>(sizeof(Key)) / kSplits;
  constexpr int kFirstKeys = kHeld < kKeys ? 1 : kHeld / kKeys, kFirst = kFirstKeys * kKeys / kRows;
  constexpr int kPieces = kDim / (4 * kParts);
  const int part = threadIdx.x % kParts, row_lane = threadIdx.x % kRowLanes,
            row_of = threadIdx.x / kRowLanes, first_key = threadIdx.x / kParts;
  const std::int32_t before = min(end, span.past) - begin;  // rows that are there
  Four first_keys[kFirstKeys][kPieces] = {}, first_values[kFirst] = {};
#pragma unroll
  for (int n = 0; n < kFirstKeys; ++n) {
    const std::int32_t row = first_key + n * kKeys;
    if (row >= before) break;
#pragma unroll
    for (int c = 0; c < kPieces; ++c) {
      first_keys[n][c] =
          LoadFour(keys + Index{begin + row} * a.cache_stride + part * 4 + c * (4 * kParts));
    }
  }
#pragma unroll
  for (int n = 0; n < kFirst; ++n) {
    const std::int32_t row = row_of + n * kRows;
    if (row >= before) break;
    first_values[n] = LoadFour(values + Index{begin + row} * a.cache_stride + row_lane * 4);
  }
  constexpr int kLines = kDim * static_cast<int>(sizeof(Key)) / 128;
  for (std::int32_t i = threadIdx.x; i < (end - begin) * 2 * kLines; i += kThreads) {
    const Index row = begin + i / (2 * kLines);
    const Key* of = i % 2 == 0 ? keys : values;
    if (row < span.past)
      PrefetchLine(of + row * a.cache_stride + i / 2 % kLines * (128 / sizeof(Key)));
  }
  const bool adds = rank == kSplits - 1 && warp >= kWarps - 2, adds_key = warp == kWarps - 1;
  const HeadWeights<kDim> of_query(a, a.q_norm, span.past, lane);
  const HeadWeights<kDim> of_key(a, adds && adds_key ? a.k_norm : nullptr, span.past, lane);
  LetNextKernelStart();
  WaitForKernelsBefore();

  // Queries of all heads, and by the block whose keys end with it the token's key and value.
  for (int head = warp; head < kHeads; head += kWarps) {
    float of[kEach] = {};
    if (head < heads) {
      const float* from =
          a.q + Index{span.begin} * a.q_stride + (Index{kv_head} * heads + head) * kDim;
#pragma unroll
      for (int i = 0; i < kEach; ++i) of[i] = from[lane + kWarp * i];
      of_query.Apply(a.q_norm != nullptr, a.eps, of);
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) queries[head][lane + kWarp * i] = of[i] * a.scale;
  }
  if (adds) {
    const float* from =
        (adds_key ? a.k + Index{span.begin} * a.k_stride : a.v + Index{span.begin} * a.v_stride) +
        column;
    float of[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) of[i] = from[lane + kWarp * i];
    if (adds_key) of_key.Apply(a.k_norm != nullptr, a.eps, of);
    Key* to = (adds_key ? keys : values) + Index{span.past} * a.cache_stride;
#pragma unroll
    for (int i = 0; i < kEach; ++i) StoreOne(to + lane + kWarp * i, of[i]);
  }
  if (threadIdx.x < kHeads) {
    mosts[threadIdx.x] = -INFINITY;
    sums[threadIdx.x] = 0;
  }
  __syncthreads();

  float result[kHeads][4] = {};
  for (std::int32_t chunk = begin; chunk < end; chunk += kChunk) {
    const std::int32_t here = min(kChunk, end - chunk);
    // Of the key i, whose eight lanes are all here; `known` what they hold of it already.
    const auto score = [&](std::int32_t i, const Four(&known)[kPieces], bool is_known) {
      float of[kHeads] = {};
      if (i < here) {
        const Key* key = keys + Index{chunk + i} * a.cache_stride + part * 4;
#pragma unroll
        for (int piece = 0; piece < kPieces; ++piece) {
          const int c = piece * (4 * kParts);
          const float4 k = Widened(is_known ? known[piece] : LoadFour(key + c));
#pragma unroll
          for (int h = 0; h < kHeads; ++h) {
            const float4 q = *reinterpret_cast<const float4*>(&queries[h][c + part * 4]);
            of[h] = fmaf(q.x, k.x, fmaf(q.y, k.y, fmaf(q.z, k.z, fmaf(q.w, k.w, of[h]))));
          }
        }
      }
#pragma unroll
      for (int h = 0; h < kHeads; ++h) of[h] = OverLanes<kParts>(of[h], Add{});
      if (part == 0 && i < here) {
#pragma unroll
        for (int h = 0; h < kHeads; ++h) scores[h][i] = of[h];
      }
    };
    const std::int32_t whole = (here + 3) / 4 * 4;  // keys of a warp
#pragma unroll
    for (int n = 0; n < kFirstKeys; ++n) {
      const std::int32_t i = first_key + n * kKeys;
      if (i >= whole) break;
      score(i, first_keys[n], chunk == begin && i < before);
    }
    for (std::int32_t i = first_key + kFirstKeys * kKeys; i < whole; i += kKeys) {
      score(i, first_keys[0], false);
    }
    __syncthreads();
    for (int h = warp; h < kHeads; h += kWarps) {
      float most = -INFINITY, sum = 0;
      for (int i = lane; i < here; i += kWarp) most = fmaxf(most, scores[h][i]);
      const float before = mosts[h];
      most = fmaxf(OverLanes(most, Most{}), before);
      for (int i = lane; i < here; i += kWarp) {
        const float p = most == -INFINITY ? 0.0f : expf(scores[h][i] - most);
        scores[h][i] = p;
        sum += p;
      }
      sum = OverLanes(sum, Add{});
      __syncwarp();
      if (lane == 0) {
        const float factor = before == -INFINITY ? 0.0f : expf(before - most);
        mosts[h] = most;
        sums[h] = sums[h] * factor + sum;
        factors[h] = factor;
      }
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float factor = factors[h];
#pragma unroll
      for (int i = 0; i < 4; ++i) result[h][i] *= factor;
    }
    const auto add_value = [&](std::int32_t i, Four four) {
      const float4 v = Widened(four);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const float p = scores[h][i];
        result[h][0] = fmaf(p, v.x, result[h][0]);
        result[h][1] = fmaf(p, v.y, result[h][1]);
        result[h][2] = fmaf(p, v.z, result[h][2]);
        result[h][3] = fmaf(p, v.w, result[h][3]);
      }
    };
    const Key* const of_row = values + Index{chunk} * a.cache_stride + row_lane * 4;
#pragma unroll
    for (int n = 0; n < kFirst; ++n) {
      const std::int32_t i = row_of + n * kRows;
      if (i >= here) break;
      const bool is_first = chunk == begin && i < before;
      add_value(i, is_first ? first_values[n] : LoadFour(of_row + Index{i} * a.cache_stride));
    }
    for (std::int32_t i = row_of + kFirst * kRows; i < here; i += kRows) {
      add_value(i, LoadFour(of_row + Index{i} * a.cache_stride));
    }
    __syncthreads();  // scores have been read
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    *reinterpret_cast<float4*>(&partial[row_of][h][row_lane * 4]) = {result[h][0], result[h][1],
                                                                     result[h][2], result[h][3]};
  }
  __syncthreads();
  WaitForCluster();
  for (int i = threadIdx.x; i < kSplits * kHeads; i += kThreads) {
    const int to = i / kHeads, head = i % kHeads;
    StoreToBlock(SharedAddress(&all_mosts[rank][head]), to, mosts[head], barrier);
    StoreToBlock(SharedAddress(&all_sums[rank][head]), to, sums[head], barrier);
  }
  for (int i = threadIdx.x; i < kHeads * kDim; i += kThreads) {
    float sum = 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) sum += partial[r][i / kDim][i % kDim];
    StoreToBlock(SharedAddress(&shares[rank][i % kShare]), i / kShare, sum, barrier);
  }
  WaitBarrier(barrier, 0);
  for (int i = threadIdx.x; i < kShare; i += kThreads) {
    const int at = rank * kShare + i, head = at / kDim;
    if (head >= heads) break;
    float most = -INFINITY, sum = 0, total = 0;
#pragma unroll
    for (int r = 0; r < kSplits; ++r) most = fmaxf(most, all_mosts[r][head]);
#pragma unroll
    for (int r = 0; r < kSplits; ++r) {
      const float of = all_mosts[r][head], factor = of == -INFINITY ? 0.0f : expf(of - most);
      sum += factor * all_sums[r][head];
      total += factor * shares[r][i];
    }
    a.out[Index{span.begin} * a.out_stride + Index{kv_head} * heads * kDim + at] = total / sum;
  }
#endif
}

template <int kDim, int kHeads, int kSplits>
void LaunchOf(const TokenAttention& a, cudaStream_t stream) {
  const dim3 grid(kSplits, static_cast<unsigned>(a.kv_heads), static_cast<unsigned>(a.sequences));
  const auto launch = [&](void (*kernel)(TokenAttention)) {
    PreferShared(kernel);
    Launch(kernel, grid, kThreads, 0, kSplits, stream, a);
  };
  if (a.half_cache) {
    launch(TokenKernel<kDim, kHeads, kSplits, std::uint16_t>);
  } else {
    launch(TokenKernel<kDim, kHeads, kSplits, float>);
  }
}

template <int kDim, int kHeads>
void LaunchOf(const TokenAttention& a, cudaStream_t stream) {
  const std::int64_t clusters = std::int64_t{a.kv_heads} * a.sequences;
  if (clusters * kMostSplits <= kMostBlocks) return LaunchOf<kDim, kHeads, kMostSplits>(a, stream);
  if (clusters * 4 <= kMostBlocks) return LaunchOf<kDim, kHeads, 4>(a, stream);
  LaunchOf<kDim, kHeads, 2>(a, stream);
}

template <int kDim>
void LaunchOf(const TokenAttention& a, cudaStream_t stream) {
  const int heads = a.heads / a.kv_heads;
  if (heads <= 2) return LaunchOf<kDim, 2>(a, stream);
  if (heads <= 4) return LaunchOf<kDim, 4>(a, stream);
  LaunchOf<kDim, 8>(a, stream);
}

}  // namespace

bool AttendsTokens(Index heads, Index kv_heads, Index head_dim) noexcept {
  return (head_dim == 64 || head_dim == 128) && heads / kv_heads <= 8;
}

void AttendTokens(const TokenAttention& a, cudaStream_t stream) {
  if (a.sequences == 0) return;
  if (a.head_dim == 64) return LaunchOf<64>(a, stream);
  LaunchOf<128>(a, stream);
}

}  // namespace lieq::cuda
