#include "lieq/model/expert_routes.h"

#include <numeric>

namespace lieq {

ExpertRoutes RoutesOf(View<const float, 2> routes, Index experts) {
  ExpertRoutes all{.used = routes.cols() / 2};
  const Index slots = routes.rows() * all.used;
  const auto expert = [&](Index slot) {
    return static_cast<std::size_t>(routes(slot / all.used, slot % all.used));
  };
  all.begin.resize(Size(experts) + 1);
  for (Index slot = 0; slot < slots; ++slot) ++all.begin[expert(slot) + 1];
  std::partial_sum(all.begin.begin(), all.begin.end(), all.begin.begin());
  std::vector<Index> next(all.begin.begin(), all.begin.end() - 1);
  all.slots.resize(Size(slots));
  all.tokens.resize(Size(slots));
  all.places.resize(Size(slots));
  for (Index slot = 0; slot < slots; ++slot) {
    const Index place = next[expert(slot)]++;
    all.slots[Size(place)] = slot;
    all.tokens[Size(place)] = slot / all.used;
    all.places[Size(slot)] = place;
  }
  return all;
}

}  // namespace lieq
