// Which rows go to which experts.
#pragma once

#include <vector>

#include "lieq/tensor/view.h"

namespace lieq {

/// Of some tokens, each of which goes to `used` experts. Slots are counted token by token.
struct ExpertRoutes {
  Index used = 0;
  std::vector<Index> begin;   // [experts + 1]: of each expert, its first in `slots`
  std::vector<Index> slots;   // by expert; of one expert in the order of the tokens
  std::vector<Index> tokens;  // of the same
  std::vector<Index> places;  // [tokens * used]: where each slot is in `slots`

  [[nodiscard]] Index count(Index expert) const {
    return begin[Size(expert) + 1] - begin[Size(expert)];
  }
};

/// routes [tokens, 2 * used], as MixerOps::Route gives them.
[[nodiscard]] ExpertRoutes RoutesOf(View<const float, 2> routes, Index experts);

}  // namespace lieq
