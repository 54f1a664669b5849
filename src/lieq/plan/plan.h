// Plans: how many bits each unit of each decoder layer gets, and what led to them.
//
// The quantizers see a Plan and nothing of how layers were ranked; the allocator sees scores and
// nothing of how they were measured. A unit is the smallest piece with a width of its own: fused
// kernels want one in each.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/model/config.h"

namespace lieq {

/// The widths that quantizers and containers know.
inline constexpr std::array kWidths{2, 3, 4, 8};
[[nodiscard]] bool IsWidth(std::int64_t bits) noexcept;

/// Invariants: one row per layer; every width one of kWidths; scores finite, one per layer or none.
struct Plan {
  std::vector<std::array<int, kUnits>> bits;  // [layers], by Unit
  std::vector<double> scores;                 // [layers], larger: more worth protecting; or empty
  std::string ranking;                        // a row of Rankings(), "uniform" or "edited"
  std::vector<double> ranking_weights;        // [3] of `combined` (RankingOptions), or empty
  double requested_bits = 0;                  // code bits asked for; CodeBits is what came of it
  int low = 0, high = 0;                      // the two widths mixed; equal where uniform
  std::string model_hash;                     // of the model it was made for; may be empty
  std::string calibration_hash;               // of the tokens behind the scores; may be empty

  [[nodiscard]] int BitsOf(Index layer, Unit unit) const {
    return bits[Size(layer)][static_cast<std::size_t>(unit)];
  }
  friend bool operator==(const Plan&, const Plan&) = default;
};

/// Code bits per quantizable weight, sum(width * weights) / sum(weights) over the decoder's
/// linears: the paper's figure. Scales, zero-points, embedding, head and norms are not in it.
/// plan.bits.size() == config.layers.
[[nodiscard]] double CodeBits(const Plan& plan, const ModelConfig& config);

/// 16 / CodeBits: how much smaller the codes alone are than 16-bit weights ("code bits only").
[[nodiscard]] double CodeCompression(const Plan& plan, const ModelConfig& config);

/// Weights of one unit of a layer, biases and norms not counted.
[[nodiscard]] std::int64_t UnitWeightCount(const ModelConfig& config, Unit unit) noexcept;

}  // namespace lieq
