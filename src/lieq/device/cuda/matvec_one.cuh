// Products of one row with packed codes: the kernel that tokens of a single sequence meet.
//
// As matvec.cuh's, a block takes some tiles of 16 rows, whole or a slice of their columns, and its
// warps share those evenly, each with a ring of stages that are copied ahead. What differs is what
// one row allows:
// - A step is two tiles where codes have few bits, so that what is read of x serves 32 rows and
//   more chains of mma are under way at once; of more bits it lies side by side.
// - Every warp has room for the sums of every tile, 0 where it had no part in them: they are added
//   up without a question.
// - Blocks that share columns hand one another their sums by stores that a barrier in shared memory
//   counts (st.async), so that nobody waits for stores to the memory of the GPU.
#pragma once

#include "lieq/device/cuda/matvec.cuh"

namespace lieq::cuda {

// Two blocks fit on a multiprocessor, and are to be of two kernels: this one and the next, which
// asks for its weights already. Two of one kernel there would leave another multiprocessor without
// work, and that stays so from kernel to kernel once blocks of attention, which are few, have been
// between them. So kernels take turns: those of one turn have shared memory that does not fit
// twice, those of the other four warps without work, whose registers do not.
inline constexpr int kIdleThreads = 4 * kWarp;
inline constexpr int kSharedOfTurn = (227 << 10) / 2;
inline constexpr int kMostOneRowShared = 112 << 10;  // beside it

template <int kBits, int kScales, bool kOffsets>
struct OneRowShape {
  static constexpr int kUnit = kUnitSize<kBits, kScales, kOffsets>;
  static constexpr int kFolds = kScales == 4 ? 2 : 1;
  using Input = InputShape<1, kFolds>;
  // Of few bits instructions are what is dear: two tiles share what is read of x. Of many it is
  // memory: what is asked for at once lies side by side.
  static constexpr int kTiles = kBits <= 3 ? 2 : 1;  // of a step
  static constexpr int kMostColumnBytes = 2432;
  static constexpr int kColumns =
      kTiles == 1 && 2 * kUnit <= kMostColumnBytes ? 2 : 1;  // its units of a tile
  static constexpr int kWarps = 12, kThreads = kWarps * kWarp;
  static constexpr int kStep = kTiles * kColumns * kUnit;
  // The ring of a block leaves room for x and sums beside it, twice on a multiprocessor.
  static constexpr int kMostRing = 92 << 10;
  static constexpr int kStages = std::clamp(kMostRing / (kWarps * kStep), 2, 8);
  static constexpr int kBarriers = ((kWarps * kStages + 1) * 8 + 127) / 128 * 128;
  static constexpr int kRing = kBarriers + kWarps * kStages * kStep;
  // x that needs nothing done has code of its own, which asks for more at once. Of few bits that
  // makes chains of a long x faster and models slower, whose kernels are fetched anew each time.
  static constexpr bool kPlainApart = kBits >= 4;
};

/// How one row is launched, beside what all rows are: host and kernel agree on it.
struct OneRowArguments {
  MatVecArguments of;
  int together;  // tiles that go to one cluster
  int slice;     // units of columns of a block, but for the last of a cluster
  int early;     // stages that are asked for before x, where that has code of its own
};

template <int kBits, int kScales, bool kOffsets>
__global__ void __launch_bounds__(2 * OneRowShape<kBits, kScales, kOffsets>::kThreads +
                                      kIdleThreads,
                                  1)
    OneRowKernel(const __grid_constant__ OneRowArguments arguments) {
#if __CUDA_ARCH__ >= 900
  using Shape = OneRowShape<kBits, kScales, kOffsets>;
  using Input = typename Shape::Input;
  constexpr int kFolds = Shape::kFolds, kUnit = Shape::kUnit, kColumns = Shape::kColumns;
  constexpr int kStages = Shape::kStages, kStep = Shape::kStep, kTiles = Shape::kTiles;
  constexpr int kWarps = Shape::kWarps, kThreads = Shape::kThreads;
  const MatVecArguments& a = arguments.of;

  extern __shared__ __align__(128) std::byte shared[];
  __shared__ float row_squares[kWarps];
  const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0);
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int ranks = a.ranks;  // a power of two
  const int rank = static_cast<int>(blockIdx.x) & (ranks - 1);
  const int cluster = static_cast<int>(blockIdx.x) / ranks;
  const int k_begin = arguments.slice * rank;
  const int slice = min(arguments.slice, a.units_per_row - k_begin);
  const int steps = (slice + kColumns - 1) / kColumns;
  const int together = arguments.together;
  const int tile_begin = (a.each * cluster + min(cluster, a.more)) * together;
  const int tiles = (a.each + (cluster < a.more ? 1 : 0)) * together;
  const int tiles_of_round = a.tiles_of_round;

