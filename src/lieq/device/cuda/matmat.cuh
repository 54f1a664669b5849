// Products of tiles of packed codes and x: the kernel, which each matmat_N_sm90a.cu makes for a
// width.
//
// A tile is 256 rows of the weights by kTokens rows of x; a step of it is a unit's 128 columns. The
// steps of all tiles, one tile behind the other, are cut evenly among the blocks, one for each
// multiprocessor. Codes and x are copied ahead: each warp has a ring of the codes of its own two
// units, and the block one of x. The two groups of four warps have 128 rows of a tile each: a warp
// widens the codes of two units to f16 in registers, 64 columns at a time, while products of the 64
// columns before run.
//
// A tile that several blocks share is put together in scratch: each block writes its sums there,
// waits for the others, and adds up a slice of the tile in the order of blocks. So no sum depends
// on who comes first. Blocks wait for one another: they have to run all at once (matmat.cu).
#pragma once

#include "lieq/device/cuda/packed.cuh"
#include "lieq/device/cuda/wgmma.cuh"

namespace lieq::cuda {

inline constexpr int kMatMatWarps = 8, kMatMatThreads = kMatMatWarps * kWarp;
inline constexpr int kWarpUnits = 2;                           // of a step, 64 rows apart
inline constexpr int kTileUnits = kMatMatWarps * kWarpUnits;   // of a step
inline constexpr int kTileRows = kTileUnits * int{kUnitRows};  // of the weights
inline constexpr int kMostXStages = 8;
/// Steps of the ring of codes, of up to 2.3 KB a unit at 8 bits.
template <int kBits>
inline constexpr int kCodeStages = kBits == 8   ? 3
                                   : kBits == 4 ? 5
                                                : 6;

struct MatMatPart {
  const std::byte* units;
  const float* bias;
  float* y;
  Index stride;
  int rows, end;  // of the weights; the first tile of rows behind it
};
struct MatMatArguments {
  MatMatPart parts[kMostPackedProducts];  // those there are not: end of the last one
  const std::byte* x;        // [token tiles, units_per_row, 2, kTokens] rows of 64 columns of f16
  const float* row_factors;  // [token tiles * kTokens]: what sums are multiplied with
  float4* partials;          // [blocks, 2, sums of a thread / 4, threads]
  int* arrived;              // [tiles]: blocks that have written theirs; 0 at first
  int row_tiles, token_tiles, units_per_row, tokens;
  int unit_bytes, scales, x_stages;
  float zero;
  std::uint32_t scale_factor, minimum_factor;  // pairs of f16, powers of two
  bool zeros, add;
};

#if __CUDA_ARCH__ >= 900
/// 16 bytes, by a lane of its own; what it began before a commit is a set.
__device__ __forceinline__ void CopyPiece(std::uint32_t to, const std::byte* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ __forceinline__ void CommitPieces() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kLeft>
__device__ __forceinline__ void WaitPieces() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

/// A lane's words of half q of a unit's columns.
template <int kBits>
__device__ __forceinline__ void LoadWords(std::uint32_t unit, int lane, int q,
                                          std::uint32_t (&words)[kLaneWords<kBits>]) {
  if constexpr (kBits == 2 || kBits == 3) {
    const uint2 v = LoadShared8(unit + lane * 16 + q * 8);
    words[2 * q] = v.x, words[2 * q + 1] = v.y;
    if constexpr (kBits == 3) words[4 + q] = LoadShared4(unit + 512 + lane * 8 + q * 4);
  } else {
    constexpr int kLoads = kBits / 4;
#pragma unroll
    for (int i = q * kLoads; i < (q + 1) * kLoads; ++i) {
      const uint4 v = LoadShared16(unit + i * 512 + lane * 16);
      words[4 * i] = v.x, words[4 * i + 1] = v.y;
      words[4 * i + 2] = v.z, words[4 * i + 3] = v.w;
    }
  }
}
#endif

template <int kBits, bool kOffsets, int kTokens>
__global__ void __launch_bounds__(kMatMatThreads, 1)
    MatMatKernel(const __grid_constant__ MatMatArguments a) {
#if __CUDA_ARCH__ >= 900
  constexpr int kSums = kTokens / 2;      // of a thread, for each unit of its warp
  constexpr int kXBytes = kTokens * 256;  // of a step
  constexpr int kQuads = kSums / 4 * kWarpUnits;
  extern __shared__ __align__(1024) std::byte shared[];
  __shared__ std::uint64_t of_full[kMostXStages], of_empty[kMostXStages];
  const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0);
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const std::uint32_t base = (SharedAddress(shared) + 1023) & ~1023u;
  const std::uint32_t full = SharedAddress(of_full), empty = SharedAddress(of_empty);
  const int steps = a.units_per_row, total = a.row_tiles * a.token_tiles * steps;
  const auto begin_of = [&](int block) {
    return static_cast<int>(std::int64_t{total} * block / static_cast<int>(gridDim.x));
  };
  const int block = static_cast<int>(blockIdx.x);
  const int begin = begin_of(block), end = begin_of(block + 1);

  const auto part_of = [&](int row_tile, int& first) {
    int part = 0;
    while (row_tile >= a.parts[part].end) ++part;
    first = part == 0 ? 0 : a.parts[part - 1].end;
    return part;
  };

  // Codes: where the warp's copies are, with the address of this lane's first piece.
  constexpr int kStages = kCodeStages<kBits>;
  const int first_unit = warp / 4 * (kTileUnits / 2) + warp % 4;
  const int pieces = a.unit_bytes / 16, slot_bytes = kWarpUnits * a.unit_bytes;
  const std::uint32_t ring = base + a.x_stages * kXBytes + warp * kStages * slot_bytes;
  const Index next_unit = Index{4} * steps * a.unit_bytes;  // from the first to the second
  int code_tile = begin / steps, code_step = begin - code_tile * steps, code_left = end - begin;
  int units = 0;  // that there are
  const std::byte* codes_from = nullptr;
  const auto seek = [&] {
    const int row_tile = code_tile / a.token_tiles;
    int first = 0;
    const MatMatPart& part = a.parts[part_of(row_tile, first)];
    const int unit = (row_tile - first) * kTileUnits + first_unit;
    const int behind = (part.rows + 15) / 16 - unit;
    units = behind > 4 ? 2 : behind > 0 ? 1 : 0;
    codes_from = part.units + (Index{unit} * steps + code_step) * a.unit_bytes + lane * 16;
  };
  const auto copy_codes = [&](int slot) {
    if (code_left > 0) {
      std::uint32_t to = ring + slot * slot_bytes + lane * 16;
      for (int u = 0; u < units; ++u) {
        const std::byte* from = codes_from + u * next_unit;
#pragma unroll
        for (int i = 0; i < kBits / 2; ++i) CopyPiece(to + i * 512, from + i * 512);
        for (int i = kBits / 2 * kWarp; i + lane < pieces; i += kWarp) {
          CopyPiece(to + i * 16, from + i * 16);
        }
        to += a.unit_bytes;
      }
      codes_from += a.unit_bytes;
      --code_left;
      if (++code_step == steps) {
        code_step = 0;
        ++code_tile;
        if (code_left > 0) seek();
      }
    }
    CommitPieces();
  };
  // x: of one lane.
  int token_tile = begin / steps % a.token_tiles, x_step = begin % steps, x_left = end - begin;
  const auto copy_x = [&](int stage) {
    if (x_left-- <= 0) return;
    ExpectBytes(full + 8 * stage, kXBytes);
    CopyBulk(base + stage * kXBytes, a.x + (Index{token_tile} * steps + x_step) * kXBytes, kXBytes,
             full + 8 * stage);
    if (++x_step < steps) return;
    x_step = 0;
    if (++token_tile == a.token_tiles) token_tile = 0;
  };
  seek();
  // Codes do not depend on kernels before this one.
  for (int slot = 0; slot < kStages - 1; ++slot) copy_codes(slot);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < a.x_stages; ++stage) {
      InitBarrier(full + 8 * stage);
      InitBarrier(empty + 8 * stage, kMatMatWarps);
    }
    FenceBarrierInits();
  }
  LetNextKernelStart();
  __syncthreads();
  WaitForKernelsBefore();
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < a.x_stages; ++stage) copy_x(stage);
  }
  __syncwarp();

  // Four sums, `quad` of this thread in a tile, to where they belong.
  const auto give = [&](int tile, int quad, float4 sums) {
    const int row_tile = tile / a.token_tiles, token_tile = tile - row_tile * a.token_tiles;
    int first = 0;
    const MatMatPart& part = a.parts[part_of(row_tile, first)];
    const int row = (row_tile - first) * kTileRows + warp / 4 * (kTileRows / 2) +
                    quad / (kSums / 4) * 64 + warp % 4 * 16 + g;
    const int token = token_tile * kTokens + quad % (kSums / 4) * 8 + 2 * t;
    const float values[4] = {sums.x, sums.y, sums.z, sums.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = row + i / 2 * 8, n = token + i % 2;
      if (r >= part.rows || n >= a.tokens) continue;
      float* to = part.y + n * part.stride + r;
      float start = part.bias == nullptr ? 0.0f : part.bias[r];
      if (a.add) start += *to;
      *to = start + values[i] * a.row_factors[n];
    }
  };
  // Where a block's sums of a tile that it shares are: of the first of its tiles, or of the last.
  const auto slots_of = [&](int of_block, int slot) {
    return a.partials + (of_block * 2 + slot) * (kQuads * kMatMatThreads) + threadIdx.x;
  };

  const __half2 scale_factor = *reinterpret_cast<const __half2*>(&a.scale_factor);
  const __half2 minimum_factor = *reinterpret_cast<const __half2*>(&a.minimum_factor);
  float sums[kWarpUnits][kSums];
