// Short names of grids, as other quantizers have them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// "w2g64", "w4g-1" (a whole row), "w2g32:half", "q2_k".
[[nodiscard]] std::string ShortName(const Grid& grid);

/// A grid, and what of it the name said.
struct NamedGrid {
  Grid grid;
  bool says_group = true, says_offset = false;
  friend bool operator==(const NamedGrid&, const NamedGrid&) = default;
};

/// The grid of a short name, whose group may be left out ("w4"), or of a label ("4:64",
/// "2:row:half", plan.h). None where the text is no such name; a group may be any number of
/// columns.
[[nodiscard]] std::optional<NamedGrid> GridFromName(std::string_view text);

}  // namespace lieq
