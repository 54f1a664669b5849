// Products of tiles of packed codes: x in f16, and which kernel.
#include "lieq/device/cuda/matmat.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "lieq/device/cuda/matmat.cuh"

namespace lieq::cuda {

extern template bool LaunchMatMat<2>(const MatMatArguments&, int, bool, int, cudaStream_t);
extern template bool LaunchMatMat<3>(const MatMatArguments&, int, bool, int, cudaStream_t);
extern template bool LaunchMatMat<4>(const MatMatArguments&, int, bool, int, cudaStream_t);
extern template bool LaunchMatMat<8>(const MatMatArguments&, int, bool, int, cudaStream_t);
extern template bool HasMatMatOf<2>();

namespace {

constexpr int kTileFormatThreads = 256;
constexpr int kLeastSteps = 3;  // of a block: sharing a tile costs about as much

/// A block rounds a row of x to f16 and lays it out as factor B of wgmma (wgmma.cuh); rows and
/// columns that fill up tiles become 0. `arrived` [tiles] too.
__global__ void __launch_bounds__(kTileFormatThreads)
    FormatTilesKernel(Block<const float> x, int groups, int tokens_of_tile, float result_factor,
                      std::byte* out, float* row_factors, int* arrived, int tiles) {
  LetNextKernelStart();
  WaitForKernelsBefore();
  const Index row = blockIdx.x;
  const int octets = groups * 8;
  const auto load = [&](int octet, float(&values)[8]) {
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
      const int col = octet * 8 + i;
      float4 four{0, 0, 0, 0};
      if (row < x.rows && col < x.cols) {
        four = *reinterpret_cast<const float4*>(x.data + row * x.stride + col);
      }
      values[i] = four.x, values[i + 1] = four.y, values[i + 2] = four.z, values[i + 3] = four.w;
    }
  };
  float most = 0;
#pragma unroll 4
  for (int octet = threadIdx.x; octet < octets; octet += kTileFormatThreads) {
    float values[8];
    load(octet, values);
#pragma unroll
    for (int i = 0; i < 8; ++i) most = fmaxf(most, fabsf(values[i]));
  }
  const int exponent = ExponentOf(OverBlock<kTileFormatThreads>(most, Most{}));
  const float factor = __uint_as_float(static_cast<unsigned>(127 - exponent) << 23);
  const Index tile = row / tokens_of_tile, n = row % tokens_of_tile;
  std::byte* const to = out + (tile * groups * tokens_of_tile + n) * 128;
#pragma unroll 4
  for (int octet = threadIdx.x; octet < octets; octet += kTileFormatThreads) {
    float values[8];
    load(octet, values);
    uint4 halves;
    std::uint32_t* const words = &halves.x;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __half2 pair = __floats2half2_rn(values[2 * i] * factor, values[2 * i + 1] * factor);
      words[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
    }
    const Index piece = octet % 8 ^ n % 8;
    *reinterpret_cast<uint4*>(to + octet / 8 * Index{tokens_of_tile} * 128 + piece * 16) = halves;
  }
  if (threadIdx.x == 0) {
    row_factors[row] = __uint_as_float(static_cast<unsigned>(127 + exponent) << 23) * result_factor;
  }
  for (Index i = row * kTileFormatThreads + threadIdx.x; i < tiles;
       i += Index{gridDim.x} * kTileFormatThreads) {
    arrived[i] = 0;
  }
}

/// How products are cut, and what lies where in scratch.
struct Layout {
  int tokens_of_tile, token_tiles, row_tiles, blocks;
  Index x, row_factors, arrived, partials, bytes;  // where they begin
};
Layout LayOut(std::span<const PackedProduct> products, Index rows, int multiprocessors) {
  constexpr Index kPart = 256;
  Layout layout{};
  const Index steps = products.front().w.units_per_row;
  layout.tokens_of_tile = rows <= 64 ? 64 : 128;
  layout.token_tiles = static_cast<int>(CeilDiv(rows, layout.tokens_of_tile));
  for (const PackedProduct& product : products) {
    layout.row_tiles += static_cast<int>(CeilDiv(product.w.rows, kTileRows));
  }
  const Index tiles = Index{layout.row_tiles} * layout.token_tiles;
  layout.blocks =
      static_cast<int>(std::clamp<Index>(tiles * steps / kLeastSteps, 1, multiprocessors));
  const Index tokens = Index{layout.token_tiles} * layout.tokens_of_tile;
  const auto place = [&](Index bytes) {
    const Index at = layout.bytes;
    layout.bytes += CeilDiv(bytes, kPart) * kPart;
    return at;
  };
  layout.x = place(tokens * steps * 256);
  layout.row_factors = place(tokens * 4);
  layout.arrived = place(tiles * 4);
  layout.partials = place(Index{layout.blocks} * 2 * kTileRows * layout.tokens_of_tile * 4);
  return layout;
}

/// A pair of f16.
std::uint32_t PowerOfTwo(int exponent) {
  const auto bits = static_cast<std::uint32_t>(15 + exponent) << 10;
  return bits | bits << 16;
}

}  // namespace

