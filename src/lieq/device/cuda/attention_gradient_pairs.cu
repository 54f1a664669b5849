// Gradients of causal attention in bf16 arithmetic, as attention_gradient.cu has them in float32.
//
// Scores are products of pairs, as on the way forward, so that probabilities are those of then. In
// the other products a number is one of bf16, as in products with weights: the gradient of the
// output, of the scores, and what they are multiplied with.
#include <cmath>
#include <span>

#include "lieq/device/cuda/attention_pairs.cuh"
#include "lieq/device/cuda/attention_pairs.h"
#include "lieq/device/cuda/gradient_kernels.h"

namespace lieq::cuda {
namespace {

constexpr int kOwn = static_cast<int>(kPairRows);
constexpr int kOther = 32;  // rows of the tiles that a block goes along, two of which are there

struct GradientOfPairs {
  PairTiles q, k, v, dout;  // q times what scores are scaled by, in units of log 2
  Block<float> dq, dk, dv;
  std::int32_t windows, length, heads, kv_heads, head_dim, window;
  float2* rows;
};

__device__ __forceinline__ bool Sees(const GradientOfPairs& a, std::int32_t query,
                                     std::int32_t key) {
  return key <= query && query < a.length && (a.window == 0 || key > query - a.window);
}
/// Whether all queries from `query` to `last_query` see all of the keys.
__device__ __forceinline__ bool AllSee(const GradientOfPairs& a, std::int32_t query,
                                       std::int32_t last_query, std::int32_t key,
                                       std::int32_t last_key) {
  return last_key <= query && last_query < a.length &&
         (a.window == 0 || key > last_query - a.window);
}

template <int kColumns>
struct Tiles {
  using Own = PairTile<kColumns, kOwn>;
  using Other = PairTile<kColumns, kOther>;
  static constexpr int kEights = kOther / 8, kSums = kColumns / 8;
  /// Three planes of what a block owns, and twice three of what it goes along; of queries there,
  /// what is known of each.
  static constexpr int kOwnBytes = 3 * Own::kBytes;
  static constexpr int kStage = 3 * Other::kBytes,
                       kKnown = kOther * static_cast<int>(sizeof(float2));
  static constexpr int kBytes = kOwnBytes + 2 * (kStage + kKnown);
};

/// dq of a tile of queries, and for KeyKernel what their probabilities are made of: the log of the
/// sum of exponentials of their scores, and the mean of dp = dout vᵀ by their probabilities.
template <int kColumns>
__global__ void __launch_bounds__(kPairThreads, 2)
    QueryKernel(const __grid_constant__ GradientOfPairs a) {
  using T = Tiles<kColumns>;
  using Own = typename T::Own;
  using Other = typename T::Other;
  extern __shared__ __align__(128) unsigned char tiles_in_shared[];
  const auto base = static_cast<std::uint32_t>(__cvta_generic_to_shared(tiles_in_shared));
  const Own queries{base}, gradients{base + 2 * Own::kBytes};

  const std::int32_t tiles = (a.length + kOwn - 1) / kOwn;
  const auto head = static_cast<std::int32_t>(blockIdx.y);
  // The longest first: they see the most keys.
  const std::int32_t begin = (tiles - 1 - static_cast<std::int32_t>(blockIdx.x) % tiles) * kOwn;
  const Index before = static_cast<std::int32_t>(blockIdx.x) / tiles;  // windows before this one
  const Index first = before * a.length, first_tile = before * tiles;
  const Index kv_head = head / (a.heads / a.kv_heads);
  const std::int32_t rows = min(kOwn, a.length - begin), end = begin + rows;
  const std::int32_t seen = a.window == 0 ? 0 : max(0, begin + 1 - a.window);
  const std::int32_t start = seen / kOther * kOther;
  const PairPlace at;

  const auto keys_of = [&](int stage) {
    return Other{base + T::kOwnBytes + static_cast<std::uint32_t>(stage * T::kStage)};
  };
  const auto copy = [&](std::int32_t t, int stage) {
    const std::uint32_t to = keys_of(stage).at;
    const Index tile = first_tile + t / kOwn;
    const int row = t % kOwn;
    CopyTile<Other::kBytes>(PlaneOf<kColumns>(a.k, tile, kv_head, 0, row), to);
    CopyTile<Other::kBytes>(PlaneOf<kColumns>(a.k, tile, kv_head, 1, row), to + Other::kBytes);
    CopyTile<Other::kBytes>(PlaneOf<kColumns>(a.v, tile, kv_head, 0, row), to + 2 * Other::kBytes);
  };
  CopyTile<2 * Own::kBytes>(PlaneOf<kColumns>(a.q, first_tile + begin / kOwn, head, 0, 0),
                            queries.at);
  CopyTile<Own::kBytes>(PlaneOf<kColumns>(a.dout, first_tile + begin / kOwn, head, 0, 0),
                        gradients.at);
  copy(start, 0);
  EndCopies();

  float scores[T::kEights][4], dp[T::kEights][4];
  int stage = 0;
  // Calls use(first key, keys, whether all queries see all of them) with scores and dp. again:
  // another pass follows, whose first tile is copied while the last one is used.
  const auto each_tile = [&](bool again, const auto& use) {
    for (std::int32_t t = start; t < end; t += kOther) {
      const std::int32_t next = t + kOther < end ? t + kOther : again ? start : end;
      if (next < end) copy(next, 1 - stage);
      EndCopies();
      WaitForCopies<1>();
      __syncthreads();  // this tile is there
      const Other keys = keys_of(stage);
      PairScores<2>(at, [&](int step) { return OwnFragment<2>(at, queries, step); }, keys, scores);
      PairScores<1>(
          at, [&](int step) { return OwnFragment<1>(at, gradients, step); },
          Other{keys.at + 2 * Other::kBytes}, dp);
      use(t, keys, AllSee(a, begin + at.rows, begin + at.rows + 15, t, t + kOther - 1));
      __syncthreads();  // this tile has been read
      stage = 1 - stage;
    }
  };

  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {}, dot[2] = {};  // the latter of this lane
  each_tile(true, [&](std::int32_t t, const Other&, bool all_see) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int32_t query = begin + at.Row(half);
      float risen = most[half];
#pragma unroll
      for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[n][2 * half + j];
          if (!all_see && !Sees(a, query, t + n * 8 + 2 * at.pair + j)) score = -INFINITY;
          risen = fmaxf(risen, score);
        }
      }
      risen = OverLanes<4>(risen, Most{});
      const float base_of_row = risen == -INFINITY ? 0.0f : risen;
      const float factor = Exp2(most[half] - base_of_row);
      most[half] = risen;
      float some = 0, of_dp = 0;
#pragma unroll
      for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const float p = Exp2(scores[n][2 * half + j] - base_of_row);
          some += p;
          of_dp = fmaf(p, dp[n][2 * half + j], of_dp);
        }
      }
      sum[half] = sum[half] * factor + some;
      dot[half] = dot[half] * factor + of_dp;
    }
  });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float all = OverLanes<4>(sum[half], Add{});
    dot[half] = OverLanes<4>(dot[half], Add{}) / all;
    most[half] += log2f(all);
    if (at.pair == 0 && at.Row(half) < rows) {
      a.rows[Index{head} * a.windows * a.length + first + begin + at.Row(half)] = {most[half],
                                                                                   dot[half]};
    }
  }
  float sums[T::kSums][4] = {};
  each_tile(false, [&](std::int32_t t, const Other& keys, bool all_see) {
#pragma unroll
    for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int half = i / 2;
        const bool sees = all_see || Sees(a, begin + at.Row(half), t + n * 8 + 2 * at.pair + i % 2);
        dp[n][i] = sees ? Exp2(scores[n][i] - most[half]) * (dp[n][i] - dot[half]) : 0.0f;
      }
    }
    AddWeightedPairs<1>(at, dp, keys, sums);
  });
  const auto scale = static_cast<float>(1.0 / sqrt(static_cast<double>(a.head_dim)));
  StoreRows(
      at, sums, [&](int) { return scale; }, a.dq, first + begin, Index{head} * a.head_dim, rows,
      a.head_dim);
}

