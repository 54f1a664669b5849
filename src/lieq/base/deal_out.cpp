#include "lieq/base/deal_out.h"

#include <algorithm>
#include <numeric>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

struct Deal {
  std::vector<Index> owners;  // [pieces]
  double longest = 0;
};

/// order: of the pieces. Those that are prepared go to the first `preparing` parts.
Deal DealTo(std::span<const PieceCost> costs, std::span<const std::size_t> order,
            double preparation, Index parts, Index preparing) {
  Deal deal{.owners = std::vector<Index>(costs.size())};
  std::vector<double> loads(Size(parts));
  std::fill_n(loads.begin(), preparing, preparation);
  for (const std::size_t piece : order) {
    const auto end = costs[piece].prepared ? loads.begin() + preparing : loads.end();
    const auto least = std::min_element(loads.begin(), end);
    *least += costs[piece].work;
    deal.owners[piece] = least - loads.begin();
  }
  deal.longest = *std::ranges::max_element(loads);
  return deal;
}

}  // namespace

std::vector<Index> DealOut(std::span<const PieceCost> costs, double preparation, Index parts) {
  LIEQ_ASSERT(parts >= 1 && preparation >= 0);
  if (costs.empty()) return {};
  const Index used = std::min(parts, static_cast<Index>(costs.size()));
  // What is prepared first: it has fewer places to go to.
  std::vector<std::size_t> order(costs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    if (costs[a].prepared != costs[b].prepared) return costs[a].prepared;
    return costs[a].work > costs[b].work;
  });
  const auto prepared = static_cast<Index>(std::ranges::count(costs, true, &PieceCost::prepared));
  Deal best = DealTo(costs, order, preparation, used, std::min<Index>(prepared, 1));
  for (Index preparing = 2; preparing <= std::min(prepared, used); ++preparing) {
    Deal deal = DealTo(costs, order, preparation, used, preparing);
    if (deal.longest < best.longest) best = std::move(deal);
  }
  return best.owners;
}

}  // namespace lieq