#pragma unroll
  for (int u = 0; u < kWarpUnits; ++u) {
#pragma unroll
    for (int i = 0; i < kSums; ++i) sums[u][i] = 0;
  }
  std::uint32_t halves[2][kWarpUnits][4][4];  // of each half of the columns, factor A of four steps
  const auto scale_of = [&](std::uint32_t unit, int q, int fold) {
    return unit + 256 * kBits + g * (4 * a.scales) + (2 * q + fold) * a.scales / 4 * 4;
  };
  int stage = 0, refill = 0, slot = 0, free_slot = kStages - 1;
  std::uint32_t phase = 0, refill_phase = 0;
  int tile = begin / steps, step = begin - tile * steps, first_step = step;
  for (int at = begin; at < end; ++at) {
    WaitPieces<kStages - 2>();
    __syncwarp();  // all lanes' pieces are there, and all have read those of the step before
    copy_codes(free_slot);
    free_slot = slot;
    const std::uint32_t codes = ring + slot * slot_bytes;
    if (++slot == kStages) slot = 0;
    WaitBarrier(full + 8 * stage, phase);
    const std::uint32_t x = base + stage * kXBytes;
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      std::uint32_t words[kWarpUnits][kLaneWords<kBits>], scale_words[kWarpUnits][2];
#pragma unroll
      for (int u = 0; u < kWarpUnits; ++u) {
        const std::uint32_t unit = codes + u * a.unit_bytes;
        LoadWords<kBits>(unit, lane, q, words[u]);
#pragma unroll
        for (int fold = 0; fold < 2; ++fold) {  // 32 columns, of one scale
          scale_words[u][fold] = LoadShared4(scale_of(unit, q, fold));
        }
      }
#pragma unroll
      for (int u = 0; u < kWarpUnits; ++u) {
#pragma unroll
        for (int fold = 0; fold < 2; ++fold) {
          const __half2 scales =
              __hmul2(*reinterpret_cast<const __half2*>(&scale_words[u][fold]), scale_factor);
          const __half2 scale[2] = {__low2half2(scales), __high2half2(scales)};
          // Codes come as code * 2^-10; what is taken from them, as often.
          __half2 zero[2], minimum[2];
          zero[0] = zero[1] = __float2half2_rn(a.zero * -0x1p-10f);
          minimum[0] = minimum[1] = __float2half2_rn(0.0f);
          if constexpr (kOffsets) {
            const std::uint32_t unit = codes + u * a.unit_bytes;
            const std::uint32_t offset_word = LoadShared4(scale_of(unit, q, fold) + 32 * a.scales);
            const __half2 offsets = *reinterpret_cast<const __half2*>(&offset_word);
            const __half2 zeros = __hmul2(offsets, __float2half2_rn(a.zeros ? -0x1p-10f : 0.0f));
            const __half2 minima = __hmul2(offsets, minimum_factor);
            zero[0] = __low2half2(zeros), zero[1] = __high2half2(zeros);
            minimum[0] = __low2half2(minima), minimum[1] = __high2half2(minima);
          }
#pragma unroll
          for (int p = 4 * fold; p < 4 * fold + 4; ++p) {
            const __half2 unshift =
                __half2half2(__ushort_as_half((15 + 14 - ShiftOf(kBits, p)) << 10));
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const std::uint32_t pair = CodePair<kBits>(words[u], q, p, half);
              const __half2 code =
                  __hfma2(*reinterpret_cast<const __half2*>(&pair), unshift, zero[half]);
              const __half2 weight = __hfma2(code, scale[half], minimum[half]);
              halves[q][u][p / 2][p % 2 * 2 + half] =
                  *reinterpret_cast<const std::uint32_t*>(&weight);
            }
          }
        }
      }
      FenceProducts();
      const std::uint64_t rows = DescribeRows(x + q * (kXBytes / 2));
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int u = 0; u < kWarpUnits; ++u) {
          MultiplyAsync(sums[u], halves[q][u][j], rows + j * kNextSixteen);
        }
      }
      CommitProducts();
    }
    if (at > begin) {  // the stage of the step before is empty, or soon
      if (threadIdx.x == 0 && x_left > 0) {
        WaitBarrier(empty + 8 * refill, refill_phase);
        copy_x(refill);
      }
      if (++refill == a.x_stages) refill = 0, refill_phase ^= 1;
      __syncwarp();
    }
    WaitProducts<0>();
    if (lane == 0) Arrive(empty + 8 * stage);
    if (++stage == a.x_stages) stage = 0, phase ^= 1;
    if (++step < steps && at + 1 < end) continue;
    const bool whole = first_step == 0 && step == steps;
    float4* const slots = slots_of(block, tile == begin / steps ? 0 : 1);
