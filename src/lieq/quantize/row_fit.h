// Scales and offsets of a whole row, on every kind of grid.
#pragma once

#include <span>

#include "lieq/quantize/grid_fit.h"
#include "lieq/quantize/kquant_fit.h"

namespace lieq {

/// Fits all groups of a row on `values` and writes scales and offsets, or super-blocks, into `to`,
/// a QMatrix or a CodeBlock; codes stay as they are.
///
/// values      [cols], finite
/// importance  [cols], >= 0: weight of each squared error; empty: all equal
template <class Rows>
void FitRow(std::span<const float> values, std::span<const float> importance, Clip clip, Index row,
            Rows& to) {
  const Grid& grid = to.grid();
  const Index columns = grid.k_quant ? kSuperColumns : to.group_columns();
  for (Index i = 0; i < to.cols() / columns; ++i) {
    const auto w = values.subspan(Size(i * columns), Size(columns));
    const auto h =
        importance.empty() ? importance : importance.subspan(Size(i * columns), Size(columns));
    if (grid.k_quant) {
      to.SetSuper(row, i, FitSuper(w, h, KQuantOf(grid), clip));
    } else {
      StoreFit(FitGroup(w, h, grid, clip), row, i, to);
    }
  }
}

}  // namespace lieq