  if (warp >= kWarps) {  // without work: it is there until the others have multiplied
    if (ranks > 1) ArriveAtCluster();
    LetNextKernelStart();
    __syncthreads();
    for (int round = 0; round < tiles; round += tiles_of_round) {
      __syncthreads();
      if (ranks > 1 && round == 0) WaitForCluster();
      if (round + tiles_of_round >= tiles) return;
      if (ranks > 1) {
        SyncCluster();
      } else {
        __syncthreads();
      }
    }
    return;
  }

  const std::uint32_t base = SharedAddress(shared);
  const std::uint32_t barriers = base + warp * kStages * 8;
  const std::uint32_t sums_barrier = base + kWarps * kStages * 8;
  const std::uint32_t ring = base + Shape::kBarriers + warp * kStages * kStep;
  std::byte* const input = shared + Shape::kRing;
  const int groups = 2 * kColumns * ((arguments.slice + kColumns - 1) / kColumns);
  std::byte* const folds = input + groups * Input::kGroupBytes;
  float* const slots = reinterpret_cast<float*>(folds + groups * kFolds * Input::kFoldBytes);
  const int slot_floats = a.tiles_of_round * 16;       // of a warp
  float* const totals = slots + kWarps * slot_floats;  // of each rank

  // The way of the copies, which run ahead; lane 0 goes it.
  StepWalk<kTiles, kWarps> load;
  load.Begin(min(tiles_of_round, tiles), steps, warp);
  StepWalk<kTiles, kWarps> walk = load;
  int load_round = 0;  // its first tile
  const std::byte *first = nullptr, *second = nullptr;
  const auto address_of = [&](int tile) {
    const std::byte* from = a.parts[0].units;
    if (a.paired) {
      if (tile % 2 == 1) from = a.parts[1].units;
      tile /= 2;
    } else {
      int begin = 0;
#pragma unroll
      for (int part = 1; part < kMostPackedProducts; ++part) {
        if (tile < a.parts[part - 1].end) continue;
        from = a.parts[part].units;
        begin = a.parts[part - 1].end;
      }
      tile -= begin;
    }
    return from + (Index{tile} * a.units_per_row + k_begin + load.step * kColumns) * kUnit;
  };
  const auto seek = [&] {
    const int tile = tile_begin + load_round + kTiles * load.set;
    first = address_of(tile);
    if (kTiles == 2 && load.set < load.sets) second = address_of(tile + 1);
  };
  // All lanes keep count, so that what they know is a warp's; one asks.
  const auto copy = [&](int stage) {
    if (load.left == 0) {
      do {
        load_round += tiles_of_round;
        if (load_round >= tiles) return;
        load.Begin(min(tiles_of_round, tiles - load_round), steps, warp);
      } while (load.left == 0);
      seek();
    }
    const std::uint32_t bytes = min(kColumns, slice - load.step * kColumns) * kUnit;
    const bool both = kTiles == 2 && load.set < load.sets;
    if (lane == 0) {
      const std::uint32_t barrier = barriers + 8 * stage, to = ring + stage * kStep;
      ExpectBytes(barrier, both ? 2 * bytes : bytes);
      CopyBulk(to, first, bytes, barrier);
      if (both) CopyBulk(to + kColumns * kUnit, second, bytes, barrier);
    }
    first += bytes;
    second += bytes;
    --load.left;
    if (++load.step == steps) {
      load.step = 0;
      ++load.set;
      if (load.left > 0) seek();
    }
  };
  if (lane == 0) {
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) InitBarrier(barriers + 8 * stage);
    if (warp == 0) InitBarrier(sums_barrier);
    FenceBarrierInits();
  }
  __syncwarp();
  if (load.left > 0) seek();
