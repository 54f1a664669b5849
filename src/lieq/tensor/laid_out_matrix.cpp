#include "lieq/tensor/laid_out_matrix.h"

#include <utility>

#include "lieq/base/assert.h"

namespace lieq {

bool IsForm(const LaidOutForm& form, Index cols) noexcept {
  const Grid& grid = form.grid;
  if (grid.k_quant) {
    const KQuant* row = KQuantOfBits(grid.bits);
    if (row == nullptr || row->grid != grid || !form.half) return false;
  } else if (grid.bits < 2 || grid.bits > 8 || grid.bits == 7 || grid.group_size < 0) {
    return false;
  }
  if (cols % RowStep(grid, cols) != 0) return false;
  if (grid.bits == 5) return form.bits == 6 && grid.offset != Offset::kHalf;
  const bool fits_six = grid.bits == 8 && (grid.symmetric() || grid.offset == Offset::kFloat);
  return form.bits == grid.bits || (form.bits == 6 && fits_six);
}

LaidOutMatrix::LaidOutMatrix(Index rows, Index cols, Part part, std::shared_ptr<const FileMap> file)
    : part_rows_(rows), cols_(cols), file_(std::move(file)) {
  LIEQ_ASSERT(rows > 0 && cols > 0);
  laid_out_.push_back(std::move(part));
}

LaidOutMatrix LaidOutMatrix::Stacked(std::span<const std::shared_ptr<const LaidOutMatrix>> parts) {
  LIEQ_ASSERT(!parts.empty());
  LaidOutMatrix all;
  all.part_rows_ = parts.front()->rows();
  all.cols_ = parts.front()->cols();
  all.file_ = parts.front()->file();
  for (const auto& part : parts) {
    LIEQ_ASSERT(part->rows() == all.part_rows_ && part->cols() == all.cols_);
    LIEQ_ASSERT(part->file() == all.file_);
    all.laid_out_.push_back(part->whole());
  }
  return all;
}

LaidOutMatrix LaidOutMatrix::PartAt(Index begin, Index count) const {
  LIEQ_ASSERT(count == part_rows_ && begin % part_rows_ == 0 && begin >= 0 && begin < rows());
  return {part_rows_, cols_, laid_out_[Size(begin / part_rows_)], file_};
}

const LaidOutMatrix::Part& LaidOutMatrix::whole() const {
  LIEQ_ASSERT(laid_out_.size() == 1);
  return laid_out_.front();
}

std::int64_t LaidOutMatrix::stored_bits() const noexcept {
  std::int64_t bits = 0;
  for (const Part& part : laid_out_) bits += StoredBits(part.form.grid, part_rows_, cols_);
  return bits;
}

}  // namespace lieq