#pragma unroll
    for (int u = 0; u < kWarpUnits; ++u) {
#pragma unroll
      for (int i = 0; i < kSums; i += 4) {
        const float4 four{sums[u][i], sums[u][i + 1], sums[u][i + 2], sums[u][i + 3]};
        const int quad = u * (kSums / 4) + i / 4;
        if (whole) {
          give(tile, quad, four);
        } else {
          slots[quad * kMatMatThreads] = four;
        }
        sums[u][i] = sums[u][i + 1] = sums[u][i + 2] = sums[u][i + 3] = 0;
      }
    }
    if (!whole) {
      __syncthreads();
      if (threadIdx.x == 0) {
        __threadfence();  // of what all threads wrote
        atomicAdd(a.arrived + tile, 1);
      }
    }
    ++tile;
    step = first_step = 0;
  }

  const auto block_of = [&](int at) {
    return static_cast<int>((std::int64_t{at + 1} * gridDim.x - 1) / total);
  };
  const int first_tile = begin / steps, last_tile = (end - 1) / steps;
  for (tile = first_tile; tile <= last_tile; tile += max(last_tile - first_tile, 1)) {
    if (tile * steps >= begin && (tile + 1) * steps <= end) continue;
    const int first = block_of(tile * steps), last = block_of((tile + 1) * steps - 1);
    const int sharers = last - first + 1, rank = block - first;
    // It is the first tile of all of them but the first, of which it may be the last.
    const int first_slot = begin_of(first) / steps == tile ? 0 : 1;
    if (threadIdx.x == 0) {
      int arrived = 0;
      while (arrived < sharers) {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
                     : "=r"(arrived)
                     : "l"(a.arrived + tile)
                     : "memory");
      }
    }
    __syncthreads();
    const int quads_end = kQuads * (rank + 1) / sharers;
    for (int quad = kQuads * rank / sharers; quad < quads_end; ++quad) {
      float4 sum{0, 0, 0, 0};
#pragma unroll 8
      for (int other = first; other <= last; ++other) {
        const float4 part =
            __ldcg(slots_of(other, other == first ? first_slot : 0) + quad * kMatMatThreads);
        sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
      }
      give(tile, quad, sum);
    }
  }
#endif
}

/// Queues the kernel of a width; false where the GPU does not run it. In a file of its own for
/// each.
template <int kBits>
bool LaunchMatMat(const MatMatArguments& arguments, int tokens_of_tile, bool offsets, int blocks,
                  cudaStream_t stream);
/// Whether LaunchMatMat can.
template <int kBits>
bool HasMatMatOf();

}  // namespace lieq::cuda
