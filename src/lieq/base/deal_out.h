// Pieces of work of different costs, dealt out to several parts of a run.
#pragma once

#include <span>
#include <vector>

#include "lieq/base/types.h"

namespace lieq {

/// What a piece costs, in a unit of the caller's.
struct PieceCost {
  double work = 0;
  bool prepared = false;  // what such pieces have in common is done once in each part that has some
};

/// Deals out pieces so that the part that takes longest takes as little as can be had simply: the
/// longest piece first, each to whoever has least, for every number of parts that prepare.
/// preparation: what that costs, >= 0. parts >= 1. Gives a part for each piece, 0 .. parts - 1, the
/// same wherever it is asked.
[[nodiscard]] std::vector<Index> DealOut(std::span<const PieceCost> costs, double preparation,
                                         Index parts);

}  // namespace lieq
