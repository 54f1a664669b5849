// Plans: how many bits each unit of each decoder layer gets, and what led to them.
//
// The quantizers see a Plan and nothing of how layers were ranked; the allocator sees scores and
// nothing of how they were measured. A unit is the smallest piece with a width of its own: fused
// kernels want one in each.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/model/config.h"
#include "lieq/model/grids.h"
#include "lieq/plan/sensitivities.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// The widths that quantizers and containers know, of grids that are no K-quants.
inline constexpr std::array kWidths{2, 3, 4, 5, 6, 8};
[[nodiscard]] bool IsWidth(std::int64_t bits) noexcept;
/// Whether a grid has this width: one of kWidths, or a K-quant's.
[[nodiscard]] bool IsCodeWidth(std::int64_t bits) noexcept;

/// Which whole number of layers an average becomes: as many as stay at or below it, or the nearest
/// (the paper's rule), which may lie half a layer above.
enum class Rounding : std::uint8_t { kDown, kPaper };

/// What was asked for: one of them, or nothing where the plan is uniform or written by hand.
struct PlanRequest {
  std::optional<double> bits;        // average code bits
  Rounding rounding{};               // of `bits`
  std::optional<double> bpw;         // ceiling on all-in bits a weight
  std::optional<std::int64_t> size;  // ceiling on the bytes of the weight files
  std::optional<Index> high_layers;  // how many layers get the higher width
  friend bool operator==(const PlanRequest&, const PlanRequest&) = default;
};

/// A mix that was run to check the additive prediction.
struct PredictionCheck {
  double predicted_kl = 0;
  double kl = 0;  // KL(whole model || mix), nats a token
  double nll_rise = 0;
  friend bool operator==(const PredictionCheck&, const PredictionCheck&) = default;
};

/// Invariants: every width one of kWidths, or its K-quant's; the linears of a unit share a grid;
/// scores finite, one per layer or none.
struct Plan {
  ModelGrids grids;
  std::vector<double> scores;           // [layers], larger: more worth protecting; or empty
  std::string ranking;                  // a row of Rankings(), "uniform" or "edited"
  std::vector<double> ranking_weights;  // [3] of `combined` (RankingOptions), or empty
  std::string allocation = "top-m";     // or "optimal", "uniform"
  std::string granularity = "layer";    // or "group"
  PlanRequest requested;
  double requested_bits = 0;     // code bits asked for; CodeBits is what came of it
  int low = 0, high = 0;         // the two widths mixed; equal where uniform
  std::string model_hash;        // of the model it was made for; may be empty
  std::string calibration_hash;  // of the tokens behind the scores; may be empty

  // Of optimal plans: what was chosen from, and what it was expected to cost.
  std::vector<Grid> candidates;
  std::vector<std::vector<std::optional<double>>> damage;  // [layers * kUnits][candidates], nats
  std::vector<EndSensitivity> measured_ends;               // where they were chosen too
  std::optional<double> predicted_kl;
  std::vector<PredictionCheck> checks;  // the first is of this plan itself

  [[nodiscard]] int BitsOf(Index layer, Unit unit) const { return grids.At(layer, unit).bits; }
  [[nodiscard]] Index layers() const noexcept { return grids.layer_count(); }
  friend bool operator==(const Plan&, const Plan&) = default;
};

/// The widths of a layer's units, by Unit.
[[nodiscard]] std::array<int, kUnits> WidthsOf(const Plan& plan, Index layer);

/// Sets low and high to the narrowest and the widest width there is.
void SetWidthsUsed(Plan& plan);

/// The grid that a width stands for where nothing more is said. May throw Error for a width that
/// it has none for.
using GridOfWidth = std::function<Grid(int bits)>;

/// "2:64", "4:row", "2:32:half": bits, group size, and the offset where it is not symmetric;
/// "q2_k".
[[nodiscard]] std::string Label(const Grid& grid);

/// Bits that a unit of one layer takes at a grid: codes, 16 for each scale, `bits` for each
/// zero-point. What `--bpw` counts.
[[nodiscard]] std::int64_t UnitStoredBits(const ModelConfig& config, Index layer, Unit unit,
                                          const Grid& grid);

/// XXH3-128 of the layers' grids: tells an edited plan from the one that was made.
[[nodiscard]] std::string Digest(const Plan& plan);
/// The same of the widths alone, which is what a document without grids has.
[[nodiscard]] std::string WidthDigest(const Plan& plan);

/// Code bits per quantizable weight, sum(width * weights) / sum(weights) over the decoder's
/// linears: the paper's figure. Scales, zero-points, embedding, head and norms are not in it.
/// plan.layers() == config.layers.
[[nodiscard]] double CodeBits(const Plan& plan, const ModelConfig& config);

/// 16 / CodeBits: how much smaller the codes alone are than 16-bit weights ("code bits only").
[[nodiscard]] double CodeCompression(const Plan& plan, const ModelConfig& config);

/// Weights of one unit of a layer, biases and norms not counted.
[[nodiscard]] std::int64_t UnitWeightCount(const ModelConfig& config, Index layer, Unit unit);
/// Of each layer all its linears.
[[nodiscard]] std::vector<std::int64_t> LayerWeightCounts(const ModelConfig& config);

}  // namespace lieq
