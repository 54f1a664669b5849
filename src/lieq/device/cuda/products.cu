// Products for machines without cuBLASLt: right for every shape, and plain.
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;   // rows and columns of a block's part of the result
constexpr int kDepth = 16;  // of the factors in shared memory
constexpr int kSide = 16;   // threads along a side: each has 4 by 4 results

__global__ void FloatKernel(Factor a, Factor b, Index depth, Block<float> y, bool add) {
  __shared__ float of_a[kDepth][kTile + 1], of_b[kDepth][kTile + 1];
  const Index row = Index{blockIdx.x} * kTile, col = Index{blockIdx.y} * kTile;
  const int down = threadIdx.x / kSide, across = threadIdx.x % kSide;
  float sums[4][4] = {};
  for (Index begin = 0; begin < depth; begin += kDepth) {
    for (int i = threadIdx.x; i < kDepth * kTile; i += kThreads) {
      // Neighbouring threads read along the dimension that is contiguous.
      const int da = a.col_stride == 1 ? i % kDepth : i / kTile;
      const int ra = a.col_stride == 1 ? i / kDepth : i % kTile;
      const int db = b.row_stride == 1 ? i % kDepth : i / kTile;
      const int cb = b.row_stride == 1 ? i / kDepth : i % kTile;
      of_a[da][ra] = row + ra < y.rows && begin + da < depth
                         ? a.data[(row + ra) * a.row_stride + (begin + da) * a.col_stride]
                         : 0.0f;
      of_b[db][cb] = col + cb < y.cols && begin + db < depth
                         ? b.data[(begin + db) * b.row_stride + (col + cb) * b.col_stride]
                         : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      float from_a[4], from_b[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        from_a[i] = of_a[d][down + kSide * i];
        from_b[i] = of_b[d][across + kSide * i];
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(from_a[i], from_b[j], sums[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const Index r = row + down + kSide * i, c = col + across + kSide * j;
      if (r >= y.rows || c >= y.cols) continue;
      float& to = y.data[r * y.stride + c];
      to = add ? to + sums[i][j] : sums[i][j];
    }
  }
}

// Bf16: four warps, each with a quarter of the rows of the tile, in steps of 32 of the depth.
constexpr int kBf16Threads = 128;
constexpr int kBf16Depth = 32;
constexpr int kPitch = kBf16Depth + 8;  // 80 bytes: the eight rows that a fragment reads lie apart

__device__ void MultiplyAdd(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                            std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
      "{%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// [kTile, kBf16Depth] from (row, begin) on, zeros behind the ends.
__device__ void LoadTile(Block<const std::uint16_t> from, Index row, Index begin, Index depth,
                         std::uint16_t (*to)[kPitch]) {
  constexpr int kPieces = kBf16Depth / 8;  // of 16 bytes in a row
  for (int i = threadIdx.x; i < kTile * kPieces; i += kBf16Threads) {
    const int r = i / kPieces, d = i % kPieces * 8;
    uint4 piece{0, 0, 0, 0};
    if (row + r < from.rows && begin + d < depth) {
      piece = *reinterpret_cast<const uint4*>(from.data + (row + r) * from.stride + begin + d);
    }
    *reinterpret_cast<uint4*>(&to[r][d]) = piece;
  }
}

__global__ void Bf16Kernel(Block<const std::uint16_t> a, Block<const std::uint16_t> b,
                           Block<float> y, bool add) {
  __shared__ __align__(16) std::uint16_t of_a[kTile][kPitch], of_b[kTile][kPitch];
  const Index row = Index{blockIdx.x} * kTile, col = Index{blockIdx.y} * kTile;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int group = lane / 4, pair = lane % 4 * 2;  // as PTX names the parts of a fragment
  const auto two = [](const std::uint16_t* at) {
    return *reinterpret_cast<const std::uint32_t*>(at);
  };
  float sums[kTile / 8][4] = {};
  for (Index begin = 0; begin < a.cols; begin += kBf16Depth) {
    LoadTile(a, row, begin, a.cols, of_a);
    LoadTile(b, col, begin, a.cols, of_b);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kBf16Depth; d += 16) {
      const std::uint16_t* high = &of_a[warp * 16 + group][d + pair];
      const std::uint16_t* low = &of_a[warp * 16 + group + 8][d + pair];
      const std::uint32_t fragment[4] = {two(high), two(low), two(high + 8), two(low + 8)};
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n) {
        const std::uint16_t* of = &of_b[n * 8 + group][d + pair];
        MultiplyAdd(sums[n], fragment, two(of), two(of + 8));
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Index r = row + warp * 16 + group + 8 * (i / 2), c = col + n * 8 + pair + i % 2;
      if (r >= y.rows || c >= y.cols) continue;
      float& to = y.data[r * y.stride + c];
      to = add ? to + sums[n][i] : sums[n][i];
    }
  }
}

}  // namespace

void MultiplyFloat(Factor a, Factor b, Index depth, Block<float> y, bool add, cudaStream_t stream) {
  if (y.rows == 0) return;
  FloatKernel<<<RowsByColumns(CeilDiv(y.rows, kTile), y.cols, kTile), kThreads, 0, stream>>>(
      a, b, depth, y, add);
}

void MultiplyBf16(Block<const std::uint16_t> a, Block<const std::uint16_t> b, Block<float> y,
                  bool add, cudaStream_t stream) {
  if (y.rows == 0) return;
  Bf16Kernel<<<RowsByColumns(CeilDiv(y.rows, kTile), y.cols, kTile), kBf16Threads, 0, stream>>>(
      a, b, y, add);
}

}  // namespace lieq::cuda
