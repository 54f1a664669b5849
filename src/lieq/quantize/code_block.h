// The codes of some rows of a matrix while they are worked on: what GPTQ hands to refinement, and
// what is packed once both are done.
#pragma once

#include <cstdint>
#include <vector>

#include "lieq/quantize/grid_fit.h"
#include "lieq/quantize/row_loops.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// Columns by rows, rows padded to whole vectors (row_loops.h): rows of the padding have codes of 0
/// on a grid of scale 1, and mean nothing.
class CodeBlock {
 public:
  CodeBlock(Index rows, Index cols, const Grid& grid);
  [[nodiscard]] CodeBlock Clone() const;

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index padded() const noexcept { return codes.cols(); }
  [[nodiscard]] Index cols() const noexcept { return codes.rows(); }
  [[nodiscard]] Index groups() const noexcept { return scale_.rows(); }
  [[nodiscard]] Index group_columns() const noexcept { return cols() / groups(); }
  [[nodiscard]] Index supers() const noexcept { return grid_.k_quant ? cols() / kSuperColumns : 0; }
  [[nodiscard]] const Grid& grid() const noexcept { return grid_; }

  [[nodiscard]] GroupFit Fit(Index row, Index group) const noexcept {
    return {scale_(group, row), minimum_(group, row)};
  }
  void SetFit(Index row, Index group, const GroupFit& fit) noexcept {
    scale_(group, row) = fit.scale;
    inverse_(group, row) = 1 / fit.scale;
    minimum_(group, row) = fit.minimum;
  }
  /// Of K-quant grids. SetSuper sets the fits of the block's groups too.
  [[nodiscard]] const SuperBlock& Super(Index row, Index block) const noexcept {
    return supers_[Size(row * supers() + block)];
  }
  void SetSuper(Index row, Index block, const SuperBlock& super) noexcept;

  [[nodiscard]] GridLines Lines(Index group) const noexcept {
    return {.scale = scale_.view().Row(group).data(),
            .inverse = inverse_.view().Row(group).data(),
            .minimum = minimum_.view().Row(group).data(),
            .top = static_cast<float>(grid_.levels() - 1)};
  }
  [[nodiscard]] float Level(Index col, Index row) const noexcept {
    return static_cast<float>(
        Fit(row, col / group_columns()).Level(static_cast<int>(codes(col, row))));
  }

  /// Takes over a row of a block of the same shape and grid.
  void CopyRow(Index row, const CodeBlock& from);
  /// Packs into rows first, first + 1, ... of a matrix of the same grid.
  void Store(QMatrix& matrix, Index first) const;

  Matrix<std::uint8_t> codes;  // [cols, padded]

 private:
  Index rows_;
  Grid grid_;
  Matrix<float> scale_, inverse_, minimum_;  // [groups, padded]
  std::vector<SuperBlock> supers_;           // [rows, supers]
};

inline void StoreFit(const GroupFit& fit, Index row, Index group, CodeBlock& block) {
  block.SetFit(row, group, fit);
}

}  // namespace lieq