#pragma unroll 1
  for (int stage = 0; stage < (Shape::kPlainApart ? arguments.early : kStages); ++stage) {
    copy(stage);
  }
  if (ranks > 1) ArriveAtCluster();  // its barriers are there
  LetNextKernelStart();
  for (int i = lane; i < slot_floats; i += kWarp) slots[warp * slot_floats + i] = 0;

  // Where a result goes; null where it is one of rows or tiles that fill up a pair.
  const auto place_of = [&](int round, int i, float& bias) -> float* {
    int tile = round + i / 16, begin = 0;
    if (tile >= tiles) return nullptr;
    tile += tile_begin;
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
    if (row >= part.rows) return nullptr;
    bias = part.bias == nullptr ? 0.0f : part.bias[row];
    return part.y + row;
  };
  const auto is_mine = [&](int i) { return (i & (ranks - 1)) == rank; };
  // Where the first result of this thread goes; what it is added to is asked for ahead of the work.
  const auto places_of = [&](int round, int i, float& start, float& start_of_up) -> float* {
    if (!a.paired) return is_mine(i) ? place_of(round, i, start) : nullptr;
    const int of_gate = i / 16 * 32 + i % 16;
    (void)place_of(round, of_gate + 16, start_of_up);
    return place_of(round, of_gate, start);
  };
  float first_start = 0, first_start_of_up = 0;
  float* const first_place = places_of(0, threadIdx.x, first_start, first_start_of_up);

  // x becomes factor B: eight lanes take 64 columns, a warp four such groups at once, and some such
  // fours are asked for together. The weights of a norm do not depend on the kernels before.
  const int octet = lane % 8, first_column = k_begin * static_cast<int>(kUnitColumns) + octet * 8;
  const bool norms = a.input.kind == InputKind::kNorm;
  const auto ask = [&](const float* row, int four, float(&to)[8]) {
    const int group = four * 4 + lane / 8;
    LoadEight(row, first_column + group * 64, group < groups ? a.cols : 0, to);
  };
  const auto form = [&](int four, const float(&of)[8]) {
    const int group = four * 4 + lane / 8;
    FormatGroup<kBits, 1, kFolds>(of, group < groups, group, 0, octet, SumFactor<kOffsets>(a.zero),
                                  input, folds);
  };
  const auto ask_rest = [&] {  // once x is under way
    if (!a.paired && a.add && first_place != nullptr) first_start += *first_place;
    if constexpr (Shape::kPlainApart) {
#pragma unroll 1
      for (int stage = arguments.early; stage < kStages; ++stage) copy(stage);
    }
  };
  float squares = 0;
  if (Shape::kPlainApart && a.input.kind == InputKind::kPlain) {
    constexpr int kAhead = 3;
    WaitForKernelsBefore();
#pragma unroll 1
    for (int first = warp; first * 4 < groups; first += kAhead * kWarps) {
      float values[kAhead][8];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) ask(a.input.x.data, first + i * kWarps, values[i]);
      if (first == warp) ask_rest();
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int four = first + i * kWarps;
        if (four * 4 < groups) form(four, values[i]);  // alike in a warp
      }
    }
    if (warp * 4 >= groups) ask_rest();
  } else {
    // Where plain x went the other way, nothing here is plain: no test is made of it.
    constexpr int kAhead = 2;
    float values[kAhead][8] = {}, others[kAhead][8] = {};
    const auto ask_all = [&](const float* row, float(&to)[kAhead][8]) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) ask(row, warp + i * kWarps, to[i]);
    };
    if (norms) ask_all(a.input.other, others);
    WaitForKernelsBefore();
    ask_all(a.input.x.data, values);
    if (Shape::kPlainApart ? !norms : a.input.kind == InputKind::kSwiGlu) {
      ask_all(a.input.other, others);
    }
    ask_rest();