bool HasMatMat() {
  return HasMatMatOf<2>();
}

Index MatMatBytes(std::span<const PackedProduct> products, Index rows,
                  int multiprocessors) noexcept {
  return LayOut(products, rows, multiprocessors).bytes;
}

void MultiplyTiles(Block<const float> x, std::span<const PackedProduct> products, bool add,
                   std::byte* scratch, int multiprocessors, cudaStream_t stream) {
  const Layout layout = LayOut(products, x.rows, multiprocessors);
  const Source& w = products.front().w;
  MatMatArguments a{};
  int tiles = 0, shift = w.shift;
  for (std::size_t i = 0; i < kMostPackedProducts; ++i) {
    if (i >= products.size()) {
      a.parts[i] = {nullptr, nullptr, nullptr, 0, 0, tiles};
      continue;
    }
    const PackedProduct& product = products[i];
    shift = std::min(shift, product.w.shift);
    tiles += static_cast<int>(CeilDiv(product.w.rows, kTileRows));
    a.parts[i] = {product.w.units,
                  product.bias,
                  product.y,
                  product.stride,
                  static_cast<int>(product.w.rows),
                  tiles};
  }
  a.x = scratch + layout.x;
  a.row_factors = reinterpret_cast<const float*>(scratch + layout.row_factors);
  a.partials = reinterpret_cast<float4*>(scratch + layout.partials);
  a.arrived = reinterpret_cast<int*>(scratch + layout.arrived);
  a.row_tiles = layout.row_tiles;
  a.token_tiles = layout.token_tiles;
  a.units_per_row = static_cast<int>(w.units_per_row);
  a.tokens = static_cast<int>(x.rows);
  a.unit_bytes = static_cast<int>(w.unit_bytes);
  a.scales = w.unit_scales;
  a.zero = w.zero;
  a.scale_factor = PowerOfTwo(shift + 10);
  a.minimum_factor = w.has_minima ? PowerOfTwo(shift) : 0;
  a.zeros = w.has_zeros;
  a.add = add;
  if (w.has_minima) a.zero = 0;

  const int rows = layout.token_tiles * layout.tokens_of_tile;
  PreferShared(FormatTilesKernel);
  Launch(FormatTilesKernel, dim3(static_cast<unsigned>(rows), 1, 1), kTileFormatThreads, 0, 1,
         stream, x, 2 * a.units_per_row, layout.tokens_of_tile, std::ldexp(1.0f, -shift),
         scratch + layout.x, reinterpret_cast<float*>(scratch + layout.row_factors), a.arrived,
         a.row_tiles * a.token_tiles);
  const auto launch = w.bits == 2   ? LaunchMatMat<2>
                      : w.bits == 3 ? LaunchMatMat<3>
                      : w.bits == 4 ? LaunchMatMat<4>
                                    : LaunchMatMat<8>;
  (void)launch(a, layout.tokens_of_tile, w.has_zeros || w.has_minima, layout.blocks, stream);
}

}  // namespace lieq::cuda
