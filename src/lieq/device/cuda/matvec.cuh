// Products of 2 to 16 rows with packed codes: the kernel, which each matvec_N.cu makes for a width.
// What one row meets is in matvec_one.cuh.
//
// The blocks of a cluster take the same tiles (of 16 rows of the weights) and share their columns,
// so that each makes its own part of x, and reads nothing twice. A block cuts its units evenly
// among its warps, each of which has a ring of stages that are copied ahead of it. Codes are factor
// A of mma.m16n8k16, 16 rows of the weights; x is factor B, its rows the columns of the result. A
// step is two tiles where registers hold them, so that what is read of x serves both and more
// chains of mma are under way at once. Sums of a warp's steps go to shared memory, and are added in
// the order of warps and then of blocks: there are no atomics, so that bytes do not depend on who
// comes first.
//
// What a block reads of weights does not depend on the kernels before it, so that the ring fills
// while those end.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lieq/device/cuda/hopper.cuh"
#include "lieq/device/cuda/packed.cuh"

namespace lieq::cuda {

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
  int tiles, units_per_row;  // of all parts; columns / 128
  int cols, rows;            // of the weights, of x
  int clusters, ranks;       // ranks: blocks of a cluster, which share the columns
  int each, more;            // of tiles, or of pairs, for a cluster; the first `more` have one more
  int tiles_of_round, slots;
  float per_column;  // 1 / columns
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
/// In the order of a tree, so that few of the adds wait for one another.
template <int kCount>
__device__ __forceinline__ float TreeSum(const float (&values)[kCount]) {
  float sums[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) sums[i] = values[i];
#pragma unroll
  for (int count = kCount; count > 1; count = (count + 1) / 2) {
#pragma unroll
    for (int i = 0; i < count / 2; ++i) sums[i] += sums[count - 1 - i];
  }
  return sums[0];
}

__device__ __forceinline__ float SquaresOf(const float (&values)[8]) {
  float squares[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) squares[i] = values[i] * values[i];
  return TreeSum(squares);
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

/// A warp's way through the steps of a round: those of a set of kTiles tiles follow one another. A
/// last tile that has no other beside it counts less.
template <int kTiles, int kWarps>
struct StepWalk {
  int sets = 0;                     // whole ones of this round
  int left = 0, set = 0, step = 0;  // steps of this warp; where it is

  __device__ void Begin(int tiles, int steps, int warp) {
    sets = tiles / kTiles;
    const int whole = sets * steps, all = tiles * steps;
    const auto place = [&](int w) {
      const int at = all * w / kWarps;
      return at < kTiles * whole ? at / kTiles : at - (kTiles - 1) * whole;
    };
    const int begin = place(warp);
    left = place(warp + 1) - begin;
    set = static_cast<int>(static_cast<unsigned>(begin) / static_cast<unsigned>(steps));
    step = begin - set * steps;
  }
};
#endif

template <int kBits, int kScales, bool kOffsets>
inline constexpr int kUnitSize = 256 * kBits + 32 * kScales * (kOffsets ? 2 : 1);

/// The part of a tile, which becomes its number in that part.
__device__ __forceinline__ const MatVecPart& PartOf(const MatVecArguments& a, int& tile) {
  if (a.paired) {
    const int part = tile % 2;
    tile /= 2;
    return a.parts[part];
  }
  int part = 0, begin = 0;
#pragma unroll
  for (int other = 1; other < kMostPackedProducts; ++other) {
    if (tile < a.parts[other - 1].end) continue;
    part = other;
    begin = a.parts[other - 1].end;
  }
  tile -= begin;
  return a.parts[part];
}

/// Where a tile's sum of (column of the result, row of the tile) lies: so that a warp that stores
/// the results of its mma's meets every bank once, and four rows side by side stay so.
__device__ __forceinline__ int PlaceOfSum(int col, int row) {
  const int pair = col / 2;
  return (2 * pair + ((col ^ pair) & 1)) * 16 + (row ^ (col & 4) << 1);
}
struct SumAt {
  int col, row;
};
__device__ __forceinline__ SumAt SumOfPlace(int place) {
  const int line = place / 16, pair = line / 2, col = 2 * pair + ((line ^ pair) & 1);
  return {col, place % 16 ^ (col & 4) << 1};
}

/// Up to four floats, `count` of them.
__device__ __forceinline__ float4 LoadFew(const float* from, int count) {
  if (count == 4 && reinterpret_cast<std::uintptr_t>(from) % 16 == 0) {
    return *reinterpret_cast<const float4*>(from);
  }
  return {count > 0 ? from[0] : 0, count > 1 ? from[1] : 0, count > 2 ? from[2] : 0,
          count > 3 ? from[3] : 0};
}
__device__ __forceinline__ void StoreFew(float* to, float4 four, int count) {
  if (count == 4 && reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
    *reinterpret_cast<float4*>(to) = four;
    return;
  }
  if (count > 0) to[0] = four.x;
  if (count > 1) to[1] = four.y;
  if (count > 2) to[2] = four.z;
  if (count > 3) to[3] = four.w;
}
__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}
__device__ __forceinline__ float4 operator*(float4 a, float b) {
  return {a.x * b, a.y * b, a.z * b, a.w * b};
}

#if __CUDA_ARCH__ >= 900
/// Four floats at an address of this block's, each added up over the blocks of a cluster by rank.
template <int kRanks>
__device__ __forceinline__ float4 FourSumsOfRanks(std::uint32_t address) {
  float4 of_ranks[kRanks];
#pragma unroll
  for (int rank = 0; rank < kRanks; ++rank) of_ranks[rank] = LoadFourOfBlock(address, rank);
  float4 sum = of_ranks[0];
#pragma unroll
  for (int rank = 1; rank < kRanks; ++rank) sum = sum + of_ranks[rank];
  return sum;
}
__device__ __forceinline__ float4 FourSumsOfRanks(std::uint32_t address, int ranks) {
  if (ranks == 8) return FourSumsOfRanks<8>(address);
  if (ranks == 4) return FourSumsOfRanks<4>(address);
  if (ranks == 2) return FourSumsOfRanks<2>(address);
  return FourSumsOfRanks<1>(address);
}
/// The same of one float.
__device__ __forceinline__ float SumOfRanks(std::uint32_t address, int ranks) {
  constexpr int kMostRanks = 8;
  float of_ranks[kMostRanks], sum = 0;
#pragma unroll
  for (int rank = 0; rank < kMostRanks; ++rank) {
    of_ranks[rank] = rank < ranks ? LoadOfBlock(address, rank) : 0.0f;
  }
#pragma unroll
  for (int rank = 0; rank < kMostRanks; ++rank) sum += of_ranks[rank];
  return sum;
}
#endif

inline constexpr int kMatVecWarps = 12, kMatVecThreads = kMatVecWarps * kWarp;

template <int kBits, int kScales, bool kOffsets, int kRows>
struct MatVecShape {
  static constexpr int kUnit = kUnitSize<kBits, kScales, kOffsets>;
  static constexpr int kFolds = kScales == 4 ? 2 : 1;
  using Input = InputShape<kRows, kFolds>;
  static constexpr int kTiles = kBits <= 4 ? 2 : 1;  // of a step
  static constexpr int kStep = kTiles * kUnit;       // bytes of a stage
  static constexpr int kMostRing = 84 << 10;
  static constexpr int kStages = std::clamp(kMostRing / (kMatVecWarps * kStep), 2, 6);
  static constexpr int kBarriers = (kMatVecWarps * kStages * 8 + 127) / 128 * 128;
  static constexpr int kRing = kBarriers + kMatVecWarps * kStages * kStep;
  static constexpr int kSums = 16 * kRows;      // of a tile
  static constexpr int kSlot = kTiles * kSums;  // floats
};

template <int kBits, int kScales, bool kOffsets, int kRows>
__global__ void __launch_bounds__(kMatVecThreads, 1)
    MatVecKernel(const __grid_constant__ MatVecArguments a) {
#if __CUDA_ARCH__ >= 900
  using Shape = MatVecShape<kBits, kScales, kOffsets, kRows>;
  using Input = typename Shape::Input;
  constexpr int kFolds = Shape::kFolds, kUnit = Shape::kUnit, kTiles = Shape::kTiles;
  constexpr int kStages = Shape::kStages, kStep = Shape::kStep;
  constexpr int kSums = Shape::kSums, kSlot = Shape::kSlot, kNs = Input::kTiles;
  constexpr int kWarps = kMatVecWarps;

  extern __shared__ __align__(128) std::byte shared[];
  const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0);
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int ranks = a.ranks, tiles_of_round = a.tiles_of_round;
  const int rank_bits = 31 - __clz(ranks);  // a power of two: nothing is divided by it
  const int cluster = static_cast<int>(blockIdx.x) >> rank_bits;
  const int rank = static_cast<int>(blockIdx.x) & (ranks - 1);
  const int k_begin = (a.units_per_row * rank) >> rank_bits;
  const int slice = ((a.units_per_row * (rank + 1)) >> rank_bits) - k_begin;
  const int together = a.paired ? 2 : 1;  // tiles of one block
  const int tile_begin = (a.each * cluster + min(cluster, a.more)) * together;
  const int tiles = (a.each + (cluster < a.more ? 1 : 0)) * together;
  const int groups = slice * 2;

