#include "lieq/pipeline/size_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "lieq/base/error.h"
#include "lieq/pipeline/output_sizes.h"
#include "lieq/pipeline/quantize_settings.h"

namespace lieq {
namespace {

std::int64_t FileBytes(const ContainerSizes& sizes, const LayerGrids& layers,
                       const EndGrids& ends) {
  return static_cast<std::int64_t>(sizes.Whole({.layers = layers, .ends = ends}));
}

/// Of embedding and head, a tied one once.
std::int64_t EndBytes(const EndGrids& ends, const ContainerSizes& sizes,
                      const ModelConfig& config) {
  std::int64_t bytes = 0;
  for (const End end : EndsIn(config)) bytes += sizes.OfEnd(end, ends.At(end));
  return bytes;
}

/// " as gguf", where --for names another container than the folder that is written.
std::string Place(const QuantizeRequest& request) {
  if (!IsElsewhere(request.grids.target)) return "";
  return fmt::format(" as {}", request.grids.target->name);
}

bool Holds(const ContainerTarget* target, const EndGrids& ends, const ModelConfig& config) {
  return target == nullptr || std::ranges::all_of(EndsIn(config), [&](End end) {
           return !ends.At(end) || HoldsEnds(*target, *ends.At(end), config);
         });
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
  if (!Holds(given.grids.target, EndsOf(narrower, config), config)) return std::nullopt;
  return narrower;
}

}  // namespace

double FileWeights(const ModelConfig& config) noexcept {
  const Index ends = static_cast<Index>(EndsIn(config).size()) * config.vocab * config.hidden;
  return static_cast<double>(config.WeightCount() + ends);
}

double FileBits(std::uint64_t bytes, const ModelConfig& config) noexcept {
  return 8.0 * static_cast<double>(bytes) / FileWeights(config);
}

std::optional<std::int64_t> ByteBudget(const BudgetRequest& budget,
                                       const ModelConfig& config) noexcept {
  if (!budget.bpw) return budget.size;
  return static_cast<std::int64_t>(std::floor(*budget.bpw * FileWeights(config) / 8 + 1e-6));
}

void CheckSizeHolds(const QuantizeRequest& request, const ModelConfig& config,
                    const ContainerSizes& sizes, const ModelGrids& cheapest) {
  const std::int64_t budget = *ByteBudget(request.budget, config);
  const std::int64_t least = FileBytes(sizes, cheapest.layers, cheapest.ends);
  if (least <= budget) return;
  const auto text = [&](std::int64_t bytes, double rounding) {
    if (request.budget.size) return fmt::format("{} bytes", bytes);
    return fmt::format("{:.4f} bits a weight ({} bytes)",
                       FileBits(static_cast<std::uint64_t>(bytes), config) + rounding, bytes);
  };
  const std::int64_t ends = EndBytes(cheapest.ends, sizes, config);
  std::string hint =
      fmt::format("{} take{} {} of these bytes ({:.0f} %)",
                  config.tied ? "the embedding" : "embedding and head", config.tied ? "s" : "",
                  ends, 100.0 * static_cast<double>(ends) / static_cast<double>(least));
  const bool chosen = cheapest.ends != EndsOf(request, config);
  if (const auto narrower = chosen ? std::nullopt : WithNarrowerEnds(request, config)) {
    hint += fmt::format(": --embedding-bits {}", *narrower->grids.embedding_bits);
    if (narrower->grids.head_bits)
      hint += fmt::format(" --head-bits {}", *narrower->grids.head_bits);
    hint += fmt::format(" brings the least to {}",
                        text(FileBytes(sizes, cheapest.layers, EndsOf(*narrower, config)), 5e-5));
  }
  throw Error({.what = "the budget is below the narrowest grid everywhere",
               .where = request.budget.size ? "--size" : "--bpw",
               .expected = "at least " + text(least, 5e-5) + Place(request),
               .found = text(budget, 0),
               .hint = std::move(hint)});
}

}  // namespace lieq
