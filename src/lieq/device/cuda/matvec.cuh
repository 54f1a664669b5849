// Products of 2 to 16 rows with packed codes: the kernel, which each matvec_N.cu makes for a width.
// What one row meets is in matvec_one.cuh.
//
// A block of 12 warps takes some units of 16 rows (tiles) whole, or a slice of their columns that
// the blocks of a cluster share. It cuts them evenly among its warps, each of which has a ring of
// stages that are copied ahead of it. Codes are factor A of mma.m16n8k16, 16 rows of the weights;
// x is factor B, its rows the columns of the result. Sums of a warp's units of a tile go to shared
// memory, and are added in the order of warps and then of blocks: there are no atomics, so that
// bytes do not depend on who comes first.
//
// What a block reads of weights does not depend on the kernels before it, so that the ring fills
// while those end.
#pragma once

#include <algorithm>

#include "lieq/device/cuda/hopper.cuh"
#include "lieq/device/cuda/packed.cuh"

namespace lieq::cuda {

inline constexpr int kMatVecWarps = 12, kMatVecThreads = kMatVecWarps * kWarp;

struct MatVecPart {
  const std::byte* units;
  const float* bias;
  float* y;
  Index stride;
  int rows, end;  // of the weights; the first tile behind it
};
struct MatVecArguments {
  MatVecPart parts[kMostPackedProducts];  // those there are not: end of the last one
  ProductInput input;
  const std::byte* formatted;  // of more than one row
  const float* row_factors;    // the same
  int tiles, units_per_row;    // of all parts; columns / 128
  int cols, rows;              // of the weights, of x
  int clusters, tiles_of_round, slots;
  float zero;
  bool minima, add;
  bool paired;  // two parts alike, whose tiles take turns: the first gives silu(first) * second
};

/// Shape of what is kept of x for kRows rows, as factor B: for each 64 columns, 128 bytes a row;
/// then for each sum of codes (64 columns, or 32 where groups are so short) what belongs to it of
/// each row: the sum of x times -zero * 2^-24, and the power of two that the columns were divided
/// by, times 2^24.
template <int kRows, int kFolds>
struct InputShape {
  static constexpr int kTileRows = kRows < 8 ? kRows : 8, kTiles = kRows > 8 ? 2 : 1;
  static constexpr int kQuads = kTileRows == 8 ? 4 : kTileRows == 4 ? 2 : 1;
  static constexpr int kGroupBytes = kRows * 128;
  static constexpr int kFoldBytes = kTiles * kQuads * 16;
  __host__ __device__ static constexpr int Bytes(int groups) {
    return groups * (kGroupBytes + kFolds * kFoldBytes);
  }
};

/// Eight numbers of a row of `cols` from `col` on, a multiple of 8; 0 behind the last.
__device__ __forceinline__ void LoadEight(const float* row, int col, Index cols,
                                          float (&values)[8]) {
#pragma unroll
  for (int i = 0; i < 8; i += 4) {
    float4 four{0, 0, 0, 0};
    if (col + i < cols) four = *reinterpret_cast<const float4*>(row + col + i);
    values[i] = four.x, values[i + 1] = four.y, values[i + 2] = four.z, values[i + 3] = four.w;
  }
}
/// What is multiplied, but for the factor of a norm.
__device__ __forceinline__ void Combine(InputKind kind, float (&values)[8],
                                        const float (&others)[8]) {
  if (kind == InputKind::kPlain) return;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (kind == InputKind::kNorm) {
      values[i] *= others[i];
    } else {  // as the SwiGlu of steps.cu
      values[i] = values[i] / (1.0f + expf(fminf(-values[i], 88.0f))) * others[i];
    }
  }
}
/// Eight columns of what is multiplied. squares: += those of x, where there is a norm.
__device__ __forceinline__ void LoadInput(const ProductInput& input, Index row, int col,
                                          float (&values)[8], double& squares) {
  LoadEight(input.x.data + row * input.x.stride, col, input.x.cols, values);
  if (input.kind == InputKind::kPlain) return;
  float others[8];
  const Index other_row = input.kind == InputKind::kNorm ? 0 : row;
  LoadEight(input.other + other_row * input.other_stride, col, input.x.cols, others);
  if (input.kind == InputKind::kNorm) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      squares += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    }
  }
  Combine(input.kind, values, others);
}