  const std::uint32_t base = SharedAddress(shared);
  const std::uint32_t barriers = base + warp * kStages * 8;
  const std::uint32_t ring = base + Shape::kBarriers + warp * kStages * kStep;
  std::byte* const input = shared + Shape::kRing;
  // Places are those of the largest slice, so that they are the same in all blocks of a cluster.
  const int most_groups = ((a.units_per_row + ranks - 1) >> rank_bits) * 2;
  std::byte* const folds = input + most_groups * Input::kGroupBytes;
  float* const slots = reinterpret_cast<float*>(folds + most_groups * kFolds * Input::kFoldBytes);
  float* const totals = slots + kWarps * a.slots * kSlot;
  float* const block_squares = totals + tiles_of_round * kSums;  // [kRows]
  float* const squares = block_squares + kRows;                  // [groups, kRows]
  // Of each set of a round: the first warp that has a part in it, times 2^16, and its slot; and the
  // last warp.
  int* const first_slots = reinterpret_cast<int*>(squares + most_groups * kRows);
  int* const last_warps = first_slots + tiles_of_round;

  // The way of the copies, which run ahead. All lanes keep count; one asks.
  StepWalk<kTiles, kWarps> load;
  load.Begin(min(tiles_of_round, tiles), slice, warp);
  StepWalk<kTiles, kWarps> walk = load;
  int load_round = 0;  // its first tile
  const std::byte *first = nullptr, *second = nullptr;
  const auto address_of = [&](int tile) {
    const std::byte* const units = PartOf(a, tile).units;
    return units + (Index{tile} * a.units_per_row + k_begin + load.step) * kUnit;
  };
  const auto seek = [&] {
    const int tile = tile_begin + load_round + kTiles * load.set;
    first = address_of(tile);
    if (kTiles == 2 && load.set < load.sets) second = address_of(tile + 1);
  };
  const auto copy = [&](int stage) {
    if (load.left == 0) {
      do {
        load_round += tiles_of_round;
        if (load_round >= tiles) return;
        load.Begin(min(tiles_of_round, tiles - load_round), slice, warp);
      } while (load.left == 0);
      seek();
    }
    const bool both = kTiles == 2 && load.set < load.sets;
    if (lane == 0) {
      const std::uint32_t barrier = barriers + 8 * stage, to = ring + stage * kStep;
      ExpectBytes(barrier, both ? 2 * kUnit : kUnit);
      CopyBulk(to, first, kUnit, barrier);
      if (both) CopyBulk(to + kUnit, second, kUnit, barrier);
    }
    first += kUnit;
    second += kUnit;
    --load.left;
    if (++load.step == slice) {
      load.step = 0;
      ++load.set;
      if (load.left > 0) seek();
    }
  };
  if (lane == 0) {
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) InitBarrier(barriers + 8 * stage);
    FenceBarrierInits();
  }
  __syncwarp();
  if (load.left > 0) seek();
