// Quantized matrices as a processor's packed kernels read them, where they lie in a file.
//
// device/cpu/packed_matrix.h says how they are laid out, and makes and reads them; here it is only
// known how many bytes there are. Nothing else can be done with one: its codes are not those of a
// QMatrix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// The layout that packed kernels of all processors read (docs/kernels.md). Another name where a
/// byte of it changes: files have it.
inline constexpr std::string_view kPackedLayout = "sixteen-rows-1";

/// What the bytes of a laid out matrix follow from, beside its rows and columns.
struct LaidOutForm {
  Grid grid;         // of the matrix that was laid out
  int bits = 2;      // that its codes take: those of the grid, or 6 in place of 5 or 8
  bool half = true;  // scales and minima are f16, else float
  friend bool operator==(const LaidOutForm&, const LaidOutForm&) = default;
};

/// Whether rows of `cols` columns, 1 or more, can have the form: a grid that is one and divides
/// them, and bits that its codes may take.
[[nodiscard]] bool IsForm(const LaidOutForm& form, Index cols) noexcept;

class LaidOutMatrix {
 public:
  /// [rows, cols]; bytes 64-byte aligned, inside `file`. where: names it in messages.
  struct Part {
    LaidOutForm form;
    std::span<const std::byte> bytes;
    std::string where;
  };

  LaidOutMatrix(Index rows, Index cols, Part part, std::shared_ptr<const FileMap> file);
  /// Matrices of one shape, one below another, each laid out by itself. One at least.
  [[nodiscard]] static LaidOutMatrix Stacked(
      std::span<const std::shared_ptr<const LaidOutMatrix>> parts);
  /// One of its parts: rows begin .. begin + count - 1, which are one.
  [[nodiscard]] LaidOutMatrix PartAt(Index begin, Index count) const;

  [[nodiscard]] Index rows() const noexcept { return part_rows_ * std::ssize(laid_out_); }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  /// Of a matrix that is whole.
  [[nodiscard]] const Part& whole() const;
  [[nodiscard]] const std::shared_ptr<const FileMap>& file() const noexcept { return file_; }
  /// As QMatrix has it, of the matrices that were laid out.
  [[nodiscard]] std::int64_t stored_bits() const noexcept;

 private:
  LaidOutMatrix() = default;

  Index part_rows_ = 0, cols_ = 0;
  std::vector<Part> laid_out_;
  std::shared_ptr<const FileMap> file_;
};

}  // namespace lieq
