// The grids that packed kernels hold, for tests over all of them.
#pragma once

#include <string>
#include <vector>

#include "lieq/device/cpu/packed_matrix.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

[[nodiscard]] inline std::string NameOf(const Grid& grid) {
  return std::to_string(grid.bits) + " bits, groups of " + std::to_string(grid.group_size) + ", " +
         std::string(Name(grid.offset)) + (grid.k_quant ? ", k-quant" : "");
}

/// Those that a row of `cols` columns can have.
[[nodiscard]] inline std::vector<Grid> PackedGrids(Index cols) {
  std::vector<Grid> grids;
  const auto add = [&](const Grid& grid) {
    if (PackedMatrix::Holds(grid) && cols % RowStep(grid, cols) == 0) grids.push_back(grid);
  };
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const Offset offset : kAllOffsets) {
      for (const Index group : {0, 5, 16, 20, 32, 48, 64, 128}) {
        add({.bits = bits, .group_size = group, .offset = offset});
      }
    }
  }
  for (const KQuant& kind : KQuants()) add(kind.grid);
  return grids;
}

}  // namespace lieq
