// Causal attention in bf16 arithmetic, as attention.cu has it in float32.
#include "lieq/device/cuda/attention_pairs.h"

#include <algorithm>

#include "lieq/device/cuda/attention_keys.cuh"
#include "lieq/device/cuda/attention_pairs.cuh"

namespace lieq::cuda {
namespace {

constexpr int kMakeThreads = 256;

template <class From>
struct MakeArguments {
  PairSource<From> sources[kMostPairSources];
  const Span* spans;
  std::int32_t tokens, tiles;  // of a window
  std::int32_t head_dim;
};

/// A block takes a row of a span or window, and a source.
template <int kColumns, class From>
__global__ void __launch_bounds__(kMakeThreads)
    MakePairsKernel(const __grid_constant__ MakeArguments<From> a) {
  using Tile = PairTile<kColumns, kPairRows>;
  const PairSource<From>& source = a.sources[blockIdx.z];
  const auto token = static_cast<std::int32_t>(blockIdx.x);
  std::int32_t count = a.tokens;
  Index row = Index{blockIdx.y} * a.tokens + token, first_tile = Index{blockIdx.y} * a.tiles;
  if (a.spans != nullptr) {
    const Span span = a.spans[blockIdx.y];
    count = span.past + span.length;
    row = KeyRow(span, token);
    first_tile = span.held;
  }
  constexpr int kRows = static_cast<int>(kPairRows);
  if (token >= (count + kRows - 1) / kRows * kRows) return;
  const bool there = token < count;
  const From* const from = source.from.data + (there ? row : 0) * source.from.stride;
  const bool by_four =
      reinterpret_cast<std::uintptr_t>(from) % (4 * sizeof(From)) == 0 && a.head_dim % 4 == 0;
  for (int i = threadIdx.x; i < source.to.heads * (kColumns / 4); i += kMakeThreads) {
    const int head = i / (kColumns / 4), c = i % (kColumns / 4) * 4;
    float x[4] = {};
    const From* const of = from + Index{head} * a.head_dim + c;
    if (there && by_four && c < a.head_dim) {
      const float4 four = WidenedFour(of);
      x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
    } else if (there) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (c + j < a.head_dim) x[j] = Widened(of[j]);
      }
    }
    const float factor = source.factor;
    const TwoPairs first = PairsOf(x[0] * factor, x[1] * factor),
                   second = PairsOf(x[2] * factor, x[3] * factor);
    std::uint16_t* const plane =
        PlaneOf<kColumns>(source.to, first_tile + token / kRows, head, 0, 0) +
        Tile::EightAt(token % kRows, c / 8) / 2 + c % 8;
    *reinterpret_cast<uint2*>(plane) = {first.high, second.high};
    if (source.to.planes == 1) continue;
    *reinterpret_cast<uint2*>(plane + Tile::kBytes / 2) = {first.low, second.low};
  }
}

struct OfPairs {
  Block<const float> q;
  Block<float> out;
  PairTiles keys, values;
  const Span* spans;
  const QueryTile* tiles;
  std::int32_t heads, kv_heads, head_dim, window;
};

