#include "lieq/pipeline/size_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "lieq/base/error.h"
#include "lieq/pipeline/assemble.h"
#include "lieq/pipeline/quantize_settings.h"

namespace lieq {
namespace {

std::int64_t FileBytes(const QuantizeRequest& request, const ModelFolder& model,
                       const LayerGrids& layers) {
  const ModelGrids grids{.layers = layers, .ends = EndsOf(request, model.weights.config)};
  return static_cast<std::int64_t>(PlanOutput(model, grids, ScaleType(model.dtype)).bytes);
}

/// Of embedding and head, a tied one once.
std::int64_t EndBytes(const QuantizeRequest& request, const ModelFolder& model) {
  const ModelConfig& config = model.weights.config;
  const EndGrids ends = EndsOf(request, config);
  const auto bytes = [&](const std::optional<Grid>& grid) {
    const double weights = static_cast<double>(config.vocab) * static_cast<double>(config.hidden);
    double bits = 8.0 * static_cast<double>(ItemSize(model.dtype));
    if (grid) {
      bits = grid->bits + static_cast<double>(grid->group_bits()) /
                              static_cast<double>(GroupColumns(*grid, config.hidden));
    }
    return static_cast<std::int64_t>(weights * bits / 8);
  };
  return bytes(ends.embedding) + (config.tied ? 0 : bytes(ends.head));
}

/// The command line with the widest ends one step narrower; none where they are at 4 bits.
std::optional<QuantizeRequest> WithNarrowerEnds(const QuantizeRequest& given,
                                                const ModelConfig& config) {
  constexpr int kFloat = 16, kLeast = 4;
  const int embedding = given.grids.embedding_bits.value_or(kFloat);
  const int head = given.grids.head_bits.value_or(config.tied ? embedding : kFloat);
  const int widest = std::max(embedding, head);
  if (widest <= kLeast || config.hidden % std::max<Index>(given.grids.group_size, 1) != 0) {
    return std::nullopt;
  }
  QuantizeRequest narrower = given;
  narrower.grids.embedding_bits = std::min(embedding, widest / 2);
  if (!config.tied) narrower.grids.head_bits = std::min(head, widest / 2);
  if (config.tied) narrower.grids.head_bits.reset();
  return narrower;
}

}  // namespace

void CheckSizeHolds(const QuantizeRequest& request, const ModelFolder& model,
                    const LayerGrids& cheapest) {
  const ModelConfig& config = model.weights.config;
  const std::int64_t least = FileBytes(request, model, cheapest);
  if (least <= *request.budget.size) return;
  const std::int64_t ends = EndBytes(request, model);
  std::string hint =
      fmt::format("{} take{} {} of these bytes ({:.0f} %)",
                  config.tied ? "the embedding" : "embedding and head", config.tied ? "s" : "",
                  ends, 100.0 * static_cast<double>(ends) / static_cast<double>(least));
  if (const auto narrower = WithNarrowerEnds(request, config)) {
    hint += fmt::format(": --embedding-bits {}", *narrower->grids.embedding_bits);
    if (narrower->grids.head_bits)
      hint += fmt::format(" --head-bits {}", *narrower->grids.head_bits);
    hint += fmt::format(" brings the least to {} bytes", FileBytes(*narrower, model, cheapest));
  }
  throw Error({.what = "the budget is below the narrowest grid everywhere",
               .where = "--size",
               .expected = fmt::format("at least {} bytes", least),
               .found = fmt::format("{} bytes", *request.budget.size),
               .hint = std::move(hint)});
}

}  // namespace lieq