/// Lane `octet` of eight neighbours has columns 8 octet .. 8 octet + 7 of the 64 of `group`. All
/// lanes of a warp call it; those that are not `here` write nothing.
template <int kBits, int kRows, int kFolds>
__device__ __forceinline__ void FormatGroup(const float (&values)[8], bool here, int group, int row,
                                            int octet, float sum_factor, std::byte* groups,
                                            std::byte* folds) {
  using Shape = InputShape<kRows, kFolds>;
  float most = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) most = fmaxf(most, fabsf(values[i]));
  most = OverLanes<8>(most, Most{});
  const int exponent = ExponentOf(most);  // 2^exponent divides
  const float factor = __uint_as_float(static_cast<unsigned>(127 - exponent) << 23);
  const float shift = __uint_as_float((127u - ShiftOf(kBits, octet)) << 23);
  float sum = 0;
  std::uint32_t halves[4];
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    const __half2 rounded = __floats2half2_rn(values[2 * t] * factor, values[2 * t + 1] * factor);
    const float2 back = __half22float2(rounded);
    sum += back.x + back.y;
    const __half2 shifted = __floats2half2_rn(back.x * shift, back.y * shift);
    halves[t] = *reinterpret_cast<const std::uint32_t*>(&shifted);
  }
  sum = OverLanes<8 / kFolds>(sum, Add{});
  if (!here) return;
  const int tile = row / 8, n = row % 8;
  std::byte* to = groups + group * Shape::kGroupBytes + octet / 4 * (kRows * 64) +
                  (tile * Shape::kTileRows + n) * 64 + octet % 4 * 4;
#pragma unroll
  for (int t = 0; t < 4; ++t) *reinterpret_cast<std::uint32_t*>(to + t * 16) = halves[t];
  if (octet % (8 / kFolds) != 0) return;
  const int fold = group * kFolds + octet / (8 / kFolds);
  float* quad = reinterpret_cast<float*>(folds + fold * Shape::kFoldBytes +
                                         (tile * Shape::kQuads + n / 2) * 16);
  const float zero = sum * sum_factor;
  const float back = __uint_as_float(static_cast<unsigned>(127 + exponent + 24) << 23);
  quad[n % 2] = zero;
  quad[2 + n % 2] = back;
  if constexpr (kRows == 1) {
    quad[1] = zero;
    quad[3] = back;
  }
}

/// What sums of x are multiplied with: where zeros are not shared they meet their offsets later.
template <bool kOffsets>
__device__ __forceinline__ float SumFactor(float zero) {
  return kOffsets ? 0x1p-24f : -zero * 0x1p-24f;
}

inline constexpr int kFormatThreads = 512;

/// Into `out` [units_per_row * 2 groups], then the folds, then a factor of each row: a block takes
/// a row, and each of its warps four groups at once.
template <int kBits, int kRows, int kFolds, bool kOffsets>
__global__ void __launch_bounds__(kFormatThreads)
    FormatKernel(ProductInput input, int groups, float zero, std::byte* out) {
  using Shape = InputShape<kRows, kFolds>;
  LetNextKernelStart();
  WaitForKernelsBefore();
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int row = blockIdx.x;  // kRows of them
  std::byte* const folds = out + groups * Shape::kGroupBytes;
  double squares = 0;
  for (int four = warp; four * 4 < groups; four += kFormatThreads / kWarp) {
    const int group = four * 4 + lane / 8;
    const bool here = group < groups;
    float values[8] = {};
    if (here && row < input.x.rows) {
      LoadInput(input, row, group * 64 + lane % 8 * 8, values, squares);
    }
    FormatGroup<kBits, kRows, kFolds>(values, here, group, row, lane % 8, SumFactor<kOffsets>(zero),
                                      out, folds);
  }
  float factor = 1;
  if (input.kind == InputKind::kNorm) {
    squares = OverBlock<kFormatThreads>(squares, Add{});
    factor =
        static_cast<float>(1.0 / sqrt(squares / static_cast<double>(input.x.cols) + input.eps));
  }
  if (threadIdx.x == 0) reinterpret_cast<float*>(out + Shape::Bytes(groups))[row] = factor;
}

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void MultiplyHalves(float (&sums)[4], std::uint32_t a0, std::uint32_t a1,
                                               std::uint32_t a2, std::uint32_t a3, std::uint32_t b0,
                                               std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
      "{%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// The same, from `start` on.
__device__ __forceinline__ void MultiplyHalves(const float (&start)[4], float (&sums)[4],
                                               std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                               std::uint32_t a3, std::uint32_t b0,
                                               std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
      "{%10,%11,%12,%13};"
      : "=f"(sums[0]), "=f"(sums[1]), "=f"(sums[2]), "=f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "f"(start[0]), "f"(start[1]),
        "f"(start[2]), "f"(start[3]));
}

