// Quantized matrices laid out for products at the speed of memory (docs/kernels.md).
//
// Sixteen rows lie side by side. Of each the next columns, as many as fill a 32-bit word, are one
// lane of 64 bytes, so that one instruction works on sixteen rows and their scales are one vector.
// At 2, 4 and 8 bits a lane is the word of the matrix as it stands; at 3 and 6 bits three words
// hold 32 and 16 columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "lieq/base/large_pages.h"
#include "lieq/base/thread_pool.h"
#include "lieq/device/cpu/packed_kernels.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

class PackedMatrix {
 public:
  /// Whether there is a layout for matrices of this grid.
  [[nodiscard]] static bool Holds(const Grid& grid) noexcept;

  /// Of a grid that it holds. Blocks are packed in parallel; nothing of `from` is kept. What is
  /// held is taken from `pages`, which may end before it.
  PackedMatrix(const QMatrix& from, ThreadPool& pool, LargePages& pages);
  PackedMatrix(const QMatrix& from, ThreadPool& pool);

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] const PackedShape& shape() const noexcept { return shape_; }
  /// Blocks of sixteen rows; rows that the last one lacks are codes and scales of 0.
  [[nodiscard]] Index blocks() const noexcept { return CeilDiv(rows_, kBlockRows); }
  /// What kernels read, from a block on.
  [[nodiscard]] PackedBlocks From(Index block) const noexcept;
  /// Of codes, scales, zeros and minima.
  [[nodiscard]] std::int64_t bytes() const noexcept;

  /// As QMatrix::Dequantize, to the bit.
  void Dequantize(Index begin, View<float, 2> out) const;

 private:
  void Pack(const QMatrix& from, Index block);
  void PackCodes(const QMatrix& from, Index block);
  void PackSupers(const QMatrix& from, Index block);
  /// Scale, zero and minimum of columns that share them: the part-th of a group.
  struct Level {
    float scale, zero, minimum;
  };
  [[nodiscard]] Level LevelOf(Index block, Index group, Index part, Index lane) const;
  [[nodiscard]] float Number(View<const std::uint16_t, 2> halves, View<const float, 2> floats,
                             Index block, Index group, Index lane) const;

  Index rows_ = 0, cols_ = 0;
  Grid grid_;
  PackedShape shape_;
  bool half_ = true;                          // all scales and minima are numbers of f16
  std::shared_ptr<std::byte> held_;           // all of these, each on a line of the cache
  View<std::uint32_t, 2> codes_;              // [blocks, groups * steps * words of a step * 16]
  View<std::uint16_t, 2> scales_, minima_;    // [blocks, groups * 16], or empty
  View<float, 2> wide_scales_, wide_minima_;  // where f16 does not hold them
  View<std::uint8_t, 2> zeros_;   // of K-quant grids factors of minima: [blocks, parts * 16]
  View<std::int8_t, 2> factors_;  // of K-quant grids; scales_ and minima_ are d and dmin
};

/// The layout of rows of `cols` columns.
[[nodiscard]] PackedShape ShapeOf(const Grid& grid, Index cols) noexcept;

}  // namespace lieq