#pragma unroll 1
    for (int first = warp; first * 4 < groups; first += kAhead * kWarps) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int four = first + i * kWarps, next = four + kAhead * kWarps;
        if (four * 4 >= groups) break;  // a whole warp
        if (norms) squares += SquaresOf(values[i]);
        Combine(a.input.kind, values[i], others[i]);
        form(four, values[i]);
        if (next * 4 >= groups) continue;
        ask(a.input.x.data, next, values[i]);
        if (Shape::kPlainApart || a.input.kind != InputKind::kPlain) {
          ask(a.input.other, next, others[i]);
        }
      }
    }
  }
  __syncthreads();
  if (norms) {
    const float of_warp = OverLanes(squares, Add{});
    if (lane == 0) row_squares[warp] = of_warp;
  }

  const std::uint32_t of_input = SharedAddress(input) + t * 16;
  const std::uint32_t of_folds = SharedAddress(folds);
  int stage = 0;
  std::uint32_t phase = 0;
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
  // `count` steps of a pair of tiles, or of a single tile, from `step` on.
  const auto multiply = [&](auto of_step, int step, int count, float(&sums)[Shape::kTiles][2]) {
    constexpr int kCount = decltype(of_step)::value;
    std::uint32_t at_input = of_input + step * (kColumns * 2 * Input::kGroupBytes);
    std::uint32_t at_folds = of_folds + step * (kColumns * 2 * kFolds * Input::kFoldBytes);
    for (; count > 0; --count, ++step) {
      WaitBarrier(barriers + 8 * stage, phase);
      // A unit that is missing behind the last one: another one times 0.
      const int next = kColumns == 1 || step * kColumns + 1 < slice ? kUnit : 0;
      std::uint32_t words[kCount][kColumns][kLaneWords<kBits>];
      [[maybe_unused]] std::uint32_t scales[kCount][kColumns][kScales],
          offsets[kCount][kColumns][kScales];
#pragma unroll
      for (int tile = 0; tile < kCount; ++tile) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          const std::uint32_t unit = ring + stage * kStep + tile * (kColumns * kUnit) + c * next;
#pragma unroll
          for (int i = 0; i < (kBits == 3 ? 1 : kBits / 2); ++i) {
            const uint4 v = LoadShared16(unit + i * 512 + lane * 16);
            words[tile][c][4 * i] = v.x, words[tile][c][4 * i + 1] = v.y;
            words[tile][c][4 * i + 2] = v.z, words[tile][c][4 * i + 3] = v.w;
          }
          if constexpr (kBits == 3) {
            const uint2 v = LoadShared8(unit + 512 + lane * 8);
            words[tile][c][4] = v.x, words[tile][c][5] = v.y;
          }
          load_halves(unit + 256 * kBits, scales[tile][c]);
          if constexpr (kOffsets) load_halves(unit + 256 * kBits + 32 * kScales, offsets[tile][c]);
        }
      }
      __syncwarp();  // all lanes have read the stage
      copy(stage);
      if (++stage == kStages) {
        stage = 0;
        phase ^= 1;
      }
#pragma unroll
      for (int half = 0; half < 2 * kColumns; ++half) {
        const int c = half / 2, q = half % 2;
        std::uint32_t b[8];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const uint4 v = LoadShared16(at_input + half * Input::kGroupBytes + i * 64);
          b[4 * i] = v.x, b[4 * i + 1] = v.y, b[4 * i + 2] = v.z, b[4 * i + 3] = v.w;
        }