/// A warp's way through the units of its block, a round of tiles after another.
struct UnitWalk {
  int tiles, slice, per_round, warp;  // of the block: tiles, units of a tile; tiles of a round
  int round = 0;                      // its first tile
  int left = 0, tile = 0, k = 0;      // units of this round; where it is

  __device__ void Begin(int first) {
    round = first;
    const int count = min(per_round, tiles - first) * slice;
    const int from = count * warp / kMatVecWarps;
    left = count * (warp + 1) / kMatVecWarps - from;
    tile = first + from / slice;
    k = from % slice;
  }
  /// Units of the next stage: neighbours in one tile.
  __device__ int Next(int most) const { return min(most, min(left, slice - k)); }
  __device__ void Advance(int units) {
    left -= units;
    k += units;
    if (k == slice) {
      k = 0;
      ++tile;
    }
  }
};
#endif

template <int kBits, int kScales, bool kOffsets>
inline constexpr int kUnitSize = 256 * kBits + 32 * kScales * (kOffsets ? 2 : 1);

// A stage is what one copy brings. Three of a warp, of 12 of a multiprocessor, are some 11 MB in
// flight on an H200; more would keep the next kernel's block from fitting beside this one's.
inline constexpr int kStages = 3, kStageBytes = 2432;
__host__ __device__ constexpr int StageUnits(int unit) {
  return unit > kStageBytes ? 1 : unit * 4 < kStageBytes ? 4 : kStageBytes / unit;
}

/// Bytes of barriers in front of the ring.
inline constexpr int kBarrierBytes = (kMatVecWarps * kStages + 1) * 8 / 128 * 128 + 128;

