// Attention in bf16 arithmetic: what its kernels share.
//
// A number is the sum of two of bf16, a pair, which has 16 bits. Numbers are taken apart once, into
// tiles in the GPU's memory (MakePairs), which are copied as they are while the tile before is
// multiplied. Of the four products of two pairs three are added in float; what is
// left out is below 2^-15 of a product. Fragments are read whole (ldmatrix).
#pragma once

#include <cstdint>

#include "lieq/device/cuda/attention_pairs.h"
#include "lieq/device/cuda/device_code.cuh"

namespace lieq::cuda {

inline constexpr int kPairWarps = 4, kPairThreads = kPairWarps * kWarp;
static_assert(kPairRows == 16 * kPairWarps);  // that a block owns, 16 a warp
/// Scores are in units of log 2: 2^x is one instruction.
inline constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Two numbers as bf16: the first lies in the lower half of the word.
__device__ __forceinline__ std::uint32_t TwoOfBf16(float first, float second) {
  const __nv_bfloat162 two = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const std::uint32_t*>(&two);
}
struct TwoPairs {
  std::uint32_t high, low;
};
__device__ __forceinline__ TwoPairs PairsOf(float first, float second) {
  const std::uint32_t high = TwoOfBf16(first, second);
  return {high, TwoOfBf16(first - __uint_as_float(high << 16),
                          second - __uint_as_float(high & 0xffff0000u))};
}

/// A plane of a tile in shared memory, or of the first rows of one: kRows of kColumns numbers of
/// bf16. Eight neighbouring rows have the same columns in different banks.
template <int kColumns_, int kRows_>
struct PairTile {
  static constexpr int kColumns = kColumns_, kRows = kRows_;
  static constexpr int kRowBytes = kColumns * 2, kBytes = kRows * kRowBytes;
  std::uint32_t at;  // of the plane; the one of low parts follows it, where there is one

  /// Of eight columns of a row, in bytes.
  __host__ __device__ static __forceinline__ int EightAt(int row, int eight) {
    return row * kRowBytes + (eight ^ (row & 7)) * 16;
  }
};
/// Copies kBytes as they are. Ends with EndCopies.
template <int kBytes>
__device__ __forceinline__ void CopyTile(const std::uint16_t* from, std::uint32_t to) {
  constexpr int kOfThread = 16, kAtOnce = kOfThread * kPairThreads;
  static_assert(kBytes % kAtOnce == 0);
  const auto* source = reinterpret_cast<const char*>(from) + threadIdx.x * kOfThread;
  to += threadIdx.x * kOfThread;
#pragma unroll
  for (int at = 0; at < kBytes; at += kAtOnce) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + at), "l"(source + at)
                 : "memory");
  }
}
/// Where a plane begins, at a row of its tile.
template <int kColumns>
__device__ __forceinline__ std::uint16_t* PlaneOf(const PairTiles& tiles, Index tile, Index head,
                                                  int plane, int row) {
  return tiles.data +
         (((tile * tiles.heads + head) * tiles.planes + plane) * kPairRows + row) * kColumns;
}
/// Copies so far are a group; all but the last kLeft groups of this thread are there afterwards.
__device__ __forceinline__ void EndCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kLeft>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

/// Lane (group, pair) of a warp has rows group and group + 8 of its 16, and of 8 columns 2 pair and
/// 2 pair + 1.
struct PairPlace {
  int rows, lane, group, pair;  // rows: the first of the warp

  __device__ PairPlace() {
    rows = static_cast<int>(threadIdx.x) / kWarp * 16;
    lane = threadIdx.x % kWarp;
    group = lane / 4;
    pair = lane % 4;
  }
  __device__ int Row(int half) const { return rows + group + 8 * half; }
};