/// dk and dv of a tile of keys, over all queries of all heads that see it.
template <int kColumns>
__global__ void __launch_bounds__(kPairThreads, 2)
    KeyKernel(const __grid_constant__ GradientOfPairs a) {
  using T = Tiles<kColumns>;
  using Own = typename T::Own;
  using Other = typename T::Other;
  extern __shared__ __align__(128) unsigned char tiles_in_shared[];
  const auto base = static_cast<std::uint32_t>(__cvta_generic_to_shared(tiles_in_shared));
  const Own keys{base}, values{base + 2 * Own::kBytes};

  const std::int32_t tiles = (a.length + kOwn - 1) / kOwn;
  const auto kv_head = static_cast<std::int32_t>(blockIdx.y);
  // The first are seen by the most.
  const std::int32_t begin = static_cast<std::int32_t>(blockIdx.x) % tiles * kOwn;
  const Index before = static_cast<std::int32_t>(blockIdx.x) / tiles;  // windows before this one
  const Index first = before * a.length, first_tile = before * tiles;
  const std::int32_t rows = min(kOwn, a.length - begin);
  const std::int32_t end = a.window == 0 ? a.length : min(a.length, begin + rows - 1 + a.window);
  const std::int32_t start = begin / kOther * kOther, shared_by = a.heads / a.kv_heads;
  const std::int32_t last_head = (kv_head + 1) * shared_by - 1;
  const PairPlace at;

  const auto queries_of = [&](int stage) {
    return Other{base + T::kOwnBytes + static_cast<std::uint32_t>(stage * T::kStage)};
  };
  const auto known_of = [&](int stage) { return T::kOwnBytes + 2 * T::kStage + stage * T::kKnown; };
  const auto copy = [&](std::int32_t head, std::int32_t t, int stage) {
    const std::uint32_t to = queries_of(stage).at;
    const Index tile = first_tile + t / kOwn;
    const int of_tile = t % kOwn;
    CopyTile<Other::kBytes>(PlaneOf<kColumns>(a.q, tile, head, 0, of_tile), to);
    CopyTile<Other::kBytes>(PlaneOf<kColumns>(a.q, tile, head, 1, of_tile), to + Other::kBytes);
    CopyTile<Other::kBytes>(PlaneOf<kColumns>(a.dout, tile, head, 0, of_tile),
                            to + 2 * Other::kBytes);
    const auto row = static_cast<std::int32_t>(threadIdx.x);
    if (row >= kOther) return;
    const bool there = t + row < a.length;
    const float2* from =
        a.rows + Index{head} * a.windows * a.length + first + t + (there ? row : 0);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(
                     base + static_cast<std::uint32_t>(known_of(stage)) + 8u * threadIdx.x),
                 "l"(from), "r"(there ? 8 : 0)
                 : "memory");
  };
  CopyTile<2 * Own::kBytes>(PlaneOf<kColumns>(a.k, first_tile + begin / kOwn, kv_head, 0, 0),
                            keys.at);
  CopyTile<Own::kBytes>(PlaneOf<kColumns>(a.v, first_tile + begin / kOwn, kv_head, 0, 0),
                        values.at);
  copy(kv_head * shared_by, start, 0);
  EndCopies();

  float dk[T::kSums][4] = {}, dv[T::kSums][4] = {};
  int stage = 0;
  for (std::int32_t head = kv_head * shared_by; head <= last_head; ++head) {
    for (std::int32_t t = start; t < end; t += kOther) {
      if (t + kOther < end) {
        copy(head, t + kOther, 1 - stage);
      } else if (head < last_head) {
        copy(head + 1, start, 1 - stage);
      }
      EndCopies();
      WaitForCopies<1>();
      __syncthreads();  // this tile is there
      const Other queries = queries_of(stage), gradients{queries.at + 2 * Other::kBytes};
      const auto* known = reinterpret_cast<const float2*>(tiles_in_shared + known_of(stage));
      float scores[T::kEights][4], dp[T::kEights][4];
      PairScores<2>(at, [&](int step) { return OwnFragment<2>(at, keys, step); }, queries, scores);
      PairScores<1>(at, [&](int step) { return OwnFragment<1>(at, values, step); }, gradients, dp);
      const bool all_see = AllSee(a, t, t + kOther - 1, begin + at.rows, begin + at.rows + 15);
#pragma unroll
      for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int query = n * 8 + 2 * at.pair + j;
          const float2 row = known[query];
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int i = 2 * half + j;
            const bool sees = all_see || Sees(a, t + query, begin + at.Row(half));
            const float p = sees ? Exp2(scores[n][i] - row.x) : 0.0f;
            scores[n][i] = p;
            dp[n][i] = sees ? p * (dp[n][i] - row.y) : 0.0f;
          }
        }
      }
      AddWeightedPairs<1>(at, scores, gradients, dv);
      AddWeightedPairs<1>(at, dp, queries, dk);
      __syncthreads();  // this tile has been read
      stage = 1 - stage;
    }
  }
  const Index to = Index{kv_head} * a.head_dim;
  StoreRows(at, dk, [](int) { return kLn2; }, a.dk, first + begin, to, rows, a.head_dim);
  StoreRows(at, dv, [](int) { return 1.0f; }, a.dv, first + begin, to, rows, a.head_dim);
}