template <int kBits, int kScales, bool kOffsets, int kRows>
__global__ void __launch_bounds__(kMatVecThreads, 1)
    MatVecKernel(const __grid_constant__ MatVecArguments a) {
#if __CUDA_ARCH__ >= 900
  constexpr int kFolds = kScales == 4 ? 2 : 1;
  using Shape = InputShape<kRows, kFolds>;
  constexpr int kNs = Shape::kTiles;
  constexpr int kUnit = kUnitSize<kBits, kScales, kOffsets>;
  constexpr int kMost = StageUnits(kUnit), kStage = kMost * kUnit;
  constexpr int kSums = 16 * kRows;  // of a tile

  extern __shared__ __align__(128) std::byte shared[];
  __shared__ int first_tiles[kMatVecWarps], last_tiles[kMatVecWarps];
  const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0);
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int ranks = static_cast<int>(gridDim.x) / a.clusters;
  const int cluster = static_cast<int>(blockIdx.x) / ranks;
  const int rank = static_cast<int>(blockIdx.x) % ranks;
  const int k_begin = a.units_per_row * rank / ranks;
  const int slice = a.units_per_row * (rank + 1) / ranks - k_begin;
  const int together = a.paired ? 2 : 1;  // tiles of one block
  const int tile_begin = a.tiles / together * cluster / a.clusters * together;
  const int tiles = a.tiles / together * (cluster + 1) / a.clusters * together - tile_begin;
  const int groups = slice * 2;

  const std::uint32_t base = SharedAddress(shared);
  const std::uint32_t barriers = base + warp * kStages * 8;
  const std::uint32_t input_barrier = base + kMatVecWarps * kStages * 8;
  const std::uint32_t ring = base + kBarrierBytes + warp * kStages * kStage;
  std::byte* const input = shared + kBarrierBytes + kMatVecWarps * kStages * kStage;
  // Places are those of the largest slice, so that they are the same in all blocks of a cluster.
  const int most_groups = (a.units_per_row + ranks - 1) / ranks * 2;
  std::byte* const folds = input + most_groups * Shape::kGroupBytes;
  float* const slots = reinterpret_cast<float*>(folds + most_groups * kFolds * Shape::kFoldBytes);
  float* const totals = slots + kMatVecWarps * a.slots * kSums;

  // The way of the copies, which run ahead: as UnitWalk, with the address of the next unit.
  UnitWalk load{tiles, slice, a.tiles_of_round, warp};
  const std::byte* from = nullptr;
  int known_end = 0;  // the first tile that does not follow from the one before it
  const auto seek = [&] {
    int tile = tile_begin + load.tile, begin = 0;
    known_end = a.parts[0].end;
    from = a.parts[0].units;
    if (a.paired) {
      from = a.parts[tile % 2].units;
      known_end = tile + 1;
      tile /= 2;
    } else {
#pragma unroll
      for (int part = 1; part < kMostPackedProducts; ++part) {
        if (tile < a.parts[part - 1].end) continue;
        from = a.parts[part].units;
        begin = a.parts[part - 1].end;
        known_end = a.parts[part].end;
      }
    }
    from += (Index{tile - begin} * a.units_per_row + k_begin + load.k) * kUnit;
  };
  const auto copy = [&](int stage) {  // of one lane
    if (load.left == 0) {
      while (load.left == 0 && load.round + load.per_round < tiles) {
        load.Begin(load.round + load.per_round);
      }
      if (load.left == 0) return;
      seek();
    }
    const int units = load.Next(kMost), bytes = units * kUnit;
    ExpectBytes(barriers + 8 * stage, bytes);
    CopyBulk(ring + stage * kStage, from, bytes, barriers + 8 * stage);
    from += bytes;
    load.Advance(units);
    if (load.k != 0 || load.left == 0) return;
    if (tile_begin + load.tile < known_end) {
      from += (a.units_per_row - slice) * kUnit;
    } else {
      seek();
    }
  };
  load.Begin(0);
  if (lane == 0) {
    for (int stage = 0; stage < kStages; ++stage) InitBarrier(barriers + 8 * stage);
    if (warp == 0) InitBarrier(input_barrier);
    FenceBarrierInits();
    if (load.left > 0) seek();
    for (int stage = 0; stage < kStages; ++stage) copy(stage);
  }
  LetNextKernelStart();
  WaitForKernelsBefore();

  if (threadIdx.x == 0) {
    const std::byte* from = a.formatted + k_begin * 2 * Shape::kGroupBytes;
    const std::byte* other = a.formatted + a.units_per_row * 2 * Shape::kGroupBytes +
                             k_begin * 2 * kFolds * Shape::kFoldBytes;
    const int bytes = groups * Shape::kGroupBytes, others = groups * kFolds * Shape::kFoldBytes;
    ExpectBytes(input_barrier, bytes + others);
    CopyBulk(SharedAddress(input), from, bytes, input_barrier);
    CopyBulk(SharedAddress(folds), other, others, input_barrier);
  }
  __syncthreads();
  WaitBarrier(input_barrier, 0);

  // Where a result goes; null where it is one of rows or columns that fill up a tile.
  const auto place_of = [&](int round, int i, float& bias) -> float* {
    int tile = tile_begin + round + i / kSums, begin = 0;
    const int col = i / 16 % kRows;
    MatVecPart part = a.parts[0];
    if (a.paired) {
      if (tile % 2 == 1) part = a.parts[1];
      tile /= 2;
    } else {
#pragma unroll
      for (int other = 1; other < kMostPackedProducts; ++other) {
        if (tile < a.parts[other - 1].end) continue;
        part = a.parts[other];
        begin = a.parts[other - 1].end;
      }
    }
    const int row = (tile - begin) * 16 + i % 16;
    if (row >= part.rows || col >= a.rows) return nullptr;
    bias = part.bias == nullptr ? 0.0f : part.bias[row];
    return part.y + col * part.stride + row;
  };
  // What the first result of this thread is added to is asked for ahead of the work.
  const int first_result = static_cast<int>(threadIdx.x) * ranks + rank;
  float first_start = 0, *first_place = nullptr;
  if (!a.paired && first_result < min(a.tiles_of_round, tiles) * kSums) {
    first_place = place_of(0, first_result, first_start);
    if (first_place != nullptr && a.add) first_start += *first_place;
  }

  const std::uint32_t of_input = SharedAddress(input) + (g % Shape::kTileRows * 4 + t) * 16;
  const std::uint32_t of_folds = SharedAddress(folds) + t % Shape::kQuads * 16;
  int stage = 0;
  std::uint32_t phase = 0;
  UnitWalk walk{tiles, slice, a.tiles_of_round, warp};
  for (int round = 0; round < tiles; round += a.tiles_of_round) {
    walk.Begin(round);
    const int first_tile = walk.tile;
    const bool any = walk.left > 0;
    float sums[kNs][4] = {};
    const auto flush = [&](int tile) {
      float* slot = slots + (warp * a.slots + tile - first_tile) * kSums;
#pragma unroll
      for (int n = 0; n < kNs; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int col = n * 8 + 2 * t + i % 2, row = g + i / 2 * 8;
          if (col < kRows) slot[col * 16 + row] = sums[n][i];
          sums[n][i] = 0;
        }
      }
    };
    int last_tile = first_tile - 1;
    while (walk.left > 0) {
      const int units = walk.Next(kMost);
      WaitBarrier(barriers + 8 * stage, phase);
      std::uint32_t unit = ring + stage * kStage;
      std::uint32_t at_input = of_input + walk.k * 2 * Shape::kGroupBytes;
      std::uint32_t at_folds = of_folds + walk.k * 2 * kFolds * Shape::kFoldBytes;
      for (int u = 0; u < units; ++u) {
        std::uint32_t words[kLaneWords<kBits>];
#pragma unroll
        for (int i = 0; i < (kBits == 3 ? 1 : kBits / 2); ++i) {
          const uint4 v = LoadShared16(unit + i * 512 + lane * 16);
          words[4 * i] = v.x, words[4 * i + 1] = v.y, words[4 * i + 2] = v.z;
          words[4 * i + 3] = v.w;
        }
        if constexpr (kBits == 3) {
          const uint2 v = LoadShared8(unit + 512 + lane * 8);
          words[4] = v.x, words[5] = v.y;
        }
        std::uint32_t scales[kScales], offsets[kScales];
        const auto load_halves = [&](std::uint32_t at, std::uint32_t(&to)[kScales]) {
          if constexpr (kScales == 4) {
            const uint4 v = LoadShared16(at + g * 16);
            to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
          } else if constexpr (kScales == 2) {
            const uint2 v = LoadShared8(at + g * 8);
            to[0] = v.x, to[1] = v.y;
          } else {
            to[0] = LoadShared4(at + g * 4);
          }
        };
        load_halves(unit + 256 * kBits, scales);
        if constexpr (kOffsets) load_halves(unit + 256 * kBits + 32 * kScales, offsets);
#pragma unroll
        for (int q = 0; q < 2; ++q) {
          std::uint32_t b[kNs][8];
#pragma unroll
          for (int n = 0; n < kNs; ++n) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              const uint4 v = LoadShared16(at_input + q * Shape::kGroupBytes + i * kRows * 64 +
                                           n * Shape::kTileRows * 64);
              b[n][4 * i] = v.x, b[n][4 * i + 1] = v.y, b[n][4 * i + 2] = v.z;
              b[n][4 * i + 3] = v.w;
            }
          }
#pragma unroll
          for (int fold = 0; fold < kFolds; ++fold) {
            float of_x[kNs][4], part[kNs][4];
#pragma unroll
            for (int n = 0; n < kNs; ++n) {
              const uint4 v = LoadShared16(at_folds + (q * kFolds + fold) * Shape::kFoldBytes +
                                           n * Shape::kQuads * 16);
              of_x[n][0] = __uint_as_float(v.x), of_x[n][1] = __uint_as_float(v.y);
              of_x[n][2] = __uint_as_float(v.z), of_x[n][3] = __uint_as_float(v.w);
            }
            constexpr int kSteps = 4 / kFolds;
#pragma unroll
            for (int j = fold * kSteps; j < (fold + 1) * kSteps; ++j) {
              const std::uint32_t a0 = CodePair<kBits>(words, q, 2 * j, 0),
                                  a1 = CodePair<kBits>(words, q, 2 * j, 1),
                                  a2 = CodePair<kBits>(words, q, 2 * j + 1, 0),
                                  a3 = CodePair<kBits>(words, q, 2 * j + 1, 1);
#pragma unroll
              for (int n = 0; n < kNs; ++n) {
                if (j == fold * kSteps) {
                  const float zero[4] = {kOffsets ? 0.0f : of_x[n][0], kOffsets ? 0.0f : of_x[n][1],
                                         kOffsets ? 0.0f : of_x[n][0],
                                         kOffsets ? 0.0f : of_x[n][1]};
                  MultiplyHalves(zero, part[n], a0, a1, a2, a3, b[n][2 * j], b[n][2 * j + 1]);
                } else {
                  MultiplyHalves(part[n], a0, a1, a2, a3, b[n][2 * j], b[n][2 * j + 1]);
                }
              }
            }
            constexpr int kPerHalf = kScales / 2;  // scales in 64 columns; 0: one for both halves
            const int which = kScales == 1 ? 0 : q * kPerHalf + (kScales == 4 ? fold : 0);
            const float2 scale = __half22float2(*reinterpret_cast<const __half2*>(&scales[which]));
            if constexpr (kOffsets) {
              // scale (part - zero sum) or scale part + minimum sum, in units of 2^-24.
              const float2 offset =
                  __half22float2(*reinterpret_cast<const __half2*>(&offsets[which]));
              const float low = a.minima ? offset.x : -scale.x * offset.x;
              const float high = a.minima ? offset.y : -scale.y * offset.y;
#pragma unroll
              for (int n = 0; n < kNs; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                  const float of_codes = (i < 2 ? scale.x : scale.y) * part[n][i];
                  const float all = fmaf(i < 2 ? low : high, of_x[n][i % 2], of_codes);
                  sums[n][i] = fmaf(of_x[n][2 + i % 2], all, sums[n][i]);
                }
              }
            } else {
#pragma unroll
              for (int n = 0; n < kNs; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                  const float factor = (i < 2 ? scale.x : scale.y) * of_x[n][2 + i % 2];
                  sums[n][i] = fmaf(factor, part[n][i], sums[n][i]);
                }
              }
            }
          }
        }
        unit += kUnit;
        at_input += 2 * Shape::kGroupBytes;
        at_folds += 2 * kFolds * Shape::kFoldBytes;
      }
      __syncwarp();  // all lanes have read the stage
      if (lane == 0) copy(stage);
      if (++stage == kStages) {
        stage = 0;
        phase ^= 1;
      }
      last_tile = walk.tile;
      walk.Advance(units);
      if (walk.tile != last_tile || walk.left == 0) flush(last_tile);
    }
    if (lane == 0) {
      first_tiles[warp] = any ? first_tile : 1 << 30;
      last_tiles[warp] = last_tile;
    }
    __syncthreads();
    const int of_round = min(a.tiles_of_round, tiles - round), count = of_round * kSums;
    const auto factor_of = [&](int i) { return a.row_factors[i / 16 % kRows]; };
    const auto sum_of = [&](int i) {
      const int tile = round + i / kSums;
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kMatVecWarps; ++w) {
        const int first = first_tiles[w];
        const bool has = first <= tile && tile <= last_tiles[w];
        const float part = slots[has ? (w * a.slots + tile - first) * kSums + i % kSums : 0];
        sum += has ? part : 0.0f;
      }
      return sum;
    };
    const auto give = [&](int i, float sum) {
      float start = first_start, *to = first_place;
      if (round > 0 || i != first_result) {
        start = 0;
        to = place_of(round, i, start);
        if (to != nullptr && a.add) start += *to;
      }
      if (to != nullptr) *to = start + sum * factor_of(i);
    };
    if (a.paired) {
      for (int i = threadIdx.x; i < count / 2; i += kMatVecThreads) {
        const int of_gate = i / kSums * 2 * kSums + i % kSums, of_up = of_gate + kSums;
        float gate = 0, up = 0;
        float* to = place_of(round, of_gate, gate);
        (void)place_of(round, of_up, up);
        gate += sum_of(of_gate) * factor_of(i);
        up += sum_of(of_up) * factor_of(i);
        // As the SwiGlu of steps.cu.
        if (to != nullptr) *to = gate / (1.0f + expf(fminf(-gate, 88.0f))) * up;
      }
    } else {
      for (int i = threadIdx.x; i < count; i += kMatVecThreads) {
        if (ranks == 1) {
          give(i, sum_of(i));
        } else {
          totals[i] = sum_of(i);
        }
      }
    }
    if (ranks > 1) {
      SyncCluster();
      const std::uint32_t at = SharedAddress(totals);
      for (int i = threadIdx.x * ranks + rank; i < count; i += kMatVecThreads * ranks) {
        float sum = 0;
        for (int other = 0; other < ranks; ++other) sum += LoadOfBlock(at + 4 * i, other);
        give(i, sum);
      }
      SyncCluster();  // the others have read what this block has
    } else if (round + a.tiles_of_round < tiles) {
      __syncthreads();
    }
  }