#pragma unroll
        for (int fold = 0; fold < kFolds; ++fold) {
          const uint4 v = LoadShared16(at_folds + (half * kFolds + fold) * Input::kFoldBytes);
          const float of_zero = __uint_as_float(v.x), back = __uint_as_float(v.z);
          constexpr int kSteps = 4 / kFolds;
          constexpr int kPerHalf = kScales / 2;  // scales in 64 columns; 0: one for both halves
          const int which = kScales == 1 ? 0 : q * kPerHalf + (kScales == 4 ? fold : 0);
#pragma unroll
          for (int tile = 0; tile < kCount; ++tile) {
            const float start = kOffsets ? 0.0f : of_zero;
            float part[4] = {start, start, start, start};
#pragma unroll
            for (int j = fold * kSteps; j < (fold + 1) * kSteps; ++j) {
              const auto& of_lane = words[tile][c];
              MultiplyHalves(part, CodePair<kBits>(of_lane, q, 2 * j, 0),
                             CodePair<kBits>(of_lane, q, 2 * j, 1),
                             CodePair<kBits>(of_lane, q, 2 * j + 1, 0),
                             CodePair<kBits>(of_lane, q, 2 * j + 1, 1), b[2 * j], b[2 * j + 1]);
            }
            const float2 scale =
                __half22float2(*reinterpret_cast<const __half2*>(&scales[tile][c][which]));
            if constexpr (kOffsets) {
              // scale (part - zero sum) or scale part + minimum sum, in units of 2^-24.
              const float2 offset =
                  __half22float2(*reinterpret_cast<const __half2*>(&offsets[tile][c][which]));
              const float low = a.minima ? offset.x : -scale.x * offset.x;
              const float high = a.minima ? offset.y : -scale.y * offset.y;
              sums[tile][0] = fmaf(back, fmaf(low, of_zero, scale.x * part[0]), sums[tile][0]);
              sums[tile][1] = fmaf(back, fmaf(high, of_zero, scale.y * part[2]), sums[tile][1]);
            } else {
              sums[tile][0] = fmaf(scale.x * back, part[0], sums[tile][0]);
              sums[tile][1] = fmaf(scale.y * back, part[2], sums[tile][1]);
            }
          }
        }
      }
      at_input += kColumns * 2 * Input::kGroupBytes;
      at_folds += kColumns * 2 * kFolds * Input::kFoldBytes;
    }
  };

  std::uint32_t sums_phase = 0;
  for (int round = 0; round < tiles; round += tiles_of_round) {
    const int of_round = min(tiles_of_round, tiles - round);
    if (round > 0) walk.Begin(of_round, steps, warp);
    while (walk.left > 0) {
      const int count = min(walk.left, steps - walk.step);
      float sums[kTiles][2] = {};
      if (kTiles == 1 || walk.set < walk.sets) {
        multiply(std::integral_constant<int, kTiles>{}, walk.step, count, sums);
      } else {
        multiply(std::integral_constant<int, 1>{}, walk.step, count, sums);
      }
      if (t == 0) {  // column 0 of the results
        float* slot = slots + warp * slot_floats + walk.set * (kTiles * 16) + g;
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          if (tile > 0 && walk.set == walk.sets) break;
          slot[tile * 16] = sums[tile][0], slot[tile * 16 + 8] = sums[tile][1];
        }
      }
      walk.left -= count;
      walk.step = 0;
      ++walk.set;
    }
    __syncthreads();

    const bool last = round + tiles_of_round >= tiles;
    const int count = of_round * 16;
    float row_factor = 1;
    if (norms) {
      float of_warps[kWarps];
#pragma unroll
      for (int w = 0; w < kWarps; ++w) of_warps[w] = row_squares[w];
      row_factor = rsqrtf(TreeSum(of_warps) * a.per_column + static_cast<float>(a.input.eps));
    }
    const auto sum_of = [&](int i) {
      float of_warps[kWarps];
#pragma unroll
      for (int w = 0; w < kWarps; ++w) of_warps[w] = slots[w * slot_floats + i];
      const float sum = TreeSum(of_warps);
      if (!last) {
#pragma unroll
        for (int w = 0; w < kWarps; ++w) slots[w * slot_floats + i] = 0;
      }
      return sum * row_factor;
    };
    // A result of this thread, and what it starts from.
    const auto result_of = [&](int i, float& start, float& start_of_up) -> float* {
      start = first_start, start_of_up = first_start_of_up;
      float* to = first_place;
      if (round > 0 || i != static_cast<int>(threadIdx.x)) {
        start = start_of_up = 0;
        to = places_of(round, i, start, start_of_up);
        if (a.add && to != nullptr) start += *to;
      }
      return to;
    };
    if (a.paired) {
#pragma unroll 1
      for (int i = threadIdx.x; i < count / 2; i += kThreads) {
        float gate, up;
        float* const to = result_of(i, gate, up);
        const int of_gate = i / 16 * 32 + i % 16;
        gate += sum_of(of_gate);
        up += sum_of(of_gate + 16);
        // As the SwiGlu of steps.cu.
        if (to != nullptr) *to = gate / (1.0f + expf(fminf(-gate, 88.0f))) * up;
      }
    } else {
      const auto give = [&](int i, float sum) {
        float start, none;
        float* const to = result_of(i, start, none);
        if (to != nullptr) *to = start + sum;
      };
      if (ranks > 1 && round == 0) WaitForCluster();
#pragma unroll 1
      for (int i = threadIdx.x; i < count; i += kThreads) {
        const float sum = sum_of(i);
        float* const total = totals + rank * slot_floats + i;
        if (ranks == 1) {
          give(i, sum);
        } else if (is_mine(i)) {
          *total = sum;
        } else {
          StoreToBlock(SharedAddress(total), static_cast<unsigned>(i & (ranks - 1)), sum,
                       sums_barrier);
        }
      }
      if (ranks > 1) {
        if (threadIdx.x == 0) {
          ExpectBytes(sums_barrier, static_cast<std::uint32_t>((ranks - 1) * (count / ranks) * 4));
        }
        WaitBarrier(sums_barrier, sums_phase);
        sums_phase ^= 1;
#pragma unroll 1
        for (int i = threadIdx.x; i < count; i += kThreads) {
          if (!is_mine(i)) continue;
          float sum = 0;
          for (int other = 0; other < ranks; ++other) sum += totals[other * slot_floats + i];
          give(i, sum);
        }
      }
    }
    if (!last) {
      if (ranks > 1) {
        SyncCluster();  // the others may write here again
      } else {
        __syncthreads();
      }
    }
  }
