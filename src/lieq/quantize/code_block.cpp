#include "lieq/quantize/code_block.h"

#include <algorithm>

#include "lieq/base/assert.h"
#include "lieq/quantize/kquant_fit.h"

namespace lieq {

CodeBlock::CodeBlock(Index rows, Index cols, const Grid& grid)
    : codes(cols, PaddedRows(rows)),
      rows_(rows),
      grid_(grid),
      scale_(cols / GroupColumns(grid, cols), PaddedRows(rows)),
      inverse_(scale_.rows(), scale_.cols()),
      minimum_(scale_.rows(), scale_.cols()),
      supers_(Size(rows * supers())) {
  std::fill_n(scale_.data(), scale_.size(), 1.0f);
  std::fill_n(inverse_.data(), inverse_.size(), 1.0f);
}

CodeBlock CodeBlock::Clone() const {
  CodeBlock copy(rows_, cols(), grid_);
  copy.codes = codes.Clone();
  copy.scale_ = scale_.Clone();
  copy.inverse_ = inverse_.Clone();
  copy.minimum_ = minimum_.Clone();
  copy.supers_ = supers_;
  return copy;
}

void CodeBlock::SetSuper(Index row, Index block, const SuperBlock& super) noexcept {
  supers_[Size(row * supers() + block)] = super;
  const KQuant& kind = KQuantOf(grid_);
  for (Index g = 0; g < kind.groups(); ++g) {
    SetFit(row, block * kind.groups() + g, FitOf(super, Size(g), kind));
  }
}

void CodeBlock::CopyRow(Index row, const CodeBlock& from) {
  LIEQ_ASSERT(from.rows_ == rows_ && from.cols() == cols() && from.grid_ == grid_);
  for (Index c = 0; c < cols(); ++c) codes(c, row) = from.codes(c, row);
  for (Index g = 0; g < groups(); ++g) SetFit(row, g, from.Fit(row, g));
  std::copy_n(from.supers_.begin() + row * supers(), supers(), supers_.begin() + row * supers());
}

void CodeBlock::Store(QMatrix& matrix, Index first) const {
  LIEQ_ASSERT(matrix.cols() == cols() && matrix.grid() == grid_);
  std::vector<std::uint8_t> row(Size(cols()));
  for (Index r = 0; r < rows_; ++r) {
    for (Index c = 0; c < cols(); ++c) row[Size(c)] = codes(c, r);
    matrix.SetRow(first + r, row);
    for (Index b = 0; b < supers(); ++b) matrix.SetSuper(first + r, b, Super(r, b));
    if (grid_.k_quant) continue;
    for (Index g = 0; g < groups(); ++g) StoreFit(Fit(r, g), first + r, g, matrix);
  }
}

}  // namespace lieq
