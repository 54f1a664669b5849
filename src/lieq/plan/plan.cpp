#include "lieq/plan/plan.h"

#include <algorithm>

#include "lieq/base/assert.h"
#include "lieq/base/hash.h"

namespace lieq {

bool IsWidth(std::int64_t bits) noexcept {
  return std::ranges::find(kWidths, bits) != kWidths.end();
}

bool IsCodeWidth(std::int64_t bits) noexcept {
  return IsWidth(bits) || (bits > 0 && bits < 8 && KQuantOfBits(static_cast<int>(bits)) != nullptr);
}

std::int64_t UnitWeightCount(const ModelConfig& config, Index layer, Unit unit) {
  std::int64_t count = 0;
  for (const Site site : config.SitesOf(layer, unit)) {
    count += config.Out(layer, site) * config.In(layer, site);
  }
  return count;
}

std::vector<std::int64_t> LayerWeightCounts(const ModelConfig& config) {
  std::vector<std::int64_t> counts;
  for (Index layer = 0; layer < config.layers; ++layer) {
    counts.push_back(config.LayerWeightCount(layer));
  }
  return counts;
}

std::string Label(const Grid& grid) {
  if (grid.k_quant) return std::string(KQuantOf(grid).name);
  std::string label = std::to_string(grid.bits) + ":" +
                      (grid.group_size == 0 ? "row" : std::to_string(grid.group_size));
  if (!grid.symmetric()) label += ":" + std::string(Name(grid.offset));
  return label;
}

std::int64_t UnitStoredBits(const ModelConfig& config, Index layer, Unit unit, const Grid& grid) {
  std::int64_t bits = 0;
  for (const Site site : config.SitesOf(layer, unit)) {
    const Index in = config.In(layer, site), groups = in / GroupColumns(grid, in);
    bits += config.Out(layer, site) * (in * grid.bits + groups * grid.group_bits());
  }
  return bits;
}

std::array<int, kUnits> WidthsOf(const Plan& plan, Index layer) {
  std::array<int, kUnits> widths{};
  std::ranges::transform(kAllUnits, widths.begin(),
                         [&](Unit unit) { return plan.BitsOf(layer, unit); });
  return widths;
}

void SetWidthsUsed(Plan& plan) {
  plan.low = plan.high = plan.BitsOf(0, Unit::kQkv);
  for (Index layer = 0; layer < plan.layers(); ++layer) {
    const auto [low, high] = std::ranges::minmax(WidthsOf(plan, layer));
    plan.low = std::min(plan.low, low);
    plan.high = std::max(plan.high, high);
  }
}

namespace {

std::string DigestOf(const Plan& plan, bool widths_alone) {
  std::string text;
  for (Index layer = 0; layer < plan.layers(); ++layer) {
    for (const Unit unit : kAllUnits) {
      text += std::to_string(plan.BitsOf(layer, unit));
      if (!widths_alone) text += "=" + Label(plan.grids.At(layer, unit));
      text += ' ';
    }
  }
  return Hasher().Add(text).Hex();
}

}  // namespace

std::string Digest(const Plan& plan) {
  return DigestOf(plan, false);
}

std::string WidthDigest(const Plan& plan) {
  return DigestOf(plan, true);
}

double CodeBits(const Plan& plan, const ModelConfig& config) {
  LIEQ_ASSERT(plan.layers() == config.layers && config.layers >= 1);
  std::int64_t bits = 0;
  for (Index layer = 0; layer < plan.layers(); ++layer) {
    for (const Unit unit : kAllUnits) {
      bits += plan.BitsOf(layer, unit) * UnitWeightCount(config, layer, unit);
    }
  }
  return static_cast<double>(bits) / static_cast<double>(config.WeightCount());
}

double CodeCompression(const Plan& plan, const ModelConfig& config) {
  return 16 / CodeBits(plan, config);
}

}  // namespace lieq