/// A block takes 64 queries of a head and goes along the keys. While a warp multiplies with keys,
/// values are copied, and the next keys while those are weighted.
template <int kColumns>
__global__ void __launch_bounds__(kPairThreads, 2) PairKernel(const __grid_constant__ OfPairs a) {
  using Tile = PairTile<kColumns, kPairRows>;
  constexpr int kEights = Tile::kRows / 8;
  extern __shared__ __align__(128) unsigned char tiles_in_shared[];
  const auto base = static_cast<std::uint32_t>(__cvta_generic_to_shared(tiles_in_shared));
  const Tile queries{base}, keys{base + 2 * Tile::kBytes}, values{base + 4 * Tile::kBytes};

  const QueryTile tile = a.tiles[blockIdx.x];
  const Span span = a.spans[tile.span];
  const std::int32_t head = static_cast<std::int32_t>(blockIdx.y);
  const Index kv_head = head / (a.heads / a.kv_heads);
  const std::int32_t rows = min(Tile::kRows, span.length - tile.begin);
  const std::int32_t first_position = span.past + tile.begin, end = first_position + rows;
  const std::int32_t begin = FirstSeen(a.window, first_position) / Tile::kRows * Tile::kRows;
  const PairPlace at;

  const auto copy = [&](const PairTiles& from, std::int32_t t, const Tile& to) {
    CopyTile<2 * Tile::kBytes>(
        PlaneOf<kColumns>(from, Index{span.held} + t / Tile::kRows, kv_head, 0, 0), to.at);
  };
  copy(a.keys, begin, keys);
  EndCopies();

  {
    const float scale = kLog2E * static_cast<float>(1.0 / sqrt(static_cast<double>(a.head_dim)));
    const float* const q = a.q.data + Index{head} * a.head_dim;
    const bool by_four = reinterpret_cast<std::uintptr_t>(q) % sizeof(float4) == 0 &&
                         a.q.stride % 4 == 0 && a.head_dim % 4 == 0;
#pragma unroll 4
    for (int i = threadIdx.x; i < Tile::kRows * kColumns / 4; i += kPairThreads) {
      const int r = i / (kColumns / 4), c = i % (kColumns / 4) * 4;
      float4 x = {0, 0, 0, 0};
      if (r < rows && c < a.head_dim) {
        const float* of = q + (Index{span.begin} + tile.begin + r) * a.q.stride + c;
        if (by_four) {
          x = *reinterpret_cast<const float4*>(of);
        } else {
          x.x = of[0];
          if (c + 1 < a.head_dim) x.y = of[1];
          if (c + 2 < a.head_dim) x.z = of[2];
          if (c + 3 < a.head_dim) x.w = of[3];
        }
      }
      const TwoPairs first = PairsOf(x.x * scale, x.y * scale),
                     second = PairsOf(x.z * scale, x.w * scale);
      const int to = Tile::EightAt(r, c / 8) + c % 8 * 2;
      *reinterpret_cast<uint2*>(tiles_in_shared + to) = {first.high, second.high};
      *reinterpret_cast<uint2*>(tiles_in_shared + Tile::kBytes + to) = {first.low, second.low};
    }
  }

  float result[kColumns / 8][4] = {};
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {};  // the latter of this lane's keys
  for (std::int32_t t = begin; t < end; t += Tile::kRows) {
    WaitForCopies<0>();
    __syncthreads();  // the keys are there, and the values before have been read
    copy(a.values, t, values);
    EndCopies();
    float scores[kEights][4];
    PairScores<2>(at, [&](int step) { return OwnFragment<2>(at, queries, step); }, keys, scores);
    __syncthreads();  // all have read the keys
    if (t + Tile::kRows < end) copy(a.keys, t + Tile::kRows, keys);
    EndCopies();

    const std::int32_t warp_position = first_position + at.rows;
    const bool all_seen = t + Tile::kRows <= min(warp_position + 1, end) &&
                          FirstSeen(a.window, warp_position + 15) <= t;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int32_t position = first_position + at.Row(half);
      const std::int32_t first = FirstSeen(a.window, position);
      float risen = most[half];
#pragma unroll
      for (int n = 0; n < kEights; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[n][2 * half + j];
          if (!all_seen) {
            const std::int32_t token = t + n * 8 + 2 * at.pair + j;
            if (token > position || token < first || token >= end) score = -INFINITY;
          }
          risen = fmaxf(risen, score);
        }
      }
      risen = OverLanes<4>(risen, Most{});
      // Where nothing was seen so far, there is nothing to shrink, and exponents must be finite.
      const float base_of_row = risen == -INFINITY ? 0.0f : risen;
      const float factor = Exp2(most[half] - base_of_row);
      most[half] = risen;
      float some = 0;
#pragma unroll
      for (int n = 0; n < kEights; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[n][2 * half + j];
          score = Exp2(score - base_of_row);
          some += score;
        }
      }
      sum[half] = sum[half] * factor + some;
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
        result[n][2 * half] *= factor;
        result[n][2 * half + 1] *= factor;
      }
    }
    WaitForCopies<1>();
    __syncthreads();  // the values are there
    AddWeightedPairs<2>(at, scores, values, result);
  }
  float of_row[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) of_row[half] = 1.0f / OverLanes<4>(sum[half], Add{});
  StoreRows(
      at, result, [&](int half) { return of_row[half]; }, a.out, Index{span.begin} + tile.begin,
      Index{head} * a.head_dim, rows, a.head_dim);
}

template <int kColumns>
void LaunchPairs(const OfPairs& a, Index tile_count, cudaStream_t stream) {
  constexpr int kBytes = 6 * PairTile<kColumns, kPairRows>::kBytes;
  const auto kernel = PairKernel<kColumns>;
  // More than 48 KiB has to be asked for; the call is cheap, and of this device.
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  kernel<<<dim3(static_cast<unsigned>(tile_count), static_cast<unsigned>(a.heads), 1), kPairThreads,
           kBytes, stream>>>(a);
}

}  // namespace

template <class From>
void MakePairs(std::span<const PairSource<From>> sources, Index head_dim, const PairRows& rows,
               cudaStream_t stream) {
  MakeArguments<From> a{};
  std::ranges::copy(sources, a.sources);
  const Index tiles = CeilDiv(rows.tokens, kPairRows);
  a.spans = rows.spans;
  a.tokens = static_cast<std::int32_t>(rows.tokens);
  a.tiles = static_cast<std::int32_t>(tiles);
  a.head_dim = static_cast<std::int32_t>(head_dim);
  if (rows.count * tiles == 0) return;
  const dim3 grid(static_cast<unsigned>(tiles * kPairRows), static_cast<unsigned>(rows.count),
                  static_cast<unsigned>(sources.size()));
  const auto kernel =
      PairColumns(head_dim) == 64 ? MakePairsKernel<64, From> : MakePairsKernel<128, From>;
  kernel<<<grid, kMakeThreads, 0, stream>>>(a);
}
template void MakePairs(std::span<const PairSource<float>>, Index, const PairRows&, cudaStream_t);
template void MakePairs(std::span<const PairSource<std::uint16_t>>, Index, const PairRows&,
                        cudaStream_t);

template <class Key>
void AttentionOfPairs(const AttentionArguments<Key>& arguments, const PairTiles& keys,
                      const PairTiles& values, cudaStream_t stream) {
  if (arguments.tile_count == 0) return;
  const OfPairs a{.q = arguments.q,
                  .out = arguments.out,
                  .keys = keys,
                  .values = values,
                  .spans = arguments.spans,
                  .tiles = arguments.tiles,
                  .heads = arguments.heads,
                  .kv_heads = arguments.kv_heads,
                  .head_dim = arguments.head_dim,
                  .window = arguments.window};
  const auto launch = PairColumns(a.head_dim) == 64 ? LaunchPairs<64> : LaunchPairs<128>;
  launch(a, arguments.tile_count, stream);
}
template void AttentionOfPairs(const AttentionArguments<float>&, const PairTiles&, const PairTiles&,
                               cudaStream_t);
template void AttentionOfPairs(const AttentionArguments<std::uint16_t>&, const PairTiles&,
                               const PairTiles&, cudaStream_t);

}  // namespace lieq::cuda
