// Tiles of attention in shared memory, and products of them on tensor cores that keep float32's
// results: a factor is taken apart into two numbers of 11 bits where it is read
// (split_products.cuh). Of bf16 arithmetic: attention_pairs.cuh.
#pragma once

#include <cstdint>

#include "lieq/device/cuda/attention_keys.cuh"
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/split_products.cuh"

namespace lieq::cuda {

/// kColumns: of heads, padded. Rows of the tile that a block owns, those of the tiles that it goes
/// along, and the warps that share 16 own rows, each with a part of the columns of what is summed.
template <int kColumns_, int kOwn_, int kOther_, int kShare_>
struct Tiling {
  static constexpr int kColumns = kColumns_, kOwn = kOwn_, kOther = kOther_, kShare = kShare_;
  static constexpr int kWarps = kOwn / 16 * kShare, kThreads = kWarps * kWarp;
  static constexpr int kEights = kOther / 8, kSums = kColumns / 8 / kShare;
  /// Of a row in shared memory: four more, so that what a fragment reads lies in 32 banks.
  static constexpr int kPitch = kColumns + 4;
};

/// Rows row_of(0), row_of(1) .. of `from` from `column` on, times a factor, as `to`
/// [kRows, T::kPitch]; those from `count` on and columns from head_dim on as zeros.
template <class T, int kRows, class Key, class RowOf>
__device__ void Load(Block<const Key> from, const RowOf& row_of, Index column, std::int32_t count,
                     std::int32_t head_dim, float factor, float* to) {
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
    *reinterpret_cast<float4*>(to + r * T::kPitch + c) = {x.x * factor, x.y * factor, x.z * factor,
                                                          x.w * factor};
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
      MultiplyAdd(scores[n], row, column[0], column[4]);
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
      MultiplyAdd(sums[n], weight, value[0], value[T::kPitch]);
    }
  }
}

}  // namespace lieq::cuda
