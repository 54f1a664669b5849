// Tiles of attention in shared memory, and products of them on tensor cores.
//
// A tile of floats keeps float32's results: a factor is taken apart into two numbers of 11 bits
// where it is read (split_products.cuh). A tile of pairs holds each number as the sum of two of
// bf16, taken apart once, when it is loaded; three of the four products are added in float, and
// what is left out is below 2^-15 of a product. It is read by whole fragments (ldmatrix): an eighth
// of the loads, and half of the multiplications, of which each has twice the depth.
#pragma once

#include <cstdint>

#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/split_products.cuh"

namespace lieq::cuda {

/// kColumns: of heads, padded. Rows of the tile that a block owns, those of the tiles that it goes
/// along, and the warps that share 16 own rows, each with a part of the columns of what is summed.
/// kExact: tiles of floats.
template <int kColumns_, int kOwn_, int kOther_, int kShare_, bool kExact_>
struct Tiling {
  static constexpr int kColumns = kColumns_, kOwn = kOwn_, kOther = kOther_, kShare = kShare_;
  static constexpr bool kExact = kExact_;
  static constexpr int kWarps = kOwn / 16 * kShare, kThreads = kWarps * kWarp;
  static constexpr int kEights = kOther / 8, kSums = kColumns / 8 / kShare;
  /// Shared memory of a row, in floats. What a fragment reads lies in 32 banks: of floats by four
  /// more columns, of pairs by the order of columns.
  static constexpr int kRowFloats = kExact ? kColumns + 4 : kColumns;
};

__device__ inline float4 WidenedFour(const float* four) {
  return *reinterpret_cast<const float4*>(four);
}
__device__ inline float Widened(float value) {
  return value;
}
__device__ inline float Widened(std::uint16_t half) {
  return __half2float(__ushort_as_half(half));
}
__device__ inline float4 WidenedFour(const std::uint16_t* four) {
  const ushort4 halves = *reinterpret_cast<const ushort4*>(four);
  return {Widened(halves.x), Widened(halves.y), Widened(halves.z), Widened(halves.w)};
}

/// Two numbers as two of bf16 each: the first lies in the lower half of a word.
__device__ inline Halves PairsOf(float first, float second) {
  const auto bits = [](__nv_bfloat162 two) { return *reinterpret_cast<std::uint32_t*>(&two); };
  const std::uint32_t high = bits(__floats2bfloat162_rn(first, second));
  return {high, bits(__floats2bfloat162_rn(first - __uint_as_float(high << 16),
                                           second - __uint_as_float(high & 0xffff0000u)))};
}

/// A tile of kRows in shared memory.
template <class T, int kRows>
struct Tile {
  static constexpr int kFloats = kRows * T::kRowFloats;
  float* data;

  /// Bytes from the start of a plane of pairs to eight columns of a row. Rows lie a multiple of
  /// 128 bytes apart; eight neighbours have the same columns in different banks.
  static __device__ int EightAt(int row, int eight) {
    return row * T::kColumns * 2 + (eight ^ (row & 7)) * 16;
  }
  static constexpr int kPlane = kRows * T::kColumns * 2;  // bytes: that of high parts, then low

  __device__ void Put(int row, int col, float4 x) const {
    if constexpr (T::kExact) {
      *reinterpret_cast<float4*>(data + row * T::kRowFloats + col) = x;
    } else {
      const Halves a = PairsOf(x.x, x.y), b = PairsOf(x.z, x.w);
      char* to = reinterpret_cast<char*>(data) + EightAt(row, col / 8) + col % 8 * 2;
      *reinterpret_cast<uint2*>(to) = {a.high, b.high};
      *reinterpret_cast<uint2*>(to + kPlane) = {a.low, b.low};
    }
  }
};

/// Rows row_of(0), row_of(1) .. of `from` from `column` on, times a factor; those from `count` on
/// and columns from head_dim on as zeros.
template <class T, int kRows, class Key, class RowOf>
__device__ void Load(Block<const Key> from, const RowOf& row_of, Index column, std::int32_t count,
                     std::int32_t head_dim, float factor, const Tile<T, kRows>& to) {
  constexpr int kFours = T::kColumns / 4;
  const auto at = reinterpret_cast<std::uintptr_t>(from.data + column);
  const bool by_four = at % (4 * sizeof(Key)) == 0 && from.stride % 4 == 0 && head_dim % 4 == 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < kRows * kFours; i += T::kThreads) {
    const int r = i / kFours, c = i % kFours * 4;
    float4 x = {0, 0, 0, 0};
    if (r < count && c < head_dim) {
      const Key* four = from.data + row_of(r) * from.stride + column + c;
      if (by_four) {
        x = WidenedFour(four);
      } else {
        x.x = Widened(four[0]);
        if (c + 1 < head_dim) x.y = Widened(four[1]);
        if (c + 2 < head_dim) x.z = Widened(four[2]);
        if (c + 3 < head_dim) x.w = Widened(four[3]);
      }
    }
    to.Put(r, c, {x.x * factor, x.y * factor, x.z * factor, x.w * factor});
  }
}

/// Where a thread stands: lane (group, pair) has rows group and group + 8 of its warp's 16, and of
/// 8 columns 2 pair and 2 pair + 1.
template <class T>
struct Place {
  int rows, part, lane, group, pair;  // first row of the warp; its part of the columns

  __device__ Place() {
    const int warp = threadIdx.x / kWarp;
    lane = threadIdx.x % kWarp;
    rows = warp / T::kShare * 16;
    part = warp % T::kShare;
    group = lane / 4;
    pair = lane % 4;
  }
  __device__ int Row(int half) const { return rows + group + 8 * half; }
};

