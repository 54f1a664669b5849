// Scales and offsets of a whole row, on every kind of grid.
#pragma once

#include <span>

#include "lieq/quantize/grid_fit.h"

namespace lieq {

/// Fits all groups of a row on `values` and writes scales and offsets, or super-blocks, into the
/// matrix; codes stay as they are.
///
/// values      [cols], finite
/// importance  [cols], >= 0: weight of each squared error; empty: all equal
void FitRow(std::span<const float> values, std::span<const float> importance, Clip clip, Index row,
            QMatrix& matrix);

}  // namespace lieq
