#include "lieq/quantize/row_fit.h"

#include "lieq/quantize/kquant_fit.h"

namespace lieq {

void FitRow(std::span<const float> values, std::span<const float> importance, Clip clip, Index row,
            QMatrix& matrix) {
  const Grid& grid = matrix.grid();
  const Index columns = grid.k_quant ? kSuperColumns : matrix.group_columns();
  for (Index i = 0; i < matrix.cols() / columns; ++i) {
    const auto w = values.subspan(Size(i * columns), Size(columns));
    const auto h =
        importance.empty() ? importance : importance.subspan(Size(i * columns), Size(columns));
    if (grid.k_quant) {
      matrix.SetSuper(row, i, FitSuper(w, h, KQuantOf(grid), clip));
    } else {
      StoreFit(FitGroup(w, h, grid, clip), row, i, matrix);
    }
  }
}

}  // namespace lieq