#endif
}

template <int kBits, int kScales, bool kOffsets>
void LaunchOneRow(MatVecPlan& plan, int multiprocessors, cudaStream_t stream) {
  using Shape = OneRowShape<kBits, kScales, kOffsets>;
  constexpr int kColumns = Shape::kColumns;
  constexpr int kMostTiles = 16;  // of a round
  OneRowArguments of_row{};
  of_row.of = plan.arguments;
  MatVecArguments& a = of_row.of;
  const auto slice_of = [&](int ranks) {  // whole steps
    return static_cast<int>(CeilDiv(CeilDiv(a.units_per_row, ranks), kColumns)) * kColumns;
  };
  const auto shared_of = [&](int ranks, int tiles) {
    return Shape::kRing + Shape::Input::Bytes(2 * slice_of(ranks)) +
           tiles * 16 * 4 * (Shape::kWarps + (ranks > 1 ? ranks : 0));
  };
  const auto tiles_of = [&](int ranks) {
    return CeilDiv(a.tiles, std::min<Index>(a.tiles, multiprocessors / ranks));
  };
  const auto may_share = [&](int ranks) {  // each block has some columns
    return slice_of(ranks) * (ranks - 1) < a.units_per_row;
  };
  // Columns are shared where x does not fit or takes long to be read, and where tiles are so few
  // that it balances better. Not where one block needs all sums: of squares, or of a gate.
  constexpr int kManyUnits = 64;
  int ranks = 1;
  while (ranks < 8 && shared_of(ranks, 2) > kMostOneRowShared && may_share(2 * ranks)) ranks *= 2;
  const auto work_of = [&](int shared) {
    return static_cast<double>(tiles_of(shared) * slice_of(shared));
  };
  if (ranks == 1 && !a.paired && may_share(2) &&
      (a.units_per_row > kManyUnits || work_of(1) > 1.1 * work_of(2))) {
    ranks = 2;
  }
  if (a.input.kind == InputKind::kNorm) ranks = 1;
  a.paired = a.paired && ranks == 1;
  plan.arguments.paired = a.paired;
  // Pairs where there are many: single tiles would be multiplied at half the speed.
  constexpr int kManyTiles = 8;
  const bool pairs =
      a.paired || (a.tiles % 2 == 0 && a.tiles * ranks >= kManyTiles * multiprocessors);
  const int together = of_row.together = pairs ? 2 : 1;
  const int tiles = ShareTiles(a, together, multiprocessors / ranks);
  a.ranks = ranks;
  of_row.slice = slice_of(ranks);
  // Where x is long the weights wait: x would come behind them, and is what is missing.
  of_row.early = a.units_per_row > kManyUnits ? 1 : Shape::kStages;
  const auto rounds_of = [&](int most) { return static_cast<int>(CeilDiv(tiles, most)); };
  int most = kMostTiles;
  while (most > 2 && shared_of(ranks, std::min(tiles, most)) > kMostOneRowShared) most -= 2;
  // Rounds alike, each of whole pairs.
  a.tiles_of_round =
      std::min(tiles, static_cast<int>(CeilDiv(CeilDiv(tiles, rounds_of(most)), 2)) * 2);
  int shared = shared_of(ranks, a.tiles_of_round), threads = Shape::kThreads;
  if (plan.turn == 0) {
    shared = std::max(shared, kSharedOfTurn);
  } else {
    threads += kIdleThreads;
  }
  const auto kernel = OneRowKernel<kBits, kScales, kOffsets>;
  (void)cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  PreferShared(kernel);
  Launch(kernel, dim3(static_cast<unsigned>(a.clusters * ranks), 1, 1), threads,
         static_cast<std::size_t>(shared), ranks, stream, of_row);
}

template <int kBits>
void LaunchMatVec(MatVecPlan& plan, int scales, bool offsets, int multiprocessors,
                  cudaStream_t stream) {
  const auto of_rows = [&]<int kScales, bool kOffsets>() {
    const int rows = plan.arguments.rows;
    if (rows == 1) {
      LaunchOneRow<kBits, kScales, kOffsets>(plan, multiprocessors, stream);
    } else if (rows <= 4) {
      LaunchMatVecOf<kBits, kScales, kOffsets, 4>(plan, multiprocessors, stream);
    } else if (rows <= 8) {
      LaunchMatVecOf<kBits, kScales, kOffsets, 8>(plan, multiprocessors, stream);
    } else {
      LaunchMatVecOf<kBits, kScales, kOffsets, 16>(plan, multiprocessors, stream);
    }
  };
  const auto of_offsets = [&]<int kScales>() {
    if (offsets) return of_rows.template operator()<kScales, true>();
    return of_rows.template operator()<kScales, false>();
  };
  if (scales == 1) return of_offsets.template operator()<1>();
  if (scales == 2) return of_offsets.template operator()<2>();
  of_offsets.template operator()<4>();
}

}  // namespace lieq::cuda
