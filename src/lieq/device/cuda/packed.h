// Codes laid out for products of few rows on tensor cores, and those products (Hopper and newer).
//
// A unit is 16 rows by 128 columns: its codes in the order in which the lanes of a warp hold the
// factor A of mma.m16n8k16, then scales, then offsets. The units of 16 rows follow one another by
// column, and those of the next 16 rows follow them, so that a product reads one stream. Rows and
// columns that fill up the last units have scales of 0. packed.cuh says where each code is.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "lieq/base/types.h"
#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {

inline constexpr Index kUnitRows = 16, kUnitColumns = 128;
inline constexpr Index kMostPackedColumns = 24 << 10;  // so that 16 rows of x fit into a cluster

/// Scales that a row has in a unit: groups are multiples of 128, 64 or 32 columns. 0: of a matrix
/// whose groups are none of these.
[[nodiscard]] int ScalesOfUnit(Index group_columns) noexcept;
[[nodiscard]] Index UnitBytes(int bits, int scales, bool offsets) noexcept;

/// `to.units`, all of them, from the codes of `from`. Scales and minima are numbers of f16.
void Pack(const Source& from, const Source& to, cudaStream_t stream);

/// As Widen and WidenToBf16. False where `out` does not begin at a unit, has other columns, or rows
/// that are no multiples of 16 bytes: then nothing was queued.
[[nodiscard]] bool WidenUnits(const Source& w, Index begin, Block<float> out, cudaStream_t stream);
[[nodiscard]] bool WidenUnits(const Source& w, Index begin, Block<std::uint16_t> out,
                              cudaStream_t stream);

/// What rows of x are made of. They are rounded to f16, each 64 columns times a power of two of
/// their own, so that 11 bits are left of the largest of them.
enum class InputKind : int {
  kPlain,   // x
  kNorm,    // x / sqrt(mean(x²) + eps) * other[0]
  kSwiGlu,  // silu(x) * other
};
struct ProductInput {
  InputKind kind = InputKind::kPlain;
  Block<const float> x;
  const float* other = nullptr;
  Index other_stride = 0;
  double eps = 0;
};

/// One matrix of those that share an input.
struct PackedProduct {
  const Source& w;
  const float* bias;  // [w.rows] or null
  float* y;           // [x.rows, w.rows]
  Index stride;       // of y
};

inline constexpr Index kMostPackedRows = 16, kMostPackedProducts = 4;
/// Whether they may be multiplied in one launch: their units are alike.
[[nodiscard]] bool Alike(const Source& a, const Source& b) noexcept;
/// y = x Wᵀ + bias, or y += x Wᵀ + bias, for up to kMostPackedProducts matrices that are alike and
/// up to kMostPackedRows rows. Float sums in an order that depends on shapes and on the number of
/// multiprocessors alone. Rows of x and of `other` are multiples of 16 bytes and begin at one.
/// turn: 0 or 1, another one than that of the product of one row before it on the stream, which it
/// overlaps: two kernels of one turn do not fit on a multiprocessor together.
/// gates: two products of as many rows, added to nothing; the first becomes silu(first) * second,
/// and the second is not written. False where it cannot do that: both are written then.
bool MultiplyPacked(const ProductInput& input, std::span<const PackedProduct> products, bool add,
                    bool gates, int turn, int multiprocessors, cudaStream_t stream);

/// out = what products multiply in place of x: rounded as InputKind says. [x.rows, x.cols]
void RoundInput(Block<const float> x, Block<float> out, cudaStream_t stream);

}  // namespace lieq::cuda