#pragma unroll 1
  for (int stage = 0; stage < kStages; ++stage) copy(stage);
  LetNextKernelStart();

  // Where four results go, and how many of them there are: rows and columns fill up tiles.
  struct Place {
    float* to = nullptr;
    const float* bias = nullptr;
    int count = 0;
  };
  const auto place_of = [&](int round, int i) -> Place {
    int tile = tile_begin + round + i / kSums;
    const MatVecPart& part = PartOf(a, tile);
    const SumAt at = SumOfPlace(i % kSums);
    const int row = tile * 16 + at.row;
    if (at.col >= a.rows || row >= part.rows) return {};
    return {part.y + at.col * part.stride + row, part.bias == nullptr ? nullptr : part.bias + row,
            min(4, part.rows - row)};
  };
  const auto bias_of = [](const Place& place) {
    return place.bias == nullptr ? float4{0, 0, 0, 0} : LoadFew(place.bias, place.count);
  };
  // Blocks of a cluster share the results of a round, each a run of them, by fours.
  const auto fours_of = [&](int of_round) {
    return ((a.paired ? of_round / 2 : of_round) * (kSums / 4)) >> rank_bits;
  };
  // What a thread's first results are added to is asked for ahead of the work.
  Place first_place;
  float4 first_start{0, 0, 0, 0};
  const int first_fours = fours_of(min(tiles_of_round, tiles));
  if (!a.paired && static_cast<int>(threadIdx.x) < first_fours) {
    first_place = place_of(0, (rank * first_fours + static_cast<int>(threadIdx.x)) * 4);
    first_start = bias_of(first_place);
  }

  // The block's columns of x become factor B: eight lanes take 64 columns, a warp four rows at
  // once, and some such items are asked for together. The weights of a norm do not depend on the
  // kernels before.
  constexpr int kItems = kRows / 4, kAhead = 4;  // kItems: of 64 columns
  const int octet = lane % 8, items = groups * kItems;
  const bool norms = a.input.kind == InputKind::kNorm;
  const auto row_of = [&](int item) { return item % kItems * 4 + lane / 8; };
  const auto ask = [&](const float* row, int item, bool here, float(&to)[8]) {
    const int column = k_begin * static_cast<int>(kUnitColumns) + item / kItems * 64 + octet * 8;
    LoadEight(row, column, here && item < items ? a.cols : 0, to);
  };
  float values[kAhead][8], others[kAhead][8] = {};
  if (norms) {
#pragma unroll
    for (int n = 0; n < kAhead; ++n) ask(a.input.other, warp + n * kWarps, true, others[n]);
  }
  WaitForKernelsBefore();
  if (a.add && first_place.count > 0) {
    first_start = first_start + LoadFew(first_place.to, first_place.count);
  }
