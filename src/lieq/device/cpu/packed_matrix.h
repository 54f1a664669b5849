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
#include <span>
#include <string>

#include "lieq/base/large_pages.h"
#include "lieq/base/thread_pool.h"
#include "lieq/device/cpu/packed_kernels.h"
#include "lieq/tensor/laid_out_matrix.h"
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
  /// Of a whole one, read where it lies. Throws Error naming it where there are not the bytes that
  /// its form takes, and for scales, minima, zeros and factors that no matrix has: of a file they
  /// may be anything. Codes may be anything too, and are codes.
  PackedMatrix(const LaidOutMatrix& from, ThreadPool& pool);

  /// How a matrix of a grid that it holds is laid out, and the bytes of it.
  [[nodiscard]] static LaidOutForm FormOf(const QMatrix& from, ThreadPool& pool);
  [[nodiscard]] static std::int64_t BytesOf(const LaidOutForm& form, Index rows, Index cols);

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] const PackedShape& shape() const noexcept { return shape_; }
  /// Blocks of sixteen rows; rows that the last one lacks are codes and scales of 0.
  [[nodiscard]] Index blocks() const noexcept { return CeilDiv(rows_, kBlockRows); }
  /// What kernels read, from a block on.
  [[nodiscard]] PackedBlocks From(Index block) const noexcept;
  /// Of codes, scales, zeros and minima.
  [[nodiscard]] std::int64_t bytes() const noexcept;
  /// The same as they lie, each on a line of the cache: all that a LaidOutMatrix of this form is.
  [[nodiscard]] std::span<const std::byte> held() const noexcept;
  [[nodiscard]] const LaidOutForm& form() const noexcept { return form_; }

  /// As QMatrix::Dequantize, to the bit.
  void Dequantize(Index begin, View<float, 2> out) const;

 private:
  /// Of this form, with nothing in it.
  PackedMatrix(Index rows, Index cols, const LaidOutForm& form);
  /// Places all there is from `base` on, and gives back the bytes of it. Null: nothing is placed.
  std::size_t LayOut(std::byte* base);
  void CheckNumbers(const std::string& where, ThreadPool& pool) const;
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
  LaidOutForm form_;
  Grid grid_;  // that of the matrix, of form_.bits
  PackedShape shape_;
  std::shared_ptr<const std::byte> held_;     // all of these; only read once they are packed
  View<std::uint32_t, 2> codes_;              // [blocks, groups * steps * words of a step * 16]
  View<std::uint16_t, 2> scales_, minima_;    // [blocks, groups * 16], or empty
  View<float, 2> wide_scales_, wide_minima_;  // where f16 does not hold them
  View<std::uint8_t, 2> zeros_;   // of K-quant grids factors of minima: [blocks, parts * 16]
  View<std::int8_t, 2> factors_;  // of K-quant grids; scales_ and minima_ are d and dmin
};

/// The layout of rows of `cols` columns.
[[nodiscard]] PackedShape ShapeOf(const Grid& grid, Index cols) noexcept;

}  // namespace lieq
