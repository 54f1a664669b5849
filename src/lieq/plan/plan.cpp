#include "lieq/plan/plan.h"

#include <algorithm>

#include "lieq/base/assert.h"
#include "lieq/base/hash.h"

namespace lieq {

bool IsWidth(std::int64_t bits) noexcept {
  return std::ranges::find(kWidths, bits) != kWidths.end();
}

std::int64_t UnitWeightCount(const ModelConfig& config, Unit unit) noexcept {
  std::int64_t count = 0;
  for (const Site site : SitesOf(unit)) count += config.Out(site) * config.In(site);
  return count;
}

std::string Label(const Grid& grid) {
  if (grid.k_quant) return std::string(KQuantOf(grid).name);
  std::string label = std::to_string(grid.bits) + ":" +
                      (grid.group_size == 0 ? "row" : std::to_string(grid.group_size));
  if (!grid.symmetric()) label += ":" + std::string(Name(grid.offset));
  return label;
}

std::int64_t UnitStoredBits(const ModelConfig& config, Unit unit, const Grid& grid) {
  std::int64_t bits = 0;
  for (const Site site : SitesOf(unit)) {
    const Index groups = config.In(site) / GroupColumns(grid, config.In(site));
    bits += config.Out(site) * (config.In(site) * grid.bits + groups * grid.group_bits());
  }
  return bits;
}

void Plan::AddLayer(const std::array<Grid, kUnits>& layer) {
  LIEQ_ASSERT(bits.size() == grids.size());
  auto& widths = bits.emplace_back();
  std::ranges::transform(layer, widths.begin(), &Grid::bits);
  grids.push_back(layer);
}

std::string Digest(const Plan& plan) {
  std::string text;
  for (std::size_t layer = 0; layer < plan.bits.size(); ++layer) {
    for (std::size_t unit = 0; unit < kUnits; ++unit) {
      text += std::to_string(plan.bits[layer][unit]);
      if (!plan.grids.empty()) text += "=" + Label(plan.grids[layer][unit]);
      text += ' ';
    }
  }
  return Hasher().Add(text).Hex();
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