#pragma unroll 1
  for (int begin = warp; begin < items; begin += kAhead * kWarps) {
#pragma unroll
    for (int n = 0; n < kAhead; ++n) {
      const int item = begin + n * kWarps, row = row_of(item);
      const bool here = row < a.rows;
      ask(a.input.x.data + row * a.input.x.stride, item, here, values[n]);
      if (a.input.kind == InputKind::kSwiGlu) {
        ask(a.input.other + row * a.input.other_stride, item, here, others[n]);
      } else if (norms && begin != warp) {
        ask(a.input.other, item, true, others[n]);
      }
    }
    // Not unrolled, but what was asked for moves up: code that runs once takes as long to be
    // fetched as to run.
#pragma unroll 1
    for (int item = begin; item < min(items, begin + kAhead * kWarps); item += kWarps) {
      const int row = row_of(item);
      if (norms) {
        const float of_group = OverLanes<8>(SquaresOf(values[0]), Add{});
        if (octet == 0) squares[item / kItems * kRows + row] = of_group;
      }
      Combine(a.input.kind, values[0], others[0]);
      FormatGroup<kBits, kRows, kFolds>(values[0], true, item / kItems, row, octet,
                                        SumFactor<kOffsets>(a.zero), input, folds);
#pragma unroll
      for (int n = 1; n < kAhead; ++n) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          values[n - 1][i] = values[n][i], others[n - 1][i] = others[n][i];
        }
      }
    }
  }
  __syncthreads();
  if (norms && threadIdx.x < kRows) {
    float sum = 0;
    for (int group = 0; group < groups; ++group) sum += squares[group * kRows + threadIdx.x];
    block_squares[threadIdx.x] = sum;
  }

  const std::uint32_t of_input = SharedAddress(input) + (g % Input::kTileRows * 4 + t) * 16;
  const std::uint32_t of_folds = SharedAddress(folds) + t % Input::kQuads * 16;
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
  int stage = 0;
  std::uint32_t phase = 0;
  // `count` steps of a pair of tiles, or of a single tile, from `step` on.
  const auto multiply = [&](auto of_step, int step, int count,
                            float(&sums)[Shape::kTiles][Input::kTiles][4]) {
    constexpr int kCount = decltype(of_step)::value;
    std::uint32_t at_input = of_input + step * (2 * Input::kGroupBytes);
    std::uint32_t at_folds = of_folds + step * (2 * kFolds * Input::kFoldBytes);
    for (; count > 0; --count) {
      WaitBarrier(barriers + 8 * stage, phase);
      std::uint32_t words[kCount][kLaneWords<kBits>];
      [[maybe_unused]] std::uint32_t scales[kCount][kScales], offsets[kCount][kScales];
#pragma unroll
      for (int tile = 0; tile < kCount; ++tile) {
        const std::uint32_t unit = ring + stage * kStep + tile * kUnit;
#pragma unroll
        for (int i = 0; i < (kBits == 3 ? 1 : kBits / 2); ++i) {
          const uint4 v = LoadShared16(unit + i * 512 + lane * 16);
          words[tile][4 * i] = v.x, words[tile][4 * i + 1] = v.y;
          words[tile][4 * i + 2] = v.z, words[tile][4 * i + 3] = v.w;
        }
        if constexpr (kBits == 3) {
          const uint2 v = LoadShared8(unit + 512 + lane * 8);
          words[tile][4] = v.x, words[tile][5] = v.y;
        }
        load_halves(unit + 256 * kBits, scales[tile]);
        if constexpr (kOffsets) load_halves(unit + 256 * kBits + 32 * kScales, offsets[tile]);
      }
      __syncwarp();  // all lanes have read the stage
      copy(stage);
      if (++stage == kStages) {
        stage = 0;
        phase ^= 1;
      }
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        std::uint32_t b[kNs][8];
#pragma unroll
        for (int n = 0; n < kNs; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const uint4 v = LoadShared16(at_input + q * Input::kGroupBytes + i * kRows * 64 +
                                         n * Input::kTileRows * 64);
            b[n][4 * i] = v.x, b[n][4 * i + 1] = v.y, b[n][4 * i + 2] = v.z, b[n][4 * i + 3] = v.w;
          }
        }
#pragma unroll
        for (int fold = 0; fold < kFolds; ++fold) {
          float of_x[kNs][4], part[kCount][kNs][4];
#pragma unroll
          for (int n = 0; n < kNs; ++n) {
            const uint4 v = LoadShared16(at_folds + (q * kFolds + fold) * Input::kFoldBytes +
                                         n * Input::kQuads * 16);
            of_x[n][0] = __uint_as_float(v.x), of_x[n][1] = __uint_as_float(v.y);
            of_x[n][2] = __uint_as_float(v.z), of_x[n][3] = __uint_as_float(v.w);
          }
          constexpr int kSteps = 4 / kFolds;
#pragma unroll
          for (int j = fold * kSteps; j < (fold + 1) * kSteps; ++j) {
#pragma unroll
            for (int tile = 0; tile < kCount; ++tile) {
              const auto& of_lane = words[tile];
              const std::uint32_t a0 = CodePair<kBits>(of_lane, q, 2 * j, 0),
                                  a1 = CodePair<kBits>(of_lane, q, 2 * j, 1),
                                  a2 = CodePair<kBits>(of_lane, q, 2 * j + 1, 0),
                                  a3 = CodePair<kBits>(of_lane, q, 2 * j + 1, 1);
#pragma unroll
              for (int n = 0; n < kNs; ++n) {
                if (j == fold * kSteps) {
                  const float low = kOffsets ? 0.0f : of_x[n][0];
                  const float high = kOffsets ? 0.0f : of_x[n][1];
                  const float zero[4] = {low, high, low, high};
                  MultiplyHalves(zero, part[tile][n], a0, a1, a2, a3, b[n][2 * j], b[n][2 * j + 1]);
                } else {
                  MultiplyHalves(part[tile][n], a0, a1, a2, a3, b[n][2 * j], b[n][2 * j + 1]);
                }
              }
            }
          }
          constexpr int kPerHalf = kScales / 2;  // scales in 64 columns; 0: one for both halves
          const int which = kScales == 1 ? 0 : q * kPerHalf + (kScales == 4 ? fold : 0);
#pragma unroll
          for (int tile = 0; tile < kCount; ++tile) {
            const float2 scale =
                __half22float2(*reinterpret_cast<const __half2*>(&scales[tile][which]));
            [[maybe_unused]] float2 offset{0, 0};
            if constexpr (kOffsets) {
              // scale (part - zero sum) or scale part + minimum sum, in units of 2^-24.
              offset = __half22float2(*reinterpret_cast<const __half2*>(&offsets[tile][which]));
              if (!a.minima) offset = {-scale.x * offset.x, -scale.y * offset.y};
            }
#pragma unroll
            for (int n = 0; n < kNs; ++n) {
#pragma unroll
              for (int i = 0; i < 4; ++i) {
                const float of_row = i < 2 ? scale.x : scale.y, back = of_x[n][2 + i % 2];
                float& sum = sums[tile][n][i];
                if constexpr (kOffsets) {
                  const float low = i < 2 ? offset.x : offset.y;
                  sum = fmaf(back, fmaf(low, of_x[n][i % 2], of_row * part[tile][n][i]), sum);
                } else {
                  sum = fmaf(of_row * back, part[tile][n][i], sum);
                }
              }
            }
          }
        }
      }
      at_input += 2 * Input::kGroupBytes;
      at_folds += 2 * kFolds * Input::kFoldBytes;
    }
  };

  for (int round = 0; round < tiles; round += tiles_of_round) {
    const int of_round = min(tiles_of_round, tiles - round);
    const bool last = round + tiles_of_round >= tiles;
    if (round > 0) walk.Begin(of_round, slice, warp);
    const int first_set = walk.set;
    if (walk.left == 0) {  // it may lie between two that share a set
      for (int i = lane; i < kSlot; i += kWarp) slots[warp * a.slots * kSlot + i] = 0;
    }
    while (walk.left > 0) {
      const int count = min(walk.left, slice - walk.step);
      const bool whole = kTiles == 1 || walk.set < walk.sets;
      float sums[kTiles][kNs][4] = {};
      if (whole) {
        multiply(std::integral_constant<int, kTiles>{}, walk.step, count, sums);
      } else {
        multiply(std::integral_constant<int, 1>{}, walk.step, count, sums);
      }
      const int slot = warp * a.slots + walk.set - first_set;
      float* const to = slots + slot * kSlot;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        if (tile > 0 && !whole) break;
#pragma unroll
        for (int n = 0; n < kNs; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int col = n * 8 + 2 * t + i % 2, row = g + i / 2 * 8;
            if (col < kRows) to[tile * kSums + PlaceOfSum(col, row)] = sums[tile][n][i];
          }
        }
      }
      if (lane == 0) {
        if (walk.step == 0) first_slots[walk.set] = warp << 16 | slot;
        if (walk.step + count == slice) last_warps[walk.set] = warp;
      }
      walk.left -= count;
      walk.step = 0;
      ++walk.set;
    }
    __syncthreads();
    if (ranks > 1 && round > 0) WaitForCluster();  // the others have read the totals before
    for (int i = threadIdx.x * 4; i < of_round * kSums; i += kMatVecThreads * 4) {
      const int set = i / kSlot, at = i % kSlot;
      const int from = first_slots[set], last_warp = last_warps[set];
      const auto part = [&](int slot) {
        return *reinterpret_cast<const float4*>(slots + slot * kSlot + at);
      };
      float4 sum = part(from & 0xffff);
      // To the warps behind the first one it is the first of their sets.
#pragma unroll 1
      for (int w = (from >> 16) + 1; w <= last_warp; ++w) sum = sum + part(w * a.slots);
      *reinterpret_cast<float4*>(totals + i) = sum;
    }
    if (ranks > 1) {
      SyncCluster();
    } else {
      __syncthreads();
    }
    const int fours = fours_of(of_round);
    const std::uint32_t of_totals = SharedAddress(totals),
                        of_squares = SharedAddress(block_squares);
