#include "lieq/text/origins.h"

#include <algorithm>

namespace lieq {

std::size_t Origins::Of(std::size_t at) const noexcept {
  const auto next = std::ranges::upper_bound(marks_, at, {}, &Place::at);
  const Place last = next == marks_.begin() ? Place{} : *(next - 1);
  const std::size_t origin = last.origin + (at - last.at);
  return next == marks_.end() ? origin : std::min(origin, next->origin);
}

}  // namespace lieq