/// Four blocks of 8 x 8 numbers of bf16; lane i names where row i % 8 of block i / 8 lies.
__device__ __forceinline__ void ReadFour(std::uint32_t row, std::uint32_t (&to)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}
/// The same, each block transposed.
__device__ __forceinline__ void ReadFourTurned(std::uint32_t row, std::uint32_t (&to)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void MultiplyAddBf16(float (&sums)[4], const std::uint32_t (&a)[4],
                                                std::uint32_t b0, std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
      "{%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// A fragment of 16 rows by 16 of the depth, as PTX lays m16n8k16 out. kPlanes: 2 of pairs, 1 of
/// high parts alone.
template <int kPlanes>
struct PairFragment {
  std::uint32_t planes[kPlanes][4];
};
/// Rows of the warp by columns 16 step .. 16 step + 15 of a tile that the block owns.
template <int kPlanes, class Tile>
__device__ __forceinline__ PairFragment<kPlanes> OwnFragment(const PairPlace& at, const Tile& tile,
                                                             int step) {
  PairFragment<kPlanes> fragment;
  const std::uint32_t from =
      tile.at + Tile::EightAt(at.rows + at.lane % 16, 2 * step + at.lane / 16);
#pragma unroll
  for (int plane = 0; plane < kPlanes; ++plane) {
    ReadFour(from + plane * Tile::kBytes, fragment.planes[plane]);
  }
  return fragment;
}

/// sums[0 .. 2 kBlocks - 1] += a b: the small products first; neighbours among instructions add to
/// different sums, so that none waits for the one before it.
template <int kPlanes, int kBlocks>
__device__ __forceinline__ void MultiplyAddPairs(float (*sums)[4], const PairFragment<kPlanes>& a,
                                                 const PairFragment<kPlanes> (&b)[kBlocks]) {
  const auto multiply = [&](int of_a, int of_b) {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const std::uint32_t(&from)[4] = b[block].planes[of_b];
      MultiplyAddBf16(sums[2 * block], a.planes[of_a], from[0], from[1]);
      MultiplyAddBf16(sums[2 * block + 1], a.planes[of_a], from[2], from[3]);
    }
  };
  if constexpr (kPlanes == 2) {
    multiply(1, 0);
    multiply(0, 1);
  }
  multiply(0, 0);
}

/// scores [Tile::kRows / 8][4] = own otherᵀ. own(step): the fragment of what the warp owns.
template <int kPlanes, class Tile, class Own>
__device__ __forceinline__ void PairScores(const PairPlace& at, const Own& own, const Tile& other,
                                           float (&scores)[Tile::kRows / 8][4]) {
  constexpr int kBlocks = 2;  // of 16 rows of the other tile at once
#pragma unroll
  for (int n = 0; n < Tile::kRows / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[n][i] = 0;
  }
  const int row = at.lane % 8 + at.lane / 16 * 8;
#pragma unroll
  for (int step = 0; step < Tile::kColumns / 16; ++step) {
    const PairFragment<kPlanes> a = own(step);
    const std::uint32_t from = other.at + Tile::EightAt(row, 2 * step + at.lane / 8 % 2);
#pragma unroll
    for (int n = 0; n < Tile::kRows / 8; n += 2 * kBlocks) {
      PairFragment<kPlanes> b[kBlocks];
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
        for (int plane = 0; plane < kPlanes; ++plane) {
          ReadFour(from + plane * Tile::kBytes + (n + 2 * block) * 8 * Tile::kRowBytes,
                   b[block].planes[plane]);
        }
      }
      MultiplyAddPairs<kPlanes, kBlocks>(scores + n, a, b);
    }
  }
}

/// sums [Tile::kColumns / 8][4] += weights other. weights: as PairScores has them.
template <int kPlanes, class Tile>
__device__ __forceinline__ void AddWeightedPairs(const PairPlace& at,
                                                 const float (&weights)[Tile::kRows / 8][4],
                                                 const Tile& other,
                                                 float (&sums)[Tile::kColumns / 8][4]) {
  constexpr int kBlocks = 2;  // of 16 columns at once
#pragma unroll
  for (int eight = 0; eight < Tile::kRows / 8; eight += 2) {
    PairFragment<kPlanes> a;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&of)[4] = weights[eight + i / 2];
      if constexpr (kPlanes == 2) {
        const TwoPairs pairs = PairsOf(of[2 * (i % 2)], of[2 * (i % 2) + 1]);
        a.planes[0][i] = pairs.high;
        a.planes[1][i] = pairs.low;
      } else {
        a.planes[0][i] = TwoOfBf16(of[2 * (i % 2)], of[2 * (i % 2) + 1]);
      }
    }
    const int row = eight * 8 + at.lane % 16;
#pragma unroll
    for (int n = 0; n < Tile::kColumns / 8; n += 2 * kBlocks) {
      PairFragment<kPlanes> b[kBlocks];
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        const std::uint32_t from = other.at + Tile::EightAt(row, (n + 2 * block) | (at.lane / 16));
#pragma unroll
        for (int plane = 0; plane < kPlanes; ++plane) {
          ReadFourTurned(from + plane * Tile::kBytes, b[block].planes[plane]);
        }
      }
      MultiplyAddPairs<kPlanes, kBlocks>(sums + n, a, b);
    }
  }
}

/// Rows of the warp times factors, to `to` from row `first` on.
template <int kSums, class FactorOf>
__device__ __forceinline__ void StoreRows(const PairPlace& at, const float (&sums)[kSums][4],
                                          const FactorOf& factor_of, Block<float> to, Index first,
                                          Index column, std::int32_t count, std::int32_t head_dim) {
  const auto begin = reinterpret_cast<std::uintptr_t>(to.data + column);
  const bool by_two = begin % sizeof(float2) == 0 && to.stride % 2 == 0 && head_dim % 2 == 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = at.Row(half);
    if (r >= count) continue;
    float* row = to.data + (first + r) * to.stride + column;
    const float factor = factor_of(half);
#pragma unroll
    for (int n = 0; n < kSums; ++n) {
      const int c = n * 8 + 2 * at.pair;
      const float2 two = {sums[n][2 * half] * factor, sums[n][2 * half + 1] * factor};
      if (c >= head_dim) continue;
      if (by_two) {
        *reinterpret_cast<float2*>(row + c) = two;
      } else {
        row[c] = two.x;
        if (c + 1 < head_dim) row[c + 1] = two.y;
      }
    }
  }
}

}  // namespace lieq::cuda