template <int kColumns>
void Start(const GradientOfPairs& a, cudaStream_t stream) {
  const Index tiles = CeilDiv(a.length, kPairRows) * a.windows;
  const auto launch = [&](auto* kernel, std::int32_t heads) {
    constexpr int kBytes = Tiles<kColumns>::kBytes;
    // More than 48 KiB has to be asked for; the call is cheap, and of this device.
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    kernel<<<dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(heads), 1), kPairThreads,
             kBytes, stream>>>(a);
  };
  launch(QueryKernel<kColumns>, a.heads);
  launch(KeyKernel<kColumns>, a.kv_heads);
}

}  // namespace

Index AttentionGradientElements(const AttentionGradientArguments& arguments) noexcept {
  const Index tiles = CeilDiv(arguments.length, kPairRows) * arguments.windows;
  return PairElements(tiles, arguments.heads, 3, arguments.head_dim) +
         PairElements(tiles, arguments.kv_heads, 3, arguments.head_dim);
}

void AttentionGradientOfPairs(const AttentionGradientArguments& arguments, std::uint16_t* scratch,
                              cudaStream_t stream) {
  if (arguments.windows * arguments.length == 0) return;
  const Index head_dim = arguments.head_dim;
  const Index all_tiles = CeilDiv(arguments.length, kPairRows) * arguments.windows;
  const auto tiles = [&](std::int32_t heads, int planes) {
    const PairTiles made{scratch, heads, planes};
    scratch += PairElements(all_tiles, heads, planes, head_dim);
    return made;
  };
  const GradientOfPairs a{.q = tiles(arguments.heads, 2),
                          .k = tiles(arguments.kv_heads, 2),
                          .v = tiles(arguments.kv_heads, 1),
                          .dout = tiles(arguments.heads, 1),
                          .dq = arguments.dq,
                          .dk = arguments.dk,
                          .dv = arguments.dv,
                          .windows = arguments.windows,
                          .length = arguments.length,
                          .heads = arguments.heads,
                          .kv_heads = arguments.kv_heads,
                          .head_dim = arguments.head_dim,
                          .window = arguments.window,
                          .rows = arguments.rows};
  const float scale = kLog2E * static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  const PairSource<float> sources[] = {{arguments.q, scale, a.q},
                                       {arguments.k, 1.0f, a.k},
                                       {arguments.v, 1.0f, a.v},
                                       {arguments.dout, 1.0f, a.dout}};
  MakePairs(std::span<const PairSource<float>>(sources), head_dim,
            {.count = arguments.windows, .tokens = arguments.length}, stream);
  const auto start = PairColumns(head_dim) == 64 ? Start<64> : Start<128>;
  start(a, stream);
}

}  // namespace lieq::cuda