/// Four blocks of 8 x 8 numbers of bf16; lane i names where row i % 8 of block i / 8 lies.
__device__ inline void ReadFour(const char* row, std::uint32_t (&to)[4]) {
  const auto at = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(at)
               : "memory");
}
/// The same, each block transposed.
__device__ inline void ReadFourTurned(const char* row, std::uint32_t (&to)[4]) {
  const auto at = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(at)
               : "memory");
}
/// A fragment of 16 rows by 16 of the depth, as PTX lays m16n8k16 out.
struct PairFragment {
  std::uint32_t high[4], low[4];
};
__device__ inline void MultiplyAddBf16(float (&sums)[4], const std::uint32_t (&a)[4],
                                       std::uint32_t b0, std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
      "{%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// For two neighbours of 8 columns: b.high[0] and [1] are of the first.
__device__ inline void MultiplyAdd(float (&first)[4], float (&second)[4], const PairFragment& a,
                                   const PairFragment& b) {
  MultiplyAddBf16(first, a.low, b.high[0], b.high[1]);
  MultiplyAddBf16(second, a.low, b.high[2], b.high[3]);
  MultiplyAddBf16(first, a.high, b.low[0], b.low[1]);
  MultiplyAddBf16(second, a.high, b.low[2], b.low[3]);
  MultiplyAddBf16(first, a.high, b.high[0], b.high[1]);
  MultiplyAddBf16(second, a.high, b.high[2], b.high[3]);
}

/// scores = own otherᵀ.
template <class T>
__device__ void Scores(const Place<T>& at, const Tile<T, T::kOwn>& own,
                       const Tile<T, T::kOther>& other, float (&scores)[T::kEights][4]) {
#pragma unroll
  for (int n = 0; n < T::kEights; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[n][i] = 0;
  }
  if constexpr (T::kExact) {
#pragma unroll 2
    for (int step = 0; step < T::kColumns / 8; ++step) {
      const float* of = own.data + (at.rows + at.group) * T::kRowFloats + step * 8 + at.pair;
      Fragment row;
      row.Set(0, of[0]);
      row.Set(1, of[8 * T::kRowFloats]);
      row.Set(2, of[4]);
      row.Set(3, of[8 * T::kRowFloats + 4]);
#pragma unroll
      for (int n = 0; n < T::kEights; ++n) {
        const float* column = other.data + (n * 8 + at.group) * T::kRowFloats + step * 8 + at.pair;
        MultiplyAdd(scores[n], row, column[0], column[4]);
      }
    }
  } else {
    const char *of_own = reinterpret_cast<const char*>(own.data),
               *of_other = reinterpret_cast<const char*>(other.data);
    const int row = at.rows + at.lane % 16, column = at.lane % 8 + at.lane / 16 * 8;
#pragma unroll 2
    for (int step = 0; step < T::kColumns / 16; ++step) {
      const char* a_at = of_own + own.EightAt(row, 2 * step + at.lane / 16);
      PairFragment a;
      ReadFour(a_at, a.high);
      ReadFour(a_at + own.kPlane, a.low);
#pragma unroll
      for (int n = 0; n < T::kEights; n += 2) {
        const char* b_at = of_other + other.EightAt(8 * n + column, 2 * step + at.lane / 8 % 2);
        PairFragment b;
        ReadFour(b_at, b.high);
        ReadFour(b_at + other.kPlane, b.low);
        MultiplyAdd(scores[n], scores[n + 1], a, b);
      }
    }
  }
}

/// sums += weights other, of this warp's part of the columns. weights: as Scores has them.
template <class T>
__device__ void AddWeighted(const Place<T>& at, const float (&weights)[T::kEights][4],
                            const Tile<T, T::kOther>& other, float (&sums)[T::kSums][4]) {
  if constexpr (T::kExact) {
#pragma unroll
    for (int eight = 0; eight < T::kEights; ++eight) {
      // The order within a product is free: row 2 pair of `other` stands where PTX has `pair`, row
      // 2 pair + 1 where it has `pair` + 4, so that weights need not change lanes.
      Fragment weight;
      weight.Set(0, weights[eight][0]);
      weight.Set(1, weights[eight][2]);
      weight.Set(2, weights[eight][1]);
      weight.Set(3, weights[eight][3]);
      const float* row =
          other.data + (eight * 8 + 2 * at.pair) * T::kRowFloats + at.part * T::kSums * 8;
#pragma unroll
      for (int n = 0; n < T::kSums; ++n) {
        const float* value = row + n * 8 + at.group;
        MultiplyAdd(sums[n], weight, value[0], value[T::kRowFloats]);
      }
    }
  } else {
    const char* of_other = reinterpret_cast<const char*>(other.data);
#pragma unroll
    for (int eight = 0; eight < T::kEights; eight += 2) {
      PairFragment weight;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&from)[4] = weights[eight + i / 2];
        const Halves halves = PairsOf(from[2 * (i % 2)], from[2 * (i % 2) + 1]);
        weight.high[i] = halves.high;
        weight.low[i] = halves.low;
      }
      const int row = eight * 8 + at.lane % 16;
#pragma unroll
      for (int n = 0; n < T::kSums; n += 2) {
        const char* b_at = of_other + other.EightAt(row, at.part * T::kSums + n + at.lane / 16);
        PairFragment b;
        ReadFourTurned(b_at, b.high);
        ReadFourTurned(b_at + other.kPlane, b.low);
        MultiplyAdd(sums[n], sums[n + 1], weight, b);
      }
    }
  }
}

}  // namespace lieq::cuda
