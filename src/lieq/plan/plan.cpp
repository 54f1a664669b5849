#include "lieq/plan/plan.h"

#include <algorithm>

#include "lieq/base/assert.h"

namespace lieq {

bool IsWidth(std::int64_t bits) noexcept {
  return std::ranges::find(kWidths, bits) != kWidths.end();
}

std::int64_t UnitWeightCount(const ModelConfig& config, Unit unit) noexcept {
  std::int64_t count = 0;
  for (const Site site : SitesOf(unit)) count += config.Out(site) * config.In(site);
  return count;
}

double CodeBits(const Plan& plan, const ModelConfig& config) {
  LIEQ_ASSERT(static_cast<Index>(plan.bits.size()) == config.layers && config.layers >= 1);
  std::int64_t bits = 0;
  for (const auto& layer : plan.bits) {
    for (const Unit unit : kAllUnits) {
      bits += layer[static_cast<std::size_t>(unit)] * UnitWeightCount(config, unit);
    }
  }
  return static_cast<double>(bits) / static_cast<double>(config.layers * config.LayerWeightCount());
}

double CodeCompression(const Plan& plan, const ModelConfig& config) {
  return 16 / CodeBits(plan, config);
}

}  // namespace lieq
