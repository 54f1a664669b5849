// Products of packed codes (packed.h) with more rows of x than kMostPackedRows, on the tensor cores
// of compute capability 9.0 (wgmma): codes are read once for all rows of a tile.
//
// Weights become numbers of f16 in registers: scale * (code - zero) or scale * code + minimum,
// rounded once, 2^-11 of the weight at most. x is rounded to f16, each row times a power of two of
// its own that puts its largest below 2^15: 2^-11 of a value, or 2^-39 of the row's largest where
// that is more. Sums are float.
#pragma once

#include "lieq/device/cuda/packed.h"

namespace lieq::cuda {

/// Whether the GPU of this thread runs them: kernels are there for its compute capability.
[[nodiscard]] bool HasMatMat();

/// Rows of x that are multiplied at once.
inline constexpr Index kMostMatMatRows = 2048;

/// Bytes of scratch for products with this many rows of x. products: alike.
[[nodiscard]] Index MatMatBytes(std::span<const PackedProduct> products, Index rows,
                                int multiprocessors) noexcept;

/// y = x Wᵀ + bias, or y += x Wᵀ + bias, for up to kMostPackedProducts matrices that are alike and
/// 1 to kMostMatMatRows rows. In an order of adds that depends on shapes and on the number of
/// multiprocessors alone. Rows of x are multiples of 16 bytes and begin at one. scratch:
/// MatMatBytes, a multiple of 256.
void MultiplyTiles(Block<const float> x, std::span<const PackedProduct> products, bool add,
                   std::byte* scratch, int multiprocessors, cudaStream_t stream);

}  // namespace lieq::cuda