#endif
}

/// How a product is launched.
struct MatVecPlan {
  MatVecArguments arguments;
  int turn = 0;  // of one row (packed.h)
};

/// Of each width, in a file of its own.
template <int kBits>
void LaunchMatVec(MatVecPlan& plan, int scales, bool offsets, std::byte* scratch,
                  int multiprocessors, cudaStream_t stream);

template <int kBits, int kScales, bool kOffsets, int kRows>
void LaunchMatVecOf(MatVecPlan& plan, std::byte* scratch, int multiprocessors,
                    cudaStream_t stream) {
  constexpr int kFolds = kScales == 4 ? 2 : 1;
  using Shape = InputShape<kRows, kFolds>;
  MatVecArguments& a = plan.arguments;
  constexpr int kUnit = kUnitSize<kBits, kScales, kOffsets>;
  constexpr int kRing = kBarrierBytes + kMatVecWarps * kStages * StageUnits(kUnit) * kUnit;
  constexpr int kMostShared = 226 << 10;
  constexpr int kSlotBytes = kMatVecWarps * 16 * kRows * 4;
  constexpr int kMostSlots = kRows == 4 ? 4 : 3;
  // Columns are shared where x does not fit.
  int ranks = 1;
  const auto slots_of_ranks = [&](int shared) {
    const int slice = a.units_per_row / shared;
    const auto tiles = CeilDiv(a.tiles, std::min<Index>(a.tiles, multiprocessors / shared));
    const auto units = CeilDiv(tiles * (slice + 1), kMatVecWarps);
    return std::min<Index>(kMostSlots, (units + slice - 2) / slice + 1);
  };
  const auto fits = [&](int shared) {
    const int groups = 2 * static_cast<int>(CeilDiv(a.units_per_row, shared));
    return kRing + Shape::Bytes(groups) + slots_of_ranks(shared) * kSlotBytes <= kMostShared;
  };
  while (ranks < 8 && !fits(ranks) && 2 * ranks <= a.units_per_row) ranks *= 2;
  a.paired = a.paired && ranks == 1;
  const int together = a.paired ? 2 : 1;
  a.clusters = static_cast<int>(std::min<Index>(a.tiles / together, multiprocessors / ranks));
  const int slice = static_cast<int>(CeilDiv(a.units_per_row, ranks));
  const int least = a.units_per_row / ranks;
  const int tiles = static_cast<int>(CeilDiv(a.tiles / together, a.clusters)) * together;
  const auto slots_of = [&](int round) {
    const int units = static_cast<int>(CeilDiv(Index{round} * slice, kMatVecWarps));
    return (units + least - 2) / least + 1;
  };
  const auto shared_of = [&](int round) {
    return kRing + Shape::Bytes(2 * slice) + slots_of(round) * kSlotBytes +
           (ranks > 1 ? round * 16 * kRows * 4 : 0);
  };
  a.tiles_of_round = tiles;
  while (a.tiles_of_round > 1 &&
         (slots_of(a.tiles_of_round) > kMostSlots || shared_of(a.tiles_of_round) > kMostShared)) {
    a.tiles_of_round -= together;
  }
  a.slots = slots_of(a.tiles_of_round);
  const int shared = shared_of(a.tiles_of_round);
  const int groups = 2 * a.units_per_row;
  PreferShared(FormatKernel<kBits, kRows, kFolds, kOffsets>);
  Launch(FormatKernel<kBits, kRows, kFolds, kOffsets>, dim3(kRows, 1, 1), kFormatThreads, 0, 1,
         stream, a.input, groups, a.zero, scratch);
  a.formatted = scratch;
  a.row_factors = reinterpret_cast<const float*>(scratch + Shape::Bytes(groups));
  const auto kernel = MatVecKernel<kBits, kScales, kOffsets, kRows>;
  (void)cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  PreferShared(kernel);
  Launch(kernel, dim3(static_cast<unsigned>(a.clusters * ranks), 1, 1), kMatVecThreads,
         static_cast<std::size_t>(shared), ranks, stream, a);
}

}  // namespace lieq::cuda
