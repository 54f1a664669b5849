// Kernel rows of products straight from packed codes: one body (packed_kernels_body.inc) around the
// few operations on sixteen lanes that each instruction set has of its own.
//
// Sixteen rows of a matrix lie side by side, one in each lane (packed_matrix.h). Products of codes
// and rounded activations are sums of integers, and exact; what is added in float is added lane by
// lane in one order. So every row of the table gives the same bits, for any number of rows at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "lieq/device/device.h"

namespace lieq {

inline constexpr std::ptrdiff_t kBlockRows = 16;     // rows of a matrix side by side
inline constexpr std::ptrdiff_t kPieceColumns = 64;  // columns of activations that share a scale

/// How the columns of a row lie. A group is cut into steps: columns whose codes of one row fill one
/// word, at 3 and 6 bits three. The last step of a group is filled up with codes and activations of
/// 0. Groups of a K-quant grid are its super-blocks, whose pieces have two or four parts: the
/// columns that share factors.
struct PackedShape {
  int bits;                        // 2, 3, 4, 6 or 8
  std::ptrdiff_t groups;           // of a row
  std::ptrdiff_t group_columns;    // of the matrix
  std::ptrdiff_t group_steps;      // of the layout
  std::ptrdiff_t step_columns;     // 16, 32, 8, 16 or 4
  std::ptrdiff_t group_positions;  // group_steps * step_columns
  std::ptrdiff_t group_pieces;     // of kPieceColumns positions, the last one shorter
  int parts;                       // of a piece; 1 but on K-quant grids
  /// What sums of activations are kept times: minus the zero that all groups share, or twice that
  /// where it is no integer; 1 where there is none.
  int sum_times;
  friend bool operator==(const PackedShape&, const PackedShape&) = default;
};

/// Blocks of a packed matrix, the first one first.
struct PackedBlocks {
  const std::uint8_t* codes;  // [blocks, groups, steps, bytes of a step of sixteen rows]
  const void* scales;         // [blocks, groups, 16], f16 or float
  const void* minima;         // the same, or null
  const std::uint8_t* zeros;  // [blocks, groups, 16], or null
  // Of K-quant grids, whose scales and minima are d and dmin: [blocks, parts of a row, 16], or
  // null.
  const std::int8_t* factors;
  const std::uint8_t* minimum_factors;
  bool half;       // scales and minima are f16
  int twice_zero;  // twice the zero that all groups share
};

/// Rows of activations as kernels read them: by position, in the order that the codes of a step are
/// met in. Integers of 16 bits are kept as upper and lower bytes: 256 upper + lower. Behind the
/// last codes 64 more can be read.
struct RoundedRows {
  std::int8_t* codes;           // [rows, planes, code_stride]; of float activations null
  float* values;                // [rows, code_stride]; of rounded activations null
  float* scales;                // [rows, piece_stride]; of float activations null
  std::int32_t* sums;           // of the integers of a part, times sum_times; or null
  float* totals;                // of what integers stand for, of a piece; of floats, of a part
  std::ptrdiff_t code_stride;   // of a plane
  std::ptrdiff_t piece_stride;  // of a row
  std::ptrdiff_t part_stride;   // piece_stride * parts
};

/// y [rows, outs] = x wᵀ of up to 16 * blocks outputs, or y += where `add`; then + bias, [outs] or
/// null.
struct PackedProduct {
  PackedShape shape;
  PackedBlocks w;
  RoundedRows x;
  std::ptrdiff_t rows;
  std::ptrdiff_t outs;
  float* y;
  std::ptrdiff_t y_stride;
  const float* bias;
  bool add;
};

struct PackedKernels {
  std::string_view name;
  bool (*supported)();  // by this processor

  /// Rows of x [rows, groups * group_columns] into `to`. Integers are x / scale rounded to nearest,
  /// ties to even, where scale is the largest magnitude of a piece over 127, or over 32512 for 16
  /// bits. A piece whose largest magnitude is below 2^-100 counts as zeros. One that is not finite
  /// has a scale of NaN, so that its products have too.
  void (*round)(const PackedShape& shape, Activations type, const float* x, std::ptrdiff_t x_stride,
                std::ptrdiff_t rows, const RoundedRows& to);
  /// One for each of Activations.
  void (*multiply[3])(const PackedProduct& product);
};

/// Rows this build has, best first, the portable one last.
[[nodiscard]] std::span<const PackedKernels* const> PackedKernelSets() noexcept;
/// The row of that name, or the best supported one for an empty name. Throws Error naming the rows
/// there are, or why the named one cannot run here.
[[nodiscard]] const PackedKernels& ChoosePackedKernels(std::string_view name);

extern const PackedKernels kScalarPackedKernels;
extern const PackedKernels kAvx2PackedKernels;
extern const PackedKernels kAvxVnniPackedKernels;
extern const PackedKernels kAvx512PackedKernels;
extern const PackedKernels kAmxPackedKernels;
extern const PackedKernels kNeonPackedKernels;
extern const PackedKernels kDotProdPackedKernels;
extern const PackedKernels kI8mmPackedKernels;

}  // namespace lieq
