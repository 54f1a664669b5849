// A weight matrix in whatever form it is held; what the device multiplies.
#pragma once

#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "lieq/tensor/dtype.h"
#include "lieq/tensor/laid_out_matrix.h"
#include "lieq/tensor/qmatrix.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// Matrices of floats one below another, seen as one: where the parts of a matrix lie apart in
/// files.
class StackedRows {
 public:
  using Part = std::variant<View<const Bf16, 2>, View<const F16, 2>, View<const float, 2>>;

  /// One at least, all of one type and shape.
  explicit StackedRows(std::vector<Part> parts);

  [[nodiscard]] Index rows() const noexcept { return part_rows_ * std::ssize(parts_); }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] Index part_rows() const noexcept { return part_rows_; }
  [[nodiscard]] std::span<const Part> parts() const noexcept { return parts_; }

 private:
  std::vector<Part> parts_;
  Index part_rows_ = 0, cols_ = 0;
};

/// Views point into memory that the owner of the weights keeps alive. A QMatrix is shared, since
/// the quantizer, the container and the forward pass all hold it.
using AnyMatrix = std::variant<View<const Bf16, 2>, View<const F16, 2>, View<const float, 2>,
                               std::shared_ptr<const QMatrix>, std::shared_ptr<const StackedRows>,
                               std::shared_ptr<const LaidOutMatrix>>;

[[nodiscard]] Index Rows(const AnyMatrix& matrix) noexcept;
[[nodiscard]] Index Cols(const AnyMatrix& matrix) noexcept;

/// out [n, cols] = rows begin .. begin + n - 1 as float; exact for every form. A laid out matrix
/// has none here: only what was made of it for products (Device::Prepare).
void WidenRows(const AnyMatrix& matrix, Index begin, View<float, 2> out);

/// Rows begin .. begin + count - 1, without a copy of floats or mapped codes. Of stacked rows they
/// lie in one part, of a laid out matrix they are one.
[[nodiscard]] AnyMatrix RowsOf(const AnyMatrix& matrix, Index begin, Index count);

/// The type of its elements: kF32, kF16 or kBF16; of a QMatrix and a laid out one kI32.
[[nodiscard]] DType TypeOf(const AnyMatrix& matrix) noexcept;

/// The bytes the matrix occupies in a mapped file; empty for all but views.
[[nodiscard]] std::span<const std::byte> MappedBytes(const AnyMatrix& matrix) noexcept;

}  // namespace lieq
