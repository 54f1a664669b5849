// How weights lie in the blocks of ggml's types: a table of rows. To add one: its functions and a
// row in ggml_blocks.cpp (K-quants have theirs in ggml_super_blocks.cpp); the tests of every row
// run on it unasked.
//
// Layouts: ggml-common.h and ggml-quants.c of llama.cpp; docs/formats.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lieq/io/gguf_file.h"
#include "lieq/tensor/any_matrix.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

struct BlockType {
  std::string_view name;  // that of its GgmlType
  int bits;               // of a code; 0 of the float types
  /// llama.cpp's number, general.file_type, of a file most of whose matrices have this type.
  std::uint32_t file_type;
  /// What its blocks are read as: codes, scales and minima mean the same. Q2_0 and TQ2_0 are
  /// mirrored, so that zero is in the middle; codes of Q5_0 are read as ones of 8. Nothing of the
  /// float types.
  std::optional<Grid> grid;
  /// Whether blocks give back the very values of a row of the matrix, of which `codes` are the
  /// codes. Null where nothing is written in the type.
  bool (*holds)(const QMatrix& matrix, Index row, std::span<const std::uint8_t> codes);
  /// Writes a row that it holds. out: the row's blocks.
  void (*encode)(const QMatrix& matrix, Index row, std::span<const std::uint8_t> codes,
                 std::span<std::byte> out);
  /// Gives codes, and scales and minima or super-blocks to the matrix, on `grid`. False where one
  /// of them is not finite. Null of the float types.
  bool (*decode)(std::span<const std::byte> blocks, QMatrix& matrix, Index row,
                 std::span<std::uint8_t> codes);
  /// Writes a row of floats as near as the type has them. False where it has nothing near one of
  /// them, or one is not finite. Null where floats are not rounded to the type.
  bool (*round)(std::span<const float> values, std::span<std::byte> out) = nullptr;

  [[nodiscard]] const GgmlType& type() const noexcept { return *FindGgmlType(name); }
};

/// Narrowest first; of two that are alike wide, the one with the simpler arithmetic.
[[nodiscard]] std::span<const BlockType> BlockTypes() noexcept;
/// Null where there is none.
[[nodiscard]] const BlockType* FindBlockType(std::string_view name) noexcept;

/// Whether the type gives back every value of the matrix: the same number, though a zero may change
/// its sign.
[[nodiscard]] bool Holds(const BlockType& type, const QMatrix& matrix);

/// The type that a matrix lies in as it is: of floats, or the one whose grid it is on and that
/// floats are rounded to. Null where there is none.
[[nodiscard]] const BlockType* RoundedTypeOf(const AnyMatrix& matrix) noexcept;

/// The narrowest type with codes of the grid's own width that gives back every matrix with rows of
/// `cols` columns on it: what a matrix is written as where nothing else is asked for, unless its
/// codes and scales happen to fit a narrower one. Null where no type holds them all.
[[nodiscard]] const BlockType* TypeOfGrid(const Grid& grid, Index cols);

/// Whether matrices on grids of `bits` are written in the type where nothing else is asked for.
/// TQ2_0 suits certain codes and no grid.
[[nodiscard]] bool IsUsualType(const BlockType& type, int bits) noexcept;

/// "Q4_0, Q8_0, F32": the types that hold the matrix, narrowest first.
[[nodiscard]] std::string TypesThatHold(const QMatrix& matrix);

/// Bytes of a row of `cols` columns. cols is a multiple of the type's.
[[nodiscard]] std::size_t RowBytes(const GgmlType& type, Index cols) noexcept;

/// A tensor of a type with a grid as a matrix. order: where row r of the tensor goes; empty where
/// all stay. where: names file and tensor. Throws Error naming the first row with a number that is
/// not finite.
[[nodiscard]] QMatrix DecodeBlocks(const BlockType& type, const GgufTensor& tensor,
                                   std::span<const Index> order, const std::string& where);

}  // namespace lieq