#pragma unroll 1
    for (int four = threadIdx.x; four < fours; four += kMatVecThreads) {
      const int i = (rank * fours + four) * 4;
      float squares_of_row = 0;
      if (norms) {
        squares_of_row = SumOfRanks(of_squares + SumOfPlace(i % kSums).col * 4, ranks);
      }
      const auto factor = [&] {
        return norms ? rsqrtf(squares_of_row * a.per_column + static_cast<float>(a.input.eps))
                     : 1.0f;
      };
      if (a.paired) {
        const int of_gate = i / kSums * (2 * kSums) + i % kSums, of_up = of_gate + kSums;
        const Place place = place_of(round, of_gate), other = place_of(round, of_up);
        const float4 gate_sum = FourSumsOfRanks(of_totals + of_gate * 4, ranks);
        const float4 up_sum = FourSumsOfRanks(of_totals + of_up * 4, ranks);
        const float4 gate = bias_of(place) + gate_sum * factor();
        const float4 up = bias_of(other) + up_sum * factor();
        // As the SwiGlu of steps.cu.
        const auto gated = [](float x, float y) { return x / (1.0f + expf(fminf(-x, 88.0f))) * y; };
        StoreFew(
            place.to,
            {gated(gate.x, up.x), gated(gate.y, up.y), gated(gate.z, up.z), gated(gate.w, up.w)},
            place.count);
        continue;
      }
      const float4 sum = FourSumsOfRanks(of_totals + i * 4, ranks) * factor();
      float4 start = first_start;
      Place place = first_place;
      if (round > 0 || four != static_cast<int>(threadIdx.x)) {
        place = place_of(round, i);
        start = bias_of(place);
        if (a.add && place.count > 0) start = start + LoadFew(place.to, place.count);
      }
      StoreFew(place.to, start + sum, place.count);
    }
    if (ranks == 1) continue;
    __syncwarp();
    if (last) {
      MeetCluster();  // the others have read what this block has
    } else {
      ArriveAtCluster();
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
void LaunchMatVec(MatVecPlan& plan, int scales, bool offsets, int multiprocessors,
                  cudaStream_t stream);

/// Tiles, or pairs of them, among clusters, `most` of these at most; the most tiles of one.
inline int ShareTiles(MatVecArguments& a, int together, int most) {
  const int runs = a.tiles / together;
  a.clusters = std::min(runs, most);
  a.each = runs / a.clusters;
  a.more = runs % a.clusters;
  return (a.each + (a.more > 0 ? 1 : 0)) * together;
}

template <int kBits, int kScales, bool kOffsets, int kRows>
void LaunchMatVecOf(MatVecPlan& plan, int multiprocessors, cudaStream_t stream) {
  using Shape = MatVecShape<kBits, kScales, kOffsets, kRows>;
  MatVecArguments& a = plan.arguments;
  constexpr int kMostShared = 226 << 10;
  // Units of columns of a block: what it makes of x takes time that nothing else fills.
  constexpr int kMostSlice = 8;
  int ranks = 1;
  while (ranks < 8 && CeilDiv(a.units_per_row, ranks) > kMostSlice &&
         2 * ranks <= a.units_per_row) {
    ranks *= 2;
  }
  a.ranks = ranks;
  const int together = a.paired ? 2 : 1;
  // A cluster lies in one of the GPU's parts, which have different numbers of multiprocessors, so
  // that some are left out: an H200 of 132 holds 30 clusters of four such blocks, and 15 of eight.
  // One too many would run by itself, behind all others; other chips of the kind may hold fewer.
  const int usable = ranks <= 2 ? multiprocessors : std::max(ranks, multiprocessors / 16 * 14);
  const int tiles = ShareTiles(a, together, usable / ranks);
  const int slice = static_cast<int>(CeilDiv(a.units_per_row, ranks));
  const int least = a.units_per_row / ranks;
  const auto slots_of = [&](int round) {  // sets that a warp has a part in
    const auto steps =
        static_cast<int>(CeilDiv(CeilDiv(Index{round} * slice, kMatVecWarps), Shape::kTiles));
    const auto sets = static_cast<int>(CeilDiv(round, Shape::kTiles));
    return std::min((steps + least - 1) / least + 1, sets);
  };
  const auto shared_of = [&](int round) {
    const int floats = slots_of(round) * kMatVecWarps * Shape::kSlot + round * Shape::kSums +
                       (1 + 2 * slice) * kRows + 2 * round;
    return Shape::kRing + Shape::Input::Bytes(2 * slice) + floats * 4;
  };
  int most = tiles;
  while (most > 2 && shared_of(most) > kMostShared) most = (most - 1) / 2 * 2;
  // Rounds alike, each of whole pairs.
  const Index rounds = CeilDiv(tiles, most);
  a.tiles_of_round = std::min(tiles, static_cast<int>(CeilDiv(CeilDiv(tiles, rounds), 2)) * 2);
  a.slots = slots_of(a.tiles_of_round);
  const int shared = shared_of(a.tiles_of_round);
  const auto kernel = MatVecKernel<kBits, kScales, kOffsets, kRows>;
  (void)cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  PreferShared(kernel);
  Launch(kernel, dim3(static_cast<unsigned>(a.clusters * ranks), 1, 1), kMatVecThreads,
         static_cast<std::size_t>(shared), ranks, stream, a);
}

}  // namespace lieq::cuda
